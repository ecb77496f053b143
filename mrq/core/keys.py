"""Keys: which partition one belongs to, and in what order they come, whatever their types (`mrq.core.kinds`).

Nothing here depends on ``hash()`` of a str, so on PYTHONHASHSEED: Python's hash is only used for numbers, where
it is the same in all processes (https://docs.python.org/3/library/stdtypes.html#hashing-of-numeric-types).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable
from operator import itemgetter
from struct import Struct
from typing import Any, TypeVar
from zlib import crc32

from mrq.core.kinds import BYTES, OPAQUE, TUPLE, OpaqueInside, OrderKey, canonical, class_name

V = TypeVar("V")

_first = itemgetter(0)
_eight_bytes = Struct("<q").pack
_four_bytes = Struct("<I").pack


def partition_of(key: Any, n: int) -> int:
    """Return the partition, from 0 below ``n``, of a key; equal keys get the same in every process.

    The hash is CRC-32 of the UTF-8 text, of the bytes, or of a number's hash: cheap, and spread evenly also for keys
    that all are multiples of ``n``. All opaque keys share one partition.
    """
    kind = type(key)
    if kind is str:
        return _text(key) % n
    if kind is int:
        return crc32(_eight_bytes(hash(key))) % n
    if kind is tuple and _FAST.keys() >= set(map(type, key)):
        return crc32(b"".join([_four_bytes(_FAST[type(item)](item)) for item in key])) % n
    return _hash(order_key(key)) % n


def order_key(key: Any) -> OrderKey:
    """Return what to sort and compare a key by: a total order over all kinds, natural within each.

    ``order_key(a) == order_key(b)`` if and only if ``a == b``, but for what the module's table says of NaN, repeated
    hours and dicts.

    Raises:
        RecursionError: the key contains itself.
    """
    try:
        return canonical(key)
    except OpaqueInside:
        return OPAQUE, Opaque(key)


def sorted_by_key(rows: Iterable[tuple[Any, V]]) -> list[tuple[Any, V]]:
    """Return (key, value) rows sorted by their keys alone; equal keys stay in their order."""
    listed = list(rows)
    listed.sort(key=order_of_rows(listed))
    return listed


def order_of_rows(rows: Collection[tuple[Any, Any]]) -> Callable[[tuple[Any, Any]], Any]:
    """Return what to sort these (key, value) rows by: the keys themselves if that is the same, for it is faster.

    It is the same when all keys are str, or all are bytes, or all are int or float and none is NaN; or when all are
    tuples of one length and that holds for their first items, their second, and so on.
    """
    keys = [key for key, _ in rows]
    if set(map(type, keys)) != {tuple}:
        return _first if _natural(keys) else order_of_first
    if len(set(map(len, keys))) == 1 and all(map(_natural, zip(*keys, strict=True))):
        return _first
    return order_of_first


def _natural(keys: Collection[Any]) -> bool:
    kinds = set(map(type, keys))
    if kinds <= {int, float, bool}:
        return float not in kinds or all(key == key for key in keys)
    return len(kinds) == 1 and kinds <= {str, bytes}


def order_of_first(row: tuple[Any, Any]) -> OrderKey:
    """Return the order key of a (key, value) row's key."""
    return order_key(row[0])


_NO_ORDER = getattr(object, "__lt__", None)


class Opaque:
    """A key that only its own class can compare.

    Equal if ``==`` says so. Ordered by the class's name, then its ``__lt__`` if it has one, then by the pickle: an
    order good enough to give the same result each time, not a promise about which comes first.
    """

    __slots__ = ("_pickle", "key", "name")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.name = class_name(type(key))
        self._pickle: bytes | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Opaque):
            return NotImplemented
        try:
            return bool(self.key is other.key or self.key == other.key)
        except ValueError:  # as arrays say when asked whether they are equal as a whole
            return self.name == other.name and self.pickle == other.pickle

    def __hash__(self) -> int:
        try:
            return hash(self.key)
        except TypeError:
            return OPAQUE

    def __lt__(self, other: Opaque) -> bool:
        if self.name != other.name:
            return self.name < other.name
        if self == other:
            return False
        if getattr(type(self.key), "__lt__", None) is not _NO_ORDER:
            try:
                return bool(self.key < other.key)
            except (TypeError, ValueError):
                pass  # its parts have no order: the pickle decides
        return self.pickle < other.pickle

    @property
    def pickle(self) -> bytes:
        """The key's pickle; of its state alone where its class was shipped by value; empty where neither works."""
        if self._pickle is None:
            self._pickle = _pickled(self.key, lambda: _pickled(self.key.__getstate__(), bytes))
        return self._pickle


def _pickled(value: object, otherwise: Callable[[], bytes]) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except Exception:  # whatever a class's own __reduce__ raises
        return otherwise()


# ---------------------------------------------------------------- hashing


def _text(text: str) -> int:
    try:
        return crc32(text.encode())
    except UnicodeEncodeError:
        return crc32(text.encode("utf-8", "surrogatepass"))


def _hash(order: OrderKey) -> int:
    rank, payload = order
    if rank <= BYTES:
        return _fold(payload)
    if rank == TUPLE:
        return crc32(b"".join([_four_bytes(_hash(item)) for item in payload]))
    return _fold(order)


def _fold(value: Any) -> int:
    """Hash a part of an order key, whatever it is."""
    if isinstance(value, tuple):
        return crc32(b"".join([_four_bytes(_fold(part)) for part in value]))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return crc32(value)
    if value is None or isinstance(value, Opaque):
        return OPAQUE
    return crc32(_eight_bytes(hash(value)))


_FAST: dict[type, Callable[[Any], int]] = {str: _text, int: lambda item: crc32(_eight_bytes(hash(item)))}
"""The same hashes, of items of tuples that are not worth an order key."""
