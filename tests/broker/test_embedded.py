"""What the embedded broker offers beyond the contract: faults on demand, and counts that always add up."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mrq.broker._embedded_server import matches
from mrq.broker.embedded import EmbeddedBroker
from mrq.errors import BrokerUnavailable
from mrq.ports import Delivery
from tests.contract.broker_servers import PATIENCE, EmbeddedKind, Inbox, eventually, task

WORDS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join)


def test_a_blocked_broker_fails_publishers_by_the_deadline() -> None:
    """Nothing is confirmed, the error says why, and what had failed is not delivered later."""
    kind = EmbeddedKind(operation_timeout=0.05)
    broker = kind.connect()
    kind.server.block()
    with pytest.raises(BrokerUnavailable, match="blocks publishers"):
        broker.publish([task(kind.topology)]).result(PATIENCE)
    kind.server.unblock()
    assert broker.depths()["map"].ready == 0
    broker.publish([task(kind.topology)]).result(0)
    kind.close()


def test_what_waits_for_a_blocked_broker_is_taken_when_it_is_unblocked() -> None:
    """In order, and confirmed."""
    kind, inbox = EmbeddedKind(), Inbox()
    broker = kind.connect()
    broker.consume(kind.topology.queue("map"), 10, inbox)
    kind.server.block()
    futures = [broker.publish([task(kind.topology, number)]) for number in range(3)]
    assert not any(future.done() for future in futures)
    kind.server.unblock()
    for future in futures:
        future.result(0)
    assert [inbox.take().message.message_id for _ in range(3)] == [f"job_1/map/{n}" for n in range(3)]
    kind.close()


def test_what_is_urgent_overtakes_what_waits() -> None:
    """A priority above 4 does, as at RabbitMQ 4; the urgent ones keep their order among themselves."""
    kind, inbox = EmbeddedKind(), Inbox()
    broker = kind.connect()
    priorities = [0, 4, 5, 0, 9]
    broker.publish([task(kind.topology, n, priority=p) for n, p in enumerate(priorities)]).result(0)
    broker.consume(kind.topology.queue("map"), 10, inbox)
    order = [inbox.take().message.message_id.rpartition("/")[2] for _ in priorities]
    assert order == ["2", "4", "0", "1", "3"]
    kind.close()


def test_an_aborted_connection_gives_all_back_and_calls_no_handler_again() -> None:
    """As when the process is killed."""
    kind, dying, living = EmbeddedKind(), Inbox(), Inbox()
    broker, other = kind.connect(), kind.connect()
    broker.consume(kind.topology.queue("map"), 10, dying)
    other.publish([task(kind.topology, number) for number in range(3)]).result(0)
    on_loan = [dying.take() for _ in range(3)]
    broker.abort()
    other.consume(kind.topology.queue("map"), 10, living)
    assert [living.take().message for _ in range(3)] == [delivery.message for delivery in on_loan]
    other.publish([task(kind.topology)]).result(0)
    assert living.take().delivery_count == 0
    assert dying.count() == 0
    kind.close()


def test_closing_leaves_no_thread() -> None:
    """Also when a handler is the one that closes."""
    before = threading.active_count()
    kind = EmbeddedKind()
    broker = kind.connect()
    broker.consume(kind.topology.queue("map"), 1, lambda _: broker.close())
    broker.publish([task(kind.topology)]).result(0)
    eventually(lambda: threading.active_count() == before, "the thread has ended")
    assert kind.connect().depths()["map"].ready == 1


def test_a_message_that_comes_back_keeps_its_place() -> None:
    """It is delivered before those that wait."""
    kind, inbox = EmbeddedKind(), Inbox()
    broker = kind.connect()
    broker.publish([task(kind.topology, number) for number in range(3)]).result(0)
    broker.consume(kind.topology.queue("map"), 1, inbox)
    inbox.take().reject(requeue=True)
    assert inbox.take().message.message_id == "job_1/map/0"
    kind.close()


def test_it_is_fast_enough_to_be_no_bottleneck() -> None:
    """Ten thousand messages take far less than a second; the bound is generous for a busy machine."""
    kind, done, left = EmbeddedKind(), threading.Event(), [10_000]

    def handler(delivery: Delivery) -> None:
        delivery.ack()
        left[0] -= 1
        if not left[0]:
            done.set()

    broker = kind.connect()
    broker.consume(kind.topology.queue("map"), 64, handler)
    messages = [task(kind.topology, number) for number in range(left[0])]
    started = time.monotonic()
    broker.publish(messages).result(0)
    assert done.wait(PATIENCE)
    assert time.monotonic() - started < 5
    kind.close()


@given(WORDS)
def test_a_hash_matches_every_key(key: str) -> None:
    """``#`` stands for any number of words."""
    assert matches("topic", "#", key)
    assert matches("topic", f"#.{key}", key)
    assert matches("topic", f"{key}.#", key)


@given(WORDS, WORDS)
def test_a_star_matches_one_word(pattern: str, key: str) -> None:
    """A pattern of stars matches by length, one without wildcards by equality."""
    stars = ".".join("*" for _ in pattern.split("."))
    assert matches("topic", stars, key) == (len(pattern.split(".")) == len(key.split(".")))
    assert matches("topic", pattern, key) == (pattern == key)


class Conservation(RuleBasedStateMachine):
    """Whatever consumers and connections do: published = acked + ready + on loan + dead."""

    LIMIT = 2

    def __init__(self) -> None:
        super().__init__()
        self.kind = EmbeddedKind(delivery_limit=self.LIMIT)
        self.publisher = self.kind.connect()
        self.published = 0
        self.acked = 0
        self.consumers: list[tuple[EmbeddedBroker, Inbox]] = []
        self.loans: list[tuple[EmbeddedBroker, Delivery]] = []

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        messages = [task(self.kind.topology, self.published + n) for n in range(count)]
        self.publisher.publish(messages).result(0)
        self.published += count

    @precondition(lambda self: len(self.consumers) < 3)
    @rule(prefetch=st.integers(1, 3))
    def consume(self, prefetch: int) -> None:
        broker, inbox = self.kind.connect(), Inbox()
        broker.consume(self.kind.topology.queue("map"), prefetch, inbox)
        self.consumers.append((broker, inbox))

    @rule()
    def take(self) -> None:
        """All that was delivered: what the server counts as on loan and we don't have yet is on its way."""
        for broker, inbox in self.consumers:
            [wish] = broker._wishes
            mine = sum(owner is broker for owner, _ in self.loans)
            self.loans += [(broker, inbox.take()) for _ in range(len(wish.current.unacked) - mine)]

    @precondition(lambda self: self.loans)
    @rule(data=st.data(), how=st.sampled_from(["ack", "requeue", "reject"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        index = data.draw(st.integers(0, len(self.loans) - 1))
        _, delivery = self.loans.pop(index)
        if how == "ack":
            delivery.ack()
            self.acked += 1
        else:
            delivery.reject(requeue=how == "requeue")
        delivery.ack()

    @precondition(lambda self: self.consumers)
    @rule(how=st.sampled_from(["close", "abort", "drop"]))
    def disconnect(self, how: str) -> None:
        broker, inbox = self.consumers.pop(0)
        late = [delivery for owner, delivery in self.loans if owner is broker]
        self.loans = [loan for loan in self.loans if loan[0] is not broker]
        if how == "drop":
            broker.drop_connection()
            broker.close()
        elif how == "abort":
            broker.abort()
        else:
            broker.close()
        while inbox.count():
            late.append(inbox.take(0))
        for delivery in late:
            delivery.ack()

    @invariant()
    def nothing_is_lost(self) -> None:
        depths = self.publisher.depths()
        there = depths["map"].ready + depths["map"].unacked + depths["dead"].ready
        assert self.published == self.acked + there

    def teardown(self) -> None:
        self.kind.close()


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
