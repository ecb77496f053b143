"""The report of one job: what its timeline comes to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from mrq.core.model import PHASES, Phase
from mrq.report import bars as bars_
from mrq.report.bars import KINDS, Bar, Segment
from mrq.report.path import critical_path
from mrq.timeline import Timeline

SLOWEST = 10


class PhaseSummary(BaseModel):
    """One phase.

    Attributes:
        tasks: how many there are.
        attempts: by how they ended.
        unknown: tasks of whose end this timeline does not tell.
        began, ended: from its first publishing to the last report that counted; None when nothing is known.
        records_in, records_out, bytes_in, bytes_out: of the attempts that counted.
    """

    model_config = ConfigDict(frozen=True)

    tasks: int
    attempts: dict[str, int]
    unknown: int
    began: float | None
    ended: float | None
    records_in: int
    records_out: int
    bytes_in: int
    bytes_out: int


class Share(BaseModel):
    """What one kind of time comes to: seconds on the critical path, and of all attempts together."""

    model_config = ConfigDict(frozen=True)

    path: float = 0.0
    tasks: float = 0.0


class Report:
    """Where a job's time went. In a notebook it shows itself.

    Attributes:
        timeline: as its master noted it.
        bars: all attempts, on the master's clock.
        path: the critical path.
        shifts: by how many seconds the clocks of which workers were moved.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.bars = bars_.bars(timeline)
        self.path = critical_path(timeline, self.bars)
        self.shifts = bars_.shifts(timeline)

    @property
    def seconds(self) -> float:
        """From the call to the end."""
        return self.path[-1].ended - self.path[0].began if self.path else 0.0

    def shares(self) -> dict[str, Share]:
        """Return what each kind comes to, in the order of a job's way; kinds that took no time are left out."""
        path, tasks = _sums(self.path), _sums(segment for bar in self.bars for segment in bar.segments)
        kinds = [*KINDS, *sorted((path.keys() | tasks.keys()) - KINDS.keys())]
        return {
            kind: Share(path=round(path[kind], 5), tasks=round(tasks[kind], 5))
            for kind in kinds
            if path[kind] or tasks[kind]
        }

    def phases(self) -> dict[Phase, PhaseSummary]:
        """Return a summary of each phase."""
        by_phase: dict[Phase, list[Bar]] = defaultdict(list)
        for bar in self.bars:
            by_phase[bar.phase].append(bar)
        return {phase: self._phase(phase, by_phase[phase]) for phase in PHASES}

    def slowest(self, n: int = SLOWEST) -> list[Bar]:
        """Return the attempts that kept a worker for the longest time."""
        told = [bar for bar in self.bars if not bar.lost]
        return sorted(told, key=lambda bar: bar.received - bar.ended)[:n]

    def data(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {
            "job_id": self.timeline.job_id,
            "state": self.timeline.state.value,
            "seconds": round(self.seconds, 5),
            "shares": {kind: share.model_dump() for kind, share in self.shares().items()},
            "phases": {phase.value: known.model_dump() for phase, known in self.phases().items()},
            "path": [
                {"kind": s.kind, "task": s.task, "began": round(s.began, 5), "ended": round(s.ended, 5)}
                for s in self.path
            ],
            "slowest": [
                {
                    "task": b.task,
                    "worker": b.worker,
                    "seconds": round(b.ended - b.received, 5),
                    "spent": b.attempt.spent,
                }
                for b in self.slowest()
            ],
            "shifts": {worker: round(shift, 5) for worker, shift in self.shifts.items()},
            "timeline": self.timeline.model_dump(mode="json"),
        }

    def lines(self) -> Iterator[str]:
        """Return the most important of it as text."""
        yield f"{self.timeline.job_id}: {self.timeline.state.value} {seconds(self.seconds)} after the call"
        shares = sorted(self.shares().items(), key=lambda item: -item[1].path)
        told = [f"{kind} {seconds(share.path)}" for kind, share in shares if share.path]
        yield f"on the critical path: {', '.join(told) or 'nothing'}"

    def html(self) -> str:
        """Return a page of HTML that needs nothing else."""
        from mrq.report.page import page

        return page(self)

    def _repr_html_(self) -> str:
        from mrq.report.page import fragment

        return fragment(self)

    def _phase(self, phase: Phase, bars: list[Bar]) -> PhaseSummary:
        n_tasks = self.timeline.n_map if phase is Phase.MAP else self.timeline.n_reduce
        attempts: dict[str, int] = defaultdict(int)
        for bar in bars:
            attempts[bar.attempt.end] += 1
        done = [bar for bar in bars if bar.attempt.end == "done"]
        published = [bar.published for bar in bars if bar.published is not None]
        return PhaseSummary(
            tasks=n_tasks,
            attempts=dict(attempts),
            unknown=n_tasks - len({bar.attempt.task for bar in done}),
            began=min(published, default=None),
            ended=max((bar.heard for bar in done), default=None),
            records_in=sum(bar.attempt.records_in for bar in done),
            records_out=sum(bar.attempt.records_out for bar in done),
            bytes_in=sum(bar.attempt.bytes_in for bar in done),
            bytes_out=sum(bar.attempt.bytes_out for bar in done),
        )


def seconds(number: float) -> str:
    """Return a duration for people: with the digits that matter."""
    return (
        f"{number:.1f} s" if number >= 10 else f"{number:.2f} s" if number >= 1 else f"{1000 * number:.1f} ms"
    )


def _sums(segments: Iterable[Segment]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for segment in segments:
        sums[segment.kind] += segment.seconds
    return sums
