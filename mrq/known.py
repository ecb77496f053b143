"""What a worker knows of the jobs whose tasks it gets: their records, as last read."""

from __future__ import annotations

from functools import partial

from mrq.core.model import JobState, Phase
from mrq.errors import MrqError
from mrq.inbox import Inbox
from mrq.records import JobRecord
from mrq.registry import Registry

_ORDER = {state: number for number, state in enumerate(JobState)}


class KnownJobs:
    """Records of jobs, each kept until its watch fires.

    Args:
        registry: where they are.
        inbox: the worker's; watches only put something into it.
    """

    def __init__(self, registry: Registry, inbox: Inbox) -> None:
        self._registry = registry
        self._inbox = inbox
        self._records: dict[str, JobRecord] = {}

    def record(self, job_id: str, phase: Phase = Phase.MAP) -> JobRecord | None:
        """Return a job's record; it is read anew for a phase that the one known is behind.

        Raises:
            BadMessage: the znode holds something else.
            Unavailable: ZooKeeper does not answer.
        """
        record = self._records.get(job_id)
        if record is None or is_behind(record, phase):
            held = self._registry.job(job_id, self._changed)
            if held is None or is_behind(held.record, phase):
                self._registry.tree.sync()  # this session's server may not have heard of it yet
                held = self._registry.job(job_id, self._changed)
            if held is None:
                return None
            record = self._records[job_id] = held.record
        return record

    def is_over(self, job_id: str) -> bool:
        """Whether a job is known to have ended, or to be about to."""
        try:
            record = self.record(job_id)
        except MrqError:
            return False
        return record is None or not record.goes_on

    def forget(self, job_id: str) -> None:
        """Read a job's record anew when it is asked for next."""
        self._records.pop(job_id, None)

    def forget_all(self) -> None:
        """Likewise of every job: the session that watched them is over, or may be."""
        self._records.clear()

    def _changed(self, path: str) -> None:
        self._inbox.put(partial(self.forget, path.rpartition("/")[2]))


def is_behind(record: JobRecord, phase: Phase) -> bool:
    """Whether a record is of an earlier phase, so that inline results may lack."""
    return _ORDER[record.state] < _ORDER[JobState(phase.value)]
