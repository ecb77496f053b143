"""Consumers: one channel each, renewed whenever the broker ends it; private queues are a kind of them."""

from __future__ import annotations

import calendar
import logging
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any

import pika
from pika.channel import Channel

from mrq.broker.rabbitmq.declare import is_refusal
from mrq.broker.rabbitmq.link import HOPELESS_SECONDS, Link
from mrq.broker.rabbitmq.loop import Backoff, IOThread, guarded
from mrq.errors import AuthenticationFailed, MrqError
from mrq.ports import Handler, Message

log = logging.getLogger(__name__)

Binding = tuple[str, str]

IDLE_SECONDS = 5.0
"""For how long a consumer had no delivery when `Consumer.refresh` doubts that the broker still knows it."""


def decode(method: Any, properties: pika.BasicProperties, body: bytes) -> tuple[Message, int]:
    """Return a delivered message and how often it was delivered before.

    Whoever published it chose its properties: what is of another kind than ours counts for nothing.
    """
    headers: Mapping[Any, Any] = properties.headers or {}
    kept = {name: value for name, value in headers.items() if _for_people(name, value)}
    if died := _time_of_death(headers.get("x-death")):
        kept["x-death-time"] = died
    message = Message(
        exchange=_text(method.exchange),
        routing_key=_text(method.routing_key),
        type=_text(properties.type),
        body=body,
        message_id=_text(properties.message_id),
        correlation_id=_text(properties.correlation_id),
        headers=kept,
    )
    count = headers.get("x-delivery-count")
    return message, count if isinstance(count, int) else 0


def _for_people(name: Any, value: Any) -> bool:
    if not isinstance(name, str) or not isinstance(value, (str, int)):
        return False
    return not name.startswith("x-") or name.startswith("x-first-death-")


def _text(value: str | bytes | None) -> str:
    """Return a short string; pika leaves as bytes what is no UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _time_of_death(deaths: Any) -> int:
    """Return when RabbitMQ says that a message died, in seconds since the epoch, or 0."""
    try:
        return calendar.timegm(deaths[0]["time"].utctimetuple())  # the last one comes first; its time is UTC
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        return 0


def _finish(done: Future[None], *_: Any) -> None:
    if not done.done():
        done.set_result(None)


class RabbitMQDelivery:
    """Implements `mrq.ports.Delivery`; belongs to one channel, and means nothing after its end.

    Args:
        lent: the tags of what the channel delivered that is not settled; this one's is put into it.
    """

    __slots__ = ("_channel", "_lent", "_tag", "_thread", "delivery_count", "message", "queue")

    def __init__(
        self,
        thread: IOThread,
        channel: Channel,
        tag: int,
        lent: set[int],
        queue: str,
        message: Message,
        delivery_count: int,
    ) -> None:
        self._thread = thread
        self._channel = channel
        self._tag = tag
        self._lent = lent
        lent.add(tag)
        self.queue = queue
        self.message = message
        self.delivery_count = delivery_count

    def ack(self) -> None:
        """Be done with it."""
        self._settle(partial(self._channel.basic_ack, self._tag))

    def reject(self, *, requeue: bool) -> None:
        """Give it back to the queue, or to the dead letters."""
        self._settle(partial(self._channel.basic_reject, self._tag, requeue=requeue))

    def _settle(self, send: partial[None]) -> None:
        self._thread.call_if_running(partial(self._send, send))

    def _send(self, send: partial[None]) -> None:
        # A tag that the broker does not know (any more) would cost the channel.
        if self._tag in self._lent and self._channel.is_open:
            self._lent.remove(self._tag)
            send()


class Consumer:
    """A durable queue's consumer. For the I/O thread only, but for `registered` and `begun`.

    Attributes:
        registered: whether the broker has it now.
        begun: ends when the broker has it for the first time; fails when the user may not consume the queue.
    """

    def __init__(self, thread: IOThread, link: Link, queue: str, prefetch: int, handler: Handler) -> None:
        self._thread = thread
        self._link = link
        self.queue = queue
        self._prefetch = prefetch
        self._handler = handler
        self._channel: Any = None
        self._tag = ""
        self._lent: set[int] = set()
        self._heard = 0.0
        self._backoff = Backoff()
        self.registered = False
        self.stopped = False
        self.begun: Future[None] = Future()

    def begin(self) -> None:
        """Consume now, or when the link is up, and each time when it is up again."""
        self._link.add_listeners(self._open, self._end)
        connection = self._link.usable()
        if connection is not None:
            self._open(connection)

    def stop(self, done: Future[None]) -> None:
        """Take no more; ``done`` ends when the broker knows. Acks still work."""
        self.stopped = True
        channel = self._channel
        if channel is None or not channel.is_open or not self.registered:
            if channel is not None and channel.is_open:
                channel.close()
            done.set_result(None)
            return
        self.registered = False
        channel.add_on_close_callback(guarded(partial(_finish, done)))
        channel.basic_cancel(self._tag, callback=guarded(partial(_finish, done)))

    def refresh(self) -> None:
        """Be taken up again if nothing came for a while, and nothing is on loan.

        The broker may have forgotten us: to the consumers of a queue that was deleted and is there again at once,
        RabbitMQ 3.10 gives messages out that never arrive.
        """
        idle = not self._lent and monotonic() - self._heard > IDLE_SECONDS
        if self._channel is not None and self.registered and idle:
            log.debug("the consumer of %s is taken up again: nothing came for a while", self.queue)
            self._renew(self._channel)

    # --- steps of a subscription, in order ---

    def _open(self, connection: Any) -> None:
        if self.stopped:
            return
        channel = connection.channel(on_open_callback=guarded(self._opened))
        self._channel, self._lent = channel, set()
        channel.add_on_close_callback(guarded(self._closed))
        channel.add_on_cancel_callback(guarded(partial(self._cancelled, channel)))

    def _opened(self, channel: Channel) -> None:
        if channel is not self._channel or self.stopped:
            channel.close()
            return
        self._prepare(channel)
        channel.basic_qos(prefetch_count=self._prefetch)
        self._tag = channel.basic_consume(
            self.queue, self._received, callback=guarded(partial(self._consuming, channel))
        )

    def _prepare(self, channel: Channel) -> None:
        """Do what has to be done on a channel before it consumes."""

    def _consuming(self, channel: Channel, _frame: Any) -> None:
        if channel is self._channel and not self.stopped:
            self.registered = True
            self._backoff.reset()
            _finish(self.begun)
            log.debug("consuming %s", self.queue)
            self._heard = monotonic()

    def _received(self, channel: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if channel is not self._channel:
            return  # it is closing: what still comes goes back to the queue
        try:
            message, count = decode(method, properties, body)
            tag = method.delivery_tag
            self._heard = monotonic()
            self._handler(
                RabbitMQDelivery(self._thread, channel, tag, self._lent, self.queue, message, count)
            )
        except Exception:
            log.exception("a handler of messages of %s failed; the message stays unacked", self.queue)

    # --- ends, and beginning again ---

    def _cancelled(self, channel: Channel, _frame: Any) -> None:
        if channel is self._channel and not self.stopped:
            log.warning("RabbitMQ cancelled the consumer of %s; it is taken up again", self.queue)
            self._renew(channel)

    def _renew(self, channel: Channel) -> None:
        self._end()
        # What is on loan may have gone back to the queue: closing the channel makes late acks do nothing.
        channel.close()
        self._again_later()

    def _closed(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._channel:
            return
        self._end()
        if is_refusal(reason):
            self._refused(
                AuthenticationFailed(f"RabbitMQ does not permit this user to consume {self.queue}: {reason}")
            )
        elif not self.stopped and self._link.usable() is not None:
            log.warning("RabbitMQ closed the channel of %s: %s; it is taken up again", self.queue, reason)
            self._again_later()

    def _refused(self, error: AuthenticationFailed) -> None:
        """Only a person can mend it; until then look again now and then."""
        if not self.begun.done():
            self.begun.set_exception(error)
        if not self.stopped:
            log.error("%s", error)
            self._thread.later(HOPELESS_SECONDS, partial(self._link.redeclare, self._redeclared))

    def _end(self) -> None:
        self._channel, self.registered = None, False

    def _again_later(self) -> None:
        self._thread.later(self._backoff.next(), partial(self._link.redeclare, self._redeclared))

    def _redeclared(self, error: MrqError | None) -> None:
        connection = self._link.usable()
        if connection is None or self._channel is not None or self.stopped:
            return
        if error is None:
            self._open(connection)
        else:
            log.error("%s is not consumed: %s", self.queue, error)
            self._again_later()


class PrivateConsumer(Consumer):
    """A private queue's consumer: a new queue with each channel, bound to all that is wanted."""

    def __init__(self, thread: IOThread, link: Link, prefix: str, prefetch: int, handler: Handler) -> None:
        super().__init__(thread, link, f"{prefix}.private", prefetch, handler)
        self._prefix = prefix
        self._wanted: dict[Binding, list[Future[None]]] = {}
        self._unbinding: list[Future[None]] = []
        self._prepared = False

    def bind(self, binding: Binding, done: Future[None]) -> None:
        """Want messages; ``done`` ends when the broker has the binding."""
        self._wanted.setdefault(binding, []).append(done)
        if self._prepared and self._channel is not None and self._channel.is_open:
            self._send_binding(self._channel, binding)

    def unbind(self, binding: Binding, done: Future[None]) -> None:
        """Want messages no more; ``done`` ends when the broker knows."""
        self._wanted.pop(binding, None)
        channel = self._channel
        if self._prepared and channel is not None and channel.is_open:
            self._unbinding.append(done)
            channel.queue_unbind(self.queue, *binding, callback=guarded(self._unbound))
        else:
            _finish(done)  # the next queue will not have it

    def _prepare(self, channel: Channel) -> None:
        self.queue = f"{self._prefix}.private.{uuid.uuid4().hex}"
        channel.queue_declare(self.queue, exclusive=True, auto_delete=True, callback=lambda _: None)
        for binding in self._wanted:
            self._send_binding(channel, binding)
        self._prepared = True

    def _send_binding(self, channel: Channel, binding: Binding) -> None:
        channel.queue_bind(self.queue, *binding, callback=guarded(partial(self._bound, binding)))

    def _refused(self, error: AuthenticationFailed) -> None:
        super()._refused(error)
        for waiting in self._wanted.values():
            for done in waiting:
                if not done.done():
                    done.set_exception(error)
            waiting.clear()

    def _bound(self, binding: Binding, _frame: Any) -> None:
        for done in self._wanted.get(binding, ()):
            _finish(done)
        if binding in self._wanted:
            self._wanted[binding] = []

    def _unbound(self, _frame: Any) -> None:
        _finish(self._unbinding.pop(0))

    def _end(self) -> None:
        super()._end()
        self._prepared = False
        while self._unbinding:  # the queue ends with its channel
            _finish(self._unbinding.pop())
