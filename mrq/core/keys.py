"""Keys: which partition one belongs to, and in what order they come, whatever their types (`mrq.core.kinds`).

Nothing here depends on ``hash()`` of a str, so on PYTHONHASHSEED: Python's hash is only used for numbers, where
it is the same in all processes (https://docs.python.org/3/library/stdtypes.html#hashing-of-numeric-types).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable
from struct import Struct
from typing import Any, TypeVar
from zlib import crc32

from mrq.core.kinds import BYTES, OPAQUE, OpaqueInside, OrderKey, canonical, class_name

V = TypeVar("V")

_eight_bytes = Struct("<q").pack


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
    rank, payload = order_key(key)
    return _fold(payload if rank <= BYTES else (rank, payload)) % n


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

    It is the same when all keys are str, or all are bytes, or all are int or float and none is NaN.
    """
    kinds = {type(key) for key, _ in rows}
    if len(kinds) == 1 and kinds <= {str, bytes}:
        return _first
    if kinds <= {int, float, bool} and (float not in kinds or all(key == key for key, _ in rows)):
        return _first
    return order_of_first


def order_of_first(row: tuple[Any, Any]) -> OrderKey:
    """Return the order key of a (key, value) row's key."""
    return order_key(row[0])


def _first(row: tuple[Any, Any]) -> Any:
    return row[0]


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


def _fold(value: Any) -> int:
    """Hash an order key, or a part of one."""
    if isinstance(value, tuple):
        return crc32(b"".join(_fold(part).to_bytes(4, "little") for part in value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return crc32(value)
    if value is None or isinstance(value, Opaque):
        return OPAQUE
    return crc32(_eight_bytes(hash(value)))
