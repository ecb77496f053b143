"""What a worker knows of the jobs whose tasks it gets: their records, as last read."""

from __future__ import annotations

from functools import partial

from mrq import envelope
from mrq.core.model import Epoch, JobState, Phase
from mrq.errors import BadMessage, MrqError
from mrq.inbox import Inbox
from mrq.ports import Message
from mrq.records import JobRecord
from mrq.registry import Registry
from mrq.wire import Control, TaskMessage

_ORDER = {state: number for number, state in enumerate(JobState)}


REVOKED = 1000
"""How many revoked tasks are remembered: a backup may wait in its queue for as long as so many are committed."""


class KnownJobs:
    """Records of jobs, each kept until its watch fires; and tasks that need not run any more.

    Args:
        registry: where they are.
        inbox: the worker's; watches only put something into it.
    """

    def __init__(self, registry: Registry, inbox: Inbox) -> None:
        self._registry = registry
        self._inbox = inbox
        self._records: dict[str, JobRecord] = {}
        self._revoked: dict[str, tuple[Epoch, Message]] = {}

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

    def revoke(self, order: Control, message: Message) -> None:
        """Remember that a task is committed, as the owner under the order's epoch knows; or somebody says it is."""
        self._revoked.pop(order.task_id, None)
        self._revoked[order.task_id] = order.epoch, message
        if len(self._revoked) > REVOKED:
            del self._revoked[next(iter(self._revoked))]

    def is_revoked(self, task: TaskMessage, key: str) -> bool:
        """Whether a task was revoked by the owner of its epoch, or a later one; an earlier one may have known more."""
        epoch, message = self._revoked.get(task.task_id, (-1, None))
        if message is None or epoch < task.epoch:
            return False
        try:
            envelope.check(message, task.job_id, key)
        except BadMessage:
            return False
        return True

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
