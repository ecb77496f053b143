"""What is so, whatever messages said: the committed files, and the tasks that nobody has any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mrq import layout
from mrq.core import policy
from mrq.core.events import TaskDone, TaskLost
from mrq.core.model import Phase
from mrq.performer import Owned
from mrq.ports import Depth, Store


def committed_set(store: Store, job_id: str, phase: Phase) -> frozenset[int]:
    """Return the tasks of a phase whose results are in the store."""
    names = (file.name for file in store.list(layout.results(job_id, phase)))
    return frozenset(int(name) for name in names if name.isdecimal())


def committed(owned: Owned, store: Store, now: float) -> list[TaskDone]:
    """Return the news that the store has of a job's current phase."""
    job = owned.job
    found = committed_set(store, owned.job_id, job.phase)
    return [TaskDone(job.phase, index, now) for index in sorted(found) if not job.committed >> index & 1]


def lost(
    owned: Owned, depths: Mapping[str, Depth], workers: Collection[str], after: float, now: float
) -> list[TaskLost]:
    """Return the outstanding tasks of a job that will bring no report.

    Args:
        owned: a job in one of the phases.
        depths: of the queues, read after the workers were asked to tell what they run.
        workers: the names of the live ones.
        after: seconds of silence that are no cause for doubt.
        now: the master's time.
    """
    job = owned.job
    indices = policy.unheard_of(
        job, now, after, queue_empty=depths[job.phase.value].ready == 0, workers=workers
    )
    return [TaskLost(job.phase, i, owned.epoch, job.outstanding[i].attempt, now) for i in indices]
