"""What becomes of a request: answered, late, lost, done with its answer lost; or its sender dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from mrq.errors import MrqError
from tests.sim.world import Crashed, Process, World

T = TypeVar("T")

LATENCY = 0.002
OPERATION_TIMEOUT = 3.0
TROUBLES = ("lose", "lose_reply", "late", "slow", "crash", "nap")
"""What may become of a request."""


@dataclass
class Weather:
    """How likely each trouble is at each request."""

    lose: float = 0.0
    lose_reply: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    crash: float = 0.0
    nap: float = 0.0
    reset: float = 0.0
    duplicate: float = 0.0
    lag: float = 0.0
    torn: float = 0.0

    @property
    def total(self) -> float:
        return self.lose + self.lose_reply + self.late + self.slow + self.crash + self.nap


FAIR = Weather()


@dataclass
class Strike:
    """One trouble, at one certain request.

    Attributes:
        who: ``"master"``, ``"worker"``, ``"child"`` (of a worker) or ``"client"``.
        nth: which of the requests that all of those make, from 0.
        trouble: as `Weather` names it.
        first: whether it comes before the server has done what it was asked; or a lost reply is asked for again.
        seen: how many requests they have made.
    """

    who: str
    nth: int
    trouble: str
    first: bool
    seen: int = 0

    @property
    def has_come(self) -> bool:
        return self.seen > self.nth

    def falls_on(self, process: Process) -> bool:
        """Count a request; say whether it is the one."""
        its = self.who == ("child" if process.host else process.name.partition("-")[0])
        self.seen += its
        return its and self.seen == self.nth + 1


class Network:
    """Between all processes and the three services.

    Attributes:
        weather: the troubles of the moment.
        strike: one trouble more.
        nap: stops a process, as SIGSTOP does, for some seconds.
        crash: ends a process.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.weather = FAIR
        self.strike: Strike | None = None
        self.crash: Callable[[Process], None] = lambda process: process.die()
        self.nap: Callable[[Process, float], None] = lambda process, seconds: None
        self._cuts: dict[tuple[str, str], float] = {}

    def cut(self, process: Process, service: str, seconds: float) -> None:
        """Let nothing pass between a process and a service for a while."""
        place = (process.machine.name, service)
        self._cuts[place] = max(self._cuts.get(place, 0.0), self.world.now + seconds)

    def heal(self) -> None:
        """End all cuts."""
        self._cuts.clear()

    def cut_until(self, process: Process, service: str) -> float:
        """Return until when they are cut off from one another (perhaps a time past)."""
        if not self._cuts:
            return 0.0
        return self._cuts.get((process.machine.name, service), 0.0)

    def request(
        self,
        process: Process,
        service: str,
        act: Callable[[], T],
        failure: Callable[[], MrqError],
        again: Callable[[], T] | None = None,
        *,
        writes: bool = False,
    ) -> T:
        """Make a request and wait for the answer.

        Args:
            process: who asks.
            service: whom.
            act: what the service does.
            failure: makes what the adapter raises when no answer came in time.
            again: what the adapter does when the answer to ``act`` was lost; by default ``act``.
            writes: whether it changes anything, so that it matters when it comes late.
        """
        process.check()
        self._pass(process, service, failure)
        chance = self.world.random()
        if self.strike and self.strike.falls_on(process):
            trouble, first = self.strike.trouble, self.strike.first
        elif chance >= self.weather.total:
            process.sleep(LATENCY * chance)
            answer = act()
            process.sleep(LATENCY * (1 - chance))
            return answer
        else:
            trouble, first = self._draw(chance), self.world.random() < 0.5
        return self._troubled(process, act, failure, again or act, writes, trouble, first)

    def send(self, process: Process, act: Callable[[], T]) -> T:
        """Hand a message to the network, which needs no answer; a strike may kill or stop its sender, no more."""
        strike = self.strike
        if strike is None or strike.trouble not in ("crash", "nap") or not strike.falls_on(process):
            return act()
        sent = None if strike.first else act()
        if strike.trouble == "crash":
            self.crash(process)
            raise Crashed(process.name)
        self.nap(process, self.world.between(0.5, 12.0))
        process.check()
        return act() if sent is None else sent

    def _draw(self, chance: float) -> str:
        for trouble in TROUBLES:
            chance -= getattr(self.weather, trouble)
            if chance < 0:
                break
        return trouble

    def _pass(self, process: Process, service: str, failure: Callable[[], MrqError]) -> None:
        """Wait for the end of a cut."""
        deadline = self.world.now + OPERATION_TIMEOUT
        while (until := self.cut_until(process, service)) > self.world.now:
            process.sleep(max(min(until, deadline) - self.world.now, 0.001))
            if self.world.now >= deadline and self.cut_until(process, service) > self.world.now:
                raise failure()

    def _troubled(
        self,
        process: Process,
        act: Callable[[], T],
        failure: Callable[[], MrqError],
        again: Callable[[], T],
        writes: bool,
        trouble: str,
        first: bool,
    ) -> T:
        world = self.world
        if trouble == "lose":
            world.tell(process.name, "  (its request is lost)")
            process.sleep(OPERATION_TIMEOUT)
            raise failure()
        if trouble == "lose_reply":
            world.tell(process.name, "  (the reply is lost)")
            act()
            if first:
                process.sleep(world.between(0.05, 0.5))
                return again()
            process.sleep(OPERATION_TIMEOUT)
            raise failure()
        if trouble == "late" and writes:
            world.tell(process.name, "  (its request arrives when it is given up)")
            world.at(OPERATION_TIMEOUT + world.between(0, 3), lambda: _quietly(act))
            process.sleep(OPERATION_TIMEOUT)
            raise failure()
        if trouble == "crash":
            if not first:
                act()
            self.crash(process)
            raise Crashed(process.name)
        if trouble == "nap":
            answer = None if first else act()
            self.nap(process, world.between(0.5, 12.0))
            process.check()
            return act() if first else answer  # type: ignore[return-value]
        process.sleep(world.between(0.05, 1.5))
        answer = act()
        process.sleep(world.between(0.05, 1.5))
        return answer


def _quietly(act: Callable[[], object]) -> None:
    with suppress(MrqError):
        act()
