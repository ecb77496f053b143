"""Data and functions: the same for every system."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from tests.jobs import WORDS, add_up, count_characters, plain, random_strings

Pairs = list[tuple[Any, Any]]


def count_words(lines: list[str]) -> list[tuple[str, int]]:
    """Map: a one for each word."""
    return [(word, 1) for line in lines for word in line.split()]


def no_op(_elements: list[int]) -> list[tuple[int, int]]:
    """Map: nothing."""
    return []


def no_op_reduce(_values: list[int]) -> int:
    """Reduce: never called, for the map function tells nothing."""
    return 0


def by_remainder(numbers: list[int]) -> list[tuple[str, int]]:
    """Map: each number under its remainder, so that a list's order shows that of the data."""
    return [(f"remainder {number % 7}", number) for number in numbers]


def as_they_come(values: list[int]) -> list[int]:
    """Reduce: all values, in the order in which they came."""
    return list(values)


@dataclass(frozen=True)
class Job:
    """One call of ``mapreduce(data, map_func, reduce_func, n_splits)``, the same for all systems."""

    data: list[Any]
    map_func: Callable[[list[Any]], Pairs]
    reduce_func: Callable[[list[Any]], Any]
    n_splits: int

    def expected(self) -> Pairs:
        """Return what plain Python makes of it."""
        return plain(self.data, self.map_func, self.reduce_func)


@dataclass(frozen=True)
class Workload:
    """What is measured.

    Attributes:
        name: in the results.
        what: in the docs.
        job: what is submitted; for ``no_ops`` its elements are that many tasks.
        n_jobs: how many of them, at once.
        no_ops: whether it is tasks that are counted, and nothing is shuffled or reduced.
        deadline: seconds that one measurement may take.
        times: how many measurements make one repetition: short ones scatter more.
    """

    name: str
    what: str
    job: Job
    n_jobs: int = 1
    no_ops: bool = False
    deadline: float = 120.0
    times: int = 1

    def warm_up(self) -> Workload:
        """Return what to warm up with: the same, but of the no-ops a part will do."""
        if not self.no_ops:
            return self
        data = self.job.data[: max(len(self.job.data) // 10, 1)]
        return replace(self, job=replace(self.job, data=data, n_splits=len(data)))


def check() -> Job:
    """Return a small job that every system must get right first: all values of a key, in the order of the data."""
    return Job(list(range(1000)), by_remainder, as_they_come, 4)


def workloads(quick: bool) -> list[Workload]:
    """Return all; the quick ones see that everything works, and measure nothing worth telling."""
    part = 100 if quick else 1
    n_heavy, n_storm, n_lines, n_tasks = (n // part for n in (100_000, 500_000, 300_000, 10_000))
    n_keys = 100_000 // part
    noops = Job(list(range(n_tasks)), no_op, no_op_reduce, n_tasks)
    return [
        Workload("small", "one job of five strings", Job(WORDS, count_characters, add_up, 4), times=5),
        Workload(
            "heavy",
            f"ten jobs at once of {n_heavy:,} strings each, in 2 splits",
            Job(random_strings(n_heavy), count_characters, add_up, 2),
            n_jobs=10,
        ),
        Workload(
            "storm",
            f"one job of {n_storm:,} strings: {n_storm * 20:,} pairs of 26 keys",
            Job(random_strings(n_storm), count_characters, add_up, 4),
        ),
        Workload(
            "words",
            f"one job of {n_lines:,} lines: {n_lines * 12:,} pairs of {n_keys:,} keys",
            Job(zipf_lines(n_lines, n_keys), count_words, add_up, 4),
        ),
        Workload(
            "no-op", f"{n_tasks:,} tasks of one element that do nothing", noops, no_ops=True, deadline=300
        ),
    ]


def zipf_lines(n_lines: int, n_words: int, per_line: int = 12, seed: int = 7) -> list[str]:
    """Return lines of words as frequent as Zipf's law has it: the i-th comes 1/i times as often; each at least once."""
    draw = random.Random(seed)
    vocabulary = [f"word{i:x}" for i in range(n_words)]
    weights = list(accumulate(1 / rank for rank in range(1, n_words + 1)))
    words = vocabulary + draw.choices(vocabulary, cum_weights=weights, k=n_lines * per_line - n_words)
    draw.shuffle(words)
    return [" ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
