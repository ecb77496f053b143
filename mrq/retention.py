"""Which jobs are cleared by themselves: those that ended long ago, and the oldest of too many. Never one that runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from mrq import layout
from mrq.config import Settings
from mrq.errors import BadMessage
from mrq.ports import Store
from mrq.registry import Registry

log = logging.getLogger(__name__)

AT_ONCE = 10
"""How many jobs a sweep clears at most: its master has other things to do, too."""


def due(ended: Mapping[str, float], now: float, *, age: float, count: int, grace: float) -> list[str]:
    """Return the jobs to clear, the first to have ended first.

    Args:
        ended: when each job that has ended did, in seconds since the epoch.
        now: likewise.
        age: seconds after which an ended job is cleared; 0 for never.
        count: how many ended jobs may stay, the last to have ended; 0 for any number.
        grace: seconds in which no job is cleared, whatever ``count`` says: its client may be reading the result.
    """
    oldest_first = sorted(ended, key=lambda job_id: ended[job_id])
    surplus = len(oldest_first) - count if count else 0
    return [
        job_id
        for number, job_id in enumerate(oldest_first)
        if now - ended[job_id] > grace and (number < surplus or (age and now - ended[job_id] > age))
    ]


class Retention:
    """Clears jobs by the settings ``retention_age`` and ``retention_count``.

    Every master has one. That several clear the same job does no harm.

    Args:
        registry: where the jobs are.
        store: where their files are.
        settings: how long, and how many.
    """

    def __init__(self, registry: Registry, store: Store, settings: Settings) -> None:
        self._registry = registry
        self._store = store
        self._settings = settings
        self._ended: dict[str, float] = {}

    def sweep(self) -> None:
        """Clear what is due. Raises what registry and store raise; the next sweep goes on from there."""
        settings = self._settings
        if not (settings.retention_age or settings.retention_count):
            return
        self._look()
        jobs = due(
            self._ended,
            time.time(),
            age=settings.retention_age,
            count=settings.retention_count,
            grace=settings.operation_timeout,
        )
        for job_id in jobs[:AT_ONCE]:
            # The files first: what fails in between is found again by its record.
            self._store.delete(layout.folder(job_id))
            self._registry.delete_job(job_id)
            del self._ended[job_id]
            log.info("%s is cleared: it ended long ago, or many after it", job_id, extra={"job": job_id})

    def _look(self) -> None:
        """See which jobs have ended. What has ended stays so, and is read once."""
        job_ids = self._registry.job_ids()
        self._ended = {job_id: self._ended[job_id] for job_id in job_ids if job_id in self._ended}
        for job_id in job_ids:
            if job_id in self._ended:
                continue
            try:
                held = self._registry.job(job_id)
            except BadMessage:
                continue  # not ours to judge: `mrq doctor` names it
            if held is not None and held.record.state.ended:
                self._ended[job_id] = held.record.ended_at
