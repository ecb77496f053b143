"""Records to payloads of about a frame's size, and back."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from mrq.errors import NotShippable

_RAW, _DEFLATED = 0, 1
_SAMPLE_BYTES = 4096
_WORTH = 0.25  # of its size: what deflating, 120 MB a second, must bring it to; a LAN sends the rest as fast

_MOST_AT_ONCE = 256  # records in one pickle
_FEW = 16  # records taken before their size is looked at


class Packer:
    """Pickles records, some at a time, into payloads; each is pickled once.

    How big a record's pickle is shows only afterwards. So the number that goes into one pickle starts at one and
    doubles while the pickles stay small, and what looks big from outside ends its batch at once.

    Args:
        dumps: pickles a list of records.
        frame_bytes: how many bytes of pickles make a payload.
        noun: what a record is called where one can't be pickled.

    Attributes:
        n_records: how many are pickled.
        pickled_bytes: how many bytes their pickles took.
    """

    def __init__(self, dumps: Callable[[Any], bytes], frame_bytes: int, noun: str) -> None:
        self._dumps = dumps
        self._frame_bytes = frame_bytes
        self._noun = noun
        self._at_once = 1
        self.n_records = 0
        self.pickled_bytes = 0

    def pack(self, records: Iterator[Any], limit: int | None = None) -> Iterator[tuple[bytes, int]]:
        """Return payloads, each with its number of records.

        Args:
            records: all are taken, or as many as are pickled once the limit is reached.
            limit: end when pickles take that many bytes.

        Raises:
            NotShippable: a record can't be pickled; the message says which.
        """
        pieces: list[bytes] = []
        size = n = 0
        end = sys.maxsize if limit is None else self.pickled_bytes + limit
        while self.pickled_bytes < end and (batch := self._batch(records)):
            pickled = self._pickle(batch)
            pieces += (len(pickled).to_bytes(8, "big"), pickled)
            size += len(pickled)
            n += len(batch)
            if size >= self._frame_bytes:
                yield b"".join(pieces), n
                pieces, size, n = [], 0, 0
        if n:
            yield b"".join(pieces), n

    def _batch(self, records: Iterator[Any]) -> list[Any]:
        batch: list[Any] = []
        room = self._frame_bytes
        while room > 0 and len(batch) < self._at_once:
            few = list(islice(records, min(_FEW, self._at_once - len(batch))))
            if not few:
                break
            batch += few
            room -= _visible_bytes(few)
        return batch

    def _pickle(self, batch: list[Any]) -> bytes:
        try:
            pickled = self._dumps(batch)
        except NotShippable as error:
            raise self._culprit(batch) or error from error
        self.n_records += len(batch)
        self.pickled_bytes += len(pickled)
        if len(pickled) > self._frame_bytes // 4:
            self._at_once = max(1, self._at_once // 2)
        elif len(batch) == self._at_once and len(pickled) < self._frame_bytes // 16:
            self._at_once = min(_MOST_AT_ONCE, self._at_once * 2)
        return pickled

    def _culprit(self, batch: list[Any]) -> NotShippable | None:
        for number, record in enumerate(batch, self.n_records):
            try:
                self._dumps(record)
            except NotShippable as error:
                return NotShippable(f"{self._noun} {number}: {error}")
        return None


def _visible_bytes(records: list[Any]) -> int:
    """The size of records, and of pairs' keys and values: cheap, and what is deeper shows in the pickles' sizes."""
    if set(map(type, records)) == {tuple}:
        return sum(map(sys.getsizeof, chain.from_iterable(records)))
    return sum(map(sys.getsizeof, records))


def deflated(payload: bytes) -> tuple[int, bytes]:
    """Return the codec and what to store: deflated if a sample says that it pays, at level 1, which costs least."""
    sample = payload[:_SAMPLE_BYTES]
    if len(zlib.compress(sample, 1)) < _WORTH * len(sample):
        deflated = zlib.compress(payload, 1)
        if len(deflated) < _WORTH * len(payload):
            return _DEFLATED, deflated
    return _RAW, payload


def inflated(codec: int, stored: bytes) -> bytes:
    """Undo `deflated`."""
    return zlib.decompress(stored) if codec == _DEFLATED else stored


def unpacked(codec: int, stored: bytes, loads: Callable[[bytes], Any]) -> list[Any]:
    """Undo `Packer` and `deflated`."""
    data = inflated(codec, stored)
    records: list[Any] = []
    at = 0
    while at < len(data):
        start = at + 8
        at = start + int.from_bytes(data[at:start], "big")
        records += loads(data[start:at])
    return records
