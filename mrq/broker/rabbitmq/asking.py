"""Questions to queues, each on a channel of its own: how deep they are, and what waits in one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from pika import spec
from pika.channel import Channel

from mrq.broker.rabbitmq.consumer import RabbitMQDelivery, decode
from mrq.broker.rabbitmq.declare import is_refusal
from mrq.broker.rabbitmq.loop import IOThread, guarded
from mrq.broker.topology import Topology
from mrq.errors import AuthenticationFailed
from mrq.ports import Delivery, Depth


class Count:
    """Asks for the depth of one queue after another; ``failed(answer)`` is called when it can't be told."""

    def __init__(
        self,
        topology: Topology,
        answer: Future[dict[str, Depth]],
        failed: Callable[[Future[dict[str, Depth]]], None],
        connection: Any,
    ) -> None:
        self._left = list(topology.queues())
        self._answer = answer
        self._failed = failed
        self._depths: dict[str, Depth] = {}
        channel = connection.channel(on_open_callback=guarded(self._next))
        channel.add_on_close_callback(guarded(self._closed))

    def _next(self, channel: Channel) -> None:
        if self._left:
            channel.queue_declare(
                self._left[0].name, passive=True, callback=guarded(partial(self._counted, channel))
            )
            return
        if not self._answer.done():
            self._answer.set_result(self._depths)
        channel.close()

    def _counted(self, channel: Channel, frame: Any) -> None:
        queue = self._left.pop(0)
        self._depths[queue.short] = Depth(frame.method.message_count, -1, frame.method.consumer_count)
        self._next(channel)

    def _closed(self, _channel: Channel, _reason: Exception) -> None:
        if self._left:
            self._failed(self._answer)


class Loan:
    """Takes what waits in a queue, one message after another (basic.get); the channel stays open for the acks.

    Nobody waits for an ``answer`` that was cancelled: then all goes back.
    """

    def __init__(
        self,
        thread: IOThread,
        queue: str,
        limit: int,
        answer: Future[list[Delivery]],
        failed: Callable[[Future[list[Delivery]]], None],
        connection: Any,
    ) -> None:
        self._thread = thread
        self._queue = queue
        self._limit = limit
        self._answer = answer
        self._failed = failed
        self._taken: list[Delivery] = []
        self._lent: set[int] = set()
        channel = connection.channel(on_open_callback=guarded(self._opened))
        channel.add_on_close_callback(guarded(self._closed))

    def _opened(self, channel: Channel) -> None:
        channel.add_callback(guarded(partial(self._end, channel)), [spec.Basic.GetEmpty], one_shot=True)
        self._next(channel)

    def _next(self, channel: Channel) -> None:
        if self._answer.done() or len(self._taken) >= self._limit:
            self._end(channel)
        else:
            channel.basic_get(self._queue, guarded(self._got))

    def _got(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        message, count = decode(method, properties, body)
        tag = method.delivery_tag
        self._taken.append(
            RabbitMQDelivery(self._thread, channel, tag, self._lent, self._queue, message, count)
        )
        self._next(channel)

    def _end(self, channel: Channel, _frame: Any = None) -> None:
        if self._answer.done():
            channel.close()
        else:
            self._answer.set_result(self._taken)

    def _closed(self, _channel: Channel, reason: Exception) -> None:
        if self._answer.done():
            return
        if is_refusal(reason):
            text = f"RabbitMQ does not permit this user to read {self._queue}: {reason}"
            self._answer.set_exception(AuthenticationFailed(text))
        else:
            self._failed(self._answer)
