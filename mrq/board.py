"""What a master remembers of a job's tasks for people and for the manifest; the core needs none of it."""

from __future__ import annotations

from collections.abc import Iterable

from mrq.core.job import task_state
from mrq.core.model import PHASES, Job, JobState, Phase, TaskState
from mrq.records import ManifestEntry, PhaseProgress, ProgressRecord, TaskPage, TaskRow
from mrq.wire import Report, Stats

PAGE_SIZE = 200
"""Tasks in one page: about 20 KB of JSON."""


class Board:
    """Who has which task, what the committed ones handled, and which pages changed since they were last shown.

    Args:
        n_map: map tasks.
        n_reduce: shuffle tasks, and reduce tasks.
    """

    def __init__(self, n_map: int, n_reduce: int) -> None:
        self._total = {Phase.MAP: n_map, Phase.SHUFFLE: n_reduce, Phase.REDUCE: n_reduce}
        self._workers: dict[tuple[Phase, int], tuple[str, int]] = {}
        self._stats: dict[Phase, Stats] = dict.fromkeys(PHASES, Stats())
        self._counted: set[tuple[Phase, int]] = set()
        self._dirty: set[tuple[Phase, int]] = set()
        self.results: dict[int, ManifestEntry] = {}
        self.skipped: dict[tuple[Phase, int], int] = {}

    def note(self, report: Report) -> None:
        """Take a worker's report in; one that is told twice counts once."""
        place = (report.phase, report.index)
        if place in self._counted:
            return
        self._workers[place] = (report.worker, report.attempt)
        self._dirty.add((report.phase, report.index // PAGE_SIZE))
        outcome = report.outcome
        if outcome is None or outcome.kind != "done":
            return
        self._counted.add(place)
        self._stats[report.phase] = _sum(self._stats[report.phase], outcome.stats)
        if outcome.skipped:
            self.skipped[place] = outcome.skipped
        if report.phase is Phase.REDUCE:
            self.results[report.index] = ManifestEntry(
                length=outcome.length, digest=outcome.digest, records=outcome.stats.records_out
            )

    def untold(self, phases: Iterable[Phase]) -> list[tuple[Phase, int]]:
        """Return the tasks of some phases whose commit no report told to this master."""
        tasks = [(phase, index) for phase in phases for index in range(self._total[phase])]
        return [task for task in tasks if task not in self._counted]

    def progress(self, job: Job) -> ProgressRecord:
        """Return how far the job is."""
        return ProgressRecord(
            phases={
                phase: PhaseProgress(done=self._done(job, phase), total=total, stats=self._stats[phase])
                for phase, total in self._total.items()
            }
        )

    def changed_pages(self, job: Job) -> list[tuple[int, TaskPage]]:
        """Return number and content of each page with news, and forget that they are new."""
        dirty, self._dirty = self._dirty, set()
        return [(number, self._page(job, phase, number)) for phase, number in sorted(dirty)]

    def _page(self, job: Job, phase: Phase, number: int) -> TaskPage:
        first = number * PAGE_SIZE
        rows = []
        for index in range(first, min(first + PAGE_SIZE, self._total[phase])):
            worker, attempt = self._workers.get((phase, index), ("", 0))
            state = self._state(job, phase, index)
            rows.append(
                TaskRow(index=index, state=state, worker=worker, received=bool(worker), attempt=attempt)
            )
        return TaskPage(phase=phase, rows=rows)

    def _state(self, job: Job, phase: Phase, index: int) -> TaskState:
        if job.state.value == phase.value:
            return task_state(job, index)
        over = _is_over(job, phase) or (phase, index) in self._counted
        return TaskState.COMPLETED if over else TaskState.PENDING

    def _done(self, job: Job, phase: Phase) -> int:
        if job.state.value == phase.value:
            return job.n_committed
        if _is_over(job, phase):
            return self._total[phase]
        return sum(1 for counted, _ in self._counted if counted is phase)


def _is_over(job: Job, phase: Phase) -> bool:
    if job.state is JobState.COMPLETED:
        return True
    return job.state.value in PHASES and PHASES.index(Phase(job.state.value)) > PHASES.index(phase)


def _sum(one: Stats, other: Stats) -> Stats:
    return Stats(
        records_in=one.records_in + other.records_in,
        records_out=one.records_out + other.records_out,
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        seconds=one.seconds + other.seconds,
    )
