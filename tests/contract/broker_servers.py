"""What tests of brokers share: the two kinds of server, what can be done to them, and waiting."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

import pytest

from mrq.broker.embedded import EmbeddedBroker, EmbeddedBrokerServer
from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.broker.topology import Topology
from mrq.config import Settings, split_address
from mrq.ports import Broker, Delivery, Message
from tests.management import Management

PATIENCE = 20.0
"""Seconds after which a condition that does not hold fails its test."""


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Return what the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return value


class Inbox:
    """A handler that keeps deliveries for the test to take."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Delivery] = SimpleQueue()

    def __call__(self, delivery: Delivery) -> None:
        self._queue.put(delivery)

    def take(self, seconds: float = PATIENCE) -> Delivery:
        """Return the next delivery; fails with `queue.Empty`."""
        return self._queue.get(timeout=seconds)

    def count(self) -> int:
        return self._queue.qsize()


def task(
    topology: Topology, number: int = 0, phase: str = "map", job: str = "job_1", **other: Any
) -> Message:
    """Return a mandatory task message."""
    arguments: dict[str, Any] = {
        "exchange": topology.tasks,
        "routing_key": topology.task_key(phase, job),
        "type": "task",
        "body": b'{"index": %d}' % number,
        "message_id": f"{job}/{phase}/{number}",
        "correlation_id": job,
        "headers": {"epoch": 7, "attempt": 1},
        "mandatory": True,
    }
    return Message(**(arguments | other))


class Kind(Protocol):
    """A server, seen by a contract test."""

    settings: Settings
    topology: Topology

    def connect(self) -> Broker: ...
    def delete_queue(self, name: str) -> None: ...
    def drop_connections(self, broker: Broker) -> None: ...
    def close(self) -> None: ...


class EmbeddedKind:
    """A server in this process."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(rabbitmq_prefix=unique_prefix(), **settings)
        self.server = EmbeddedBrokerServer(self.settings)
        self.topology = self.server.topology
        self._brokers: list[EmbeddedBroker] = []

    def connect(self) -> EmbeddedBroker:
        self._brokers.append(EmbeddedBroker(self.server))
        return self._brokers[-1]

    def delete_queue(self, name: str) -> None:
        self.server.delete_queue(name)

    def drop_connections(self, broker: Broker) -> None:
        assert isinstance(broker, EmbeddedBroker)
        broker.drop_connection()

    def close(self) -> None:
        for broker in self._brokers:
            broker.close()


class RabbitMQKind:
    """A real server; all that has the prefix is deleted at the end."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings.load(**({"rabbitmq_prefix": unique_prefix()} | settings))
        require(self.settings)
        self.topology = Topology.from_settings(self.settings)
        self.management = Management(self.settings)
        self._brokers: list[RabbitMQBroker] = []

    def connect(self, **settings: Any) -> RabbitMQBroker:
        name = f"test-{uuid.uuid4().hex}"
        self._brokers.append(RabbitMQBroker(self.settings.model_copy(update={"name": name} | settings)))
        return self._brokers[-1]

    def delete_queue(self, name: str) -> None:
        self.management.delete_queue(name)

    def drop_connections(self, broker: Broker, purpose: str = "") -> None:
        """Have the server close a broker's connections, or the one for a purpose: publish, consume."""
        assert isinstance(broker, RabbitMQBroker)
        name = f"mrq {broker._settings.service_name()} {purpose}"
        expected = 1 if purpose else 2
        # The server lists a connection up to a second after it was opened.
        found: list[str] = eventually(
            lambda: len(names := self.management.connections(name)) == expected and names,
            "connections listed",
        )
        for connection in found:
            self.management.close_connection(connection)

    def close(self) -> None:
        for broker in self._brokers:
            broker.close()
        self.management.delete_all(self.settings.rabbitmq_prefix)


def unique_prefix() -> str:
    return f"test.{uuid.uuid4().hex[:8]}"


def require(settings: Settings) -> None:
    """Skip the test when there is no RabbitMQ; fail it where there must be one."""
    error: OSError
    for address in settings.rabbitmq_hosts:
        try:
            socket.create_connection(split_address(address), timeout=2).close()
            return
        except OSError as reason:
            error = reason
    text = f"no RabbitMQ at {', '.join(settings.rabbitmq_hosts)}: {error}; start it with infra/native/up"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)
