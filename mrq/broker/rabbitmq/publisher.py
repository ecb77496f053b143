"""Publishing with confirms: many under way at once, sent again after a loss, each batch with a deadline."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import ChannelWrongStateError, ConnectionWrongStateError

from mrq.broker.rabbitmq.declare import refused_publish
from mrq.broker.rabbitmq.link import Link
from mrq.broker.rabbitmq.loop import Backoff, IOThread, guarded
from mrq.errors import BadMessage, BrokerUnavailable, MrqError, Unroutable
from mrq.ports import Message

log = logging.getLogger(__name__)

WINDOW = 500
"""Confirms under way at once; more wins little."""


@dataclass(slots=True, eq=False)
class _Batch:
    """The messages of one `publish`.

    Attributes:
        left: how many are not confirmed yet.
        deadline: on the monotonic clock.
    """

    future: Future[None]
    left: int
    deadline: float

    def fail(self, error: MrqError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class _Item:
    """A message to be confirmed.

    Attributes:
        returned: whether the broker sent it back; its confirm follows and means nothing.
        retried: whether it was returned before.
    """

    batch: _Batch
    message: Message
    properties: pika.BasicProperties
    returned: bool = False
    retried: bool = False


def encode(message: Message) -> pika.BasicProperties:
    """Return a message's AMQP properties."""
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        type=message.type or None,
        message_id=message.message_id or None,
        correlation_id=message.correlation_id or None,
        headers=dict(message.headers) or None,
        priority=message.priority or None,
    )


class Publisher:
    """Everything but `publish` happens on the I/O thread."""

    def __init__(self, thread: IOThread, link: Link, timeout: float) -> None:
        self._thread = thread
        self._link = link
        self._timeout = timeout
        self._channel: Channel | None = None
        self._backoff = Backoff()
        self._trouble = ""  # what the broker last had against our messages
        self._last_tag = 0
        self._outstanding: dict[int, _Item] = {}  # by tag, which grows
        self._waiting: deque[_Item] = deque()
        self._homeless: list[_Item] = []  # returned; sent once more after a redeclaration
        self._redeclaring = False
        self._batches: deque[_Batch] = deque()  # by deadline, which grows
        self._timer: Any = None
        self.open: Future[None] = Future()
        link.add_listeners(self._link_up, self._link_down)
        link.add_unblocked_listener(self._pump)

    def ready(self) -> bool:
        """Whether messages can be sent at once."""
        return self._channel is not None

    def publish(self, messages: Sequence[Message]) -> Future[None]:
        """See `mrq.ports.Broker.publish`. Thread-safe."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        if not messages:
            future.set_result(None)
            return future
        batch = _Batch(future, len(messages), monotonic() + self._timeout)
        items = [_Item(batch, message, encode(message)) for message in messages]
        self._thread.call(partial(self._accept, batch, items))
        return future

    def close(self) -> None:
        """Fail all that is not confirmed."""
        self._channel = None
        for batch in self._batches:
            batch.fail(BrokerUnavailable("the connection was closed before RabbitMQ confirmed the messages"))
        for collection in (self._batches, self._waiting, self._homeless, self._outstanding):
            collection.clear()

    # --- sending ---

    def _accept(self, batch: _Batch, items: list[_Item]) -> None:
        self._batches.append(batch)
        self._waiting.extend(items)
        if self._timer is None:
            self._timer = self._thread.later(self._timeout, self._expire)
        self._pump()

    def _pump(self) -> None:
        channel, waiting = self._channel, self._waiting
        while waiting and channel is not None and channel.is_open and self._link.blocked is None:
            if len(self._outstanding) >= WINDOW:
                break
            item = waiting.popleft()
            if not item.batch.future.done() and not self._send(channel, item):
                break

    def _send(self, channel: Channel, item: _Item) -> bool:
        message = item.message
        try:
            channel.basic_publish(
                message.exchange, message.routing_key, message.body, item.properties, message.mandatory
            )
        except (ChannelWrongStateError, ConnectionWrongStateError):
            self._waiting.appendleft(item)
            return False
        except Exception as error:
            # Its properties don't encode: too long a name or a header of another type. Nothing was sent.
            item.batch.fail(BadMessage(f"the message {message.message_id!r} can't be encoded: {error!r}"))
        else:
            self._last_tag += 1
            self._outstanding[self._last_tag] = item
        return True

    def _confirmed(self, channel: Channel, frame: Any) -> None:
        if channel is not self._channel:
            return
        method = frame.method
        tags = [method.delivery_tag]
        if method.multiple:
            last = method.delivery_tag or self._last_tag
            tags = [tag for tag in islice(self._outstanding, WINDOW) if tag <= last]
        refused = isinstance(method, pika.spec.Basic.Nack)
        for tag in tags:
            item = self._outstanding.pop(tag, None)
            if item is None:
                continue
            if refused:
                self._trouble = f"it refused a message for {item.message.routing_key!r} (nack)"
                self._thread.later(self._backoff.next(), partial(self._again, [item]))
            elif item.returned:
                self._no_queue(item)
            else:
                self._settle(item)
        if not refused:
            self._backoff.reset()
            self._trouble = ""
        self._pump()

    def _settle(self, item: _Item) -> None:
        batch = item.batch
        batch.left -= 1
        if not batch.left and not batch.future.done():
            batch.future.set_result(None)
        while self._batches and self._batches[0].future.done():
            self._batches.popleft()

    def _again(self, items: Sequence[_Item]) -> None:
        self._waiting.extendleft(reversed(items))
        self._pump()

    # --- what no queue takes ---

    def _returned(self, channel: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if channel is not self._channel:
            return
        key = (method.exchange, method.routing_key, properties.message_id or "", body)
        # A return precedes its confirm and names no tag; equal messages are interchangeable.
        for item in self._outstanding.values():
            message = item.message
            mine = (message.exchange, message.routing_key, message.message_id, message.body)
            if message.mandatory and not item.returned and key == mine:
                item.returned = True
                return

    def _no_queue(self, item: _Item) -> None:
        item.returned = False
        if item.retried:
            message = item.message
            item.batch.fail(
                Unroutable(
                    f"RabbitMQ has no queue bound to the exchange {message.exchange} for the routing key"
                    f" {message.routing_key!r}, also after the topology was declared again"
                )
            )
            return
        item.retried = True
        self._homeless.append(item)
        if not self._redeclaring:
            self._redeclare()

    def _redeclare(self) -> None:
        items, self._homeless = self._homeless, []
        self._redeclaring = True
        self._link.redeclare(partial(self._redeclared, items))

    def _redeclared(self, items: list[_Item], error: MrqError | None) -> None:
        self._redeclaring = False
        if error is not None:
            log.error("messages were returned and the topology can't be declared: %s", error)
        self._again(items)
        if self._homeless:
            self._redeclare()

    # --- the deadline ---

    def _expire(self) -> None:
        self._timer = None
        now = monotonic()
        error = self._link.unanswered(f"no confirm within {self._timeout:g} s", self._trouble)
        while self._batches and (self._batches[0].future.done() or self._batches[0].deadline <= now):
            self._batches.popleft().fail(error)
        while self._waiting and self._waiting[0].batch.future.done():
            self._waiting.popleft()
        if self._batches:
            self._timer = self._thread.later(max(0.0, self._batches[0].deadline - now), self._expire)

    # --- the channel's comings and goings ---

    def _link_up(self, connection: Any) -> None:
        channel = connection.channel(on_open_callback=guarded(self._channel_opened))
        channel.add_on_close_callback(guarded(self._channel_closed))

    def _channel_opened(self, channel: Channel) -> None:
        channel.add_on_return_callback(guarded(self._returned))
        channel.confirm_delivery(
            guarded(partial(self._confirmed, channel)), guarded(partial(self._confirming, channel))
        )

    def _confirming(self, channel: Channel, _frame: Any) -> None:
        self._channel, self._last_tag = channel, 0
        if not self.open.done():
            self.open.set_result(None)
        self._pump()

    def _channel_closed(self, channel: Channel, reason: Exception) -> None:
        self._take_back(channel)
        for item in self._waiting:
            if error := refused_publish(reason, item.message):
                item.batch.fail(error)
        if self._link.usable() is not None:
            self._trouble = f"it closed the channel for publishing: {reason}"
            log.warning("RabbitMQ closed the channel for publishing: %s", reason)
            self._thread.later(self._backoff.next(), partial(self._link.redeclare, self._reopen))

    def _reopen(self, error: MrqError | None) -> None:
        connection = self._link.usable()
        if connection is None:
            return
        if error is None:
            self._link_up(connection)
        else:
            log.error("%s", error)
            self._thread.later(self._backoff.next(), partial(self._link.redeclare, self._reopen))

    def _link_down(self) -> None:
        self._take_back(self._channel)

    def _take_back(self, channel: Channel | None) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        items = list(self._outstanding.values())
        self._outstanding.clear()
        for item in items:
            item.returned = False
        self._waiting.extendleft(reversed(items))
