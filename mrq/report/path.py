"""The critical path: what a job's end waited for, step by step back to the call.

    end <- the report that the master heard last <- that attempt <- the attempt that its worker was busy with before
    <- ... <- its publishing <- the report that the master heard last before that <- ... <- claim <- record <- call

A phase begins when the last task of the one before is heard of, so barriers need no rule of their own. The segments
leave no gap: their sum is the time from the call to the end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

from mrq.core.model import Phase
from mrq.report.bars import Bar, Segment, end_of
from mrq.timeline import Timeline

_SLACK = 0.001
"""Seconds within which the master, or a worker, does what it was only waiting to do."""


def critical_path(timeline: Timeline, bars: Sequence[Bar]) -> list[Segment]:
    """Return the critical path, in the order of time.

    Args:
        timeline: of a job that has ended.
        bars: all of its (`mrq.report.bars.bars`).
    """
    return list(reversed(_Walk(timeline, bars).back()))


class _Walk:
    """Goes back in time.

    Attributes:
        at: how far it has come.
        path: what it came through.
    """

    def __init__(self, timeline: Timeline, bars: Sequence[Bar]) -> None:
        self.timeline = timeline
        self.at = end_of(timeline)
        self.path: list[Segment] = []
        self._told = sorted(
            (b for b in bars if not b.lost and b.attempt.end != "second"), key=lambda b: b.heard
        )
        self._heard = [bar.heard for bar in self._told]
        self._passed: set[int] = set()
        self._of_worker: dict[tuple[Phase, str], list[Bar]] = defaultdict(list)
        self._of_task: dict[str, list[Bar]] = defaultdict(list)
        for bar in sorted(bars, key=lambda bar: bar.ended):
            self._of_task[bar.task].append(bar)
            if not bar.lost:
                self._of_worker[bar.phase, bar.worker].append(bar)

    def back(self) -> list[Segment]:
        """Go from the end to the call."""
        bar = self._last_heard()
        while bar is not None:
            self._master(bar.heard)
            bar = self._work(bar)
            if bar.published is None:
                break
            self._step("queue", bar.published, bar.task)
            bar = self._cause(bar)
        self._begin(known=bar is None)
        return self.path

    def _step(self, kind: str, to: float, task: str = "") -> None:
        if to < self.at:
            self.path.append(Segment(kind, to, self.at, task))
            self.at = to

    def _master(self, to: float) -> None:
        """Go back to something that the master heard, through what it did since."""
        for act in reversed(self.timeline.acts):
            if act.ended > to:
                self._step("master", act.ended)
                self._step(act.kind, max(act.began, to))
        self._step("master", to)

    def _work(self, bar: Bar) -> Bar:
        """Go through an attempt, and through those that its worker was busy with while it waited."""
        self._through(bar)
        while earlier := self._busy_before(bar):
            self._step("queue", earlier.ended, bar.task)
            bar = earlier
            self._through(bar)
        for other in self._of_task[bar.task]:
            if other.lost and other.attempt.attempt == bar.attempt.attempt:
                self._step("lost", max(other.received, bar.published or other.received), bar.task)
        return bar

    def _through(self, bar: Bar) -> None:
        self._passed.add(id(bar))
        for segment in reversed(bar.segments):
            if segment.kind != "queue":
                self._step(segment.kind, segment.began, bar.task)

    def _busy_before(self, bar: Bar) -> Bar | None:
        """Return the attempt whose end let a worker take this one, if this one was published before."""
        others = self._of_worker[bar.phase, bar.worker]
        end = bisect_right(others, bar.received + _SLACK, key=lambda other: other.ended)
        for other in reversed(others[max(0, end - 4) : end]):
            begun = bar.published is None or other.ended > bar.published
            if begun and other.received < bar.received and id(other) not in self._passed:
                return other
        return None

    def _cause(self, bar: Bar) -> Bar | None:
        """Return the attempt whose end had the master publish this one: it made room, or is to be made good."""
        last = self._last_heard()
        if last is not None and self.at - last.heard <= _SLACK:
            return last
        for other in reversed(self._of_task[bar.task]):
            failed = not other.lost and other.attempt.end not in ("done", "second")
            if failed and id(other) not in self._passed and other.heard <= self.at:
                self._step("retry", other.heard, bar.task)
                return other
        return last

    def _last_heard(self) -> Bar | None:
        for index in reversed(range(bisect_right(self._heard, self.at))):
            if id(self._told[index]) not in self._passed:
                return self._told[index]
        return None

    def _begin(self, *, known: bool) -> None:
        """Go back to the call, on the client's clock, which is moved so that nothing is claimed before it is there."""
        called, submitted = self.timeline.called, self.timeline.submitted
        late = max(0.0, submitted)
        if known:
            self._master(0.0)
        if known and not self.timeline.resumed:
            self._step("claim", submitted - late)
            self._step("upload", called - late)
        else:
            self._step("unknown", called - late)
