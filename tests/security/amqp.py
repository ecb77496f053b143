"""Publishing at a real RabbitMQ what no adapter of ours would: any bytes, any properties, anywhere."""

from __future__ import annotations

import math
import struct
from types import TracebackType
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from mrq.config import Settings, split_address
from mrq.ports import Message


class Raw(pika.BasicProperties):
    """Properties that are a table of headers as AMQP has it, right or wrong."""

    def __init__(self, table: bytes) -> None:
        super().__init__()
        self.table = table

    def encode(self) -> list[bytes]:
        """Return the flags, of which the headers' is set, and the table."""
        return [struct.pack(">HL", 1 << 13, len(self.table)), self.table]


def _entry(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + value


def _long(value: bytes) -> bytes:
    return struct.pack(">L", len(value)) + value


TABLES: dict[str, bytes] = {
    "a time beyond all calendars": _entry(b"t", b"T" + struct.pack(">Q", 2**62)),
    "no number": _entry(b"n", b"d" + struct.pack(">d", math.nan)),
    "no UTF-8": _entry(b"\xff\xfe", b"S" + _long(b"\xff\xfe")),
    "an array": _entry(b"signature", b"A" + _long(b"I\0\0\0\1")),
    "nothing": _entry(b"signature", b"V"),
    "a decimal": _entry(b"epoch", b"D\xff\0\0\0\1"),
    "a kind that there is not": _entry(b"a", b"?x"),
    "cut": b"\x05ab",
    "x-death that is text": _entry(b"x-death", b"S" + _long(b"x")),
    "x-delivery-count that is text": _entry(b"x-delivery-count", b"S" + _long(b"many")),
    "x-first-death-queue that is a table": _entry(b"x-first-death-queue", b"F" + _long(b"")),
}
"""Headers of wrong types. RabbitMQ refuses some of them by ending the connection."""


class Publisher:
    """A connection of somebody who may publish everywhere."""

    def __init__(self, settings: Settings) -> None:
        host, port = split_address(settings.rabbitmq_hosts[0])
        login = pika.PlainCredentials(settings.username, settings.password.get_secret_value())
        self._parameters = pika.ConnectionParameters(host, port, settings.rabbitmq_vhost, login)
        self._channel: Any = None

    def say(self, exchange: str, key: str, body: bytes, properties: pika.BasicProperties) -> str:
        """Publish; return why RabbitMQ refuses it, or nothing."""
        if self._channel is None:
            self._channel = pika.BlockingConnection(self._parameters).channel()
            self._channel.confirm_delivery()
        try:
            self._channel.basic_publish(exchange, key, body, properties)
        except (ChannelClosedByBroker, ConnectionClosedByBroker) as refusal:
            self.close()
            return str(refusal)
        return ""

    def say_message(self, message: Message) -> str:
        """Publish a message as the adapter would, but without its checks."""
        properties = pika.BasicProperties(type=message.type or None, headers=dict(message.headers) or None)
        return self.say(message.exchange, message.routing_key, message.body, properties)

    def close(self) -> None:
        """End the connection, if it has not ended."""
        channel, self._channel = self._channel, None
        if channel is not None and channel.connection.is_open:
            channel.connection.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
