"""A task that runs at a worker, and the deliveries that are acked when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mrq.ports import Delivery
from mrq.wire import TaskMessage


@dataclass(slots=True)
class Loans:
    """All deliveries of one task that runs here; some may be void, for their channel has ended."""

    deliveries: list[Delivery]

    def ack(self) -> None:
        """Be done with all."""
        for delivery in self.deliveries:
            delivery.ack()

    def reject(self, *, requeue: bool) -> None:
        """Give all back."""
        for delivery in self.deliveries:
            delivery.reject(requeue=requeue)


@dataclass(slots=True)
class Running:
    """A task in a child process.

    Attributes:
        task: as it was asked for last.
        key: its job's.
        loans: what to ack for it.
        received: when it came, on the inbox's clock.
        revoked: whether another attempt has committed it.
    """

    task: TaskMessage
    key: str
    loans: Loans
    received: float
    revoked: bool = False


def fields(task: TaskMessage) -> dict[str, Any]:
    """Return what every log record of a task carries."""
    return {"job": task.job_id, "task": f"{task.phase.value} {task.index}", "attempt": task.attempt}
