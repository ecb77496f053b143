"""What only RabbitMQ can do to its adapter: refuse, disconnect, forget, block, restart."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from pika import BlockingConnection
from pydantic import SecretStr

from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.broker.rabbitmq.link import parameters
from mrq.errors import AuthenticationFailed, BrokerUnavailable, ConfigurationError
from mrq.ports import Delivery
from tests.contract.broker_servers import PATIENCE, Inbox, RabbitMQKind, eventually, task, unique_prefix

if TYPE_CHECKING:
    from tests.own_rabbitmq import OwnServer

pytestmark = pytest.mark.real

NOBODY = "127.0.0.1:1"
"""Where nothing listens."""


def numbers(messages: list[Delivery]) -> set[str]:
    return {delivery.message.message_id for delivery in messages}


class Collector:
    """A handler that acks all and keeps the ids."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, delivery: Delivery) -> None:
        self.ids.append(delivery.message.message_id)
        delivery.ack()


def expected(count: int) -> set[str]:
    return {f"job_1/map/{number}" for number in range(count)}


# --- connecting ---


def test_a_wrong_password_is_told_at_once_and_not_shown(kind: RabbitMQKind) -> None:
    """The sentence names user, host and vhost; it does not take the whole timeout."""
    started = time.monotonic()
    with pytest.raises(AuthenticationFailed) as refused:
        kind.connect(password=SecretStr("hunter2-wrong"), connect_timeout=15.0)
    assert time.monotonic() - started < 5
    text = str(refused.value)
    for part in (kind.settings.rabbitmq_hosts[0], repr(kind.settings.username), "password", "'mrq'"):
        assert part in text
    assert "hunter2" not in text


def test_a_wrong_vhost_is_told_at_once(kind: RabbitMQKind) -> None:
    """A vhost that is not there is the person's to mend, not time's."""
    with pytest.raises(AuthenticationFailed, match=r"'nowhere'.*no such vhost"):
        kind.connect(rabbitmq_vhost="nowhere")


def test_nothing_listening_is_told_after_the_timeout(kind: RabbitMQKind) -> None:
    """The error names all hosts that were tried, and no thread is left."""
    before = threading.active_count()
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1, 127\.0\.0\.1:2.*refused"):
        kind.connect(rabbitmq_hosts=(NOBODY, "127.0.0.1:2"), connect_timeout=0.5)
    eventually(lambda: threading.active_count() <= before, "the threads have ended")


def test_a_dead_host_is_left_for_the_next(kind: RabbitMQKind) -> None:
    """Any of the hosts will do."""
    broker = kind.connect(rabbitmq_hosts=(NOBODY, *kind.settings.rabbitmq_hosts))
    broker.publish([task(kind.topology)]).result(PATIENCE)


def test_a_queue_with_other_arguments_is_a_configuration_error(kind: RabbitMQKind) -> None:
    """The error names the queue and what to do."""
    kind.connect()
    with pytest.raises(ConfigurationError, match=r"queue \S+map .*'x-delivery-limit'.*MRQ_DELIVERY_LIMIT"):
        kind.connect(delivery_limit=17)


def test_connections_carry_the_name_of_the_service(kind: RabbitMQKind) -> None:
    """So a person finds the worker in the management pages."""
    kind.connect(name="worker-blue")
    eventually(lambda: len(kind.management.connections("mrq worker-blue")) == 2, "both are listed")


def test_closing_is_prompt_and_leaves_no_thread(kind: RabbitMQKind) -> None:
    """Also with consumers and a message on loan."""
    before = threading.active_count()
    broker, inbox = kind.connect(), Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    broker.publish([task(kind.topology)]).result(PATIENCE)
    inbox.take()
    started = time.monotonic()
    broker.close()
    assert time.monotonic() - started < 1
    assert threading.active_count() == before


# --- losing the connection ---


def test_what_is_published_while_disconnected_is_sent_after_the_reconnect(kind: RabbitMQKind) -> None:
    """Nothing is lost while connections are closed again and again; duplicates are allowed."""
    broker, collector = kind.connect(), Collector()
    broker.consume(kind.topology.queue("map"), 50, collector)
    futures = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            futures.append(broker.publish([task(kind.topology, len(futures))]))
            stop.wait(0.0005)

    sender = threading.Thread(target=send)
    sender.start()
    for purpose in ("publish", "consume", ""):
        kind.drop_connections(broker, purpose)
    stop.set()
    sender.join()
    wait(futures, PATIENCE)
    assert [future.exception() for future in futures if future.exception()] == []
    eventually(lambda: set(collector.ids) >= expected(len(futures)), "all messages came")
    eventually(broker.healthy, "the broker is healthy again")


def test_an_ack_from_before_the_loss_touches_nothing(kind: RabbitMQKind) -> None:
    """Tags count anew on each channel: an old one would ack another message."""
    broker, inbox = kind.connect(), Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    broker.publish([task(kind.topology, 0), task(kind.topology, 1)]).result(PATIENCE)
    old = inbox.take()
    kind.drop_connections(broker, "consume")
    again = inbox.take()
    old.ack()
    assert (again.message.message_id, again.delivery_count) == ("job_1/map/0", 1)
    broker.close()
    other = kind.connect()
    other.consume(kind.topology.queue("map"), 2, inbox)
    assert numbers([inbox.take(), inbox.take()]) == expected(2)


def test_publishing_without_a_server_fails_by_the_deadline(own_server: OwnServer, own: RabbitMQKind) -> None:
    """The error says that there is no connection; after the restart everything works again."""
    broker, collector = own.connect(operation_timeout=1.0), Collector()
    broker.consume(own.topology.queue("map"), 10, collector)
    own_server.stop()
    try:
        future = broker.publish([task(own.topology, 0)])
        with pytest.raises(BrokerUnavailable, match=r"within 1 s.*not connected"):
            future.result(PATIENCE)
        assert not broker.healthy()
        with pytest.raises(BrokerUnavailable, match="not connected"):
            broker.depths()
    finally:
        own_server.start()
    eventually(broker.healthy, "the broker is healthy again")
    broker.publish([task(own.topology, 1)]).result(PATIENCE)
    eventually(lambda: "job_1/map/1" in collector.ids, "the consumer is back")


# --- losing queues ---


def test_a_queue_deleted_under_load_loses_no_later_message(kind: RabbitMQKind) -> None:
    """What is confirmed after the deletion is consumed, by the consumer of before."""
    broker, collector = kind.connect(), Collector()
    broker.consume(kind.topology.queue("map"), 10, collector)
    eventually(broker.healthy, "the consumer is registered")
    kind.delete_queue(kind.topology.queue("map"))
    futures = [broker.publish([task(kind.topology, number)]) for number in range(300)]
    for future in futures:
        future.result(PATIENCE)
    eventually(lambda: set(collector.ids) == expected(300), "all messages came")
    eventually(broker.healthy, "the consumer is registered again")


def test_a_consumer_that_the_server_forgot_is_taken_up_again(kind: RabbitMQKind) -> None:
    """A queue that is deleted and at once declared again may keep its consumers and deliver nothing to them (3.10)."""
    broker, inbox = kind.connect(), Inbox()
    queue = kind.topology.queue("map")
    broker.consume(queue, 1, inbox)
    full = next(found for found in kind.topology.queues() if found.name == queue)
    with closing(
        BlockingConnection(parameters(kind.settings, kind.settings.rabbitmq_hosts[0], "test"))
    ) as raw:
        channel = raw.channel()
        for number in range(3):
            channel.queue_delete(queue)
            channel.queue_declare(queue, durable=True, arguments=full.arguments)
            channel.queue_bind(queue, full.exchange, full.binding)
            broker.publish([task(kind.topology, number)]).result(PATIENCE)
            eventually(lambda: broker.refresh() or inbox.count(), "it is delivered", 60)
            delivery = inbox.take()
            assert delivery.message.message_id == f"job_1/map/{number}"
            delivery.ack()


def test_a_deleted_exchange_comes_back(kind: RabbitMQKind) -> None:
    """The broker closes the channel of who publishes there; the messages are sent again."""
    broker = kind.connect()
    kind.management.delete_exchange(kind.topology.tasks)
    futures = [broker.publish([task(kind.topology, number)]) for number in range(20)]
    for future in futures:
        future.result(PATIENCE)
    eventually(lambda: broker.depths()["map"].ready == 20, "all messages are there")


def test_depths_bring_a_deleted_queue_back(kind: RabbitMQKind) -> None:
    """Nobody has to wait for a message to be returned."""
    broker = kind.connect()
    kind.delete_queue(kind.topology.queue("shuffle"))
    assert {name: depth.ready for name, depth in broker.depths().items()} == dict.fromkeys(
        ("map", "shuffle", "reduce", "dead"), 0
    )


def test_a_crashing_worker_sends_its_message_to_the_dead_letters(kind: RabbitMQKind) -> None:
    """The limit is set by us, since RabbitMQ 3.10 has none of its own."""
    broker, dead = kind.connect(), Inbox()
    broker.publish([task(kind.topology)]).result(PATIENCE)
    counts = []
    for _ in range(kind.settings.delivery_limit + 1):
        worker, inbox = kind.connect(), Inbox()
        worker.consume(kind.topology.queue("map"), 1, inbox)
        counts.append(inbox.take().delivery_count)
        worker.close()
    assert counts == [0, 1, 2, 3]
    broker.consume(kind.topology.queue("dead"), 1, dead)
    letter = dead.take()
    assert letter.message.headers["x-first-death-reason"] == "delivery_limit"
    letter.ack()


# --- alarms and restarts ---


def test_an_alarm_fails_publishers_by_the_deadline_and_lets_acks_through(
    own_server: OwnServer, own: RabbitMQKind
) -> None:
    """The error says why; what is published after the alarm is lifted is confirmed."""
    broker, inbox = own.connect(operation_timeout=2.0), Inbox()
    broker.consume(own.topology.queue("map"), 1, inbox)
    broker.publish([task(own.topology, 0), task(own.topology, 1)]).result(PATIENCE)
    own_server.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        with pytest.raises(BrokerUnavailable, match=r"blocks publishers because of an alarm: .*memory"):
            broker.publish([task(own.topology, 2)]).result(PATIENCE)
        inbox.take().ack()
        assert inbox.take().message.message_id == "job_1/map/1"
        waiting = own.connect(operation_timeout=60.0).publish([task(own.topology, 3)])
    finally:
        own_server.control("set_vm_memory_high_watermark", "absolute", "512MB")
    waiting.result(PATIENCE)
    broker.publish([task(own.topology, 4)]).result(PATIENCE)


def test_closing_is_prompt_while_publishers_are_blocked(own_server: OwnServer, own: RabbitMQKind) -> None:
    """The broker reads nothing from a blocked connection, not even its close."""
    broker = own.connect()
    own_server.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        future = broker.publish([task(own.topology)])
        eventually(lambda: broker._publishing.blocked, "the alarm is known")
        started = time.monotonic()
        broker.close()
        assert time.monotonic() - started < 4
    finally:
        own_server.control("set_vm_memory_high_watermark", "absolute", "512MB")
    with pytest.raises(BrokerUnavailable, match="closed before"):
        future.result(0)


def test_the_server_may_restart_again_and_again_under_load(own_server: OwnServer, own: RabbitMQKind) -> None:
    """Alive means consuming: the whole backlog drains."""
    broker, collector = own.connect(operation_timeout=60.0), Collector()
    broker.consume(own.topology.queue("map"), 20, collector)
    futures = []
    for _ in range(2):
        futures += [broker.publish([task(own.topology, len(futures) + n)]) for n in range(500)]
        own_server.stop()
        own_server.start()
    for future in futures:
        future.result(60)
    eventually(lambda: set(collector.ids) >= expected(1000), "the backlog has drained", 30)
    eventually(broker.healthy, "the broker is healthy again")


def test_the_topology_of_a_prefix_stands_apart(kind: RabbitMQKind) -> None:
    """Two installations share a vhost without meeting."""
    other = RabbitMQBroker(kind.settings.model_copy(update={"rabbitmq_prefix": unique_prefix()}))
    try:
        kind.connect().publish([task(kind.topology)]).result(PATIENCE)
        assert other.depths()["map"].ready == 0
    finally:
        other.close()
        kind.management.delete_all(other.topology.prefix)
