"""A result that is too big for memory: local copies of its files, merged as they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile
from typing import Any
from weakref import finalize

from mrq.core.grouping import in_order
from mrq.segment import CHUNK_BYTES, SegmentReader
from mrq.span import Readable


class StoredResult:
    """A result that is too big for memory: copies of its files, in the machine's temporary folder, without names.

    Iterating it gives ``(key, y)``, sorted by key, and holds a few frames of each file.
    """

    def __init__(self, readers: Sequence[SegmentReader]) -> None:
        self._readers = readers

    def __len__(self) -> int:
        return sum(reader.entries[0].records for reader in self._readers)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return in_order(reader.blocks(0) for reader in self._readers)


class LocalCopy:
    """A file of the store's, copied to the machine's temporary folder, without a name there; it is read as there.

    Raises:
        OSError: the temporary folder is full.
        MrqError: as ``store.read`` does.
    """

    def __init__(self, store: Readable, path: str, length: int) -> None:
        self._length = length
        self._file = TemporaryFile(prefix="mrq-copy-")  # noqa: SIM115 - it lives as long as the copy does
        finalize(self, self._file.close)
        for offset in range(0, length, CHUNK_BYTES):
            self._file.write(store.read(path, offset, min(CHUNK_BYTES, length - offset)))
        self._file.flush()

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:  # noqa: ARG002 - `Readable` has it
        """Return a part of the file, whatever its path."""
        return os.pread(self._file.fileno(), self._length - offset if length is None else length, offset)

    def status(self, path: str) -> None:
        """Tell nothing: who opened the original knows."""
