"""Wire bodies in and out of broker messages, with what a person looks for in the management UI beside them.

A message is signed with its job's key, which only those have who may read the job's record: whoever else can publish
at RabbitMQ can neither feed tasks, nor end them, nor tell of results.
"""

from __future__ import annotations

import hmac
from dataclasses import replace

from mrq.blob import Signer
from mrq.broker.topology import MAX_BODY_BYTES, MAX_REPORT_BYTES, Topology
from mrq.errors import BadMessage, BadSignature
from mrq.ports import Message
from mrq.wire import Control, Report, TaskMessage, W, decode

HIGH = 5
"""The lowest that RabbitMQ's quorum queues take first."""
SIGNATURE = "signature"
"""The header with the keyed digest of job, type and body, as hex."""


def task(topology: Topology, body: TaskMessage, key: str, *, urgent: bool = False) -> Message:
    """Address a task to its phase's queue; a backup task, and a task of an urgent job, goes before others."""
    message = Message(
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
    return _signed(message, body.job_id, key)


def report(topology: Topology, body: Report, key: str) -> Message:
    """Address a report to whichever master owns the job; that nobody takes it is no error."""
    message = Message(
        exchange=topology.events,
        routing_key=body.job_id,
        type="report",
        body=body.encode(),
        message_id=f"{body.job_id}/{body.phase.value}/{body.index}",
        correlation_id=body.job_id,
        headers={"epoch": body.epoch, "attempt": body.attempt, "worker": body.worker},
    )
    return _signed(message, body.job_id, key)


def control(topology: Topology, body: Control, key: str) -> Message:
    """Address an order to all workers."""
    message = Message(
        exchange=topology.control,
        routing_key="",
        type="control",
        body=body.encode(),
        correlation_id=body.job_id,
    )
    return _signed(message, body.job_id, key)


def read(model: type[W], message: Message) -> W:
    """Read a message's body, which anybody may have written.

    Raises:
        BadMessage: it is longer than any of ours, or not that model.
    """
    if len(message.body) > (MAX_REPORT_BYTES if model is Report else MAX_BODY_BYTES):
        raise BadMessage(f"a body of {len(message.body):,} bytes, more than any {model.__name__} has")
    return decode(model, message.body)


def check(message: Message, job_id: str, key: str) -> None:
    """See that a message comes from somebody who has its job's key. What comes twice is for the reader to bear.

    Raises:
        BadSignature: it does not.
    """
    said = str(message.headers.get(SIGNATURE, "")).encode("utf-8", "replace")
    if not hmac.compare_digest(_digest(message, job_id, key).encode(), said):
        raise BadSignature(
            f"{job_id}: a {message.type or 'nameless'} message is not signed with the job's key: it was altered, or "
            "written by somebody else; see who can publish at RabbitMQ"
        )


def _signed(message: Message, job_id: str, key: str) -> Message:
    return replace(message, headers={**message.headers, SIGNATURE: _digest(message, job_id, key)})


def _digest(message: Message, job_id: str, key: str) -> str:
    return Signer(bytes.fromhex(key), job_id).digest("message", message.type, message.body).hex()
