"""The input of a child's job, kept at hand from one map task to the next.

A job of many small splits has an index as long as its data, and its tasks are next to each other in the file: so the
index is read and verified once by each child, and a small read takes along what comes after it.
"""

from __future__ import annotations

from collections.abc import Callable

from mrq.segment import SegmentReader
from mrq.span import Readable

AHEAD_BYTES = 256 * 1024
"""How much is read where less was asked for."""


class OpenInput:
    """The one input file that a child has open."""

    def __init__(self) -> None:
        self._job_id = ""
        self._reader: SegmentReader | None = None

    def of(
        self, job_id: str, store: Readable, length: int, open_: Callable[[Readable], SegmentReader]
    ) -> SegmentReader:
        """Return the input of a job, opened by ``open_`` if it is not open yet.

        Args:
            job_id: the job.
            store: where the file is.
            length: of the file, in bytes.
            open_: opens it in the store that it is given. Raises like `SegmentReader`.
        """
        if self._reader is None or self._job_id != job_id:
            self._reader = open_(_Ahead(store, length))
            self._job_id = job_id
        return self._reader


class _Ahead:
    """Reads of one file: a small one takes more than was asked for, which is kept for the next."""

    def __init__(self, store: Readable, length: int) -> None:
        self._store = store
        self._length = length
        self._offset, self._held = 0, b""

    def status(self, path: str) -> object:
        return self._store.status(path)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        if length is None or length >= AHEAD_BYTES:
            return self._store.read(path, offset, length)
        start = offset - self._offset
        if start < 0 or start + length > len(self._held):
            self._held = self._store.read(path, offset, min(AHEAD_BYTES, self._length - offset))
            self._offset, start = offset, 0
        return self._held[start : start + length]
