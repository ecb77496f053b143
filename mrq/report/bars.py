"""One clock for all machines, and each attempt as a bar: segments without gaps from its publishing to its report.

A worker tells times by its own clock. Nothing is received before it was published, and nothing heard before it was
sent; so a worker's times are moved by the least that makes this true of all its attempts. What a child measured is
kept as it is: durations need no common clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from mrq.core.model import PHASES, Phase
from mrq.timeline import Attempt, Timeline

CHILD_KINDS = ("load", "read", "run", "pack", "write", "commit")
"""What a child does, in the order in which it is drawn; in truth reading, running and packing take turns."""

KINDS: Mapping[str, str] = {
    "upload": "the client cuts, packs and uploads the data, until the job's record is there",
    "claim": "the record is there, and no master has the job yet",
    "master": "the master decides, looks things up and publishes",
    "persist": "the master writes the job's record",
    "queue": "a task is published, and no worker has it yet",
    "start": "a worker has it, and no child process has begun",
    "load": "the functions are read and unpickled",
    "read": "input is read, checked and unpickled",
    "run": "the user's function runs",
    "pack": "grouping, merging, pickling, compressing, signing",
    "write": "the result goes into the store",
    "commit": "it is renamed",
    "report": "from the child's end until the master has heard of it",
    "retry": "a failed task waits to be tried again",
    "lost": "an attempt that crashed, took too long, or was lost: nothing was measured inside",
    "manifest": "the master writes the manifest",
    "clean": "the master removes what attempts left",
    "unknown": "it was under another master, or nothing was heard of it",
}
"""What takes time, in the order of a job's way, and what it is."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Something that took from ``began`` to ``ended``, in seconds from the timeline's zero on the master's clock.

    Attributes:
        kind: one of `KINDS`.
        task: as in ``map 3``; empty when it is the job's.
    """

    kind: str
    began: float
    ended: float
    task: str = ""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Bar:
    """An attempt, on the master's clock.

    Attributes:
        worker: its name.
        published: None when that was before the last owner's time.
        ended: when its worker told of its end, or the master heard of it; when the job ended, for one that is lost.
        segments: from ``published`` (or ``received``) to ``heard``, without gaps; empty for one that is lost.
    """

    phase: Phase
    attempt: Attempt
    worker: str
    published: float | None
    received: float
    ended: float
    heard: float
    segments: tuple[Segment, ...]

    @property
    def task(self) -> str:
        """The task, as in ``map 3``."""
        return f"{self.phase.value} {self.attempt.task}"

    @property
    def lost(self) -> bool:
        """Whether nothing was heard of its end."""
        return self.attempt.sent is None


def end_of(timeline: Timeline) -> float:
    """Return when the job had ended."""
    heard = [row.heard for rows in timeline.attempts.values() for row in rows if row.heard is not None]
    return timeline.acts[-1].ended if timeline.acts else max(heard, default=0.0)


def shifts(timeline: Timeline) -> dict[str, float]:
    """Return by how many seconds each worker's times are moved, for those that must be."""
    least: dict[int, float] = {}
    most: dict[int, float] = {}
    for rows in timeline.attempts.values():
        for row in rows:
            if row.published is not None and row.received is not None:
                bound = row.published - row.received
                least[row.worker] = max(least.get(row.worker, bound), bound)
            if row.heard is not None and row.sent is not None:
                bound = row.heard - row.sent
                most[row.worker] = min(most.get(row.worker, bound), bound)
    found = {}
    for number, name in enumerate(timeline.workers):
        low, high = least.get(number, -float("inf")), most.get(number, float("inf"))
        # The other way round when the clock was set meanwhile: then no shift is right for all.
        shift = min(max(0.0, low), high) if low <= high else (low + high) / 2
        if shift:
            found[name] = shift
    return found


def bars(timeline: Timeline) -> list[Bar]:
    """Return all attempts of which more is known than that they were published."""
    moved, end = shifts(timeline), end_of(timeline)
    return [
        _bar(timeline, phase, row, moved, end)
        for phase in PHASES
        for row in timeline.attempts.get(phase, [])
        if row.received is not None
    ]


def _bar(timeline: Timeline, phase: Phase, row: Attempt, moved: Mapping[str, float], end: float) -> Bar:
    worker = timeline.workers[row.worker]
    shift = moved.get(worker, 0.0)
    received = (row.received or 0.0) + shift
    if row.published is not None:
        received = max(received, row.published)
    if row.sent is None or row.heard is None:
        return Bar(phase, row, worker, row.published, received, max(end, received), max(end, received), ())
    heard = max(row.heard, received)
    sent = min(max(row.sent + shift, received), heard)
    task = f"{phase.value} {row.task}"
    points = list(_points(row, shift, received, sent, heard))
    segments = tuple(Segment(a[0], a[1], b[1], task) for a, b in pairwise(points) if b[1] > a[1])
    return Bar(phase, row, worker, row.published, received, sent, heard, segments)


def _points(
    row: Attempt, shift: float, received: float, sent: float, heard: float
) -> Iterator[tuple[str, float]]:
    """Return what begins when, in order, and at last the end."""
    if row.published is not None:
        yield "queue", row.published
    if row.began is None:
        yield "lost", received
    else:
        yield "start", received
        at = min(max(row.began + shift, received), sent)
        for kind in (*CHILD_KINDS, *sorted(row.spent.keys() - set(CHILD_KINDS))):
            if kind in row.spent:
                yield kind, at
                at = min(at + row.spent[kind], sent)
        yield "report", at
    yield "report", heard
