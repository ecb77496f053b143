"""What a child process does for a task: read, run the user's function, write, commit.

    map       split i of the input           ─▶ map_func, group, sort ─▶ n_reduce partitions of (key, [values])
    shuffle   partition r of all map results ─▶ merge                 ─▶ one partition of (key, [values])
    reduce    shuffle result r               ─▶ reduce_func           ─▶ one partition of (key, y)

A result is written as an attempt's own file and committed by renaming it: the first attempt to come wins, and the
others report the winner's. Bad records that a task left out (`skipping`) are one more partition of its result, so that
they are committed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from mrq import inputs, layout, serial, sidecar
from mrq.blob import Signer
from mrq.core.grouping import Group, Row, merge
from mrq.core.keys import partition_of
from mrq.core.model import Phase
from mrq.errors import MrqError, NotShippable, StoreError
from mrq.executor.copies import in_one_process
from mrq.executor.memory import limited
from mrq.executor.near import OpenInput
from mrq.executor.pairs import grouped
from mrq.executor.skipping import Skips
from mrq.executor.stopwatch import REST, Stopwatch, TimedWrites
from mrq.executor.values import gathered, sealed
from mrq.ports import Store
from mrq.segment import CHUNK_BYTES, SegmentReader, SegmentSummary, SegmentWriter
from mrq.span import Readable
from mrq.spool import write_whole
from mrq.wire import Assignment, Outcome, Stats

T = TypeVar("T")

MapFunction = Callable[..., Any]
ReduceFunction = Callable[..., Any]
Code = tuple[MapFunction, ReduceFunction]

_READERS = 8
"""How many map results a shuffle task opens at the same time."""
_MERGE_BYTES = 64 * 2**20
"""What a shuffle task may hold of all its inputs together, pickled; so map results have smaller frames if many."""
_LEAST_BYTES = 32 * 1024


class UserError(Exception):
    """Carries what user code raised: a function, an iterator, a key's ``__eq__``, a class's unpickling.

    Attributes:
        error: the exception, with its traceback.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _Committed(NamedTuple):
    summary: SegmentSummary
    skipped: int

    @property
    def records(self) -> int:
        return self.summary.records - self.skipped


def run(
    assignment: Assignment,
    store: Store,
    load_code: Callable[[], Code],
    watch: Stopwatch,
    opened: OpenInput | None = None,
) -> Outcome:
    """Run one task and commit its result.

    Args:
        assignment: the task and all it needs.
        store: where the files are.
        load_code: returns the job's two functions; called before any data is unpickled, so that its classes are there.
        watch: is told what takes the time.
        opened: keeps the job's input open for the process's next task.

    Returns:
        an outcome of kind ``done``.

    Raises:
        UserError: user code raised.
        MemoryError: the task needs more than its limit.
        BadMessage: a file is damaged, or not the job's.
        MrqError: the store's trouble.
    """
    task = _Task(assignment, store, watch, opened or OpenInput())
    if assignment.check_first and (found := task.committed()):
        return _done(found, Stats(records_out=found.records, bytes_out=found.summary.length))
    with watch.on("load"):
        code = load_code()
    with limited(assignment):
        written = task.write(_PHASES[task.phase](task, code))
    stats = Stats(
        records_in=task.records_in,
        records_out=written.records,
        bytes_in=task.bytes_in,
        bytes_out=written.summary.length,
        seconds=sum(watch.spent().values()),
    )
    with watch.on("commit"):
        return _done(task.commit(written), stats)


def _done(committed: _Committed, stats: Stats) -> Outcome:
    summary, skipped = committed
    return Outcome(kind="done", length=summary.length, digest=summary.digest, stats=stats, skipped=skipped)


class _Task:
    """A task's files, and how much was read of them."""

    def __init__(self, assignment: Assignment, store: Store, watch: Stopwatch, opened: OpenInput) -> None:
        self.assignment = assignment
        self.store = store
        self.watch = watch
        self._opened = opened
        self.job_id = assignment.task.job_id
        self.phase = assignment.task.phase
        self.index = assignment.task.index
        self.records_in = self.bytes_in = 0
        self.skips = Skips(assignment.max_skipped)
        self._signer = Signer(bytes.fromhex(assignment.key), self.job_id)
        self._attempt = layout.attempt(assignment.task, assignment.run)
        self._result = layout.result(self.job_id, self.phase, self.index)

    def open_input(self) -> SegmentReader:
        """Open the file of all splits."""
        path, length = layout.input_file(self.job_id), self.assignment.input_length

        def open_(store: Readable) -> SegmentReader:
            return SegmentReader(store, path, length, self._signer, inputs.ROLE, inputs.INDEX, loads=_loads)

        return self._opened.of(self.job_id, self.store, length, open_)

    def open_result(self, phase: Phase, index: int, length: int | None = None) -> SegmentReader:
        """Open a committed result."""
        path = layout.result(self.job_id, phase, index)
        return SegmentReader(
            self.store,
            path,
            length,
            self._signer,
            phase.value,
            index,
            chunk_bytes=self.share(CHUNK_BYTES) if phase is Phase.MAP else CHUNK_BYTES,
            loads=_loads,
        )

    def share(self, most: int) -> int:
        """Return how many bytes one of all map results may take in a merge."""
        return max(_LEAST_BYTES, min(most, _MERGE_BYTES // max(1, self.assignment.n_map)))

    def blocks(self, reader: SegmentReader, partition: int) -> Iterator[list[Any]]:
        """Read a partition, and count it."""
        entry = reader.entries[partition]
        self.records_in += entry.records
        self.bytes_in += entry.length
        return reader.blocks(partition)

    def committed(self) -> _Committed | None:
        """Return what another attempt committed, if one did."""
        status = self.store.status(self._result)
        return self._committed(status.length) if status else None

    def _committed(self, length: int | None = None) -> _Committed:
        reader = self.open_result(self.phase, self.index, length)
        return _Committed(reader.summary, sidecar.n_skipped(reader, self.phase, self.assignment.n_reduce))

    def write(self, partitions: Iterable[Iterable[Any]]) -> _Committed:
        """Write the attempt's file."""
        frame_bytes = self.assignment.frame_bytes
        if self.phase is Phase.MAP:
            frame_bytes = min(frame_bytes, self.share(frame_bytes))
        writer = SegmentWriter(self._signer, self.phase.value, self.index, frame_bytes)
        try:
            write_whole(TimedWrites(self.store, self.watch), self._attempt, writer.file(partitions))
        except NotShippable as error:
            raise UserError(_reason(error)) from None
        return _Committed(writer.summary, len(self.skips.records))

    def commit(self, written: _Committed) -> _Committed:
        """Make the attempt's file the result, unless there is one; return what is committed now."""
        if self.store.rename(self._attempt, self._result):
            return written
        self.store.delete(self._attempt)
        return self._committed()


# ---------------------------------------------------------------- the three phases


def _map(task: _Task, code: Code) -> Iterable[Iterable[Any]]:
    with task.watch.on("read"):
        blocks = task.blocks(task.open_input(), task.index)
        elements = [element for block in blocks for element in block]

    @in_one_process
    def mapped(part: list[Any]) -> list[Iterator[Row[Any]]]:
        all_were_bad = not part and task.skips.records
        return _partitioned([] if all_were_bad else grouped(code[0](part)), task.assignment.n_reduce)

    with task.watch.on("run"):
        partitions = _as_user(lambda: task.skips.without_bad(mapped, elements))
    yield from partitions
    if task.skips.records:
        yield task.skips.records


def _shuffle(task: _Task, code: Code) -> Iterable[Iterable[Row[Any]]]:
    del code  # it only had to be loaded
    with task.watch.on("read"):
        lengths = _map_results(task)
        with ThreadPoolExecutor(min(_READERS, len(lengths)) or 1) as pool:
            streams = list(pool.map(lambda item: _stream(task, *item), enumerate(lengths)))
    return [_blamed(merge([task.watch.each("read", stream) for stream in streams]))]


def _reduce(task: _Task, code: Code) -> Iterable[Iterable[Any]]:
    with task.watch.on("read"):
        blocks = task.blocks(task.open_result(Phase.SHUFFLE, task.index), 0)
    yield _reduced(task.watch.each("read", blocks), in_one_process(code[1]), task)
    if task.skips.records:
        yield task.skips.records


_PHASES: Mapping[Phase, Callable[[_Task, Code], Iterable[Iterable[Any]]]] = {
    Phase.MAP: _map,
    Phase.SHUFFLE: _shuffle,
    Phase.REDUCE: _reduce,
}


def _reason(error: NotShippable) -> BaseException:
    """Return the MemoryError that kept a value from being pickled, or the error itself."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, MemoryError):
        cause = cause.__cause__
    return cause or error


def _partitioned(groups: list[Group[Any]], n: int) -> list[Iterator[Row[Any]]]:
    partitions: list[list[Group[Any]]] = [[] for _ in range(n)]
    for row in groups:
        partitions[partition_of(row[0], n)].append(row)
    return [sealed(partition) for partition in partitions]


def _map_results(task: _Task) -> list[int]:
    """Return the length of each map result, in the order of the splits."""
    n_map, folder = task.assignment.n_map, layout.results(task.job_id, Phase.MAP)
    names = [str(index) for index in range(n_map)]
    if all(f"{folder}/{name}" in task.assignment.inline for name in names):
        statuses = [task.store.status(f"{folder}/{name}") for name in names]
        return [status.length for status in statuses if status]
    lengths = {file.name: file.length for file in task.store.list(folder)}
    if not lengths.keys() >= set(names):  # a stray file is none of ours
        raise StoreError(
            f"{task.job_id}: shuffle {task.index} needs the results of {n_map} map tasks, "
            f"but {folder} holds {len(lengths)} files; the task is to be tried again"
        )
    return [lengths[name] for name in names]


def _stream(task: _Task, index: int, length: int) -> Iterator[list[Any]]:
    """Open a map result and read its first block: what takes time, so that it happens on many threads."""
    blocks = task.blocks(task.open_result(Phase.MAP, index, length), task.index)
    return chain([next(blocks, [])], blocks)


def _reduced(
    blocks: Iterable[list[Row[Any]]], reduce_func: ReduceFunction, task: _Task
) -> Iterator[tuple[Any, Any]]:
    for position, (key, values) in enumerate(gathered(chain.from_iterable(blocks), _loads)):
        task.watch.turn("run")
        try:
            y = reduce_func(values)
        except (Exception, SystemExit) as error:
            if not task.skips.skip(position, key, error):
                raise UserError(error) from None
            continue
        finally:
            task.watch.turn(REST)
        yield key, y


# ---------------------------------------------------------------- user code


def _as_user(call: Callable[[], T]) -> T:
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise UserError(error) from None


def _loads(payload: bytes) -> Any:
    return _as_user(lambda: serial.loads(payload))


def _blamed(items: Iterable[T]) -> Iterator[T]:
    """Merging compares keys, which is user code, and reads the store, which is not."""
    try:
        yield from items
    except (MrqError, UserError):
        raise
    except Exception as error:
        raise UserError(error) from None
