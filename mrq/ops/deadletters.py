"""Dead letters: tasks that took whole workers down too often, and messages that no worker can read.

The owning master has heard of each and published its task again, if it was to be; what stays here is for people.
Looking borrows all letters for a moment and puts them back, so that two who look at once see a part each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict

from mrq import envelope
from mrq.broker.topology import DEAD, Topology
from mrq.config import Settings
from mrq.errors import AuthenticationFailed, BadMessage, BadSignature, ConfigurationError, MrqError
from mrq.ports import Broker, Delivery
from mrq.records import JobRecord
from mrq.registry import Registry
from mrq.wire import TaskMessage

MOST = 10_000
"""How many letters are looked at."""
SHOWN = 16 * 1024
"""How many bytes of a body are shown; ours are shorter, and anybody's may be of any length."""


class Letter(BaseModel):
    """A dead letter at a glance.

    Attributes:
        id: ``<task>@<epoch>.<attempt>``, as in ``job_7/map/3@4294967312.0``; ``bad-<digest>`` for what can't be read.
        task: as in ``job_7/map/3``; empty for what can't be read.
        reason: ``delivery_limit`` (workers died of it) or ``rejected`` (no worker could read it).
        at: when it died, in seconds since the epoch; 0 when that is not known.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    task: str = ""
    job_id: str = ""
    phase: str = ""
    index: int = -1
    epoch: int = -1
    attempt: int = -1
    queue: str = ""
    reason: str = ""
    at: float = 0.0

    def answers_to(self, name: str) -> bool:
        """Whether a person who writes this means this letter."""
        return name in (self.id, self.task)


class Opened(Letter):
    """A dead letter with all that it holds, and what is known of its job.

    Attributes:
        body: JSON where it is, else text with what is no UTF-8 replaced.
        obstacle: why it can't be replayed; empty when it can.
        job: state, owner, epoch and failure of its job; None when there is none.
    """

    routing_key: str
    headers: dict[str, str | int]
    body: Any
    obstacle: str
    job: dict[str, Any] | None


class DeadLetters:
    """The queue of dead letters.

    Args:
        broker: its connection must be allowed to read the dead letters: the admin's, where users are managed.
        registry: knows the jobs.
        settings: for the names and deadlines.
    """

    def __init__(self, broker: Broker, registry: Registry, settings: Settings) -> None:
        self._broker = broker
        self._registry = registry
        self._settings = settings
        self._topology = Topology.from_settings(settings)

    def letters(self) -> list[Letter]:
        """Return all, the oldest first."""
        with self._borrowed() as loans:
            return [letter for letter, _ in loans]

    def show(self, name: str) -> list[Opened]:
        """Return the letters of an id or a task with all that is known.

        Raises:
            MrqError: there is none.
        """
        with self._borrowed(name) as loans:
            return [self._open(letter, delivery) for letter, delivery in loans]

    def replay(self, name: str | None = None) -> dict[str, str]:
        """Publish letters again, all for None, and take them out of the dead ones.

        Returns:
            by id, why a letter stays; empty for one that was published.

        Raises:
            MrqError: there is no such letter.
            BrokerUnavailable: the broker has not confirmed one; it and those after it are still here.
        """
        told = {}
        with self._borrowed(name) as loans:
            for letter, delivery in loans:
                told[letter.id] = obstacle = self._obstacle(delivery)
                if not obstacle:
                    key = self._registry.require(letter.job_id).record.key
                    task = envelope.read(TaskMessage, delivery.message)
                    again = envelope.task(self._topology, task, key)
                    self._broker.publish([again]).result(self._settings.operation_timeout + 5)
                    delivery.ack()
        return told

    def drop(self, name: str | None = None) -> list[str]:
        """Remove letters, all for None; return their ids.

        Raises:
            MrqError: there is no such letter.
        """
        with self._borrowed(name) as loans:
            for _, delivery in loans:
                delivery.ack()
            return [letter.id for letter, _ in loans]

    @contextmanager
    def _borrowed(self, name: str | None = None) -> Iterator[list[tuple[Letter, Delivery]]]:
        """Borrow those that are meant; at the end all go back but those that were acked."""
        queue = self._topology.queue(DEAD)
        deliveries = self._broker.borrow(queue, MOST)
        try:
            found = sorted(((_letter(d), d) for d in deliveries), key=lambda pair: (pair[0].at, pair[0].id))
            meant = [pair for pair in found if name is None or pair[0].answers_to(name)]
            if name is not None and not meant:
                raise MrqError(
                    f"there is no dead letter {name} among the {len(found)} in {queue}: see mrq dlq list"
                )
            yield meant
        finally:
            for delivery in deliveries:
                delivery.reject(requeue=True)

    def _open(self, letter: Letter, delivery: Delivery) -> Opened:
        message = delivery.message
        record = self._job(letter.job_id)
        job = None
        if record is not None:
            job = {
                "state": record.state.value,
                "owner": self._registry.owner(record.job_id),
                "epoch": record.epoch,
                "client": record.client,
                "submitted_at": record.submitted_at,
                "failure": record.failure.model_dump(mode="json") if record.failure else None,
            }
        return Opened(
            **letter.model_dump(),
            routing_key=message.routing_key,
            headers=dict(message.headers),
            body=_shown(message.body),
            obstacle=self._obstacle(delivery),
            job=job,
        )

    def _obstacle(self, delivery: Delivery) -> str:
        """Return why a letter is not to be published again, or nothing."""
        try:
            task = envelope.read(TaskMessage, delivery.message)
        except BadMessage as error:
            return f"it can't be read: {error}"
        record = self._job(task.job_id)
        if record is None:
            return f"{task.job_id} is not there (any more)"
        try:
            envelope.check(delivery.message, record.job_id, record.key)
        except BadSignature as error:
            return f"no master wrote it: {error}"
        state, has = record.state, f"{task.job_id} is at epoch {record.epoch}"
        reasons = [
            (state.ended, f"{task.job_id} has ended: {state.value}"),
            (record.cancel_requested, f"{task.job_id} is being cancelled"),
            (
                task.epoch != record.epoch,
                f"epoch {task.epoch} is over: {has}, whose master publishes what it needs",
            ),
            (task.phase.value != state.value, f"{task.job_id} is in another phase: {state.value}"),
            (task.index >= record.spec(1).n_tasks(task.phase), f"{task.job_id} has no such task"),
        ]
        return next((text for holds, text in reasons if holds), "")

    def _job(self, job_id: str) -> JobRecord | None:
        try:
            held = self._registry.job(job_id) if job_id else None
        except (
            AuthenticationFailed,
            BadMessage,
            ConfigurationError,
        ):  # not ours to see, or no job's name at all
            return None
        return held.record if held else None


def _letter(delivery: Delivery) -> Letter:
    message = delivery.message
    headers = message.headers
    died = headers.get("x-death-time")
    known: dict[str, Any] = {
        "queue": str(headers.get("x-first-death-queue", "")),
        "reason": str(headers.get("x-first-death-reason", "")),
        "at": died if isinstance(died, int) else 0.0,
    }
    try:
        task = envelope.read(TaskMessage, message)
    except BadMessage:
        digest = hashlib.blake2b(message.body, digest_size=5).hexdigest()
        return Letter(id=f"bad-{digest}", **known)
    return Letter(
        id=f"{task.task_id}@{task.epoch}.{task.attempt}",
        task=task.task_id,
        **task.model_dump(include={"job_id", "index", "epoch", "attempt"}),
        phase=task.phase.value,
        **known,
    )


def _shown(body: bytes) -> Any:
    try:
        if len(body) <= SHOWN:
            return json.loads(body)
    except (ValueError, RecursionError):
        pass
    rest = f" … and {len(body) - SHOWN:,} bytes more" if len(body) > SHOWN else ""
    return body[:SHOWN].decode("utf-8", "backslashreplace") + rest
