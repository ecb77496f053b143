"""Jobs whose results are known: what users do, well or badly.

A function travels by value and comes back with globals of its own, so each finds the world by an import of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Pairs = list[tuple[Any, Any]]


@dataclass(frozen=True)
class Task:
    """A kind of job.

    Attributes:
        name: for people.
        map_func: the job's.
        reduce_func: the job's.
        ends: how the future may end: ``result``, or names of exceptions.
        exact: whether the result is known beforehand.
        retries: as for `mapreduce`.
        timeout: as for `mapreduce`.
        like: the kind that has the same files and always ends well, if this one may not.
    """

    name: str
    map_func: Callable[[list[Any]], Any]
    reduce_func: Callable[[list[Any]], Any]
    ends: frozenset[str] = frozenset({"result"})
    exact: bool = True
    retries: int = 0
    timeout: float | None = None
    like: str = ""


def count(xs: list[int]) -> Pairs:
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def add(values: list[int]) -> int:
    return sum(values)


def in_order(values: list[int]) -> list[int]:
    return list(values)


def raise_in_map(xs: list[int]) -> Pairs:
    if 3 in xs:
        raise ValueError("three")
    return [(x, x) for x in xs]


def raise_in_reduce(values: list[int]) -> int:
    raise KeyError("no sum today")


def raise_at_first(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    if hooks.execution() < 2:
        raise OSError("not yet")
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def raise_once(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    if hooks.execution() < 1:
        raise OSError("not yet")
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def die_at_first(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    if hooks.execution() < 2:
        hooks.die()
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def die_in_reduce(values: list[int]) -> int:
    from tests.sim import hooks

    hooks.die()
    return 0


def by_lot(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    return [(hooks.lot() % 7, hooks.lot()) for _ in range(hooks.lot() % 9)]


def sum_and_lot(values: list[int]) -> list[int]:
    from tests.sim import hooks

    return [sum(values), hooks.lot()]


def slow(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    hooks.take(1.0)
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def slow_at_first(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    if hooks.execution() < 1:
        hooks.take(6.0)
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def endless(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    hooks.take(30.0)
    return [(x, x) for x in xs]


RESULT = frozenset({"result"})
KINDS = {
    kind.name: kind
    for kind in (
        Task("count", count, add),
        Task("in order", count, in_order),
        Task("slow", slow, in_order),
        Task("raises in map", raise_in_map, add, frozenset({"ValueError"})),
        Task("raises in reduce", count, raise_in_reduce, frozenset({"KeyError"})),
        Task("raises at first", raise_at_first, in_order, retries=2),
        Task("raises once", raise_once, add, frozenset({"result", "OSError"}), like="count"),
        Task("dies at first", die_at_first, add),
        Task("dies in reduce", count, die_in_reduce, frozenset({"PoisonTaskError"})),
        Task("by lot", by_lot, sum_and_lot, exact=False),
        Task("late at first", slow_at_first, add, RESULT | {"TaskTimeoutError"}, retries=1, timeout=3.0),
        Task("endless", endless, add, frozenset({"TaskTimeoutError"}), timeout=2.0),
    )
}


def expected(kind: Task, data: list[int]) -> list[tuple[Any, Any]]:
    """Return what plain Python says."""
    from mrq.core.keys import sorted_by_key

    groups: dict[Any, list[Any]] = {}
    for key, value in count(data):
        groups.setdefault(key, []).append(value)
    return sorted_by_key([(key, kind.reduce_func(values)) for key, values in groups.items()])
