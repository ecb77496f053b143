"""What worker, zygote and children say to each other: length-prefixed JSON over socket pairs.

Users' functions run at the other end, so a body has a size limit and is validated; nothing is ever unpickled.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from io import FileIO
from typing import Literal

from mrq.errors import BadMessage
from mrq.wire import Wire

LIMIT = 2**20
"""A body's greatest length, in bytes. Assignments and outcomes take less than 4 KiB."""
CHUNK = 2**16
"""How many bytes are read at once."""

_HEAD = struct.Struct("!I")


class Order(Wire):
    """The worker to its zygote: fork a child of this number (its channel and its output come along), or kill it."""

    op: Literal["fork", "kill"]
    child: int


class Notice(Wire):
    """The zygote to its worker.

    Attributes:
        op: ``ready``: all is imported; ``forked``: the child is there; ``failed``: it can't be forked;
            ``exit``: it has ended, and so has its process group.
        status: of the exit; negative for a signal.
        message: why it can't be forked.
    """

    op: Literal["ready", "forked", "failed", "exit"]
    child: int = -1
    pid: int = 0
    status: int = 0
    message: str = ""


def frame(body: bytes) -> bytes:
    """Put the length before a body."""
    return _HEAD.pack(len(body)) + body


class Inbox:
    """Cuts a stream of bytes into bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; return the bodies that are complete now.

        Raises:
            BadMessage: a body of more than `LIMIT` bytes is announced.
        """
        self._buffer += data
        bodies = []
        while len(self._buffer) >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self._buffer)
            if length > LIMIT:
                raise BadMessage(f"a body of {length} bytes is announced; at most {LIMIT} are allowed")
            if len(self._buffer) < _HEAD.size + length:
                break
            bodies.append(bytes(self._buffer[_HEAD.size : _HEAD.size + length]))
            del self._buffer[: _HEAD.size + length]
        return bodies


Passed = socket.socket | FileIO
"""What can be handed over to another process."""


class Outbox:
    """Bytes, and sockets and pipes to hand over, that a non-blocking socket has not taken yet."""

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, tuple[Passed, ...]]] = deque()

    def put(self, body: bytes, passed: tuple[Passed, ...] = ()) -> None:
        """Append a body; what is ``passed`` goes to the other process with it, and is closed here."""
        self._queue.append((frame(body), passed))

    def flush(self, sock: socket.socket) -> bool:
        """Send what the socket takes; return whether nothing is left.

        Raises:
            OSError: the other end is gone.
        """
        while self._queue:
            data, passed = self._queue[0]
            try:
                # What is passed travels with the first byte, so it must not go again with the rest.
                numbers = [each.fileno() for each in passed]
                sent = socket.send_fds(sock, [data], numbers) if numbers else sock.send(data)
            except BlockingIOError:
                return False
            for each in passed:
                each.close()
            if sent == len(data):
                self._queue.popleft()
            else:
                self._queue[0] = (data[sent:], ())
        return True

    def close(self) -> None:
        """Forget what is left."""
        for _, passed in self._queue:
            for each in passed:
                each.close()
        self._queue.clear()


def receive(sock: socket.socket) -> bytes | None:
    """Wait for one body on a blocking socket; None when the other end is closed."""
    head = _receive_exactly(sock, _HEAD.size)
    if head is None:
        return None
    return _receive_exactly(sock, _HEAD.unpack(head)[0])


def _receive_exactly(sock: socket.socket, n: int) -> bytes | None:
    buffer = bytearray()
    while len(buffer) < n:
        try:
            data = sock.recv(n - len(buffer))
        except ConnectionResetError:
            return None
        if not data:
            return None
        buffer += data
    return bytes(buffer)
