"""Groups: all values of one key together, in the order of `mrq.core.keys.order_key`.

A map task groups what the user's function returned; a shuffle task merges what the map tasks grouped. Values
stay in the order of the input, and a group's key is the one that came first: of ``(1, "a"), (True, "b")`` comes
``(1, ["a", "b"])``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby
from typing import Any, Generic, TypeVar

from mrq.core.keys import order_key, order_of_first, order_of_rows, sorted_by_key
from mrq.core.kinds import OPAQUE, OrderKey

V = TypeVar("V")
Group = tuple[Any, list[V]]


def group(pairs: Iterable[tuple[Any, V]]) -> list[Group[V]]:
    """Return the values by key, sorted by key; keys need not be hashable.

    Costs one look-up in a dict a pair, and for keys that are not plain one order key each distinct one.
    """
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


def _first(row: tuple[OrderKey, Any]) -> OrderKey:
    return row[0]


def _rank(row: tuple[Any, Any]) -> int:
    return order_of_first(row)[0]


def merge(streams: Iterable[Iterable[Sequence[Group[V]]]]) -> Iterator[Group[V]]:
    """Merge sorted groups: the values of one key are joined in the order of the streams.

    Streams come in blocks, so that sorting happens natively, a block at a time: what is not above the smallest of
    the blocks' last keys can be sorted and handed on, for nothing yet to come belongs before it or to it. One block
    of each stream is held. Opaque keys, which come last, are held until the end: only ``==`` can tell which belong
    together.

    Args:
        streams: what `group` returned for one input each, cut into blocks of any size.
    """
    cursors = [_Cursor(iter(stream)) for stream in streams]
    while alive := [cursor for cursor in cursors if cursor.fill()]:
        bound = min(cursor.last for cursor in alive)
        yield from _joined(
            [found for cursor in alive if cursor.first <= bound for found in cursor.take(bound)]
        )
    yield from group((key, value) for cursor in cursors for key, values in cursor.opaque for value in values)


def _joined(rows: list[Group[V]]) -> Iterator[Group[V]]:
    order = order_of_rows(rows)
    rows.sort(key=order)
    for _, same in groupby(rows, order):
        (key, values), *rest = same
        yield key, list(chain(values, *(more for _, more in rest))) if rest else values


class _Cursor(Generic[V]):
    """One stream's place.

    Attributes:
        first: the order key of the first group held.
        last: the order key of the last group held.
        opaque: the stream's opaque groups so far.
    """

    first: OrderKey
    last: OrderKey

    def __init__(self, stream: Iterator[Sequence[Group[V]]]) -> None:
        self.opaque: list[Group[V]] = []
        self._stream = stream
        self._block: Sequence[Group[V]] = ()
        self._next = 0

    def fill(self) -> bool:
        """Hold a group that is not opaque; False when the stream has no more."""
        while self._next == len(self._block):
            block = next(self._stream, None)
            if block is None:
                return False
            self._hold(block)
        return True

    def _hold(self, block: Sequence[Group[V]]) -> None:
        end = bisect_left(block, OPAQUE, key=_rank)
        self.opaque += block[end:]
        self._block, self._next = block[:end], 0
        if end:
            self.first, self.last = order_of_first(block[0]), order_of_first(block[end - 1])

    def take(self, bound: OrderKey) -> Sequence[Group[V]]:
        """Let go of the groups up to and with that key."""
        start, self._next = self._next, bisect_right(self._block, bound, lo=self._next, key=order_of_first)
        if self._next < len(self._block):
            self.first = order_of_first(self._block[self._next])
        return self._block[start : self._next]
