"""What messages tell a master, as events for the core. Whether they may be believed is for the master to see."""

from __future__ import annotations

from mrq import envelope
from mrq.core.events import Event, TaskDone, TaskFailed, TaskLost, TaskStarted
from mrq.ports import Message
from mrq.wire import Report, TaskMessage

News = TaskMessage | Report
"""A task that was dead-lettered, or a worker's report."""


def read(message: Message) -> News:
    """Read a message of the private queue of a master.

    Raises:
        BadMessage: it is neither.
    """
    if message.type == "task":
        return envelope.read(TaskMessage, message)
    return envelope.read(Report, message)


def event(news: News, now: float) -> Event:
    """Return what has happened to the job."""
    place, attempt = (news.phase, news.index), (news.epoch, news.attempt)
    if isinstance(news, TaskMessage):
        return TaskLost(*place, *attempt, now)
    outcome = news.outcome
    if outcome is None:
        return TaskStarted(*place, *attempt, news.worker, now)
    if outcome.kind == "done":
        return TaskDone(*place, now, outcome.stats.seconds)
    return TaskFailed(
        *place, *attempt, outcome.kind, now, type=outcome.type, message=outcome.message, path=outcome.path
    )
