"""Frames that pika can't read. Whoever publishes chooses a message's properties; RabbitMQ hands on what it can store.

pika raises on a time beyond what a clock shows, and ends the connection. The message is delivered again to the next
one, until the limit of deliveries; and what else was on loan goes back each time.
"""

from __future__ import annotations

import struct
from typing import Any

import pika
from pika import frame, spec
from pika.adapters.select_connection import SelectConnection

_HEAD = struct.Struct(">BHL")
_CONTENT = struct.Struct(">HHQ")


class Connection(SelectConnection):  # type: ignore[misc]  # pika carries no type information
    """A connection that ends for no message's properties."""

    def _read_frame(self) -> tuple[int, Any]:
        return read_frame(self._frame_buffer)


def read_frame(data: bytes) -> tuple[int, Any]:
    """Return how many bytes the first frame takes, and the frame, if it is complete.

    A message whose properties can't be read has none.
    """
    try:
        read: tuple[int, Any] = frame.decode_frame(data)
        return read
    except (ArithmeticError, OSError, ValueError):
        kind, channel, size = _HEAD.unpack_from(data)
        if kind != spec.FRAME_HEADER:
            raise
        _, _, body_size = _CONTENT.unpack_from(data, _HEAD.size)
        return _HEAD.size + size + spec.FRAME_END_SIZE, frame.Header(
            channel, body_size, pika.BasicProperties()
        )
