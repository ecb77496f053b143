"""One task of a job once more: here, in this process, on its very input; nothing is written to the cluster.

    replayed = mrq.ops.replay.run("job_7", "map 3", pdb=True)

Functions and data come from the store, and nothing is unpickled unless the job's key, which is in its record, vouches
for it. Whoever may read the record may replay the job's tasks.
"""

from __future__ import annotations

import pdb as debugger
import re
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from types import TracebackType

from mrq import code, layout, packs
from mrq.blob import Signer
from mrq.config import Settings
from mrq.core.model import Phase
from mrq.errors import ConfigurationError, VersionMismatch
from mrq.executor import phases
from mrq.executor.stopwatch import Stopwatch
from mrq.inline import InlineStore
from mrq.membership import PYTHON
from mrq.monitoring import LocalMonitoring
from mrq.ops.overlay import Overlay
from mrq.ports import Store
from mrq.records import JobRecord
from mrq.registry import Registry
from mrq.segment import SegmentReader
from mrq.store.folder import FolderStore
from mrq.wire import Assignment, Stats, TaskMessage

_OURS = Path(phases.__file__).parent.parent
ROWS = 10
"""How many rows of a result are shown."""


@dataclass(frozen=True)
class Replayed:
    """How a task ended here.

    Attributes:
        error: what a function raised, with its traceback; None when the task went well.
        traceback: the same as text, from the first line of user code.
        stats: what the task handled, when it went well.
        partitions: how many rows the result has in each partition.
        rows: the result's first ones: ``(key, [values])``, or ``(key, y)`` of a reduce task.
        committed: whether the store has a result of this task, and with the same bytes: ``same``, ``differs``,
            ``none``.
    """

    job_id: str
    phase: Phase
    index: int
    error: BaseException | None = None
    traceback: str = ""
    stats: Stats = field(default_factory=Stats)
    partitions: list[int] = field(default_factory=list)
    rows: list[tuple[object, object]] = field(default_factory=list)
    committed: str = "none"


def parse_task(text: str) -> tuple[Phase, int]:
    """Take ``map 3`` or ``map/3`` apart.

    Raises:
        ConfigurationError: it has another form.
    """
    found = re.fullmatch(rf"({'|'.join(Phase)})(?:\s+|/|-)(\d+)", text.strip())
    if not found:
        raise ConfigurationError(f"a task is written as 'map 3' or 'map/3', not {text!r}")
    return Phase(found[1]), int(found[2])


def run(
    job_id: str,
    task: str,
    *,
    pdb: bool = False,
    settings: Settings | None = None,
    registry: Registry | None = None,
    store: Store | None = None,
) -> Replayed:
    """Run a task as a worker would, but in this process, without limits of time and memory, and skipping no record.

    What the functions print goes where this process prints.

    Args:
        job_id: the job, which must not have been cleared.
        task: as in ``"map 3"`` or ``"map/3"``.
        pdb: when a function raises, open the debugger where it did.
        settings: where the servers are; by default from file and environment.
        registry: this one, in place of that of the settings' ZooKeeper.
        store: likewise, in place of HDFS.

    Raises:
        UnknownJob: there is no such job.
        ConfigurationError: it has no such task.
        VersionMismatch: the functions were pickled by another Python.
        StoreError: what the task reads is not there (yet).
        BadMessage: it is not what the job's key has signed.
    """
    phase, index = parse_task(task)
    with LocalMonitoring(settings, registry=registry, store=store) as servers:
        record = servers.registry.require(job_id).record
        _check(record, phase, index)
        with tempfile.TemporaryDirectory(prefix="mrq-replay-") as folder:
            inline = record.inline | _packed(servers.store, record, phase)
            cluster = InlineStore(servers.store, inline)
            local = Overlay(cluster, FolderStore(Path(folder)))
            return _run(
                _assignment(record, phase, index, inline),
                cluster,
                local,
                debugger.post_mortem if pdb else None,
            )


def _check(record: JobRecord, phase: Phase, index: int) -> None:
    n_tasks = record.spec(1).n_tasks(phase)
    if index >= n_tasks:
        raise ConfigurationError(
            f"{record.job_id} has {n_tasks} {phase.value} tasks, the first is 0: there is no {phase.value} {index}"
        )
    if record.python != PYTHON:
        raise VersionMismatch(
            f"the functions of {record.job_id} were pickled by Python {record.python}, this is {PYTHON}: they do not "
            f"load here; run mrq with Python {record.python}",
            job_id=record.job_id,
        )


def _packed(store: Store, record: JobRecord, phase: Phase) -> dict[str, str]:
    signer = Signer(bytes.fromhex(record.key), record.job_id)
    return packs.read(store, signer, record.packs) if phase is Phase.SHUFFLE else {}


def _assignment(record: JobRecord, phase: Phase, index: int, inline: dict[str, str]) -> Assignment:
    return Assignment(
        task=TaskMessage(job_id=record.job_id, phase=phase, index=index, epoch=record.epoch, attempt=0),
        key=record.key,
        n_map=record.n_map,
        n_reduce=record.n_reduce,
        input_length=record.input_length,
        frame_bytes=Settings.model_fields["frame_bytes"].default,
        store={},
        inline=inline,
    )


def _run(
    assignment: Assignment,
    cluster: Store,
    local: Store,
    debug: Callable[[TracebackType | None], None] | None,
) -> Replayed:
    task = assignment.task
    signer = Signer(bytes.fromhex(assignment.key), task.job_id)
    try:
        outcome = phases.run(assignment, local, lambda: _load(local, signer), Stopwatch())
    except phases.UserError as carrier:
        error = carrier.error
    except SystemExit as ended:  # a function's
        error = ended
    else:
        done = Replayed(task.job_id, task.phase, task.index, stats=outcome.stats)
        return _with_result(done, signer, cluster, local, outcome.digest)
    trace = _users_part(error.__traceback__)
    text = "".join(traceback.format_exception(type(error), error, trace))
    if debug is not None:
        print(text)
        debug(trace)
    return Replayed(task.job_id, task.phase, task.index, error, text)


def _load(store: Store, signer: Signer) -> phases.Code:
    payload = signer.open("code", "", store.read(layout.code(signer.job_id)))
    try:
        return code.unpack(payload)
    except Exception as error:  # a module that lacks here, or whatever it raises
        raise phases.UserError(error) from None


def _with_result(done: Replayed, signer: Signer, cluster: Store, local: Store, digest: str) -> Replayed:
    path, place = layout.result(done.job_id, done.phase, done.index), (signer, done.phase.value, done.index)
    reader = SegmentReader(local, path, None, *place)
    rows = chain.from_iterable(reader.partition(number) for number in range(len(reader.entries)))
    committed = "none"
    if status := cluster.status(path):
        summary = SegmentReader(cluster, path, status.length, *place).summary
        committed = "same" if summary.digest == digest else "differs"
    return Replayed(
        done.job_id,
        done.phase,
        done.index,
        stats=done.stats,
        partitions=[entry.records for entry in reader.entries],
        rows=list(islice(rows, ROWS)),
        committed=committed,
    )


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Skip mrq's own calls, down to the first of somebody else's."""
    part = trace
    while part and Path(part.tb_frame.f_code.co_filename).is_relative_to(_OURS):
        part = part.tb_next
    return part or trace
