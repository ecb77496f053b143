"""The one file format for data: partitions of records, in signed frames, with a signed index.

    partition 0: frame, frame, … │ partition 1: … │ index: one entry a partition │ trailer

    frame     stored length, codec, number of records, whether it is the partition's last; digest; payload
    payload   pickled lists of records, one after the other; deflated if that leaves a quarter of it at most
    entry     offset, length, number of records, digest over the digests of the partition's frames
    trailer   magic, number of partitions, offset and length of the index, digest of the index

Each digest is keyed (`mrq.blob`) and covers its place: job, role, file, partition, frame, and all of its header. The
trailer's stands for the whole file. A reader takes the file's tail first, then streams what it needs, and unpickles
nothing before its digest was checked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple, overload

from mrq import serial
from mrq.blob import DIGEST_SIZE, Signer
from mrq.errors import BadMessage, StoreNotFound
from mrq.packing import Packer, deflated, unpacked
from mrq.span import Readable, Span

_MAGIC = b"mrqseg\x01\n"
_FRAME = Struct(">QBIB32s")
_ENTRY = Struct(">QQQ32s")
_TRAILER = Struct(">8sIQQ32s")

_TAIL_BYTES = 64 * 1024
"""What is read first: the trailer, mostly the index too, and all of a small file."""
CHUNK_BYTES = 2 * 2**20
"""How much a ranged read asks for."""


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """What a file holds: its length in bytes, its digest as hex (of all its content), its number of records."""

    length: int
    digest: str
    records: int


class Entry(NamedTuple):
    """One partition in the index: where it is in the file, in bytes, how many records, digest of its frames'."""

    offset: int
    length: int
    records: int
    digest: bytes


# ---------------------------------------------------------------- writing


class SegmentWriter:
    """Makes a segment's bytes, piece by piece; holds about two frames.

    Call `partition` for each partition in turn and exhaust what it returns, then `finish`.

    Args:
        signer: of the job.
        role: what the file is, as in ``"map"``.
        index: which of those.
        frame_bytes: how many bytes of pickled records to put into a frame; one greater record has a frame of its own.
        dumps: `serial.dumps` or `serial.dumps_by_value`.
        noun: what a record is called where one can't be pickled.
    """

    def __init__(
        self,
        signer: Signer,
        role: str,
        index: int | str,
        frame_bytes: int,
        *,
        dumps: Callable[[Any], bytes] = serial.dumps,
        noun: str = "record",
    ) -> None:
        self._signer = signer
        self._role = role
        self._index = index
        self._packer = Packer(dumps, frame_bytes, noun)
        self._entries: list[Entry] = []
        self.length = 0
        self.digest = b""

    @property
    def n_partitions(self) -> int:
        """How many partitions are complete."""
        return len(self._entries)

    @property
    def summary(self) -> SegmentSummary:
        """What was written; valid after `finish`."""
        records = sum(entry.records for entry in self._entries)
        return SegmentSummary(self.length, self.digest.hex(), records)

    @property
    def n_records(self) -> int:
        """How many records are pickled."""
        return self._packer.n_records

    def file(self, partitions: Iterable[Iterable[Any]]) -> Iterator[bytes]:
        """Return the whole file. Raises like `partition`."""
        for records in partitions:
            yield from self.partition(records)
        yield self.finish()

    def partition(self, records: Iterable[Any], limit: int | None = None) -> Iterator[bytes]:
        """Add a partition.

        Args:
            records: what to put into it.
            limit: end it when its pickles take that many bytes; what is not in it is still in ``records`` then.

        Raises:
            NotShippable: a record can't be pickled; the message says which.
        """
        start, total, digests = self.length, 0, blake2b(digest_size=DIGEST_SIZE)
        for number, (payload, n, last) in enumerate(_with_last(self._packer.pack(iter(records), limit))):
            frame = self._frame(number, payload, n, last)
            total += n
            digests.update(frame[_FRAME.size - DIGEST_SIZE : _FRAME.size])
            self.length += len(frame)
            yield frame
        self._entries.append(Entry(start, self.length - start, total, digests.digest()))

    def finish(self) -> bytes:
        """Return the end of the file: index and trailer."""
        index, n = b"".join(_ENTRY.pack(*entry) for entry in self._entries), len(self._entries)
        self.digest = self._signer.digest(self._role, _index_place(self._index, n, self.length), index)
        end = index + _TRAILER.pack(_MAGIC, n, self.length, len(index), self.digest)
        self.length += len(end)
        return end

    def _frame(self, number: int, payload: bytes, n: int, last: bool) -> bytes:
        codec, stored = deflated(payload)
        place = _frame_place(self._index, len(self._entries), number, codec, n, last)
        digest = self._signer.digest(self._role, place, stored)
        return _FRAME.pack(len(stored), codec, n, last, digest) + stored


def _index_place(index: int | str, n_partitions: int, offset: int) -> str:
    return f"{index}/index/{n_partitions}/{offset}"


def _frame_place(index: int | str, partition: int, number: int, codec: int, n: int, last: bool) -> str:
    return f"{index}/{partition}/{number}/{codec}/{n}/{int(last)}"


def _with_last(payloads: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int, bool]]:
    """Say of each whether it is the last."""
    held = None
    for item in payloads:
        if held:
            yield *held, False
        held = item
    if held:
        yield *held, True


# ---------------------------------------------------------------- reading


class _Entries(Sequence[Entry]):
    """The index as it is in the file: a million entries take no more memory than their bytes."""

    def __init__(self, index: bytes) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index) // _ENTRY.size

    @overload
    def __getitem__(self, number: int) -> Entry: ...
    @overload
    def __getitem__(self, number: slice) -> list[Entry]: ...
    def __getitem__(self, number: int | slice) -> Entry | list[Entry]:
        if isinstance(number, slice):
            return [self[at] for at in range(*number.indices(len(self)))]
        return Entry(*_ENTRY.unpack_from(self._index, range(len(self))[number] * _ENTRY.size))

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry._make, _ENTRY.iter_unpack(self._index))


class SegmentReader:
    """Reads a segment from a store: the index at once, partitions as asked. Nothing unverified is unpickled.

    Args:
        store: where the file is.
        path: its path.
        length: of the file, in bytes; None to ask the store.
        signer: of the job.
        role: what the file must be.
        index: which of those it must be.
        chunk_bytes: how much to read at a time.
        loads: unpickles some records.

    Raises:
        StoreNotFound: there is no such file.
        BadSignature: the job's key does not vouch for this file in this place.
        BadMessage: no segment, or not all of it.
    """

    def __init__(
        self,
        store: Readable,
        path: str,
        length: int | None,
        signer: Signer,
        role: str,
        index: int | str,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        loads: Callable[[bytes], Any] = serial.loads,
    ) -> None:
        self._store = store
        self._path = path
        self._signer = signer
        self._role = role
        self._index = index
        self._chunk_bytes = chunk_bytes
        self._loads = loads
        self._tail, self._tail_offset = b"", sys.maxsize
        self._length = self._ask() if length is None else length
        offset = max(0, self._length - _TAIL_BYTES)
        self._tail, self._tail_offset = self._read(offset, self._length - offset), offset
        self.entries, digest = self._open()
        self.summary = SegmentSummary(
            self._length, digest.hex(), sum(entry.records for entry in self.entries)
        )

    def partition(self, number: int) -> Iterator[Any]:
        """Return the records of a partition, as they are read. Raises like `blocks`."""
        for block in self.blocks(number):
            yield from block

    def blocks(self, number: int) -> Iterator[list[Any]]:
        """Return the records of a partition, a frame at a time.

        Raises:
            BadSignature: the job's key does not vouch for a frame in its place.
            BadMessage: frames lack, or there are too many.
            IndexError: there is no such partition.
        """
        entry = self.entries[number]
        rest, n_frames, n_records = Span(self._read, entry.offset, entry.length, self._chunk_bytes), 0, 0
        digests, last = blake2b(digest_size=DIGEST_SIZE), not entry.length
        while not last:
            stored, codec, n, last, digest = _FRAME.unpack(self._take(rest, _FRAME.size))
            payload = self._take(rest, stored)
            place = _frame_place(self._index, number, n_frames, codec, n, last)
            self._signer.verify(self._role, place, payload, digest, self._name)
            digests.update(digest)
            n_frames, n_records = n_frames + 1, n_records + n
            records = unpacked(codec, payload, self._loads)
            del payload  # not held beside its records while these are used
            yield records
        if rest.left or n_records != entry.records or digests.digest() != entry.digest:
            raise self._bad(f"partition {number} is not the one in its index")

    def _take(self, rest: Span, n: int) -> bytes:
        if n > rest.left:
            raise self._bad("a frame is longer than its partition")
        return rest.take(n)

    def _ask(self) -> int:
        status = self._store.status(self._path)
        if status is None:
            raise StoreNotFound(f"{self._signer.job_id}: {self._name} is not there")
        return int(status.length)

    def _open(self) -> tuple[Sequence[Entry], bytes]:
        end = self._length - _TRAILER.size
        if end < 0:
            raise self._bad("it is too short to be a segment")
        magic, n, offset, length, digest = _TRAILER.unpack(self._tail[-_TRAILER.size :])
        if magic != _MAGIC:
            raise self._bad("it does not end as a segment of this version does")
        if offset + length != end or length != n * _ENTRY.size:
            raise self._bad("its trailer contradicts its length")
        index = self._read(offset, length)
        self._signer.verify(self._role, _index_place(self._index, n, offset), index, digest, self._name)
        return _Entries(index), digest

    def _read(self, offset: int, length: int) -> bytes:
        """Return exactly that part of the file; the tail is there already."""
        if offset >= self._tail_offset:
            return self._tail[offset - self._tail_offset :][:length]
        data = self._store.read(self._path, offset, length) if length else b""
        if len(data) != length:
            raise self._bad(f"it ends {length - len(data)} bytes too early")
        return data

    @property
    def _name(self) -> str:
        return f"the file for {self._role} {self._index} ({self._path})"

    def _bad(self, what: str) -> BadMessage:
        return BadMessage(f"{self._signer.job_id}: {self._name} is damaged: {what}; submit the job again")
