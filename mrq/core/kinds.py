"""What a key's kind is, and the order key of each kind.

    rank            kind                 equal when
0              None
1, 2, 3        numbers              ``==`` says so, across int, float, bool, Decimal, Fraction, complex, numpy's
scalars (1: real, by size; 2: complex; 3: NaN, and every NaN is one key)
4, 5           str, bytes           ``==``; bytes and bytearray are one kind
6-11           date and time        ``==``; aware ones by the instant (a repeated hour by its first reading)
12, 13          UUID, PurePath       ``==``
14              Enum                 same member; one that is a str or a number is that str or number
15, 16          tuple, list          item by item; a namedtuple is a tuple
17, 18          set, dict            whatever the order; frozenset and set, and all kinds of dict, are one kind
19              dataclass            same class, by name, and compared fields (``__eq__`` as generated)
20              opaque: the rest     ``==`` says so; so are a class with an ``__eq__`` of its own and all that
contains an opaque key
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from numbers import Complex, Integral, Number, Rational, Real
from pathlib import PurePath, PureWindowsPath
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

_NONE, _REAL, _COMPLEX, _NAN, _STR, BYTES, _DATE, _NAIVE, _AWARE, _NAIVE_TIME, _AWARE_TIME = range(11)
_DURATION, _UUID, _PATH, _ENUM, TUPLE, _LIST, _SET, _DICT, _DATACLASS, OPAQUE = range(11, 21)

OrderKey = tuple[int, Any]
"""A rank and what decides within it; ``<`` and ``==`` hold between any two, and ``hash`` works."""

Handler = Callable[[Any], OrderKey]


class OpaqueInside(Exception):
    """Somewhere in the key there is one that is opaque: so is the whole."""


def canonical(key: Any) -> OrderKey:
    """Return the order key.

    Raises:
        OpaqueInside: it is opaque, or contains what is.
    """
    handler = _BUILT_IN.get(type(key)) or _own_handler(type(key))
    return handler(key)


def _own_handler(cls: type) -> Handler:
    handler = _OWN.get(cls)
    if handler is None:
        handler = _OWN[cls] = _choose(cls)
    return handler


_OWN: WeakKeyDictionary[type, Handler] = WeakKeyDictionary()
"""Weak, for a class that came by value goes with its job."""


def _choose(cls: type) -> Handler:
    if cls.__module__ == "numpy" and cls.__name__ in ("bool", "bool_"):  # the one scalar that is no Number
        return lambda key: (_REAL, bool(key))
    for base, handler in _BY_BASE.items():
        if issubclass(cls, base) and _eq(cls) is _eq(base):
            return handler
    if issubclass(cls, Number) and not issubclass(cls, int | float | complex | Decimal | Fraction):
        return _other_number
    if issubclass(cls, Enum) and _eq(cls) is _eq(object):
        return _flag if issubclass(cls, Flag) else _enum
    if hasattr(cls, "__dataclass_fields__") and _eq_is_generated(cls):
        return _dataclass
    return _opaque


def _opaque(_: Any) -> OrderKey:
    raise OpaqueInside


def _float(key: float) -> OrderKey:
    return (_REAL, float.__float__(key)) if key == key else (_NAN, 0)


def _decimal(key: Decimal) -> OrderKey:
    return (_NAN, 0) if key.is_nan() else (_REAL, Decimal(key))


def _complex(key: complex) -> OrderKey:
    if key != key:
        return _NAN, 0
    return (_COMPLEX, (key.real, key.imag)) if key.imag else (_REAL, key.real)


def _other_number(key: Any) -> OrderKey:
    """An instance of `numbers.Number` by registration or inheritance, as numpy's scalars and gmpy2's are."""
    if key != key:
        return _NAN, 0
    if isinstance(key, Integral):
        return _REAL, int(key)
    if isinstance(key, Rational):
        return _REAL, Fraction(int(key.numerator), int(key.denominator))
    if isinstance(key, Real) and hasattr(key, "as_integer_ratio"):
        try:
            return _REAL, Fraction(*map(int, key.as_integer_ratio()))
        except OverflowError:
            return _REAL, float(key)  # infinite
    if isinstance(key, Complex):
        return _complex(complex(key))
    raise OpaqueInside


_EPOCH = datetime(1, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


def _datetime(key: datetime) -> OrderKey:
    key = key.replace(fold=0)
    offset, naive = key.utcoffset(), (key.replace(tzinfo=None) - _EPOCH)
    return (_NAIVE, naive // _MICROSECOND) if offset is None else (_AWARE, (naive - offset) // _MICROSECOND)


def _time(key: time) -> OrderKey:
    offset = key.utcoffset()
    naive = timedelta(0, (key.hour * 60 + key.minute) * 60 + key.second, key.microsecond)
    if offset is None:
        return _NAIVE_TIME, naive // _MICROSECOND
    return _AWARE_TIME, (naive - offset) // _MICROSECOND


def _path(key: PurePath) -> OrderKey:
    """Windows paths differ from Posix ones, and ignore case."""
    windows = isinstance(key, PureWindowsPath)
    return _PATH, (windows, tuple(part.lower() for part in key.parts) if windows else key.parts)


def _enum(key: Enum) -> OrderKey:
    names = type(key)._member_names_
    return _ENUM, (class_name(type(key)), names.index(key._name_), key._name_)


def _flag(key: Flag) -> OrderKey:
    return _ENUM, (class_name(type(key)), key.value, "")


def _tuple(key: tuple[Any, ...]) -> OrderKey:
    return TUPLE, tuple(map(canonical, key))


def _set(key: set[Any] | frozenset[Any]) -> OrderKey:
    return _SET, tuple(sorted(set(map(canonical, key))))


def _dict(key: dict[Any, Any]) -> OrderKey:
    return _DICT, tuple(sorted((canonical(k), canonical(v)) for k, v in key.items()))


def _dataclass(key: Any) -> OrderKey:
    fields = (field.name for field in dataclasses.fields(key) if field.compare)
    return _DATACLASS, (class_name(type(key)), tuple(canonical(getattr(key, name)) for name in fields))


def _eq(cls: type) -> object:
    return cls.__eq__


def _eq_is_generated(cls: type) -> bool:
    """Whether ``__eq__`` is what `dataclasses` makes for these fields: then it has the very same code."""
    names = [(f.name, object, dataclasses.field()) for f in dataclasses.fields(cls) if f.compare]
    model = dataclasses.make_dataclass("Model", names).__eq__.__code__
    own = getattr(cls.__eq__, "__code__", None)
    return own is not None and (own.co_code, own.co_names) == (model.co_code, model.co_names)


def class_name(cls: type) -> str:
    """Return a class's full name, by which classes are told apart."""
    return f"{cls.__module__}.{cls.__qualname__}"


_BY_BASE: dict[type, Handler] = {
    str: lambda key: (_STR, str.__str__(key)),
    int: lambda key: (_REAL, int.__int__(key)),
    float: _float,
    complex: _complex,
    Decimal: _decimal,
    Fraction: lambda key: (_REAL, Fraction(key)),
    bytes: lambda key: (BYTES, bytes(key)),
    bytearray: lambda key: (BYTES, bytes(key)),
    tuple: _tuple,
    list: lambda key: (_LIST, tuple(map(canonical, key))),
    set: _set,
    frozenset: _set,
    dict: _dict,
    OrderedDict: _dict,
    Counter: _dict,
    datetime: _datetime,
    date: lambda key: (_DATE, key.toordinal()),
    time: _time,
    timedelta: lambda key: (_DURATION, key // _MICROSECOND),
    UUID: lambda key: (_UUID, key.int),
    PurePath: _path,
}
"""How subclasses are handled too, unless they have an ``__eq__`` of their own."""

_BUILT_IN: dict[type, Handler] = _BY_BASE | {
    str: lambda key: (_STR, key),
    int: lambda key: (_REAL, key),
    bytes: lambda key: (BYTES, key),
    type(None): lambda _: (_NONE, 0),
}
"""What is looked up first, by the very type."""
