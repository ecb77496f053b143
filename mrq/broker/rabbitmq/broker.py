"""`RabbitMQBroker`: the adapter as a whole.

One I/O thread owns two connections, one to publish and one to consume: a broker short of memory or disk stops
reading from those that publish, and acks must get through meanwhile. Others hand their calls to that thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from mrq.broker.rabbitmq.asking import Count, Loan
from mrq.broker.rabbitmq.consumer import Consumer, PrivateConsumer
from mrq.broker.rabbitmq.link import GOODBYE_SECONDS, Link
from mrq.broker.rabbitmq.loop import IOThread
from mrq.broker.rabbitmq.publisher import Publisher
from mrq.broker.topology import Topology
from mrq.config import Settings
from mrq.errors import AuthenticationFailed, BrokerUnavailable
from mrq.ports import Delivery, Depth, Handler, Message

log = logging.getLogger(__name__)
# pika tells each failed attempt in eight lines of level ERROR; ours tell it in one.
logging.getLogger("pika").setLevel(logging.CRITICAL)

T = TypeVar("T")

STOP_SECONDS = 5.0
"""How long `RabbitMQBroker.stop_consuming` waits for the broker's word, and `consume` for its first."""


class RabbitMQSubscription:
    """Implements `mrq.ports.Subscription`."""

    def __init__(self, broker: RabbitMQBroker, consumer: PrivateConsumer) -> None:
        self._broker = broker
        self._consumer = consumer

    def bind(self, exchange: str, routing_key: str) -> None:
        """Have messages of that key too."""
        binding = (exchange, routing_key)
        try:
            self._broker._ask(partial(self._consumer.bind, binding), f"binding {routing_key!r} to {exchange}")
        except BrokerUnavailable:
            self._broker._thread.call_if_running(partial(self._consumer.unbind, binding, Future()))
            raise

    def unbind(self, exchange: str, routing_key: str) -> None:
        """Undo `bind`."""
        binding = (exchange, routing_key)
        self._broker._ask(
            partial(self._consumer.unbind, binding), f"unbinding {routing_key!r} from {exchange}"
        )


class RabbitMQBroker:
    """Implements `mrq.ports.Broker`.

    Attributes:
        topology: the names of exchanges and queues.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect, and declare the topology.

        Raises:
            AuthenticationFailed: RabbitMQ refuses the user, the password or the vhost.
            ConfigurationError: a queue exists with other arguments.
            BrokerUnavailable: no connection within ``settings.connect_timeout``.
        """
        self.topology = Topology.from_settings(settings)
        self._settings = settings
        self._thread = IOThread("mrq-rabbitmq")
        self._publishing = Link(self._thread, settings, self.topology, "publish")
        self._consuming = Link(self._thread, settings, self.topology, "consume")
        self._publisher = Publisher(self._thread, self._publishing, settings.operation_timeout)
        self._consumers: list[Consumer] = []
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._connect(settings.connect_timeout)
        except BaseException:
            self.close()
            raise

    def _connect(self, seconds: float) -> None:
        deadline = monotonic() + seconds
        self._thread.start()
        self._thread.call(self._publishing.dial)
        self._thread.call(self._consuming.dial)
        for future in (self._publishing.started, self._consuming.started, self._publisher.open):
            try:
                future.result(max(0.0, deadline - monotonic()))
            except FutureTimeoutError:
                story = self._consuming.story() if self._publishing.ready else self._publishing.story()
                raise BrokerUnavailable(f"no connection within {seconds:g} s; {story}") from None

    def publish(self, messages: Sequence[Message]) -> Future[None]:
        """Send messages; the future ends when RabbitMQ has confirmed every one."""
        self._check_open()
        self.topology.check(messages)
        return self._publisher.publish(messages)

    def consume(self, queue: str, prefetch: int, handler: Handler) -> None:
        """Take deliveries of a queue, at most ``prefetch`` unacked at a time."""
        if queue not in {queue.name for queue in self.topology.queues()}:
            raise ValueError(f"there is no queue {queue!r} in the topology")
        self._begin(Consumer(self._thread, self._consuming, queue, _checked(prefetch), handler))

    def subscribe(self, handler: Handler, prefetch: int = 1000) -> RabbitMQSubscription:
        """Open a private queue."""
        consumer = PrivateConsumer(
            self._thread, self._consuming, self.topology.prefix, _checked(prefetch), handler
        )
        self._begin(consumer)
        return RabbitMQSubscription(self, consumer)

    def _begin(self, consumer: Consumer) -> None:
        self._check_open()
        with self._lock:
            self._consumers.append(consumer)
        self._thread.call(consumer.begin)
        if self._thread.is_current() or not self._consuming.ready:
            return
        try:
            consumer.begun.result(STOP_SECONDS)
        except FutureTimeoutError:
            return  # the link is down again; the consumer begins when it is up
        except AuthenticationFailed:
            with self._lock:
                self._consumers.remove(consumer)
            self._thread.call_if_running(partial(consumer.stop, Future()))
            raise

    def stop_consuming(self) -> None:
        """Take no new delivery of a durable queue; what is on loan can still be acked."""
        self._check_open()
        consumers = self._of_durable_queues()
        ended: list[Future[None]] = [Future() for _ in consumers]
        for consumer, done in zip(consumers, ended, strict=True):
            self._thread.call(partial(consumer.stop, done))
        if self._thread.is_current():
            return
        deadline = monotonic() + STOP_SECONDS
        for done in ended:
            try:
                done.result(max(0.0, deadline - monotonic()))
            except FutureTimeoutError:
                log.warning("RabbitMQ has not said that it stopped the consumers")
                return

    def refresh(self) -> None:
        """Have consumers of durable queues taken up again that are idle."""
        for consumer in self._of_durable_queues():
            self._thread.call_if_running(consumer.refresh)

    def _of_durable_queues(self) -> list[Consumer]:
        with self._lock:
            return [one for one in self._consumers if not isinstance(one, PrivateConsumer)]

    def depths(self) -> dict[str, Depth]:
        """Return the depth of each durable queue; how many are unacked is not known (-1)."""
        return self._ask(self._count, "the depths of the queues")

    def borrow(self, queue: str, limit: int) -> list[Delivery]:
        """Take up to ``limit`` messages that wait in a queue, on loan."""
        if queue not in {queue.name for queue in self.topology.queues()}:
            raise ValueError(f"there is no queue {queue!r} in the topology")
        return self._ask(partial(self._lend, queue, limit), f"what waits in {queue}")

    def healthy(self) -> bool:
        """Whether both connections are open and every consumer asked for is registered."""
        with self._lock:
            registered = all(consumer.registered or consumer.stopped for consumer in self._consumers)
        links = self._publisher.ready() and self._publishing.ready and self._consuming.ready
        return links and registered and not self._closed

    def close(self) -> None:
        """End the connections; what is on loan goes back to its queue."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._thread.call(self._close)
        self._thread.join(2 * GOODBYE_SECONDS)

    def _close(self) -> None:
        self._publisher.close()
        open_links = {self._publishing, self._consuming}

        def closed(link: Link) -> None:
            open_links.discard(link)
            if not open_links:
                self._thread.stop()

        for link in list(open_links):
            link.close(partial(closed, link))

    # --- calls that wait for an answer ---

    def _check_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("the connection to RabbitMQ is closed")

    def _ask(self, question: Callable[[Future[T]], None], what: str) -> T:
        self._check_open()
        if self._thread.is_current():
            raise RuntimeError(f"a handler must only enqueue: it can't wait for {what}")
        answer: Future[T] = Future()
        self._thread.call(partial(question, answer))
        try:
            return answer.result(self._settings.operation_timeout)
        except FutureTimeoutError:
            answer.cancel()
            seconds = self._settings.operation_timeout
            raise self._consuming.unanswered(f"{what}: no answer within {seconds:g} s") from None

    def _count(self, answer: Future[dict[str, Depth]]) -> None:
        def begin(connection: Any) -> None:
            Count(self.topology, answer, self._count_again, connection)

        self._consuming.when_ready(begin)

    def _count_again(self, answer: Future[dict[str, Depth]]) -> None:
        """Declare what is missing, and count again when the link is up, unless nobody waits any more."""
        if not self._closed and not answer.cancelled():
            self._consuming.redeclare(lambda _: self._count(answer))

    def _lend(self, queue: str, limit: int, answer: Future[list[Delivery]]) -> None:
        def begin(connection: Any) -> None:
            Loan(self._thread, queue, limit, answer, again, connection)

        def again(answer: Future[list[Delivery]]) -> None:
            if not self._closed and not answer.cancelled():
                self._consuming.redeclare(lambda _: self._consuming.when_ready(begin))

        self._consuming.when_ready(begin)


def _checked(prefetch: int) -> int:
    if prefetch < 1:
        raise ValueError(f"a prefetch of {prefetch} would never take a message")
    return prefetch
