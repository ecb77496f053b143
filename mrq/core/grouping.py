"""Groups: all values of one key together, in the order of `mrq.core.keys.order_key`.

A map task groups what the user's function returned; a shuffle task merges what the map tasks grouped. Values
stay in the order of the input, and a group's key is the one that came first: of ``(1, "a"), (True, "b")`` comes
``(1, ["a", "b"])``. On its way a group is one row, or several if it has many values; a merge looks at keys alone, so
that many values may pass it packed.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any, Generic, TypeVar

from mrq.core.keys import order_key, order_of_first, order_of_rows, sorted_by_key
from mrq.core.kinds import OPAQUE, OrderKey

_first = itemgetter(0)

V = TypeVar("V")
Group = tuple[Any, list[V]]


def group(pairs: Iterable[tuple[Any, V]]) -> list[Group[V]]:
    """Return the values by key, sorted by key; keys need not be hashable.

    Costs one look-up in a dict a pair, and for keys that are not plain one order key each distinct one.
    """
    if type(pairs) is list and (plain := _group_plain(pairs)) is not None:
        return plain
    groups: _Groups[V] = _Groups()
    known = groups.known.get
    for key, value in pairs:
        try:
            values = known(key)
        except TypeError:  # not hashable
            values = None
        if values is None:
            values = groups.find(key)
        values.append(value)
    return groups.sorted()


def _group_plain(pairs: list[tuple[Any, V]]) -> list[Group[V]] | None:
    """Return the groups if all keys are plain, as most are: then a new key runs no Python, and no pair a check."""
    if not _all_plain([key for key, _ in pairs[:1]]):
        return None
    groups: dict[Any, list[V]] = defaultdict(list)
    try:
        for key, value in pairs:
            groups[key].append(value)
    except TypeError:  # not hashable
        return None
    return sorted_by_key(groups.items()) if _all_plain(groups) else None


class _Groups(Generic[V]):
    """Groups under way.

    Attributes:
        known: the values of each hashable key seen, as given; several equal keys may share one list.
    """

    def __init__(self) -> None:
        self.known: dict[Any, list[V]] = {}
        self._by_order: dict[OrderKey, Group[V]] | None = None

    def find(self, key: Any) -> list[V]:
        """Return the values of a key that is not `known`, or not hashable."""
        if self._by_order is None and _is_plain(key):
            values = self.known[key] = []
            return values
        values = self._ordered().setdefault(order_key(key), (key, []))[1]
        with suppress(TypeError):  # not hashable
            self.known[key] = values
        return values

    def sorted(self) -> list[Group[V]]:
        """Return all groups, sorted by key."""
        if self._by_order is None:
            return sorted_by_key(self.known.items())
        return [group for _, group in sorted(self._by_order.items(), key=_first)]

    def _ordered(self) -> dict[OrderKey, Group[V]]:
        """Once a key came that is not plain, equal keys may differ in hash: order keys must tell."""
        if self._by_order is None:
            self._by_order = {order_key(key): (key, values) for key, values in self.known.items()}
        return self._by_order


_PLAIN = frozenset({str, bytes, int, bool, type(None)})
"""Among these, and tuples of these, Python's own ``==`` and ``hash`` group as order keys do."""


def _is_plain(key: Any) -> bool:
    return type(key) in _PLAIN or (type(key) is tuple and _PLAIN.issuperset(map(type, key)))


def _all_plain(keys: Collection[Any]) -> bool:
    return _PLAIN.issuperset(map(type, keys)) or all(map(_is_plain, keys))


def _rank(row: tuple[Any, Any]) -> int:
    return order_of_first(row)[0]


PIECE = 4096
"""How many values a row holds at most; a key that has more has more rows."""
_PIECE_BYTES = 256 * 1024
"""About how many bytes of values a row holds at most, as far as a first value's own size tells."""
FEW = 16
"""Values that are one row in any case."""

Piece = list[V] | bytes
"""Some of a group's values, in order; or packed, which is whoever's affair that merges. An opaque key's never are."""
Row = tuple[Any, Piece[V]] | Piece[V]
"""A key with values, or more values of the row before it: so no row need have all values of a frequent key."""


def cut(groups: Iterable[Group[V]]) -> Iterator[Row[V]]:
    """Return groups as rows of a few thousand values each."""
    for key, values in groups:
        if not _too_long(values, len(values)):
            yield key, values
            continue
        most = _piece_length(values)
        yield key, values[:most]
        for start in range(most, len(values), most):
            yield values[start : start + most]


def _too_long(values: list[Any], n: int) -> bool:
    return n > FEW and n > _piece_length(values)


def _piece_length(values: list[Any]) -> int:
    return max(FEW, min(PIECE, _PIECE_BYTES // sys.getsizeof(values[0])))


def merge(streams: Iterable[Iterable[Sequence[Row[V]]]]) -> Iterator[Row[V]]:
    """Merge sorted groups: the values of one key are joined in the order of the streams.

    Streams come in blocks, so that sorting happens natively, a block at a time: what is below the smallest of the
    blocks' last keys can be sorted and handed on, for nothing yet to come belongs before it or to it. That last key
    may go on in the next blocks: its rows are handed on stream by stream. One block of each stream is held. Opaque
    keys, which come last, are held until the end: only ``==`` can tell which belong together.

    Args:
        streams: the rows of what `group` returned for one input each, cut into blocks of any size.
    """
    cursors: list[_Cursor[V]] = [_Cursor(iter(stream)) for stream in streams]
    while alive := [cursor for cursor in cursors if cursor.fill()]:
        bound = min(cursor.last for cursor in alive)
        below = [row for cursor in alive if cursor.first < bound for row in cursor.take(bisect_left, bound)]
        yield from _joined(below)
        at = [cursor for cursor in alive if cursor.fill() and cursor.first == bound]
        yield from _rows(at[0].key, (piece for cursor in at for piece in cursor.all_of(bound)))
    yield from cut(
        group((key, value) for cursor in cursors for key, values in cursor.opaque for value in values)
    )


def in_order(streams: Iterable[Iterable[Sequence[tuple[Any, Any]]]]) -> Iterator[tuple[Any, Any]]:
    """Merge sorted (key, value) rows, of which no two have one key, block by block as `merge` does."""
    cursors: list[_Cursor[Any]] = [_Cursor(iter(stream)) for stream in streams]
    while alive := [cursor for cursor in cursors if cursor.fill()]:
        bound = min(cursor.last for cursor in alive)
        rows = [row for cursor in alive if cursor.first <= bound for row in cursor.take(bisect_right, bound)]
        rows.sort(key=order_of_rows(rows))
        yield from rows
    for cursor in cursors:
        yield from cursor.opaque  # all in one stream, for all opaque keys are in one partition


def _joined(rows: list[tuple[Any, Piece[V]]]) -> Iterator[Row[V]]:
    order = order_of_rows(rows)
    rows.sort(key=order)
    for _, same in groupby(rows, order):
        group = list(same)
        if len(group) == 1:
            yield group[0]
        else:
            yield from _rows(group[0][0], [piece for _, piece in group])


def _rows(key: Any, pieces: Iterable[Piece[V]]) -> Iterator[Row[V]]:
    """Return the rows of a group whose values come piece by piece, and never are there all together.

    Short lists are joined; what is packed stays as it is.
    """
    held: list[V] = []
    row: Row[V] = key, held
    for piece in pieces:
        packed = type(piece) is bytes
        if held and (packed or _too_long(held, len(held) + len(piece))):
            yield row
            row = held = []
        if packed:
            yield piece if row is held else (key, piece)
            row = held = []
        else:
            held += piece  # type: ignore[arg-type]  # a list
    if held:
        yield row


class _Cursor(Generic[V]):
    """One stream's place.

    Attributes:
        first: the order key of the first group held.
        last: the order key of the last group held.
        opaque: the stream's opaque groups so far.
    """

    first: OrderKey
    last: OrderKey

    def __init__(self, stream: Iterator[Sequence[Row[V]]]) -> None:
        self.opaque: list[Group[V]] = []
        self._stream = stream
        self._block: Sequence[tuple[Any, Piece[V]]] = ()
        self._next = 0
        self._last_key: Any = None

    @property
    def key(self) -> Any:
        """The key of the first group held, as it came."""
        return self._block[self._next][0]

    def fill(self) -> bool:
        """Hold a group that is not opaque; False when the stream has no more."""
        while self._next == len(self._block):
            rows = next(self._stream, None)
            if rows is None:
                return False
            self._hold(self._with_keys(rows))
        return True

    def _with_keys(self, rows: Sequence[Row[V]]) -> Sequence[tuple[Any, Piece[V]]]:
        """Give rows that go on the key that they belong to."""
        keyed: list[tuple[Any, Piece[V]]] = []
        key = self._last_key
        for row in rows:
            if isinstance(row, tuple):
                key = row[0]
                keyed.append(row)
            else:
                keyed.append((key, row))
        self._last_key = key
        return keyed

    def _hold(self, block: Sequence[tuple[Any, Piece[V]]]) -> None:
        end = bisect_left(block, OPAQUE, key=_rank)
        self.opaque += block[end:]  # type: ignore[arg-type]  # an opaque key's values are not packed
        self._block, self._next = block[:end], 0
        if end:
            self.first, self.last = order_of_first(block[0]), order_of_first(block[end - 1])

    def take(self, bisect: Callable[..., int], bound: OrderKey) -> Sequence[tuple[Any, Piece[V]]]:
        """Let go of the groups up to that key: without it by `bisect_left`, with it by `bisect_right`."""
        start, self._next = self._next, bisect(self._block, bound, lo=self._next, key=order_of_first)
        if self._next < len(self._block):
            self.first = order_of_first(self._block[self._next])
        return self._block[start : self._next]

    def all_of(self, bound: OrderKey) -> Iterator[Piece[V]]:
        """Let go of that key's values, also in blocks to come."""
        while self.fill() and self.first == bound:
            for _, piece in self.take(bisect_right, bound):
                yield piece
