"""A part of a file in the store, read a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Readable(Protocol):
    """As much of `mrq.ports.Store` as reading takes."""

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a part of a file."""

    def status(self, path: str) -> Any:
        """Return the file's status, with its ``length``, or None."""


class Span:
    """Bytes from an offset, by reads of a chunk at a time, or of more where more is taken at once.

    Args:
        read: returns exactly so many bytes from an offset, or raises.
        offset: where the part begins.
        length: how long it is.
        chunk_bytes: how much to read at a time.
    """

    def __init__(self, read: Callable[[int, int], bytes], offset: int, length: int, chunk_bytes: int) -> None:
        self._read = read
        self._chunk_bytes = chunk_bytes
        self._offset, self._end = offset, offset + length
        self._buffer = b""
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are to come."""
        return self._end - self._offset + len(self._buffer) - self._at

    def take(self, n: int) -> bytes:
        """Return the next ``n`` bytes, of `left`."""
        lack = n - (len(self._buffer) - self._at)
        if lack > 0:
            more = self._read(self._offset, min(max(lack, self._chunk_bytes), self._end - self._offset))
            self._offset += len(more)
            self._buffer, self._at = self._buffer[self._at :] + more, 0
        taken, self._at = self._buffer[self._at : self._at + n], self._at + n
        if (
            n >= self._chunk_bytes // 2
        ):  # a merge has hundreds of these open: what was taken is not held here too
            self._buffer, self._at = self._buffer[self._at :], 0
        return taken
