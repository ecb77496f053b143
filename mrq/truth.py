"""What is so, whatever messages said: the committed files, and the tasks that nobody has any more."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from mrq import layout, packs
from mrq.blob import Signer
from mrq.core import policy
from mrq.core.events import TaskDone, TaskLost
from mrq.core.model import JobState, Phase
from mrq.errors import BadMessage, StoreNotFound
from mrq.performer import Owned
from mrq.ports import Depth, Store
from mrq.records import JobRecord

log = logging.getLogger(__name__)


def committed_set(store: Store, job_id: str, phase: Phase) -> frozenset[int]:
    """Return the tasks of a phase whose results are in the store."""
    names = (file.name for file in store.list(layout.results(job_id, phase)))
    return frozenset(int(name) for name in names if name.isdecimal())


def known_set(store: Store, record: JobRecord) -> tuple[Phase, frozenset[int]]:
    """Return the phase that a job is in, or will be in when it begins, and its tasks with results in files or packs."""
    phase = Phase.MAP if record.state is JobState.SUBMITTED else Phase(record.state.value)
    found = committed_set(store, record.job_id, phase)
    if phase is not Phase.MAP or not record.packs:
        return phase, found
    try:
        paths = packs.read(store, Signer(bytes.fromhex(record.key), record.job_id), record.packs)
    except (
        BadMessage,
        StoreNotFound,
    ) as error:  # so it stays: whoever shuffles is refused, and the job ends with that
        log.error("%s", error, extra={"job": record.job_id})
        paths = {}
    return phase, found | {int(path.rpartition("/")[2]) for path in paths}


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
