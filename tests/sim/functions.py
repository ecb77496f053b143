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
        max_skipped: as for `mapreduce`.
        memory_limit: as for `mapreduce`.
        bad: which elements the map function raises on, if they are to be skipped.
        like: the kind that has the same files and always ends well, if this one may not.
    """

    name: str
    map_func: Callable[[list[Any]], Any]
    reduce_func: Callable[[list[Any]], Any]
    ends: frozenset[str] = frozenset({"result"})
    exact: bool = True
    retries: int = 0
    timeout: float | None = None
    max_skipped: int = 0
    memory_limit: int | None = None
    bad: Callable[[int], bool] = lambda x: False
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


def slow_by_lot(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    hooks.take(0.5)
    return [(hooks.lot() % 7, hooks.lot()) for _ in range(hooks.lot() % 9)]


def straggle(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    if 0 in xs and hooks.execution() < 1:
        hooks.sleep(40.0 if hooks.lot() % 2 else 0.5 + hooks.lot() / 500)
    hooks.take(0.3)
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def straggle_and_raise(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    first = 0 in xs and hooks.execution() < 1
    hooks.take(0.5 + hooks.lot() / 500 if first else 0.3)
    if first:
        raise OSError("too late anyway")
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def is_bad(x: int) -> bool:
    return x % 5 == 3


def dislike(xs: list[int]) -> Pairs:
    if any(x % 5 == 3 for x in xs):
        raise ValueError(f"threes: {[x for x in xs if x % 5 == 3]}")
    return [(x % 5 if x % 2 else f"k{x % 3}", x) for x in xs]


def dislike_odd(xs: list[int]) -> Pairs:
    if any(x % 2 for x in xs):
        raise ValueError("odd")
    return [(x, x) for x in xs]


def add_odd(values: list[int]) -> int:
    if sum(values) % 2 == 0:
        raise ValueError(f"even: {sum(values)}")
    return sum(values)


def take_memory(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    hooks.need(2**21)
    return [(x, x) for x in xs]


def take_memory_at_first(xs: list[int]) -> Pairs:
    from tests.sim import hooks

    hooks.need(2**21 if hooks.execution() < 1 else 2**19)
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
        Task("slow by lot", slow_by_lot, sum_and_lot, exact=False),
        Task("straggles", straggle, in_order),
        Task("straggles, raises", straggle_and_raise, add, RESULT | {"OSError"}, like="count"),
        Task("bad records", dislike, in_order, max_skipped=2, bad=is_bad),
        Task("too many bad", dislike_odd, add, frozenset({"ValueError", "TooManySkipped"}), max_skipped=1),
        Task("bad keys", count, add_odd, max_skipped=9),
        Task("too much memory", take_memory, add, frozenset({"TaskMemoryError"}), memory_limit=2**20),
        Task("memory at first", take_memory_at_first, add, retries=1, memory_limit=2**20),
    )
}


def expected(kind: Task, data: list[int]) -> tuple[Pairs, list[str]]:
    """Return what plain Python says: the result, and the elements and keys that are skipped."""
    from mrq.core.keys import sorted_by_key

    groups: dict[Any, list[Any]] = {}
    for key, value in count([x for x in data if not kind.bad(x)]):
        groups.setdefault(key, []).append(value)
    pairs, skipped = [], [str(x) for x in data if kind.bad(x)]
    for key, values in groups.items():
        try:
            pairs.append((key, kind.reduce_func(values)))
        except ValueError:
            skipped.append(str(key))
    return sorted_by_key(pairs), skipped
