"""Declares the topology over a channel of its own, or sees that it is there if the user may not declare it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker

from mrq.broker.rabbitmq.loop import guarded
from mrq.broker.topology import Topology
from mrq.errors import AuthenticationFailed, BrokerUnavailable, ConfigurationError, MrqError
from mrq.ports import Message

log = logging.getLogger(__name__)

ACCESS_REFUSED = 403
NOT_FOUND = 404
PRECONDITION_FAILED = 406


class Declaration:
    """One run through all declarations; pika sends each when the one before it is confirmed."""

    def __init__(self, connection: Any, topology: Topology, done: Callable[[MrqError | None], None]) -> None:
        """Begin; ``done(error)`` is called once, on the I/O thread.

        Args:
            connection: an open pika connection.
            topology: what to declare.
            done: gets None, or why it failed.
        """
        self._topology = topology
        self._connection = connection
        self._done: Callable[[MrqError | None], None] | None = done
        self._looking = False
        self._left = [f"exchange {exchange.name}" for exchange in topology.exchanges()]
        for queue in topology.queues():
            self._left += [f"queue {queue.name}", f"binding of {queue.name} to {queue.exchange}"]
        channel = connection.channel(on_open_callback=guarded(self._opened))
        channel.add_on_close_callback(guarded(self._closed))

    def _opened(self, channel: Channel) -> None:
        step = guarded(partial(self._confirmed, channel))
        for exchange in self._topology.exchanges():
            channel.exchange_declare(exchange.name, exchange.type, durable=True, callback=step)
        for queue in self._topology.queues():
            channel.queue_declare(queue.name, durable=True, arguments=queue.arguments, callback=step)
            channel.queue_bind(queue.name, queue.exchange, queue.binding, callback=step)

    def _confirmed(self, channel: Channel, _frame: Any) -> None:
        self._left.pop(0)
        if not self._left:
            self._finish(None)
            if channel.is_open:
                channel.close()

    def _closed(self, _channel: Channel, reason: Exception) -> None:
        if not self._left:
            return
        if is_refusal(reason) and not self._looking and self._connection.is_open:
            self._look()
        else:
            self._finish(refusal(reason, self._left[0]))

    def _look(self) -> None:
        """See whether all is there: that takes no permission. Masters may declare, workers need not."""
        self._looking = True
        self._left = [f"exchange {exchange.name}" for exchange in self._topology.exchanges()]
        self._left += [f"queue {queue.name}" for queue in self._topology.queues()]
        channel = self._connection.channel(on_open_callback=guarded(self._opened_to_look))
        channel.add_on_close_callback(guarded(self._closed))

    def _opened_to_look(self, channel: Channel) -> None:
        step = guarded(partial(self._confirmed, channel))
        for exchange in self._topology.exchanges():
            channel.exchange_declare(exchange.name, passive=True, callback=step)
        for queue in self._topology.queues():
            channel.queue_declare(queue.name, passive=True, callback=step)

    def _finish(self, error: MrqError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(error)


def is_refusal(reason: object) -> bool:
    """Whether a channel was closed because the user may not do what was asked."""
    return isinstance(reason, ChannelClosedByBroker) and reason.reply_code == ACCESS_REFUSED


def refused_publish(reason: Exception, message: Message) -> MrqError | None:
    """Return why a message can't be published if its exchange is what a channel was closed for."""
    named = re.search(r"exchange '([^']*)'", str(reason))
    if not is_refusal(reason) or (named and named[1] != message.exchange):
        return None
    what = f"{message.type} messages to {message.exchange}"
    return AuthenticationFailed(f"RabbitMQ does not permit this user to publish {what}: {reason}")


def refusal(reason: Exception, what: str) -> MrqError:
    """Say why a channel closed while ``what`` was declared, and what the person can do."""
    code, text = 0, str(reason) or type(reason).__name__
    if isinstance(reason, ChannelClosedByBroker):
        code, text = reason.reply_code, reason.reply_text
    if code == PRECONDITION_FAILED:
        return ConfigurationError(
            f"RabbitMQ has the {what} with other arguments than these settings ask for ({text}). Give"
            " all processes the same MRQ_DELIVERY_LIMIT, or delete it there when it is not in use, or choose"
            " another MRQ_RABBITMQ_PREFIX"
        )
    if code == NOT_FOUND:
        return BrokerUnavailable(
            f"RabbitMQ does not have the {what}, and this user may not declare it: start a master ({text})"
        )
    if code == ACCESS_REFUSED:
        return AuthenticationFailed(f"RabbitMQ does not permit this user to declare the {what}: {text}")
    return BrokerUnavailable(f"RabbitMQ did not declare the {what}: {text}")
