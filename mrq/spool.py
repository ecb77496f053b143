"""A file in the making: in memory while it is small, else in the machine's temporary folder.

User code (the client's iterable, ``reduce_func``) makes a file piece by piece and may take hours over it; no server's
connection stays open that long. So the store gets a file in one go, once it is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Protocol

MEMORY_BYTES = 8 * 2**20
_PIECE_BYTES = 2**20


class Writable(Protocol):
    """As much of `mrq.ports.Store` as writing takes."""

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """Create or replace a file."""


def write_whole(store: Writable, path: str, pieces: Iterable[bytes]) -> None:
    """Make a file, then write it to the store.

    Raises:
        OSError: the temporary folder is full.
        MrqError: as ``store.write`` does.
    """
    with SpooledTemporaryFile(max_size=MEMORY_BYTES) as spool:
        for piece in pieces:
            spool.write(piece)
        length = spool.tell()
        spool.seek(0)
        store.write(path, spool.read() if length <= MEMORY_BYTES else _pieces(spool))


def _pieces(spool: SpooledTemporaryFile[bytes]) -> Iterator[bytes]:
    while piece := spool.read(_PIECE_BYTES):
        yield piece
