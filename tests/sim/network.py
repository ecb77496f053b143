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


class Network:
    """Between all processes and the three services.

    Attributes:
        weather: the troubles of the moment.
        nap: stops a process, as SIGSTOP does, for some seconds.
        crash: ends a process.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.weather = FAIR
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
        weather = self.weather
        chance = self.world.random()
        if chance >= weather.total:
            process.sleep(LATENCY * chance)
            answer = act()
            process.sleep(LATENCY * (1 - chance))
            return answer
        return self._troubled(process, act, failure, again or act, writes, chance)

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
        chance: float,
    ) -> T:
        weather, world = self.weather, self.world
        first = world.random() < 0.5
        for trouble in ("lose", "lose_reply", "late", "slow", "crash", "nap"):
            chance -= getattr(weather, trouble)
            if chance < 0:
                break
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
