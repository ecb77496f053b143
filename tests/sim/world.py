"""One thread, one heap of events, one clock that is only ever moved by them, and one seed.

Code under test calls its ports and waits for the answer. While it waits, `World.run` goes on from inside that call:
others' turns happen in between, any number of them, before the answer is there, if it ever comes. So every gap between
two calls is one in which others act, a process dies or sleeps for long. One freedom is missing: of two that wait, the
one that began to wait last goes on first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from random import Random
from typing import Any

from mrq.inbox import Call, Inbox


class Violation(BaseException):
    """A promise was broken."""


class Crashed(BaseException):
    """Unwinds what a process was doing when it died. Nobody may catch it but who started the process."""


class World:
    """The clock, what is to happen, and the story so far.

    Attributes:
        now: virtual seconds.
        dice: the only source of chance.
        story: lines of what happened, if they are wanted.
        executions: how often users' functions ran, by task.
    """

    def __init__(self, seed: int, *, telling: bool = False) -> None:
        self.now = 0.0
        self.dice = Random(seed)
        self.random = self.dice.random
        self.telling = telling
        self.story: list[str] = []
        self.executions: dict[Any, int] = {}
        self.violation: Violation | None = None
        self.n_events = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, delay: float, call: Callable[[], None]) -> None:
        """Have something happen later."""
        self.at_time(self.now + delay, call)

    def at_time(self, at: float, call: Callable[[], None]) -> None:
        """Have something happen at a certain time."""
        self.n_events += 1
        heapq.heappush(self._heap, (at, self.n_events, call))

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Let things happen until a time, or until ``done()``."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            if done and done():
                return
            at, _, call = heapq.heappop(heap)
            if at > self.now:
                self.now = at
            call()
            if self.violation:
                raise self.violation
        if until > self.now and not (done and done()):
            self.now = until

    def between(self, low: float, high: float) -> float:
        """Return a number between two."""
        return low + (high - low) * self.random()

    def tell(self, who: str, what: str) -> None:
        """Add a line to the story."""
        if self.telling:
            self.story.append(f"{self.now:9.3f}  {who:<12} {what}")

    def accuse(self, what: str) -> None:
        """Say that a promise was broken; what happens next is of no interest any more."""
        if self.violation is None:
            self.tell("JUDGE", what)
            self.violation = Violation(what)


class SimFuture(Future[None]):
    """A future whose result can be waited for on the world's only thread."""

    def __init__(self, world: World, owner: Process) -> None:
        super().__init__()
        self._world = world
        self._owner = owner

    def result(self, timeout: float | None = None) -> None:
        if not self.done():
            self._world.run(self._world.now + (timeout or 60.0), self.done)
            self._owner.check()
        return super().result(timeout=0)


class Process:
    """What can die or be stopped at any call: a client, master or worker, or a worker's child.

    Attributes:
        host: the process that it ends with.
        alive: until it dies.
        busy: whether it is in the middle of something.
        asleep_until: it is stopped (SIGSTOP) until then.
        slowness: how many times as long as elsewhere users' functions take in its children.
        when_idle: called when it has done what it was in the middle of.
    """

    def __init__(self, world: World, name: str, host: Process | None = None) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.alive = True
        self.busy = False
        self.asleep_until = 0.0
        self.slowness = 1.0
        self.when_idle: Callable[[], None] = lambda: None

    @property
    def machine(self) -> Process:
        """The one whose network it uses."""
        return self.host or self

    @property
    def lives(self) -> bool:
        """Whether it and its host are alive."""
        return self.alive and (self.host is None or self.host.alive)

    def check(self) -> None:
        """Go no further when dead, and not before it wakes."""
        while self.lives and self.machine.asleep_until > self.world.now:
            self.world.run(self.machine.asleep_until)
        if not self.lives:
            raise Crashed(self.name)

    def sleep(self, seconds: float) -> None:
        """Wait while others act."""
        self.world.run(self.world.now + seconds)
        if not self.lives or self.machine.asleep_until > self.world.now:
            self.check()

    def die(self) -> None:
        """Be gone, in the middle of whatever it does."""
        self.alive = False

    def act(self, call: Callable[[], None]) -> bool:
        """Do something from a thread of its own; return False when it is busy or gone."""
        if self.busy or not self.lives or self.asleep_until > self.world.now:
            return False
        self.busy = True
        try:
            call()
        except Crashed:
            pass
        finally:
            self.busy = False
            self.when_idle()
        return True


class SimInbox(Inbox):
    """An inbox whose turns the world gives."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(lambda: world.now)
        self.world = world
        self.process = process
        self.after_turn: Callable[[], None] = lambda: None
        self._wake = float("inf")
        self._planned: set[float] = set()
        process.when_idle = self._look_ahead

    def put(self, call: Call) -> None:
        super().put(call)
        self._by(self.world.now + 0.0005)

    def later(self, seconds: float, call: Call) -> None:
        super().later(seconds, call)
        self._by(self.world.now + seconds)

    def _by(self, at: float) -> None:
        """Have a turn at that time, or earlier. A busy process looks ahead when it is idle."""
        if at < self._wake and not self.process.busy:
            self._wake = at
            if at not in self._planned:
                self._planned.add(at)
                self.world.at_time(at, partial(self._turn, at))

    def _turn(self, at: float) -> None:
        self._planned.discard(at)
        process = self.process
        if at != self._wake:
            return  # made superfluous by an earlier one
        self._wake = float("inf")
        if process.busy or not process.alive:
            return
        if process.asleep_until > self.world.now:
            self._by(process.asleep_until + 0.001)
        else:
            process.act(self._once)

    def _once(self) -> None:
        self.turn()
        self.after_turn()

    def _look_ahead(self) -> None:
        if self.process.alive and not self._stopped:
            if not self._calls.empty():
                self._by(self.world.now + 0.0005)
            if (timer := self.next_timer()) is not None:
                self._by(max(timer, self.world.now))
