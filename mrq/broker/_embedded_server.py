"""The server of `mrq.broker.embedded`: exchanges, queues and deliveries, in this process."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from threading import RLock

from mrq.broker.topology import Exchange, Queue, Topology
from mrq.config import Settings
from mrq.ports import Depth, Message

HIGHEST_USUAL_PRIORITY = 4
"""What is above goes first, as in the quorum queues of RabbitMQ 4."""


@dataclass(slots=True)
class Stored:
    """A message in a queue, as bytes: nothing passes that would not pass through a wire."""

    exchange: str
    routing_key: str
    properties: bytes
    body: bytes
    deliveries: int = 0
    urgent: bool = False

    def decode(self) -> Message:
        """Return the message as its consumer sees it."""
        type_, message_id, correlation_id, headers = json.loads(self.properties)
        return Message(self.exchange, self.routing_key, type_, self.body, message_id, correlation_id, headers)


def encode(message: Message) -> Stored:
    """Put a message into the form in which queues hold it.

    Raises:
        TypeError: a header is neither text nor a number.
    """
    if odd := [name for name, value in message.headers.items() if not isinstance(value, (str, int))]:
        raise TypeError(f"the header {odd[0]} is neither text nor a number")
    properties = [message.type, message.message_id, message.correlation_id, dict(message.headers)]
    encoded = json.dumps(properties).encode()
    return Stored(
        message.exchange,
        message.routing_key,
        encoded,
        bytes(message.body),
        urgent=message.priority > HIGHEST_USUAL_PRIORITY,
    )


def dead_letter(stored: Stored, exchange: str, queue: str, reason: str) -> Stored:
    """Return what RabbitMQ makes of a message that leaves ``queue`` for its dead-letter exchange."""
    type_, message_id, correlation_id, headers = json.loads(stored.properties)
    first = {"x-first-death-exchange": stored.exchange, "x-first-death-queue": queue}
    why = {"x-first-death-reason": reason, "x-death-time": int(time.time())}
    properties = json.dumps([type_, message_id, correlation_id, first | headers | why]).encode()
    return Stored(exchange, stored.routing_key, properties, stored.body)


@dataclass(slots=True, eq=False)
class ServerConsumer:
    """A consumer as the server sees it.

    Attributes:
        deliver: takes a delivery; must only enqueue. Called with (consumer, tag, message).
        cancelled: is told that the queue is gone; must only enqueue.
        unacked: what is on loan, by tag, in order of delivery.
    """

    queue: str
    prefetch: int
    deliver: Callable[[ServerConsumer, int, Stored], None]
    cancelled: Callable[[ServerConsumer], None]
    unacked: dict[int, Stored] = field(default_factory=dict)
    last_tag: int = 0
    waiting: bool = False
    stopped: bool = False


@dataclass(slots=True, eq=False)
class _Queue:
    name: str
    limit: int | None = None
    dead_letters: str | None = None
    ready: deque[Stored] = field(default_factory=deque)
    consumers: list[ServerConsumer] = field(default_factory=list)
    takers: deque[ServerConsumer] = field(default_factory=deque)
    """Consumers below their prefetch, the one whose turn is next first."""

    def put(self, stored: Stored) -> None:
        """Add a message: behind all others, or if it is urgent, behind the urgent ones at the front."""
        if not stored.urgent:
            self.ready.append(stored)
            return
        usual = (place for place, other in enumerate(self.ready) if not other.urgent)
        self.ready.insert(next(usual, len(self.ready)), stored)


class EmbeddedBrokerServer:
    """What all `EmbeddedBroker` of a cluster are connected to. Thread-safe; holds messages in memory only.

    Attributes:
        settings: the prefix, the delivery limit and the deadline of operations.
        topology: what is declared.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topology = Topology.from_settings(self.settings)
        self.blocked = False
        self._lock = RLock()
        self._queues: dict[str, _Queue] = {}
        self._bindings: dict[str, dict[tuple[str, str], None]] = {}
        self._types: dict[str, str] = {}
        self._routes: dict[tuple[str, str], tuple[_Queue, ...]] = {}
        self._when_unblocked: list[Callable[[], None]] = []
        self.declare()

    # --- what tests may do to it ---

    def block(self) -> None:
        """Confirm nothing more, as RabbitMQ does while memory or disk is short."""
        with self._lock:
            self.blocked = True

    def unblock(self) -> None:
        """Take and confirm what was published meanwhile, and go on."""
        with self._lock:
            self.blocked = False
            held, self._when_unblocked = self._when_unblocked, []
        for publish in held:
            publish()

    def delete_queue(self, name: str) -> None:
        """Remove a queue and its messages; its consumers are told."""
        with self._lock:
            queue = self._queues.pop(name, None)
            if queue is None:
                return
            for bindings in self._bindings.values():
                for binding in [binding for binding in bindings if binding[1] == name]:
                    del bindings[binding]
            self._routes.clear()
            for consumer in queue.consumers:
                consumer.stopped = True
                consumer.unacked.clear()
                consumer.cancelled(consumer)

    # --- what connections do ---

    def declare(self) -> None:
        """Make the exchanges and queues of the topology that are not there."""
        with self._lock:
            for exchange in self.topology.exchanges():
                self._declare_exchange(exchange)
            for queue in self.topology.queues():
                self._declare_queue(queue)

    def _declare_exchange(self, exchange: Exchange) -> None:
        self._types[exchange.name] = exchange.type
        self._bindings.setdefault(exchange.name, {})

    def _declare_queue(self, queue: Queue) -> None:
        if queue.name not in self._queues:
            dead_letters = queue.arguments.get("x-dead-letter-exchange")
            limit = int(queue.arguments["x-delivery-limit"])
            self._queues[queue.name] = _Queue(queue.name, limit, str(dead_letters) if dead_letters else None)
        self.bind(queue.name, queue.exchange, queue.binding)

    def declare_private(self, name: str) -> None:
        """Make a queue without a delivery limit."""
        with self._lock:
            self._queues.setdefault(name, _Queue(name))

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Have an exchange's messages of a key (or a topic's pattern) come to a queue too."""
        with self._lock:
            self._bindings[exchange][(routing_key, queue)] = None
            self._routes.clear()

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Undo `bind`."""
        with self._lock:
            self._bindings[exchange].pop((routing_key, queue), None)
            self._routes.clear()

    def when_unblocked(self, publish: Callable[[], None]) -> bool:
        """Keep a publish for later if publishers are blocked; return whether they are."""
        with self._lock:
            if self.blocked:
                self._when_unblocked.append(publish)
            return self.blocked

    def publish(self, stored: Stored, mandatory: bool) -> bool:
        """Put a message into every queue bound for it; False for a mandatory one that no queue takes."""
        with self._lock:
            queues = self._route(stored.exchange, stored.routing_key)
            if not queues and mandatory:
                self.declare()
                queues = self._route(stored.exchange, stored.routing_key)
            for queue in queues:
                queue.put(stored if queue is queues[0] else replace(stored))
                self._deliver(queue)
            return bool(queues) or not mandatory

    def _route(self, exchange: str, key: str) -> tuple[_Queue, ...]:
        known = self._routes.get((exchange, key))
        if known is None:
            type_ = self._types[exchange]
            names = {queue for pattern, queue in self._bindings[exchange] if matches(type_, pattern, key)}
            known = tuple(self._queues[name] for name in sorted(names) if name in self._queues)
            if len(self._routes) > 10_000:
                self._routes.clear()
            self._routes[(exchange, key)] = known
        return known

    def _deliver(self, queue: _Queue) -> None:
        ready, takers = queue.ready, queue.takers
        while ready and takers:
            consumer = takers.popleft()
            stored = ready.popleft()
            consumer.last_tag += 1
            consumer.unacked[consumer.last_tag] = stored
            consumer.waiting = len(consumer.unacked) < consumer.prefetch
            if consumer.waiting:
                takers.append(consumer)
            consumer.deliver(consumer, consumer.last_tag, stored)

    def consume(self, consumer: ServerConsumer) -> None:
        """Register a consumer; it takes part in the round from now on."""
        with self._lock:
            queue = self._queues[consumer.queue]
            queue.consumers.append(consumer)
            consumer.waiting = True
            queue.takers.append(consumer)
            self._deliver(queue)

    def settle(self, consumer: ServerConsumer, tag: int, reject: bool = False, requeue: bool = False) -> None:
        """End a loan; nothing happens when it has ended already."""
        with self._lock:
            stored = consumer.unacked.pop(tag, None)
            queue = self._queues.get(consumer.queue)
            if stored is None or queue is None:
                return
            if reject:
                self._give_back(queue, [stored], requeue)
            if not consumer.waiting and not consumer.stopped:
                consumer.waiting = True
                queue.takers.append(consumer)
            self._deliver(queue)

    def _give_back(self, queue: _Queue, messages: Iterable[Stored], requeue: bool) -> None:
        again = []
        for stored in messages:
            stored.deliveries += 1
            if requeue and (queue.limit is None or stored.deliveries <= queue.limit):
                again.append(stored)
            elif queue.dead_letters is not None:
                reason = "delivery_limit" if requeue else "rejected"
                self.publish(dead_letter(stored, queue.dead_letters, queue.name, reason), mandatory=False)
        queue.ready.extendleft(reversed(again))

    def stop(self, consumer: ServerConsumer, *, requeue: bool) -> None:
        """Let a consumer take no more; ``requeue``: what is on loan goes back to the front of its queue."""
        with self._lock:
            queue = self._queues.get(consumer.queue)
            consumer.stopped, consumer.waiting = True, False
            on_loan = list(consumer.unacked.values()) if requeue else []
            if requeue:
                consumer.unacked.clear()
            if queue is None:
                return
            if consumer in queue.takers:
                queue.takers.remove(consumer)
            if requeue and consumer in queue.consumers:
                queue.consumers.remove(consumer)
            self._give_back(queue, on_loan, requeue=True)
            self._deliver(queue)

    def lend(self, consumer: ServerConsumer) -> list[tuple[int, Stored]]:
        """Give a borrower up to its prefetch of what waits; it gets no more, but settles as any consumer."""
        with self._lock:
            queue, consumer.stopped = self._queues[consumer.queue], True
            queue.consumers.append(consumer)
            lent = min(len(queue.ready), consumer.prefetch)
            consumer.unacked = {tag: queue.ready.popleft() for tag in range(lent)}
            return list(consumer.unacked.items())

    def depths(self) -> dict[str, Depth]:
        """Return what each durable queue holds, by its short name."""
        with self._lock:
            self.declare()
            return {queue.short: self._depth(self._queues[queue.name]) for queue in self.topology.queues()}

    @staticmethod
    def _depth(queue: _Queue) -> Depth:
        active = sum(not consumer.stopped for consumer in queue.consumers)
        return Depth(len(queue.ready), sum(len(consumer.unacked) for consumer in queue.consumers), active)


def matches(type_: str, pattern: str, key: str) -> bool:
    """Whether a binding takes a routing key (AMQP 0-9-1, 3.1.3): ``*`` is one word, ``#`` any number."""
    if type_ == "fanout":
        return True
    if type_ == "direct" or not ("#" in pattern or "*" in pattern):
        return pattern == key
    return _words_match(pattern.split("."), key.split("."))


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_words_match(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _words_match(pattern[1:], words[1:])
