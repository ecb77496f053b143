"""Wire bodies in and out of broker messages, with what a person looks for in the management UI beside them."""

from __future__ import annotations

from mrq.broker.topology import Topology
from mrq.ports import Message
from mrq.wire import Control, Report, TaskMessage

HIGH = 5
"""The lowest that RabbitMQ's quorum queues take first."""


def task(topology: Topology, body: TaskMessage, *, urgent: bool = False) -> Message:
    """Address a task to its phase's queue; a backup task, and a task of an urgent job, goes before others."""
    return Message(
        exchange=topology.tasks,
        routing_key=f"{body.phase.value}.{body.job_id}",
        type="task",
        body=body.encode(),
        message_id=body.task_id,
        correlation_id=body.job_id,
        headers={"epoch": body.epoch, "attempt": body.attempt},
        mandatory=True,
        priority=HIGH if body.backup or urgent else 0,
    )


def report(topology: Topology, body: Report) -> Message:
    """Address a report to whichever master owns the job; that nobody takes it is no error."""
    return Message(
        exchange=topology.events,
        routing_key=body.job_id,
        type="report",
        body=body.encode(),
        message_id=f"{body.job_id}/{body.phase.value}/{body.index}",
        correlation_id=body.job_id,
        headers={"epoch": body.epoch, "attempt": body.attempt, "worker": body.worker},
    )


def control(topology: Topology, body: Control) -> Message:
    """Address an order to all workers."""
    return Message(
        exchange=topology.control,
        routing_key="",
        type="control",
        body=body.encode(),
        correlation_id=body.job_id,
    )
