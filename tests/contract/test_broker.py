"""The contract of `mrq.ports.Broker`, kept by the one in this process and by RabbitMQ alike.

RabbitMQ is where ``MRQ_*`` in the environment says.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mrq.broker.topology import MAX_BODY_BYTES
from mrq.errors import BadMessage, BrokerUnavailable, Unroutable
from mrq.ports import Broker, Delivery, Message
from tests.contract.broker_servers import PATIENCE, EmbeddedKind, Inbox, Kind, RabbitMQKind, eventually, task

LIMIT = 2


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.real)])
def server(request: pytest.FixtureRequest) -> Iterator[Kind]:
    settings = {"delivery_limit": LIMIT, "operation_timeout": 10.0}
    kind: Kind = EmbeddedKind(**settings) if request.param == "embedded" else RabbitMQKind(**settings)
    yield kind
    kind.close()


@pytest.fixture
def kind(server: Kind) -> Iterator[Kind]:
    """The server, with empty queues."""
    yield server
    for name in ("map", "shuffle", "reduce", "dead"):
        server.delete_queue(server.topology.queue(name))


@pytest.fixture
def broker(kind: Kind) -> Iterator[Broker]:
    broker = kind.connect()
    yield broker
    broker.close()


def publish(broker: Broker, *messages: Message) -> None:
    broker.publish(messages).result(PATIENCE)


def ready(broker: Broker, queue: str) -> int:
    return broker.depths()[queue].ready


def test_a_message_arrives_as_it_was_sent(kind: Kind, broker: Broker) -> None:
    """Body, routing and properties survive; the first delivery counts none before it."""
    sent, inbox = task(kind.topology, headers={"epoch": 7, "who": "m-1"}), Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    publish(broker, sent)
    delivery = inbox.take()
    assert replace(delivery.message, mandatory=True) == sent
    assert (delivery.queue, delivery.delivery_count) == (kind.topology.queue("map"), 0)
    delivery.ack()


@pytest.mark.parametrize("phase", ["map", "shuffle", "reduce"])
def test_a_task_goes_to_the_queue_of_its_phase(kind: Kind, broker: Broker, phase: str) -> None:
    """The first word of the routing key chooses the queue."""
    publish(broker, task(kind.topology, phase=phase), task(kind.topology, 1, phase=phase))
    others = {"map", "shuffle", "reduce", "dead"} - {phase}
    eventually(lambda: ready(broker, phase) == 2, "two messages are ready")
    assert [ready(broker, other) for other in others] == [0, 0, 0]


def test_nothing_to_publish_is_done_at_once(broker: Broker) -> None:
    """An empty batch needs no confirm."""
    assert broker.publish([]).result(0) is None


def test_a_mandatory_message_without_a_queue_is_an_error(kind: Kind, broker: Broker) -> None:
    """The error names exchange and routing key; the other messages of the batch arrive."""
    lost = task(kind.topology, exchange=kind.topology.events, routing_key="job_none")
    future = broker.publish([task(kind.topology), lost])
    with pytest.raises(Unroutable, match=r"events.*'job_none'"):
        future.result(PATIENCE)
    eventually(lambda: ready(broker, "map") == 1, "the other message is there")


def test_an_optional_message_without_a_queue_is_confirmed(kind: Kind, broker: Broker) -> None:
    """A report that nobody waits for is no failure."""
    report = task(kind.topology, exchange=kind.topology.events, routing_key="job_none", mandatory=False)
    publish(broker, report)


def test_a_mandatory_message_brings_a_deleted_queue_back(kind: Kind, broker: Broker) -> None:
    """A return leads to a new declaration and a second try."""
    kind.delete_queue(kind.topology.queue("map"))
    publish(broker, *(task(kind.topology, number) for number in range(20)))
    eventually(lambda: ready(broker, "map") == 20, "all messages are in the new queue")


def test_a_long_body_is_refused(kind: Kind, broker: Broker) -> None:
    """Messages carry references, not data."""
    publish(broker, task(kind.topology, body=b"x" * MAX_BODY_BYTES))
    with pytest.raises(BadMessage, match="references"):
        broker.publish([task(kind.topology, body=b"x" * (MAX_BODY_BYTES + 1))])


def test_an_exchange_of_nobody_is_refused(kind: Kind, broker: Broker) -> None:
    """A wrong name is told at once, and costs the other publishers nothing."""
    with pytest.raises(Unroutable, match="no exchange 'mistake'"):
        broker.publish([task(kind.topology, exchange="mistake")])


def test_what_cannot_be_encoded_is_refused_and_harms_nothing(kind: Kind, broker: Broker) -> None:
    """A header of another type fails its own batch only."""
    strange = task(kind.topology, headers={"what": object()})  # type: ignore[dict-item] # that is the point
    with pytest.raises(BadMessage):
        broker.publish([strange]).result(PATIENCE)
    publish(broker, task(kind.topology))


def test_no_more_than_the_prefetch_is_on_loan(kind: Kind, broker: Broker) -> None:
    """The next message comes when one is acked."""
    inbox = Inbox()
    publish(broker, *(task(kind.topology, number) for number in range(5)))
    broker.consume(kind.topology.queue("map"), 2, inbox)
    first = inbox.take()
    inbox.take()
    eventually(lambda: ready(broker, "map") == 3, "three wait")
    assert inbox.count() == 0
    first.ack()
    assert inbox.take().message.body == b'{"index": 2}'


def test_consumers_take_turns(kind: Kind, broker: Broker) -> None:
    """No consumer gets all while another is free."""
    taken: Counter[str] = Counter()
    done = threading.Event()

    def handler(name: str) -> None:
        def handle(delivery: Delivery) -> None:
            taken[name] += 1
            delivery.ack()
            if taken.total() == 40:
                done.set()

        broker.consume(kind.topology.queue("map"), 1, handle)

    handler("a")
    handler("b")
    eventually(lambda: broker.depths()["map"].consumers == 2, "both are registered")
    publish(broker, *(task(kind.topology, number) for number in range(40)))
    assert done.wait(PATIENCE)
    assert min(taken["a"], taken["b"]) >= 10


def test_what_was_on_loan_comes_again_after_a_close(kind: Kind, broker: Broker) -> None:
    """Another consumer gets it, counted one higher; a late ack of the old one does nothing."""
    dying, old, new = kind.connect(), Inbox(), Inbox()
    dying.consume(kind.topology.queue("map"), 1, old)
    publish(broker, task(kind.topology))
    first = old.take()
    dying.close()
    first.ack()
    first.reject(requeue=False)
    broker.consume(kind.topology.queue("map"), 1, new)
    again = new.take()
    assert (again.message.message_id, again.delivery_count) == ("job_1/map/0", 1)
    again.ack()


def test_a_message_given_back_comes_again(kind: Kind, broker: Broker) -> None:
    """``requeue`` counts as a delivery."""
    inbox = Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    publish(broker, task(kind.topology))
    inbox.take().reject(requeue=True)
    again = inbox.take()
    assert again.delivery_count == 1
    again.ack()


def test_a_rejected_message_is_a_dead_letter(kind: Kind, broker: Broker) -> None:
    """It keeps its routing key, and says where it comes from and why."""
    inbox, dead = Inbox(), Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    broker.consume(kind.topology.queue("dead"), 1, dead)
    publish(broker, task(kind.topology))
    inbox.take().reject(requeue=False)
    letter = dead.take()
    assert letter.message.routing_key == "map.job_1"
    assert letter.message.message_id == "job_1/map/0"
    headers = dict(letter.message.headers)
    assert abs(int(headers.pop("x-death-time")) - time.time()) < PATIENCE
    assert headers == {
        "epoch": 7,
        "attempt": 1,
        "x-first-death-exchange": kind.topology.tasks,
        "x-first-death-queue": kind.topology.queue("map"),
        "x-first-death-reason": "rejected",
    }
    assert letter.delivery_count == 0
    letter.ack()


def test_a_message_delivered_too_often_is_a_dead_letter(kind: Kind, broker: Broker) -> None:
    """A limit of two means three deliveries."""
    inbox, dead = Inbox(), Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    publish(broker, task(kind.topology))
    counts = []
    for _ in range(LIMIT + 1):
        delivery = inbox.take()
        counts.append(delivery.delivery_count)
        delivery.reject(requeue=True)
    assert counts == [0, 1, 2]
    broker.consume(kind.topology.queue("dead"), 1, dead)
    letter = dead.take()
    assert letter.message.headers["x-first-death-reason"] == "delivery_limit"
    letter.ack()
    assert inbox.count() == 0


def test_a_second_ack_does_nothing(kind: Kind, broker: Broker) -> None:
    """It does not cost the channel."""
    inbox = Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    publish(broker, task(kind.topology, 0), task(kind.topology, 1))
    first = inbox.take()
    first.ack()
    first.ack()
    first.reject(requeue=True)
    second = inbox.take()
    assert (second.message.message_id, second.delivery_count) == ("job_1/map/1", 0)
    second.ack()
    assert broker.healthy()


def test_a_private_queue_gets_what_it_is_bound_to(kind: Kind, broker: Broker) -> None:
    """A direct key, a topic's pattern and a fanout; nothing more after `unbind`."""
    topology, inbox = kind.topology, Inbox()
    private = broker.subscribe(inbox)
    private.bind(topology.events, "job_1")
    private.bind(topology.dead_letters, "*.job_1")
    private.bind(topology.control, "")
    sender = kind.connect()
    base = task(topology, mandatory=False)
    wanted = [
        replace(base, exchange=topology.events, routing_key="job_1"),
        replace(base, exchange=topology.dead_letters, routing_key="reduce.job_1"),
        replace(base, exchange=topology.control, routing_key="job_2"),
    ]
    other = replace(base, exchange=topology.events, routing_key="job_2")
    publish(sender, other, *wanted)
    got = [inbox.take() for _ in wanted]
    assert {(one.message.exchange, one.message.routing_key) for one in got} == {
        (one.exchange, one.routing_key) for one in wanted
    }
    for delivery in got:
        delivery.ack()
    private.unbind(topology.events, "job_1")
    publish(sender, wanted[0], wanted[2])
    assert inbox.take().message.exchange == topology.control


def test_every_private_queue_gets_its_own_copy(kind: Kind, broker: Broker) -> None:
    """A cancellation reaches all workers."""
    inboxes = [Inbox(), Inbox()]
    for inbox in inboxes:
        kind.connect().subscribe(inbox).bind(kind.topology.control, "")
    publish(broker, task(kind.topology, exchange=kind.topology.control))
    for inbox in inboxes:
        inbox.take().ack()


def test_a_private_queue_ends_with_its_connection(kind: Kind, broker: Broker) -> None:
    """Afterwards no queue takes its messages."""
    leaving = kind.connect()
    leaving.subscribe(Inbox()).bind(kind.topology.events, "job_1")
    report = task(kind.topology, exchange=kind.topology.events, routing_key="job_1")
    publish(broker, report)
    leaving.close()
    with pytest.raises(Unroutable):
        publish(broker, report)


def test_stop_consuming_leaves_the_rest_to_others(kind: Kind, broker: Broker) -> None:
    """What is on loan can still be acked, and is not delivered again."""
    leaving, kept, rest = kind.connect(), Inbox(), Inbox()
    leaving.consume(kind.topology.queue("map"), 1, kept)
    publish(broker, *(task(kind.topology, number) for number in range(3)))
    on_loan = kept.take()
    leaving.stop_consuming()
    on_loan.ack()
    broker.consume(kind.topology.queue("map"), 10, rest)
    bodies = [(one := rest.take(), one.ack(), one.message.body)[2] for _ in range(2)]
    leaving.close()
    assert bodies == [b'{"index": 1}', b'{"index": 2}']
    assert kept.count() == rest.count() == 0
    eventually(lambda: ready(broker, "map") == 0, "nothing came back")


def test_refreshing_again_and_again_loses_nothing_and_brings_nothing_twice(
    kind: Kind, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mrq.broker.rabbitmq.consumer.IDLE_SECONDS", 0.0)
    inbox, ids = Inbox(), []
    broker.consume(kind.topology.queue("map"), 2, inbox)
    for number in range(8):
        broker.refresh()
        publish(broker, task(kind.topology, number))
        broker.refresh()
        delivery = inbox.take()
        broker.refresh()
        ids.append(delivery.message.message_id)
        delivery.ack()
    assert ids == [f"job_1/map/{number}" for number in range(8)]
    eventually(lambda: ready(broker, "map") == 0, "all is acked")
    assert inbox.count() == 0


def test_who_has_stopped_consuming_hears_of_private_queues_still(kind: Kind, broker: Broker) -> None:
    """A worker that drains must hear that what it runs was cancelled."""
    leaving, orders = kind.connect(), Inbox()
    leaving.consume(kind.topology.queue("map"), 1, Inbox())
    leaving.subscribe(orders).bind(kind.topology.control, "")
    leaving.stop_consuming()
    publish(broker, task(kind.topology, exchange=kind.topology.control, routing_key="", body=b"{}"))
    assert orders.take().message.body == b"{}"
    assert leaving.healthy()


def test_healthy_means_that_every_consumer_is_registered(kind: Kind) -> None:
    """And after the end of the connection nothing is."""
    broker = kind.connect()
    broker.consume(kind.topology.queue("map"), 1, Inbox())
    broker.subscribe(Inbox()).bind(kind.topology.control, "")
    eventually(broker.healthy, "the broker is healthy")
    assert broker.depths()["map"].consumers == 1
    broker.close()
    assert not broker.healthy()


def test_a_closed_broker_says_so(kind: Kind) -> None:
    """Closing twice is harmless; every other call raises."""
    broker = kind.connect()
    private = broker.subscribe(Inbox())
    broker.close()
    broker.close()
    for call in (
        lambda: broker.publish([task(kind.topology)]),
        lambda: broker.consume(kind.topology.queue("map"), 1, Inbox()),
        lambda: broker.subscribe(Inbox()),
        lambda: private.bind(kind.topology.control, ""),
        broker.stop_consuming,
        broker.depths,
    ):
        with pytest.raises(BrokerUnavailable, match="closed"):
            call()


def test_a_handler_that_fails_does_not_end_the_consumer(kind: Kind, broker: Broker) -> None:
    """Its delivery stays on loan; the next is handled."""
    inbox = Inbox()

    def handler(delivery: Delivery) -> None:
        inbox(delivery)
        raise RuntimeError("a bug in a handler")

    broker.consume(kind.topology.queue("map"), 2, handler)
    publish(broker, task(kind.topology, 0), task(kind.topology, 1))
    assert inbox.take().message.body == b'{"index": 0}'
    assert inbox.take().message.body == b'{"index": 1}'
    assert broker.healthy()


def test_handlers_run_on_another_thread_than_the_publisher(kind: Kind, broker: Broker) -> None:
    """So they can't deadlock with what the publisher holds."""
    threads: list[int] = []
    called = threading.Event()

    def handler(delivery: Delivery) -> None:
        threads.append(threading.get_ident())
        delivery.ack()
        called.set()

    broker.consume(kind.topology.queue("map"), 1, handler)
    publish(broker, task(kind.topology))
    assert called.wait(PATIENCE)
    assert threads != [threading.get_ident()]


def test_a_handler_may_publish(kind: Kind, broker: Broker) -> None:
    """From its own thread, without waiting for the confirm."""
    inbox = Inbox()

    def handler(delivery: Delivery) -> None:
        report = task(kind.topology, phase="reduce")
        broker.publish([report]).add_done_callback(lambda _: delivery.ack())

    broker.consume(kind.topology.queue("map"), 1, handler)
    broker.consume(kind.topology.queue("reduce"), 1, inbox)
    publish(broker, task(kind.topology))
    inbox.take().ack()


def test_a_deleted_queue_is_made_again_and_consumed(kind: Kind, broker: Broker) -> None:
    """The consumer that the broker cancels is registered anew; acks of before do nothing."""
    inbox = Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    publish(broker, task(kind.topology, 0))
    old = inbox.take()
    kind.delete_queue(kind.topology.queue("map"))
    publish(broker, task(kind.topology, 1))
    new = inbox.take()
    old.ack()
    assert new.message.body == b'{"index": 1}'
    new.ack()
    eventually(broker.healthy, "the broker is healthy again")


def test_a_lost_connection_comes_back_with_all_consumers_and_bindings(kind: Kind, broker: Broker) -> None:
    """What was on loan comes again; an ack from before the loss does not touch it."""
    inbox, reports = Inbox(), Inbox()
    broker.consume(kind.topology.queue("map"), 1, inbox)
    private = broker.subscribe(reports)
    private.bind(kind.topology.events, "job_1")
    private.bind(kind.topology.events, "job_2")
    private.unbind(kind.topology.events, "job_2")
    publish(broker, task(kind.topology))
    old = inbox.take()
    kind.drop_connections(broker)
    again = inbox.take()
    old.reject(requeue=False)
    assert (again.message.message_id, again.delivery_count) == ("job_1/map/0", 1)
    again.ack()
    eventually(broker.healthy, "the broker is healthy again")
    for job in ("job_1", "job_2"):
        publish(broker, task(kind.topology, exchange=kind.topology.events, routing_key=job, mandatory=False))
    private.bind(kind.topology.events, "job_3")
    publish(broker, task(kind.topology, exchange=kind.topology.events, routing_key="job_3"))
    assert [(one := reports.take(), one.ack(), one.message.routing_key)[2] for _ in range(2)] == [
        "job_1",
        "job_3",
    ]
    assert broker.depths()["dead"].ready == 0


@pytest.mark.parametrize("queue", ["map", "mrq.v0.map"])
def test_only_a_queue_of_the_topology_can_be_consumed(broker: Broker, queue: str) -> None:
    """A wrong name is told at once instead of waiting for ever."""
    with pytest.raises(ValueError, match="no queue"):
        broker.consume(queue, 1, Inbox())


def test_a_prefetch_of_nothing_is_refused(kind: Kind, broker: Broker) -> None:
    """AMQP would take zero for unlimited."""
    with pytest.raises(ValueError, match="prefetch"):
        broker.consume(kind.topology.queue("map"), 0, Inbox())


# --- on loan without a consumer: the dead letters' debugger ---


def test_what_is_borrowed_goes_back_or_away(kind: Kind, broker: Broker) -> None:
    """Nobody else sees it meanwhile, and an ack takes it away."""
    publish(broker, *(task(kind.topology, number) for number in range(5)))
    queue = kind.topology.queue("map")
    loans = eventually(lambda: len(found := broker.borrow(queue, 3)) == 3 and found, "three are lent")
    assert [loan.message.message_id for loan in loans] == [f"job_1/map/{n}" for n in range(3)]
    assert [loan.message.message_id for loan in broker.borrow(queue, 9)] == ["job_1/map/3", "job_1/map/4"]
    assert broker.borrow(queue, 9) == []
    loans[1].ack()
    loans[0].reject(requeue=True)
    loans[2].reject(requeue=True)
    eventually(lambda: ready(broker, "map") == 2, "two are back")
    assert {loan.message.message_id for loan in broker.borrow(queue, 9)} == {"job_1/map/0", "job_1/map/2"}


def test_what_is_on_loan_goes_back_when_the_connection_is_closed(kind: Kind, broker: Broker) -> None:
    """Whoever looks and dies takes nothing along."""
    publish(broker, task(kind.topology))
    looker = kind.connect()
    eventually(lambda: looker.borrow(kind.topology.queue("map"), 1), "it is lent")
    looker.close()
    eventually(lambda: ready(broker, "map") == 1, "it is back")


def test_dead_letters_bear_being_looked_at_more_often_than_the_limit(kind: Kind, broker: Broker) -> None:
    """Each look is a delivery; a limit like the tasks' would drop a letter in the end."""
    inbox, dead = Inbox(), kind.topology.queue("dead")
    broker.consume(kind.topology.queue("map"), 1, inbox)
    publish(broker, task(kind.topology))
    inbox.take().reject(requeue=False)
    for _ in range(LIMIT + 3):
        (loan,) = eventually(lambda: broker.borrow(dead, 10), "the letter is there")
        loan.reject(requeue=True)
    eventually(lambda: ready(broker, "dead") == 1, "the letter is still there")
