"""What a task's time is counted for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mrq.executor import stopwatch
from mrq.executor.stopwatch import Stopwatch, TimedWrites


class Clock:
    """Stands for the module `time`; it is moved by hand."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_what_is_inside_another_counts_for_the_inner_one_only(clock: Clock) -> None:
    """And all together are the time from the beginning."""
    watch = Stopwatch()
    clock.now += 1
    with watch.on("run"):
        clock.now += 2
        with watch.on("read"):
            clock.now += 4
        clock.now += 8
    clock.now += 16
    assert watch.spent() == {"pack": 17, "run": 10, "read": 4}


def test_an_iterators_work_is_counted_not_its_consumers(clock: Clock) -> None:
    """Whatever the consumer's time counts for."""

    def numbers() -> Iterator[int]:
        for number in range(2):
            clock.now += 1
            yield number
        clock.now += 1

    watch = Stopwatch()
    with watch.on("run"):
        for _ in watch.each("read", numbers()):
            clock.now += 10
    assert watch.spent() == {"run": 20, "read": 3}


def test_an_exception_ends_what_was_counted(clock: Clock) -> None:
    """What follows counts for what was before."""
    watch = Stopwatch()

    def explode() -> None:
        with watch.on("run"):
            clock.now += 1
            raise KeyError

    with pytest.raises(KeyError):
        explode()
    clock.now += 2
    assert watch.spent() == {"run": 1, "pack": 2}


def test_a_stores_writes_are_counted(clock: Clock) -> None:
    """Also the time that the pieces take to come."""

    class Store:
        def write(self, path: str, data: object) -> int:
            clock.now += 3
            return len(path)

    watch = Stopwatch()
    assert TimedWrites(Store(), watch).write("four", b"") == 4
    assert watch.spent() == {"write": 3}
