"""A broker inside this process, for tests and the embedded cluster, with RabbitMQ's semantics.

Messages are encoded and decoded again; handlers run on a thread of their connection, never in the call of the
publisher.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from functools import partial
from queue import SimpleQueue

from mrq.broker._embedded_server import EmbeddedBrokerServer, ServerConsumer, Stored, encode
from mrq.errors import BadMessage, BrokerUnavailable, Unroutable
from mrq.ports import Delivery, Depth, Handler, Message

__all__ = ["EmbeddedBroker", "EmbeddedBrokerServer"]

log = logging.getLogger(__name__)


class EmbeddedDelivery:
    """Implements `mrq.ports.Delivery`."""

    __slots__ = ("_consumer", "_server", "_tag", "delivery_count", "message", "queue")

    def __init__(
        self, server: EmbeddedBrokerServer, consumer: ServerConsumer, tag: int, stored: Stored
    ) -> None:
        self._server = server
        self._consumer = consumer
        self._tag = tag
        self.message = stored.decode()
        self.queue = consumer.queue
        self.delivery_count = stored.deliveries

    def ack(self) -> None:
        """End the loan."""
        self._server.settle(self._consumer, self._tag)

    def reject(self, *, requeue: bool) -> None:
        """End the loan; the message goes back, or to the dead letters."""
        self._server.settle(self._consumer, self._tag, reject=True, requeue=requeue)


class _Wish:
    """A consumer that was asked for; ``current`` is what the server has of it at present."""

    def __init__(self, broker: EmbeddedBroker, queue: str | None, prefetch: int, handler: Handler) -> None:
        self.broker = broker
        self.queue = queue
        self.prefetch = prefetch
        self.handler = handler
        self.bindings: dict[tuple[str, str], None] = {}
        self.current: ServerConsumer | None = None
        self.stopped = False

    @property
    def registered(self) -> bool:
        return self.stopped or (self.current is not None and not self.current.stopped)

    def start(self) -> None:
        if self.stopped:
            return
        server = self.broker.server
        name = self.queue
        if name is None:
            name = f"{server.topology.prefix}.private.{uuid.uuid4().hex}"
            server.declare_private(name)
            for exchange, routing_key in self.bindings:
                server.bind(name, exchange, routing_key)
        self.current = ServerConsumer(name, self.prefetch, self._enqueue, self._cancelled)
        server.consume(self.current)

    def stop(self) -> None:
        self.stopped = True
        if self.current is not None:
            self.broker.server.stop(self.current, requeue=False)

    def end(self) -> None:
        current, self.current = self.current, None
        if current is not None:
            self.broker.server.stop(current, requeue=True)
            if self.queue is None:
                self.broker.server.delete_queue(current.queue)

    def _enqueue(self, consumer: ServerConsumer, tag: int, stored: Stored) -> None:
        self.broker._inbox.put(partial(self._handle, consumer, tag, stored))

    def _handle(self, consumer: ServerConsumer, tag: int, stored: Stored) -> None:
        if consumer is not self.current or tag not in consumer.unacked:
            return
        delivery = EmbeddedDelivery(self.broker.server, consumer, tag, stored)
        if consumer.stopped:
            delivery.reject(requeue=True)
        else:
            self.handler(delivery)

    def _cancelled(self, consumer: ServerConsumer) -> None:
        self.broker._inbox.put(partial(self._again, consumer))

    def _again(self, consumer: ServerConsumer) -> None:
        with self.broker._lock:
            if consumer is self.current and not self.stopped:
                self.broker.server.declare()
                self.start()


class EmbeddedSubscription:
    """Implements `mrq.ports.Subscription`."""

    def __init__(self, wish: _Wish) -> None:
        self._wish = wish

    def bind(self, exchange: str, routing_key: str) -> None:
        """Have messages of that key too."""
        with self._wish.broker._lock:
            queue = self._queue()
            self._wish.bindings[(exchange, routing_key)] = None
            self._wish.broker.server.bind(queue, exchange, routing_key)

    def unbind(self, exchange: str, routing_key: str) -> None:
        """Undo `bind`."""
        with self._wish.broker._lock:
            queue = self._queue()
            self._wish.bindings.pop((exchange, routing_key), None)
            self._wish.broker.server.unbind(queue, exchange, routing_key)

    def _queue(self) -> str:
        self._wish.broker._check_open()
        current = self._wish.current
        if current is None:
            raise BrokerUnavailable("the private queue has ended with its connection")
        return current.queue


class EmbeddedBroker:
    """A connection to an `EmbeddedBrokerServer`; implements `mrq.ports.Broker`."""

    def __init__(self, server: EmbeddedBrokerServer) -> None:
        self.server = server
        self.topology = server.topology
        self._lock = threading.RLock()
        self._closed = False
        self._wishes: list[_Wish] = []
        self._borrowers: list[ServerConsumer] = []
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def _check_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("this connection to the embedded broker is closed")

    def publish(self, messages: Sequence[Message]) -> Future[None]:
        """Put messages into queues; the future has ended on return, unless publishers are blocked."""
        self._check_open()
        self.topology.check(messages)
        try:
            batch = [(encode(message), message.mandatory) for message in messages]
        except (TypeError, ValueError) as error:
            raise BadMessage(f"a message can't be encoded: {error}") from error
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        if self.server.when_unblocked(partial(self._publish, batch, future)):
            self._fail_later(future)
        else:
            self._publish(batch, future)
        return future

    def _publish(self, batch: list[tuple[Stored, bool]], future: Future[None]) -> None:
        if future.done():
            return
        lost = [stored for stored, mandatory in batch if not self.server.publish(stored, mandatory)]
        if lost:
            text = f"no queue is bound to {lost[0].exchange} for the routing key {lost[0].routing_key!r}"
            _end(future, Unroutable(text))
        else:
            _end(future)

    def _fail_later(self, future: Future[None]) -> None:
        seconds = self.server.settings.operation_timeout
        text = f"no confirm within {seconds:g} s: the embedded broker blocks publishers because of an alarm"
        timer = threading.Timer(seconds, _end, (future, BrokerUnavailable(text)))
        timer.daemon = True
        future.add_done_callback(lambda _: timer.cancel())
        timer.start()

    def consume(self, queue: str, prefetch: int, handler: Handler) -> None:
        """Take deliveries of a queue, at most ``prefetch`` unacked at a time."""
        if queue not in {queue.name for queue in self.topology.queues()}:
            raise ValueError(f"there is no queue {queue!r} in the topology")
        self._start(_Wish(self, queue, prefetch, handler))

    def subscribe(self, handler: Handler, prefetch: int = 1000) -> EmbeddedSubscription:
        """Open a private queue."""
        wish = _Wish(self, None, prefetch, handler)
        self._start(wish)
        return EmbeddedSubscription(wish)

    def _start(self, wish: _Wish) -> None:
        if wish.prefetch < 1:
            raise ValueError(f"a prefetch of {wish.prefetch} would never take a message")
        with self._lock:
            self._check_open()
            self.server.declare()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mrq-embedded-broker", daemon=True)
                self._thread.start()
            self._wishes.append(wish)
            wish.start()

    def _run(self) -> None:
        for task in iter(self._inbox.get, None):
            try:
                task()
            except Exception:
                log.exception("a handler of messages failed; the message stays unacked")

    def stop_consuming(self) -> None:
        """Take no new delivery of a durable queue; what is on loan can still be acked."""
        with self._lock:
            self._check_open()
            for wish in self._wishes:
                if wish.queue is not None:
                    wish.stop()

    def refresh(self) -> None:
        """Do nothing: this server forgets no consumer."""

    def depths(self) -> dict[str, Depth]:
        """Return the depth of each durable queue."""
        self._check_open()
        return self.server.depths()

    def borrow(self, queue: str, limit: int) -> list[Delivery]:
        """Take up to ``limit`` messages that wait in a queue, on loan."""
        if queue not in {queue.name for queue in self.topology.queues()}:
            raise ValueError(f"there is no queue {queue!r} in the topology")
        with self._lock:
            self._check_open()
            self.server.declare()
            borrower = ServerConsumer(queue, limit, _ignore, _ignore)
            self._borrowers.append(borrower)
            lent = self.server.lend(borrower)
        return [EmbeddedDelivery(self.server, borrower, tag, stored) for tag, stored in lent]

    def healthy(self) -> bool:
        """Whether the connection is open and every consumer asked for is registered."""
        with self._lock:
            return not self._closed and all(wish.registered for wish in self._wishes)

    def _end_loans(self) -> None:
        borrowers, self._borrowers = self._borrowers, []
        for borrower in borrowers:
            self.server.stop(borrower, requeue=True)

    def drop_connection(self) -> None:
        """For tests: lose the connection and get it back, as when a TCP connection is reset."""
        with self._lock:
            self._check_open()
            self._end_loans()
            for wish in self._wishes:
                wish.end()
            for wish in self._wishes:
                wish.start()

    def abort(self) -> None:
        """For tests: end at once and for good, as when the process is killed."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._end_loans()
            for wish in self._wishes:
                wish.end()
            self._inbox.put(None)

    def close(self) -> None:
        """End the connection; what is on loan goes back to its queue."""
        self.abort()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)


def _ignore(*_: object) -> None:
    """A borrower takes what it asks for, and is told of nothing."""


def _end(future: Future[None], error: Exception | None = None) -> None:
    try:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
    except InvalidStateError:
        pass  # the deadline and the broker met
