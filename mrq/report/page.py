"""A report as HTML, with nothing to load and nothing that runs."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from mrq.report.bars import KINDS
from mrq.report.picture import colour, picture
from mrq.report.summary import Report, seconds

_STYLE = """
.mrq { font: 14px/1.45 sans-serif; color: #222; }
.mrq h1 { font-size: 1.3em; } .mrq h2 { font-size: 1.1em; margin-top: 1.5em; }
.mrq table { border-collapse: collapse; } .mrq td, .mrq th { padding: 2px 10px; text-align: right; }
.mrq td:first-child, .mrq th:first-child, .mrq td:last-child, .mrq th:last-child { text-align: left; }
.mrq tr:nth-child(even) { background: #f6f6f6; }
.mrq i { display: inline-block; width: 0.9em; height: 0.9em; margin-right: 0.5em; border: 1px solid #999; }
.mrq svg { width: 100%; background: #fff; border: 1px solid #ddd; }
.mrq svg .done { stroke: none; } .mrq svg .path { stroke: #000; stroke-width: 1; }
.mrq svg .failed { stroke: #c00; stroke-width: 1.5; } .mrq svg .lost { stroke: #c00; stroke-dasharray: 3 2; }
"""


def page(report: Report) -> str:
    """Return a whole page."""
    title = f"{escape(report.timeline.job_id)}: where the time went"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>{title}</title></head>'
        f'<body style="margin: 1.5em">{fragment(report)}</body></html>\n'
    )


def fragment(report: Report) -> str:
    """Return what a notebook shows."""
    timeline = report.timeline
    parts = [
        f'<div class="mrq"><style>{_STYLE}</style>',
        f"<h1>{escape(timeline.job_id)}: {timeline.state.value} {seconds(report.seconds)} after the call</h1>",
        picture(report),
        "<p>A lane is a slot of a worker. Black frames: tasks on the critical path; red: attempts that failed, were "
        "lost, or came second.",
        f" {escape(note)}" if (note := _clocks(report)) else "",
        " Another master owned the job before: what was done then is not shown." if timeline.resumed else "",
        "</p>",
        _shares(report),
        _phases(report),
        _slowest(report),
        "</div>",
    ]
    return "".join(parts)


def _clocks(report: Report) -> str:
    if not report.shifts:
        return ""
    moved = ", ".join(f"{name} by {shift:+.4f} s" for name, shift in sorted(report.shifts.items()))
    return (
        f"The clocks of the machines differ: moved were {moved}, the least by which nothing is received before it was "
        "sent. What a task measured itself needs no common clock; waiting in queues and for reports is as exact as "
        "the clocks are."
    )


def _shares(report: Report) -> str:
    shares = report.shares()
    on_path = sum(share.path for share in shares.values()) or 1.0
    in_tasks = sum(share.tasks for share in shares.values()) or 1.0
    rows = (
        (
            f'<i style="background: {colour(kind)}"></i>{escape(kind)}',
            seconds(share.path),
            f"{share.path / on_path:.1%}",
            seconds(share.tasks),
            f"{share.tasks / in_tasks:.1%}",
            escape(KINDS.get(kind, "")),
        )
        for kind, share in shares.items()
    )
    head = ("kind", "critical path", "", "all attempts", "", "what it is")
    return f"<h2>What took the time</h2>{_table(head, rows)}"


def _phases(report: Report) -> str:
    rows = (
        (
            phase.value,
            f"{known.tasks:,}",
            f"{known.unknown:,}" if known.unknown else "",
            seconds(known.ended - known.began) if known.began is not None and known.ended is not None else "",
            f"{known.records_in:,}",
            f"{known.records_out:,}",
            f"{known.bytes_in:,}",
            f"{known.bytes_out:,}",
            escape(", ".join(f"{n:,} {end}" for end, n in sorted(known.attempts.items())) or "none"),
        )
        for phase, known in report.phases().items()
    )
    head = ("phase", "tasks", "unknown", "took", "records in", "out", "bytes in", "out", "attempts")
    return f"<h2>Phases</h2>{_table(head, rows)}"


def _slowest(report: Report) -> str:
    rows = (
        (
            bar.task,
            escape(bar.worker),
            seconds(bar.ended - bar.received),
            f"{bar.attempt.records_in:,}",
            escape(", ".join(f"{kind} {seconds(spent)}" for kind, spent in bar.attempt.spent.items())),
        )
        for bar in report.slowest()
    )
    return f"<h2>Slowest tasks</h2>{_table(('task', 'worker', 'took', 'records in', 'of which'), rows)}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{cells}</tbody></table>"
