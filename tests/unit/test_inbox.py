"""The inbox: one thread, one thing at a time, timers in order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from queue import SimpleQueue

import pytest

from mrq.inbox import Inbox

PATIENCE = 20.0


class Clock:
    """A clock that goes on only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def clock(inbox: Inbox) -> Clock:
    """The inbox's own, for this test."""
    inbox.now = clock = Clock()
    return clock


@pytest.fixture
def serving(inbox: Inbox) -> Iterator[threading.Thread]:
    """A thread that serves until the test's end."""
    thread = threading.Thread(target=inbox.serve, daemon=True)
    thread.start()
    yield thread
    inbox.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def calls_to(told: list[str]) -> Callable[[str], Callable[[], None]]:
    return lambda name: lambda: told.append(name)


def test_calls_are_made_in_the_order_in_which_they_came(inbox: Inbox) -> None:
    """Until one of them stops it; the rest is dropped."""
    told: list[str] = []
    call = calls_to(told)
    for name in "abc":
        inbox.put(call(name))
    inbox.put(inbox.stop)
    inbox.put(call("d"))
    inbox.serve()
    assert told == ["a", "b", "c"]


def test_timers_go_off_in_the_order_of_their_times(inbox: Inbox, clock: Clock) -> None:
    """Whatever the order in which they were set; those of the same time in that order."""
    told: list[str] = []
    call = calls_to(told)
    for seconds, name in ((3.0, "d"), (1.0, "a"), (2.0, "b"), (2.0, "c")):
        inbox.later(seconds, call(name))
    inbox.later(4.0, inbox.stop)
    clock.now += 4.0
    inbox.serve()
    assert told == ["a", "b", "c", "d"]


def test_no_timer_goes_off_before_its_time(inbox: Inbox, clock: Clock) -> None:
    """What is put meanwhile is done."""
    told: list[str] = []
    call = calls_to(told)
    inbox.later(5.0, call("later"))
    inbox.put(call("now"))
    inbox.put(inbox.stop)
    clock.now += 4.9
    inbox.serve()
    assert told == ["now"]


def test_a_call_that_raises_costs_itself_only(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; neither the next call nor the next timer suffers."""
    told: list[str] = []
    call = calls_to(told)

    def fail() -> None:
        raise ZeroDivisionError

    inbox.put(fail)
    inbox.put(call("a"))
    inbox.later(0.0, fail)
    inbox.later(0.0, call("b"))
    inbox.later(0.0, lambda: inbox.put(inbox.stop))
    with caplog.at_level(logging.ERROR, "mrq.inbox"):
        inbox.serve()
    assert sorted(told) == ["a", "b"]
    assert caplog.text.count("a call in the inbox failed") == 2
    assert "ZeroDivisionError" in caplog.text


def test_what_is_to_be_done_every_so_often_is_done_again_also_when_it_raises(inbox: Inbox) -> None:
    """Three times is again and again."""
    times: list[None] = []

    def call() -> None:
        times.append(None)
        if len(times) == 3:
            inbox.stop()
        raise ValueError("no")

    inbox.every(0.001, call)
    inbox.serve()
    assert len(times) == 3


def test_the_time_between_counts_from_the_end_of_the_last(inbox: Inbox, clock: Clock) -> None:
    """So that slow calls do not pile up."""
    times: list[float] = []

    def call() -> None:
        times.append(clock.now)
        clock.now += 10.0  # it takes long
        inbox.put(lambda: None)
        if len(times) == 3:
            inbox.stop()

    inbox.every(1.0, call)
    clock.now += 1.0

    def go_on() -> None:
        """Let a second pass each time nothing is due."""
        clock.now += 1.0
        inbox.put(go_on)

    inbox.put(go_on)
    inbox.serve()
    assert [later - earlier for earlier, later in pairwise(times)] == [11.0, 11.0]


def test_serving_ends_when_the_condition_holds_after_a_call(inbox: Inbox) -> None:
    """It may be served again."""
    told: list[str] = []
    call = calls_to(told)
    for name in "abc":
        inbox.put(call(name))
    inbox.serve(until=lambda: "b" in told)
    assert told == ["a", "b"]
    inbox.put(inbox.stop)
    inbox.serve()
    assert told == ["a", "b", "c"]


def test_an_inbox_that_was_stopped_serves_nothing(inbox: Inbox) -> None:
    """Also when it was stopped before."""
    inbox.put(lambda: pytest.fail("served"))
    inbox.stop()
    inbox.serve()


@pytest.mark.usefixtures("serving")
def test_calls_from_many_threads_are_made_on_one(inbox: Inbox) -> None:
    """All of them, put or set as timers that are due at once."""
    done: SimpleQueue[int] = SimpleQueue()

    def send(_number: int) -> None:
        for _ in range(100):
            inbox.put(lambda: done.put(threading.get_ident()))
            inbox.later(0.0, lambda: done.put(threading.get_ident()))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    assert len({done.get(timeout=PATIENCE) for _ in range(800)}) == 1


@pytest.mark.usefixtures("serving")
def test_a_timer_set_by_another_thread_wakes_one_that_waits_for_a_later_one(inbox: Inbox) -> None:
    """It does not sleep through it."""
    rung = threading.Event()
    inbox.later(3600.0, lambda: None)
    inbox.later(0.01, rung.set)
    assert rung.wait(PATIENCE)


@pytest.mark.usefixtures("clock")
def test_a_timer_that_another_thread_set_for_the_past_does_no_harm(inbox: Inbox) -> None:
    """It comes between the look at what is due and the wait for what is next."""
    told: list[str] = []

    class SeenLate(list):  # type: ignore[type-arg]  # of the inbox's timers
        """Timers that are not there yet when first looked at."""

        looks = 0

        def __bool__(self) -> bool:
            self.looks += 1
            return self.looks > 1 and len(self) > 0

    inbox._timers = SeenLate()
    inbox.later(-5.0, calls_to(told)("a"))
    inbox.later(-4.0, inbox.stop)
    inbox.serve()
    assert told == ["a"]


def test_a_turn_makes_what_is_due_and_does_not_wait(inbox: Inbox, clock: Clock) -> None:
    """A simulation goes from timer to timer by itself."""
    told: list[str] = []
    call = calls_to(told)
    inbox.later(2.0, call("later"))
    inbox.put(call("now"))
    assert inbox.next_timer() == 102.0
    assert inbox.turn() is True
    assert inbox.turn() is False
    clock.now = 102.0
    assert inbox.turn() is True
    assert told == ["now", "later"]
    assert inbox.next_timer() is None
