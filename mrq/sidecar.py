"""What tasks leave for the user beside results: the bad records that they skipped, and what they printed.

Skipped records are one more partition at the end of a task's committed result, there only if something was skipped, so
they are committed with it or not at all. What an attempt printed is a small sealed file of its own, there only if it
printed something.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from mrq import layout
from mrq.blob import Signer
from mrq.core.model import PHASES, Phase
from mrq.ports import Store
from mrq.records import TaskOutput
from mrq.segment import SegmentReader
from mrq.wire import TaskMessage, decode

_READERS = 8
"""Files read at once."""
_SKIPPING = (Phase.MAP, Phase.REDUCE)
"""The phases that run functions."""


class Skipped(NamedTuple):
    """A bad record that a job was done without.

    Attributes:
        task: as in ``"map 3"``, for an element of split 3, or ``"reduce 0"``, for a key in partition 0.
        position: of the element in its split, or of the key in its partition, from 0.
        record: the element, or the key.
        error: what the function raised on it, as text.
    """

    task: str
    position: int
    record: Any
    error: str


class Printed(NamedTuple):
    """A line that a task wrote to stdout or stderr, or logged.

    Attributes:
        job_id: the job.
        task: as in ``"map 3"``.
        attempt: which attempt of the task, from 0 within a master's time.
        line: the text, without its end.
    """

    job_id: str
    task: str
    attempt: int
    line: str

    def __str__(self) -> str:
        return f"{self.job_id} {self.task} attempt {self.attempt}: {self.line}"


# ---------------------------------------------------------------- skipped


def n_skipped(reader: SegmentReader, phase: Phase, n_reduce: int) -> int:
    """Return how many records a task skipped whose result is open."""
    return sum(entry.records for entry in reader.entries[_regular(phase, n_reduce) :])


def count_skipped(
    store: Store, signer: Signer, tasks: Iterable[tuple[Phase, int]], n_reduce: int
) -> dict[tuple[Phase, int], int]:
    """Return how many records each of some committed tasks skipped, those left out that skipped none."""
    with ThreadPoolExecutor(_READERS) as pool:
        counts = {task: pool.submit(_count, store, signer, *task, n_reduce) for task in tasks}
    return {task: number for task, count in counts.items() if (number := count.result())}


def read_skipped(
    store: Store, signer: Signer, tasks: Iterable[tuple[Phase, int]], n_reduce: int
) -> list[Skipped]:
    """Return what committed tasks skipped, in the order of the tasks."""
    with ThreadPoolExecutor(_READERS) as pool:
        read = pool.map(partial(_read_skipped, store, signer, n_reduce), tasks)
        return [skipped for part in read for skipped in part]


def committed_tasks(store: Store, job_id: str) -> list[tuple[Phase, int]]:
    """Return the tasks whose committed results may hold skipped records."""
    return [
        (phase, index)
        for phase in _SKIPPING
        for index in sorted(
            int(file.name) for file in store.list(layout.results(job_id, phase)) if file.name.isdecimal()
        )
    ]


def _regular(phase: Phase, n_reduce: int) -> int:
    """Return how many partitions a result has that nothing was skipped for."""
    return n_reduce if phase is Phase.MAP else 1


def _open(store: Store, signer: Signer, phase: Phase, index: int) -> SegmentReader:
    path = layout.result(signer.job_id, phase, index)
    return SegmentReader(store, path, None, signer, phase.value, index)


def _count(store: Store, signer: Signer, phase: Phase, index: int, n_reduce: int) -> int:
    return n_skipped(_open(store, signer, phase, index), phase, n_reduce)


def _read_skipped(store: Store, signer: Signer, n_reduce: int, task: tuple[Phase, int]) -> list[Skipped]:
    reader, first = _open(store, signer, *task), _regular(task[0], n_reduce)
    numbers, name = range(first, len(reader.entries)), f"{task[0].value} {task[1]}"
    return [Skipped(name, *record) for number in numbers for record in reader.partition(number)]


# ---------------------------------------------------------------- printed


def write_output(store: Store, signer: Signer, task: TaskMessage, run: str, output: TaskOutput) -> None:
    """Keep what a run of an attempt printed, unless its job has been cleared meanwhile."""
    if store.status(layout.folder(task.job_id)) is not None:
        path = layout.output(task, run)
        store.write(path, signer.seal("output", path, output.encode()))


def read_output(store: Store, signer: Signer, task: tuple[Phase, int] | None = None) -> list[Printed]:
    """Return what a job's tasks printed, by phase, task and attempt, each in the order in which it was printed.

    Args:
        store: where it is.
        signer: of the job.
        task: of that task's last attempt that printed something only.
    """
    folder = layout.outputs(signer.job_id)
    names = _in_order(file.name for file in store.list(folder))
    if task is not None:
        names = [name for name in names if layout.attempt_of(name)[:2] == task][-1:]
    with ThreadPoolExecutor(_READERS) as pool:
        return [line for part in pool.map(partial(_read_output, store, signer), names) for line in part]


def _in_order(names: Iterable[str]) -> list[str]:
    """Return the names of runs' files by phase, task, epoch and attempt; a stray file is none of ours."""
    found = {}
    for name in names:
        with suppress(ValueError):
            phase, *numbers = layout.attempt_of(name)
            found[name] = (PHASES.index(phase), *numbers)
    return sorted(found, key=lambda name: found[name])


def _read_output(store: Store, signer: Signer, name: str) -> list[Printed]:
    path = f"{layout.outputs(signer.job_id)}/{name}"
    output = decode(TaskOutput, signer.open("output", path, store.read(path)))
    lines = output.lines
    if output.left_out:
        lines = [f"[{output.left_out} earlier lines are left out]", *lines]
    phase, index, _, attempt = layout.attempt_of(name)
    return [Printed(signer.job_id, f"{phase.value} {index}", attempt, line) for line in lines]
