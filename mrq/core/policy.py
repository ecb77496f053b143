"""The judgements: when to try again, when to give up, how much of the cluster a job may have. Pure functions."""

from __future__ import annotations

from collections.abc import Collection
from math import ceil

from mrq.core.model import Job, Spec, TaskState, Trouble

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
STRAGGLER_FACTOR = 1.5
STRAGGLER_SECONDS = 0.5
"""No task is a straggler before this: publishing it again would cost about as much."""


def backoff(trouble: Trouble) -> float:
    """Return how many seconds to wait before the next attempt: twice as long each time."""
    doublings = min(max(trouble.failures + trouble.crashes - 1, 0), 10)  # ten are beyond the longest wait
    return float(min(FIRST_BACKOFF * 2**doublings, LONGEST_BACKOFF))


def verdict(kind: str, trouble: Trouble, spec: Spec) -> str | None:
    """Judge a task that failed once more: the kind of failure that ends its job, or None to try again.

    A crash of the task's own process counts apart from exceptions, for ``retries`` is a promise about exceptions.
    """
    if kind == "refused":
        return kind
    if kind == "crashed":
        return "poison" if trouble.crashes >= spec.crash_limit else None
    return kind if trouble.failures > spec.retries else None


def weight(priority: int) -> float:
    """Return how many times a job's share is that of one with priority 0."""
    return 2.0**priority


def fair_window(requested: int | None, slots: int, share: float) -> int:
    """Return how many tasks of one job may be outstanding at once.

    Args:
        requested: the most that the client asked for, or None.
        slots: of all live workers.
        share: the job's, of the cluster: its weight among those of all active jobs.

    Returns:
        Twice its share of the slots, so that no slot waits for the next task, and at least two, but never more than
        the client asked for.
    """
    fair = max(2, ceil(2 * max(slots, 1) * share))
    return fair if requested is None else max(1, min(requested, fair))


def stragglers(job: Job, now: float) -> list[int]:
    """Return the running tasks that should have a backup task, at most as many as the window has room for.

    At the end of a phase, when nothing is left to publish, a task that runs more than `STRAGGLER_FACTOR` times as
    long as the others took on average is published once more; the first to commit wins. After Dean and Ghemawat,
    "MapReduce: Simplified Data Processing on Large Clusters", OSDI 2004, section 3.6.
    """
    n_tasks = job.spec.n_tasks(job.phase)
    if (
        not job.spec.speculative
        or job.again
        or job.cursor < n_tasks
        or job.n_committed * 2 < n_tasks
        or not job.timed
    ):
        return []
    limit = max(STRAGGLER_FACTOR * job.seconds / job.timed, STRAGGLER_SECONDS)
    room = job.spec.window - len(job.outstanding)
    slow = [
        i
        for i, o in sorted(job.outstanding.items())
        if o.state is TaskState.RUNNING and now - o.started > limit and not job.backups >> i & 1
    ]
    return slow[: max(room, 0)]


def unheard_of(
    job: Job, now: float, after: float, *, queue_empty: bool, workers: Collection[str]
) -> list[int]:
    """Return the outstanding tasks that will bring no report.

    Args:
        job: a job in one of the phases.
        now: seconds, on the clock of the job's events.
        after: how long an attempt may be silent; workers renew those that they run when asked to.
        queue_empty: whether no message waits in the phase's queue, so that a task still QUEUED can't be in it.
        workers: the names of the live ones; a task of a dead worker's is back in the queue.
    """
    silent = [(i, o) for i, o in job.outstanding.items() if now - o.since > after]
    return [
        i
        for i, o in silent
        if queue_empty
        and (o.state is TaskState.QUEUED or o.worker not in workers or now - o.since > 2 * after)
    ]
