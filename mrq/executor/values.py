"""All values of one key, as ``reduce_func`` gets them: a list, or what behaves as one where memory would not do."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from tempfile import TemporaryFile
from typing import Any, overload
from weakref import finalize

from mrq import serial
from mrq.core.grouping import FEW, Group, Piece, Row, cut
from mrq.core.keys import order_key
from mrq.core.kinds import OPAQUE
from mrq.errors import NotShippable
from mrq.packing import deflated, inflated

MEMORY_BYTES = 16 * 2**20
"""How many bytes of one key's values, pickled, are held in memory; more go to the machine's temporary folder."""
_SAMPLE = 16
"""One value in so many is pickled to see how big they are."""
_MANY = 512
"""From how many values on a row's are packed by themselves: pickled once on their way, not once a phase."""

Loads = Callable[[bytes], Any]


def sealed(groups: Iterable[Group[Any]]) -> Iterator[Row[Any]]:
    """Return groups as rows, packed where they have many values, for nobody looks at them before `gathered` does.

    But not those of an opaque key: a merge may have to group them once more, one by one.
    """
    for group in groups:
        key, values = group
        if len(values) <= FEW:
            yield group
        elif len(values) < _MANY or order_key(key)[0] == OPAQUE:
            yield from cut((group,))
        else:
            yield from map(_sealed, cut((group,)))


def _sealed(row: Row[Any]) -> Row[Any]:
    try:
        return (row[0], _packed(row[1])) if isinstance(row, tuple) else _packed(row)
    except NotShippable:  # a list can be shipped no better, but with it is said which one can't
        return row


def _packed(values: Piece[Any]) -> bytes:
    codec, stored = deflated(serial.dumps(values))
    return bytes((codec,)) + stored


def _opened(piece: Piece[Any], loads: Loads) -> list[Any]:
    if isinstance(piece, list):
        return piece
    values: list[Any] = loads(inflated(piece[0], piece[1:]))
    return values


def gathered(rows: Iterable[Row[Any]], loads: Loads = serial.loads) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Return each key with all its values, however many rows they came in; ``loads`` unpickles what is packed."""
    key, values = None, None
    more: _Longer | None = None
    for row in rows:
        if not isinstance(row, tuple):
            more = more or _Longer(values or [])
            more.add(_opened(row, loads))
            continue
        if values is not None:
            yield key, more.all() if more else values
        more = None
        key, values = row[0], _opened(row[1], loads)
    if values is not None:
        yield key, more.all() if more else values


class _Longer:
    """The values of a key that has several rows: in memory, until they are too many."""

    def __init__(self, values: list[Any]) -> None:
        self._values = list(values)
        self._bytes = _size(values)
        self._spilled: LazyValues | None = None

    def add(self, values: list[Any]) -> None:
        self._bytes += _size(values)
        self._values += values
        if self._bytes > MEMORY_BYTES:
            self._spilled = self._spilled or LazyValues()
            self._spilled.append(self._values)
            self._values = []

    def all(self) -> Sequence[Any]:
        return self._values if self._spilled is None else self._spilled


class LazyValues(Sequence[Any]):
    """Values that memory would not hold, in a file without a name: it reads as a list does, and is never changed.

    What needs all of them at once (``+``, a slice, a pickle) makes a list.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="mrq-values-")  # noqa: SIM115 - it lives as long as the values do
        finalize(self, self._file.close)
        self._offsets = [0]
        self._ends: list[int] = []
        self._held: tuple[int, list[Any]] = -1, []

    def append(self, values: list[Any]) -> None:
        """Add values, while nobody reads yet.

        Raises:
            NotShippable: a value can't be pickled.
            OSError: the temporary folder is full.
        """
        self._file.write(serial.dumps(values))
        self._offsets.append(self._file.tell())
        self._ends.append(len(self) + len(values))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Any]:
        for number in range(len(self._ends)):
            yield from self._piece(number)

    def __reversed__(self) -> Iterator[Any]:
        for number in reversed(range(len(self._ends))):
            yield from reversed(self._piece(number))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]  # an IndexError, as of a list
        number = bisect_right(self._ends, at)
        if self._held[0] != number:
            self._held = number, self._piece(number)
        return self._held[1][at - self._ends[number]]

    def _piece(self, number: int) -> list[Any]:
        self._file.flush()
        start, end = self._offsets[number : number + 2]
        values: list[Any] = serial.loads(os.pread(self._file.fileno(), end - start, start))
        return values

    def __add__(self, other: list[Any]) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: list[Any]) -> list[Any]:
        return [*other, *self]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | LazyValues):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)

    def __repr__(self) -> str:
        return f"<{len(self)} values, too many for memory>"


def _size(values: list[Any]) -> int:
    """Estimate how many bytes values take, pickled."""
    return _SAMPLE * len(serial.dumps(values[::_SAMPLE]))
