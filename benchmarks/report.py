"""Medians, ratios, JSON, and tables."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.runner import Row
from benchmarks.workloads import Workload

Results = dict[str, Any]
"""What the JSON holds: machine, versions, left_out, and for each of workloads its systems and ratios."""

OURS = ("mrq", "mrq embedded")


def machine(load_before: float) -> dict[str, Any]:
    """Return where it was measured, and what else went on there."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "load_before": round(load_before, 2),
    }


def busy(machine: Mapping[str, Any]) -> str:
    """Return a sentence of warning if something else ran on the machine before the run, else nothing."""
    if machine["load_before"] < machine["cores"] / 2:
        return ""
    return (
        f"The machine was busy with other work (load {machine['load_before']:.1f}): these times say little."
    )


def summary(workload: Workload, rows: Mapping[str, Row]) -> dict[str, Any]:
    """Return a workload's part of the results; a ratio is ours over theirs, so less than 1 where mrq is faster."""
    systems: dict[str, Any] = {}
    for name, row in rows.items():
        systems[name] = {"seconds": [round(s, 4) for s in row.seconds]}
        if row.goes_on:
            systems[name]["median"] = round(statistics.median(row.seconds), 4)
        else:
            systems[name] |= {"over": row.over} if row.over else {"failed": row.failed}
    medians = {name: system["median"] for name, system in systems.items() if "median" in system}
    ratios = {
        ours: {peer: round(medians[ours] / theirs, 3) for peer, theirs in medians.items() if peer not in OURS}
        for ours in OURS
        if ours in medians
    }
    tasks = len(workload.job.data) if workload.no_ops else None
    return {"what": workload.what, "tasks": tasks, "systems": systems, "ratios": ratios}


def tables(results: Results) -> str:
    """Return the medians, and the ratios, as two tables in Markdown."""
    workloads = results["workloads"]
    head = [""]
    for name, workload in workloads.items():
        head.append(f"{name}, tasks/s" if workload["tasks"] else f"{name}, s")
    medians = [
        [name, *(_median(w, w["systems"].get(name, {})) for w in workloads.values())]
        for name in results["versions"]
    ]
    peers = [name for name in results["versions"] if name not in OURS]
    ratios = [[name, *(_ratios(w["ratios"], name) for w in workloads.values())] for name in peers]
    first = _table(head, medians)
    if not any(cell for row in ratios for cell in row[1:]):
        return first
    title = " · ".join(name for name in OURS if name in results["versions"]) + ", over"
    return f"{first}\n\n{_table([title, *workloads], ratios)}"


def in_seconds(system: dict[str, Any]) -> str:
    """Return a system's median in one workload, or why there is none."""
    if "median" in system:
        return _number(system["median"])
    return f"over {system['over']:.0f} s" if "over" in system else "failed" if "failed" in system else ""


def _median(workload: dict[str, Any], system: dict[str, Any]) -> str:
    if workload["tasks"] and "median" in system:
        return _number(workload["tasks"] / system["median"])
    return in_seconds(system)


def _number(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def _ratios(ratios: dict[str, dict[str, float]], peer: str) -> str:
    found = [_number(ratios[ours][peer]) for ours in OURS if peer in ratios.get(ours, {})]
    return " · ".join(found)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay a table out so that it reads well in a terminal too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [":" + "-" * max(widths[0] - 1, 2), *("-" * max(width - 1, 2) + ":" for width in widths[1:])]
    lines = [head, rule, *rows]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in lines
    )
