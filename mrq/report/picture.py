"""A timeline as SVG: a lane for each slot of each worker, with the master, the client and the critical path above.

Up to `EACH` attempts are drawn one by one, with a title each; more are drawn as one path a kind, where what is thinner
than a line is left out, but each attempt keeps its longest segment.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import cycle

from mrq.report.bars import Bar, Segment, end_of
from mrq.report.summary import Report, seconds

EACH = 1500
WIDTH, GUTTER, LANE, TOP = 1200, 150, 16, 34
_LEAST = 0.4
"""Of a segment's width, in units of the picture, below which it is no use to draw it."""

COLOURS: Mapping[str, str] = {
    "upload": "#b7a58c", "claim": "#d8cdbd", "master": "#8d8d8d", "persist": "#5f5f5f", "queue": "#e3e3e3",
    "start": "#f2c6de", "load": "#cc79a7", "read": "#56b4e9", "run": "#009e73", "pack": "#f0e442",
    "write": "#e69f00", "commit": "#d55e00", "report": "#b3a2d9", "retry": "#f4b6b6", "lost": "#e58b8b",
    "manifest": "#7a5195", "clean": "#c9b8d8", "unknown": "#ffffff",
}  # fmt: skip
BANDS = ("#eef4fb", "#f4f9ee", "#fbf3ee")


def colour(kind: str) -> str:
    """Return a kind's colour."""
    return COLOURS.get(kind, "#333333")


def picture(report: Report) -> str:
    """Return the SVG element."""
    return _Picture(report).draw()


class _Picture:
    def __init__(self, report: Report) -> None:
        self.report = report
        first = report.path[0].began if report.path else 0.0
        self.start = min([first, *(bar.received for bar in report.bars)])
        self.end = max([end_of(report.timeline), *(bar.heard for bar in report.bars)])
        self.scale = (WIDTH - GUTTER - 10) / max(self.end - self.start, 1e-6)
        self.lanes = list(_lanes(report.bars))
        self.on_path = {segment.task for segment in report.path}

    def x(self, at: float) -> float:
        """Return where a moment is."""
        return round(GUTTER + (at - self.start) * self.scale, 2)

    def draw(self) -> str:
        """Return the element."""
        above = [
            ("critical path", self.report.path),
            ("client", [s for s in self.report.path if s.kind in ("upload", "claim")]),
            ("master", [Segment(act.kind, act.began, act.ended) for act in self.report.timeline.acts]),
        ]
        height = TOP + (len(above) + len(self.lanes) + 1) * LANE + 10
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="timeline" font-size="10" '
            'font-family="sans-serif" xmlns="http://www.w3.org/2000/svg">',
            *self._phases(height),
            *self._axis(height),
        ]
        for number, (name, segments) in enumerate(above):
            y = TOP + number * LANE
            parts += [_label(name, y), *(self._rect(segment, y, _title(segment)) for segment in segments)]
        below = TOP + (len(above) + 1) * LANE
        parts += [_label(name, below + n * LANE) for n, (name, _) in enumerate(self.lanes) if name]
        draw = self._each if len(self.report.bars) <= EACH else self._together
        return "".join([*parts, *draw(below), "</svg>"])

    def _phases(self, height: int) -> Iterator[str]:
        for number, (phase, known) in enumerate(self.report.phases().items()):
            if known.began is not None and known.ended is not None:
                x, width = self.x(known.began), max((known.ended - known.began) * self.scale, 1)
                yield (
                    f'<rect x="{x}" y="12" width="{width:.2f}" height="{height - 12}" fill="{BANDS[number]}"/>'
                    f'<text x="{x + 2}" y="21" fill="#777">{phase.value}</text>'
                )

    def _axis(self, height: int) -> Iterator[str]:
        step = _step(self.end - self.start)
        for n in range(int((self.end - self.start) / step) + 1):
            x = self.x(self.start + n * step)
            yield (
                f'<path d="M{x} 12V{height}" stroke="#ddd" stroke-width="0.5"/>'
                f'<text x="{x}" y="9" fill="#777" text-anchor="middle">{seconds(n * step) if n else "call"}</text>'
            )

    def _rect(self, segment: Segment, y: float, title: str = "") -> str:
        width = max(segment.seconds * self.scale, 0.2)
        shape = f'<rect x="{self.x(segment.began)}" y="{y + 2:g}" width="{width:.2f}" height="{LANE - 4}"'
        inside = f"><title>{escape(title)}</title></rect>" if title else "/>"
        return f'{shape} fill="{colour(segment.kind)}"{inside}'

    # ------------------------------------------------------------ one by one

    def _each(self, below: int) -> Iterator[str]:
        for number, (_, bars) in enumerate(self.lanes):
            for bar in bars:
                yield self._bar(bar, below + number * LANE)

    def _bar(self, bar: Bar, y: float) -> str:
        kind = "lost" if bar.lost else "done" if bar.attempt.end == "done" else "failed"
        inside = "".join(self._rect(segment, y) for segment in _at_the_worker(bar))
        width = max((bar.ended - bar.received) * self.scale, 0.5)
        frame = (
            f'<rect x="{self.x(bar.received)}" y="{y + 2:g}" width="{width:.2f}" height="{LANE - 4}" '
            f'fill="none" class="{kind}{" path" if bar.task in self.on_path else ""}"/>'
        )
        return f'<g class="task"><title>{escape(_story(bar))}</title>{inside}{frame}</g>'

    # ------------------------------------------------------------ many

    def _together(self, below: int) -> Iterator[str]:
        lines: dict[str, list[str]] = defaultdict(list)
        for number, (_, bars) in enumerate(self.lanes):
            y = below + number * LANE + LANE // 2
            for bar in bars:
                segments = list(_at_the_worker(bar))
                longest = max(segments, key=lambda segment: segment.seconds)
                for segment in segments:
                    width = segment.seconds * self.scale
                    if width >= _LEAST or segment is longest:
                        line = f"M{self.x(segment.began):.1f} {y}h{max(width, _LEAST):.1f}"
                        lines[segment.kind].append(line)
                if bar.lost or bar.attempt.end != "done":
                    lines["failed"].append(f"M{self.x(bar.received):.1f} {y}v{LANE // 2 - 2}")
        for kind, drawn in lines.items():
            fill = "#cc0000" if kind == "failed" else colour(kind)
            width = 1 if kind == "failed" else LANE - 4
            title = "failed, lost or second" if kind == "failed" else kind
            yield f'<path d="{"".join(drawn)}" stroke="{fill}" stroke-width="{width}"><title>{title}</title></path>'


def _lanes(bars: Iterable[Bar]) -> Iterator[tuple[str, list[Bar]]]:
    """Give each bar a lane of its worker in which nothing else is drawn meanwhile; the first lane has the name."""
    by_worker: dict[str, list[Bar]] = defaultdict(list)
    for bar in bars:
        by_worker[bar.worker].append(bar)
    for worker, its in sorted(by_worker.items()):
        lanes: list[list[Bar]] = []
        free: list[tuple[float, int]] = []
        for bar in sorted(its, key=lambda bar: bar.received):
            if free and free[0][0] <= bar.received:
                number = heapq.heappop(free)[1]
            else:
                number = len(lanes)
                lanes.append([])
            lanes[number].append(bar)
            heapq.heappush(free, (bar.ended, number))
        yield from ((worker if n == 0 else "", lane) for n, lane in enumerate(lanes))


def _at_the_worker(bar: Bar) -> Sequence[Segment]:
    """Return what is drawn of a bar: neither the time in the queue nor that of the last report."""
    inside = [
        Segment(s.kind, s.began, min(s.ended, bar.ended), s.task)
        for s in bar.segments
        if s.kind != "queue" and s.began < bar.ended
    ]
    return inside or [Segment("lost" if bar.lost else "report", bar.received, bar.ended, bar.task)]


def _label(name: str, y: float) -> str:
    shown = name if len(name) <= 24 else f"…{name[-23:]}"
    return f'<text x="{GUTTER - 6}" y="{y + LANE - 5:g}" text-anchor="end">{escape(shown)}</text>'


def _title(segment: Segment) -> str:
    return f"{segment.kind}{f' of {segment.task}' if segment.task else ''}: {seconds(segment.seconds)}"


def _story(bar: Bar) -> str:
    row = bar.attempt
    if bar.lost:
        return f"{bar.task}, attempt {row.attempt} at {bar.worker}: {row.end}; nothing was heard of its end"
    parts = [f"{s.kind} {seconds(s.seconds)}" for s in bar.segments]
    return (
        f"{bar.task}, attempt {row.attempt} at {bar.worker}: {row.end}; {', '.join(parts)}; "
        f"{row.records_in:,} records in, {row.records_out:,} out"
    )


def _step(length: float) -> float:
    """Return a round number of seconds, of which ten or less make the length."""
    step = 1e-6
    for factor in cycle((2, 2.5, 2)):
        if step * 10 >= length:
            break
        step *= factor
    return step
