"""RabbitMQ restarts, resets connections, loses queues; and two tasks that take minutes outlast its patience.

Those two run on a RabbitMQ of their own, that is out of patience after a minute, from the beginning of this module on;
the other tests go on meanwhile, and the last ones see what came of them.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.config import Settings, split_address
from mrq.core.model import Phase
from mrq.future import JobFuture
from mrq.ports import Delivery
from tests.chaos.proxy import Door, Network
from tests.contract.broker_servers import Inbox, RabbitMQKind, task
from tests.integration.cluster import Cluster, eventually, own_place, running, wipe
from tests.integration.conftest import MASTERS_AND_WORKERS
from tests.integration.test_servers import stopped
from tests.jobs import Gate, add_up, count_characters, plain, random_strings
from tests.management import Management
from tests.own_rabbitmq import own_rabbitmq

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

Start = Callable[..., Cluster]
DATA = random_strings(300)
EXPECTED = plain(DATA, count_characters, add_up)

BROKERS_PATIENCE = 60
"""Seconds that a task may be unacked; RabbitMQ looks once a minute."""
LONG_TASK = 150
HEARTBEAT = 10
GIL_HELD = 60
MANY = 150
"""Map tasks of a job that goes on for a while."""


@dataclass
class Waiting:
    """What was begun at the start of the module.

    Attributes:
        cluster: a master and two workers, on a RabbitMQ without patience.
        connections: of its workers to RabbitMQ, as that calls them.
        began: when the job with the long task was submitted.
        gate: holds the long task, and what else is to run on these workers.
        long: its future.
        greedy: of a job whose task holds the GIL.
        kind: the same server, for a consumer without a worker.
        broker: that consumer's connection.
        unacked: what it was sent and does not ack.
        inbox: what comes to it after that.
    """

    cluster: Cluster
    connections: list[str]
    began: float
    gate: Gate
    long: JobFuture
    greedy: JobFuture
    kind: RabbitMQKind
    broker: RabbitMQBroker
    unacked: Delivery
    inbox: Inbox


@pytest.fixture(scope="module", autouse=True)
def waiting(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    """Begin what takes minutes; at the end see that nothing of it is left."""
    folder = tmp_path_factory.mktemp("waiting")
    with own_rabbitmq(folder / "rabbitmq") as server:
        server.control("eval", f"application:set_env(rabbit, consumer_timeout, {BROKERS_PATIENCE * 1000}).")
        own = {f"MRQ_{name.upper()}": value for name, value in server.settings.items()}
        own |= MASTERS_AND_WORKERS | own_place() | {"MRQ_RABBITMQ_HEARTBEAT": str(HEARTBEAT)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in own.items():
                patch.setenv(name, value)
            settings = Settings.load()
        kind = RabbitMQKind(**server.settings)
        with running(settings, folder, n_masters=1, n_workers=2, **own) as cluster:
            yield begin(cluster, Gate(folder), kind)
        kind.close()
        wipe(settings)


def begin(cluster: Cluster, gate: Gate, kind: RabbitMQKind) -> Waiting:
    """Submit the two jobs, and have a consumer keep a message."""

    def take_long(strings: list[str]) -> Any:
        gate.wait("long", seconds=2 * LONG_TASK)
        return count_characters(strings)

    def hold_the_gil(strings: list[str]) -> Any:
        ctypes.PyDLL(None).sleep(GIL_HELD)
        return count_characters(strings)

    broker, inbox = kind.connect(), Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    broker.publish([task(kind.topology)]).result(20)
    began = time.monotonic()
    long = cluster.client.mapreduce(DATA, take_long, add_up, 1)
    greedy = cluster.client.mapreduce(DATA, hold_the_gil, add_up, 1)
    connections = eventually(lambda: of_workers(kind.management, 4), "RabbitMQ lists all connections")
    return Waiting(cluster, connections, began, gate, long, greedy, kind, broker, inbox.take(), inbox)


def of_workers(management: Management, number: int) -> list[str]:
    """Return RabbitMQ's names of the workers' connections, if there are so many; a new one has a new name."""
    found = sorted(management.connections("mrq worker-"))
    return found if len(found) == number else []


def test_a_backlog_drains_though_the_broker_restarts_again_and_again(start: Start) -> None:
    """Three restarts under load, each as soon as tasks are taken again after the one before."""
    cluster = start(n_masters=1, n_workers=2)

    def map_func(strings: list[str]) -> Any:
        time.sleep(0.1)
        return count_characters(strings)

    future = cluster.client.mapreduce(DATA, map_func, add_up, MANY, n_reducers=2)
    done = 0
    for _ in range(3):
        done = more_done(future, done)
        assert not future.done(), "there is no load any more"
        with stopped("rabbitmq"):
            pass
    more_done(future, done)
    assert future.result(180) == EXPECTED


def more_done(future: JobFuture, before: int) -> int:
    """Return how many map tasks are done, once there are more than before by some."""

    def done() -> int:
        now = future.progress().phases[Phase.MAP].done
        return now if now >= min(before + 5, MANY) else 0

    return int(eventually(done, "tasks are taken"))


def test_a_job_whose_queue_is_deleted_again_and_again_loses_nothing(settings: Settings, start: Start) -> None:
    """With the tasks that wait in it, and while its master publishes: what is lost is published again."""
    cluster, management = start(n_masters=1, n_workers=2, MRQ_RECONCILE_AFTER="2"), Management(settings)

    def map_func(strings: list[str]) -> Any:
        time.sleep(0.05)
        return count_characters(strings)

    future = cluster.client.mapreduce(DATA, map_func, add_up, MANY, n_reducers=2)
    done = 0
    for _ in range(3):
        done = more_done(future, done)
        management.delete_queue(f"{settings.rabbitmq_prefix}.map")
    assert future.result(120) == EXPECTED


def test_a_connection_that_is_reset_in_mid_task_costs_nothing(
    settings: Settings, start: Start, tmp_path: Path
) -> None:
    """Each reset brings the task once more to the worker that runs it; it is run once, and committed once."""
    cluster, gate, management = start(n_masters=1, n_workers=0), Gate(tmp_path), Management(settings)

    def map_func(strings: list[str]) -> Any:
        gate.wait("map")
        return count_characters(strings)

    with (
        closing(Network()) as network,
        closing(Door(network, split_address(settings.rabbitmq_hosts[0]))) as door,
    ):
        worker = cluster.start_one("worker", f"{settings.rabbitmq_prefix}-w", MRQ_RABBITMQ_HOSTS=door.address)
        cluster.wait_registered()
        future = cluster.client.mapreduce(DATA, map_func, add_up, 1)
        eventually(lambda: gate.reached("map"), "the task runs")
        connections: list[str] = []
        for _ in range(3):
            fresh = partial(two_others, management, f"mrq {worker}", connections)
            connections = eventually(fresh, "RabbitMQ lists both connections")
            door.reset()
        gate.open("map")
        assert future.result(60) == EXPECTED
        assert len(gate.reached("map")) == 1
        assert cluster.client.mapreduce(DATA, count_characters, add_up, 3).result(60) == EXPECTED
        assert cluster.stop()[worker] == 0


def two_others(management: Management, name: str, than: list[str]) -> list[str]:
    """Return a process's connections, if they are two, and neither is one of those."""
    now = management.connections(name)
    return now if len(now) == 2 and not set(now) & set(than) else []


def test_a_task_that_holds_the_gil_costs_no_connection(waiting: Waiting) -> None:
    """Six heartbeats long; the connection is the worker's, the function runs in a child."""
    assert waiting.greedy.result(LONG_TASK) == EXPECTED
    assert of_workers(waiting.kind.management, 4) == waiting.connections


def test_a_consumer_that_the_server_loses_patience_with_is_taken_up_again(waiting: Waiting) -> None:
    """The message comes again; the late ack does nothing, other queues of the connection are not disturbed."""
    kind, broker, inbox, other = waiting.kind, waiting.broker, waiting.inbox, Inbox()
    broker.consume(kind.topology.queue("reduce"), 1, other)
    connections = eventually(lambda: kind.management.connections("mrq test-"), "RabbitMQ lists them")
    again = inbox.take(2 * BROKERS_PATIENCE + 30)
    assert again.delivery_count == 1
    waiting.unacked.ack()
    again.ack()
    broker.publish([task(kind.topology, phase="reduce"), task(kind.topology, 1)]).result(20)
    other.take().ack()
    assert inbox.take().message.message_id == "job_1/map/1"
    assert broker.healthy()
    assert kind.management.connections("mrq test-") == connections


def test_a_task_longer_than_the_brokers_patience_ends_right(waiting: Waiting) -> None:
    """Its worker goes on with it and takes up consuming again; the result is exact."""
    cluster, gate, long = waiting.cluster, waiting.gate, waiting.long
    eventually(
        lambda: any("taken up again" in cluster.log(name) for name in cluster.processes),
        "RabbitMQ has lost its patience",
        2 * BROKERS_PATIENCE + 30,
    )
    eventually(lambda: time.monotonic() - waiting.began > LONG_TASK, "that was long", LONG_TASK)
    assert not long.done()
    gate.open("long")
    assert long.result(60) == EXPECTED

    def wait_for_the_other(strings: list[str]) -> Any:
        gate.wait("both")
        return count_characters(strings)

    both = cluster.client.mapreduce(DATA, wait_for_the_other, add_up, 2)
    eventually(lambda: len(gate.reached("both")) == 2, "both workers take tasks")
    gate.open("both")
    assert both.result(60) == EXPECTED
    assert of_workers(waiting.kind.management, 4) == waiting.connections
