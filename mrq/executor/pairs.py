"""What ``map_func`` returned, checked and grouped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from operator import countOf
from typing import Any

from mrq.core.grouping import Group, group


def grouped(returned: Any) -> list[Group[Any]]:
    """Group what ``map_func`` returned; a list of tuples, as most are, is not checked item by item."""
    if type(returned) is list and countOf(map(type, returned), tuple) == len(returned):
        with suppress(
            ValueError
        ):  # a tuple that is no pair, which `_pairs` names; or a key's own, raised again
            return group(returned)
    return group(_pairs(returned))


def _pairs(returned: Any) -> Iterator[tuple[Any, Any]]:
    """Check what ``map_func`` returned.

    Raises:
        TypeError: it is not an iterable of pairs. A str of two characters, and a dict's keys, would pass for pairs.
    """
    wanted = "map_func must return an iterable of (key, value) pairs"
    if isinstance(returned, Mapping):
        raise TypeError(f"{wanted}, but it returned a {_kind(returned)}: return its .items()")
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes):
        raise TypeError(f"{wanted}, but it returned {_shown(returned)}")
    for number, pair in enumerate(returned):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{wanted}, but its item {number} is {_shown(pair)}")
        yield pair  # type: ignore[misc]  # a list of two will do


def _kind(value: object) -> str:
    return type(value).__qualname__


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({_kind(value)})"
