"""What a job that has not ended waits for, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mrq.core.model import JobState, Phase, TaskState
from mrq.ports import Depth
from mrq.records import JobRecord, MemberInfo, TaskRow
from mrq.registry import Registry


def reasons(
    record: JobRecord,
    owner: str | None,
    registry: Registry,
    rows: Mapping[Phase, list[TaskRow]],
    depths: Mapping[str, Depth],
) -> Iterator[str]:
    """Say what a job waits for.

    Args:
        record: of a job that has not ended.
        owner: its master, if it has one.
        registry: knows who is there.
        rows: its tasks as its master last published them.
        depths: of the queues; empty when they are not known.
    """
    workers = registry.members("workers")
    if record.cancel_requested:
        yield "its master, to cancel its tasks"
    if owner is None:
        masters = registry.members("masters")
        yield "a master to claim it" if masters else "a master: none is registered (mrq master)"
    if not workers:
        yield "workers: none is registered (mrq worker)"
    elif all(info.python != record.python for info in workers.values()):
        yield f"a worker with Python {record.python}: there is none"
    if record.state is not JobState.SUBMITTED:
        yield from _tasks(Phase(record.state.value), rows, workers, depths)


def _tasks(
    phase: Phase,
    rows: Mapping[Phase, list[TaskRow]],
    workers: Mapping[str, MemberInfo],
    depths: Mapping[str, Depth],
) -> Iterator[str]:
    left = [row for row in rows[phase] if row.state is not TaskState.COMPLETED]
    for row in left[:10]:
        if row.state is TaskState.RUNNING:
            gone = "" if row.worker in workers else ", which is not registered any more: another will get it"
            yield f"{phase.value} {row.index}, attempt {row.attempt}, which runs at {row.worker}{gone}"
        elif row.state is TaskState.QUEUED:
            yield f"{phase.value} {row.index}, attempt {row.attempt}, which is in the queue"
        else:
            yield f"{phase.value} {row.index}, which is to be published when others are done"
    if len(left) > 10:
        yield f"{len(left) - 10} more {phase.value} tasks"
    depth = depths.get(phase.value)
    if left and depth is not None:
        yield f"queue {phase.value}: {depth.ready} messages of all jobs wait, {depth.consumers} consumers"
