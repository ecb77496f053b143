"""RabbitMQ, simulated: the embedded broker's server, with a network in between that mislays, doubles and delays.

The server keeps queues, bindings, loans and dead letters; what a connection sends or is sent takes its time, and a
connection that ends takes its loans and private queues with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mrq.broker._embedded_server import EmbeddedBrokerServer, ServerConsumer, Stored, encode
from mrq.errors import BrokerUnavailable
from mrq.ports import Depth, Handler, Message
from tests.sim.network import OPERATION_TIMEOUT, Network
from tests.sim.world import Process, SimFuture, World

if TYPE_CHECKING:
    from tests.sim.judge import Judge


T = TypeVar("T")


class SimDelivery:
    """Implements `mrq.ports.Delivery`."""

    __slots__ = ("consumer", "delivery_count", "link", "message", "queue", "stored", "tag")

    def __init__(self, link: SimBroker, consumer: ServerConsumer, tag: int, stored: Stored) -> None:
        self.link = link
        self.consumer = consumer
        self.tag = tag
        self.stored = stored
        self.message = stored.decode()
        self.queue = consumer.queue
        self.delivery_count = stored.deliveries

    def ack(self) -> None:
        """See `mrq.ports.Delivery`."""
        self.link.settle(self, None)

    def reject(self, *, requeue: bool) -> None:
        """See `mrq.ports.Delivery`."""
        self.link.settle(self, requeue)


class _Wish:
    """A consumer that was asked for, over all connections."""

    def __init__(self, link: SimBroker, queue: str | None, prefetch: int, handler: Handler) -> None:
        self.link = link
        self.queue = queue
        self.prefetch = prefetch
        self.handler = handler
        self.bindings: dict[tuple[str, str], None] = {}
        self.current: ServerConsumer | None = None
        self.stopped = False

    def start(self) -> None:
        if self.stopped:
            return
        server, name = self.link.server, self.queue
        if name is None:
            self.link.n_private += 1
            name = f"private.{self.link.process.name}.{self.link.n_private}"
            server.declare_private(name)
            for exchange, key in self.bindings:
                server.bind(name, exchange, key)
        self.current = ServerConsumer(name, self.prefetch, self._arrive, lambda _: None)
        server.consume(self.current)

    def stop(self) -> None:
        self.stopped = True
        if self.current is not None:
            self.link.server.stop(self.current, requeue=False)

    def end(self) -> None:
        current, self.current = self.current, None
        if current is not None:
            self.link.server.stop(current, requeue=True)
            if self.queue is None:
                self.link.server.delete_queue(current.queue)

    def _arrive(self, consumer: ServerConsumer, tag: int, stored: Stored) -> None:
        link = self.link
        delay = link.world.between(0.0005, 0.004)
        if link.world.random() < link.network.weather.slow:
            delay += link.world.between(0.05, 1.5)
        link.world.at(delay, partial(self._handle, consumer, tag, stored))

    def _handle(self, consumer: ServerConsumer, tag: int, stored: Stored) -> None:
        if consumer is self.current and tag in consumer.unacked and self.link.process.alive:
            delivery = SimDelivery(self.link, consumer, tag, stored)
            if consumer.stopped:
                delivery.reject(requeue=True)
            else:
                self.handler(delivery)


class SimSubscription:
    """Implements `mrq.ports.Subscription`."""

    def __init__(self, wish: _Wish) -> None:
        self._wish = wish

    def bind(self, exchange: str, routing_key: str) -> None:
        """See `mrq.ports.Subscription`."""
        self._change(exchange, routing_key, bound=True)

    def unbind(self, exchange: str, routing_key: str) -> None:
        """See `mrq.ports.Subscription`."""
        self._change(exchange, routing_key, bound=False)

    def _change(self, exchange: str, routing_key: str, *, bound: bool) -> None:
        wish, link = self._wish, self._wish.link

        def act() -> None:
            if wish.current is None:
                raise BrokerUnavailable("the private queue has ended with its connection")
            if bound:
                wish.bindings[exchange, routing_key] = None
                link.server.bind(wish.current.queue, exchange, routing_key)
            else:
                wish.bindings.pop((exchange, routing_key), None)
                link.server.unbind(wish.current.queue, exchange, routing_key)

        link.ask(act)


class SimBroker:
    """One process's connection, reconnects included; implements `mrq.ports.Broker`."""

    def __init__(
        self, server: EmbeddedBrokerServer, network: Network, process: Process, judge: Judge
    ) -> None:
        self.server = server
        self.network = network
        self.world: World = network.world
        self.process = process
        self.judge = judge
        self.n_private = 0
        self._wishes: list[_Wish] = []
        self._settling: dict[SimDelivery, bool | None] = {}
        self._connected = True
        self._ended = False

    # ------------------------------------------------------------ the port

    def publish(self, messages: Sequence[Message]) -> Future[None]:
        """See `mrq.ports.Broker`; a batch whose confirm was lost is sent again, as adapters do."""
        self.process.check()
        self.server.topology.check(messages)
        return self.network.send(self.process, partial(self._publish, messages))

    def _publish(self, messages: Sequence[Message]) -> SimFuture:
        batch = [(encode(message), message.mandatory) for message in messages]
        for message in messages:
            self.judge.sent(self.process, message)
        future = SimFuture(self.world, self.process)
        self._send(batch, future, self.world.now + OPERATION_TIMEOUT)
        return future

    def _send(self, batch: list[tuple[Stored, bool]], future: SimFuture, deadline: float) -> None:
        delay = self.world.between(0.0003, 0.003)
        if self.world.random() < self.network.weather.slow:
            delay += self.world.between(0.05, 1.5)
        self.world.at(delay, partial(self._arrive, batch, future, deadline))

    def _arrive(self, batch: list[tuple[Stored, bool]], future: SimFuture, deadline: float) -> None:
        world, weather = self.world, self.network.weather
        if not self.process.alive and world.random() < 0.5:
            return  # it died before its last bytes were sent
        if self._ended and self.process.alive:
            return
        if world.now > deadline:
            self._end(future, BrokerUnavailable("no confirm in time"))
            return
        if not self._connected or self._is_cut() or world.random() < weather.lose:
            world.at(0.4, partial(self._arrive, batch, future, deadline))
            return
        if (
            world.random() < weather.duplicate
        ):  # the connection ends somewhere in the batch, or before its confirm
            part = batch[: world.dice.randint(0, len(batch))]
            self._take(part)
            world.at(world.between(0.1, 4.0), partial(self._arrive, batch, future, deadline))
            return
        self._take(batch)
        world.at(world.between(0.0003, 0.003), partial(self._end, future, None))

    def _take(self, batch: list[tuple[Stored, bool]]) -> None:
        for stored, mandatory in batch:
            self.judge.arrived(stored)
            self.server.publish(replace(stored), mandatory)

    def _end(self, future: SimFuture, error: Exception | None) -> None:
        if self.process.alive and not future.done():
            if error:
                future.set_exception(error)
            else:
                future.set_result(None)

    def consume(self, queue: str, prefetch: int, handler: Handler) -> None:
        """See `mrq.ports.Broker`."""
        self._start(_Wish(self, queue, prefetch, handler))

    def subscribe(self, handler: Handler, prefetch: int = 1000) -> SimSubscription:
        """See `mrq.ports.Broker`."""
        wish = _Wish(self, None, prefetch, handler)
        self._start(wish)
        return SimSubscription(wish)

    def _start(self, wish: _Wish) -> None:
        self._wishes.append(wish)
        if self._connected:
            wish.start()

    def stop_consuming(self) -> None:
        """See `mrq.ports.Broker`."""
        for wish in self._wishes:
            if wish.queue is not None:
                wish.stop()

    def refresh(self) -> None:
        """See `mrq.ports.Broker`; this server forgets no consumer."""

    def depths(self) -> dict[str, Depth]:
        """See `mrq.ports.Broker`."""
        return self.ask(self.server.depths)

    def healthy(self) -> bool:
        """See `mrq.ports.Broker`."""
        return self._connected

    def flush(self) -> None:
        """Have all acks arrive, as they do before a connection is closed in good order."""
        for delivery, requeue in list(self._settling.items()):
            self._settle(delivery, requeue)

    def close(self) -> None:
        """End the connection for good."""
        self._ended = True
        self._drop()

    # ------------------------------------------------------------ what befalls it

    def reset(self, seconds: float) -> None:
        """Lose the connection, and have it back after some seconds."""
        if self._connected and not self._ended:
            self.world.tell(self.process.name, "  (loses its connection to the broker)")
            self._drop()
            self.world.at(seconds, self._reconnect)

    def _drop(self) -> None:
        self._connected = False
        for wish in self._wishes:
            wish.end()

    def _reconnect(self) -> None:
        if self._ended or self._connected:
            return
        if self._is_cut() or self.process.asleep_until > self.world.now:
            self.world.at(0.3, self._reconnect)
            return
        self._connected = True
        for wish in self._wishes:
            wish.start()

    # ------------------------------------------------------------ inside

    def ask(self, act: Callable[[], T]) -> T:
        """Make a request and wait for its answer."""

        def connected() -> T:
            if not self._connected:
                raise BrokerUnavailable("there is no connection")
            return act()

        return self.network.request(
            self.process, "rabbitmq", connected, lambda: BrokerUnavailable("no answer in time")
        )

    def settle(self, delivery: SimDelivery, requeue: bool | None) -> None:
        """Ack (None) or reject a delivery, a little later."""
        delay = self.world.between(0.0003, 0.003)
        if self.world.random() < self.network.weather.slow:
            delay += self.world.between(0.05, 1.0)
        self._settling[delivery] = requeue
        self.world.at(delay, partial(self._settle, delivery, requeue))

    def _settle(self, delivery: SimDelivery, requeue: bool | None) -> None:
        self._settling.pop(delivery, None)
        consumer, tag = delivery.consumer, delivery.tag
        if tag not in consumer.unacked or (not self.process.alive and self.world.random() < 0.5):
            return
        if requeue is None:
            self.judge.acked(delivery.queue, delivery.stored)
        self.server.settle(consumer, tag, reject=requeue is not None, requeue=bool(requeue))

    def _is_cut(self) -> bool:
        return self.network.cut_until(self.process, "rabbitmq") > self.world.now
