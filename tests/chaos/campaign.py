"""A campaign: jobs in flight, one fault after another, sometimes two at once, and how long until things go on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.faults import Fault, struck
from tests.chaos.table import Row
from tests.chaos.traffic import Run, Traffic

RECOVERY_PATIENCE = 180.0
"""Seconds after which a fault that jobs don't get over counts as not recovered from."""
LOOK_EVERY = 0.1
PAIRS = 0.35
"""How often a second fault comes with the first."""
REST = (0.0, 0.5)


@dataclass
class Campaign:
    """One seed's worth of trouble.

    Args:
        stage: where it happens.
        faults: of which there is each at least once, if there is room.
        traffic: the jobs.
        seed: which faults come when.
        say: called with each line of the story.
    """

    stage: Any
    faults: Sequence[Fault]
    traffic: Traffic
    seed: int
    say: Callable[[str], None]
    rows: dict[str, Row] = field(default_factory=dict)
    unrecovered: list[str] = field(default_factory=list)
    _reruns: int = 0
    _began: float = field(default_factory=time.monotonic)

    def run(self, n_faults: int) -> None:
        """Let so many faults happen."""
        draw = random.Random(self.seed)
        self.rows = {fault.name: Row() for fault in self.faults}
        left = schedule(self.faults, n_faults, draw)
        while left:
            together = [left.pop()]
            if draw.random() < PAIRS and (second := companion(together[0], left)):
                left.remove(second)
                together.append(second)
            self._happen(together, [random.Random(draw.getrandbits(64)) for _ in together])
            time.sleep(draw.uniform(*REST))

    def _happen(self, together: list[Fault], draws: list[random.Random]) -> None:
        """Have faults, and measure what becomes of the jobs in flight."""
        flying = self.traffic.flying()
        before = {run.future.job_id: self.stage.watcher.committed(run.future.job_id) for run in flying}
        began = time.monotonic()
        self.say(f"{began - self._began:7.1f} {' + '.join(fault.name for fault in together)}")
        with ThreadPoolExecutor(len(together)) as pool:
            striking = [pool.submit(self._strike, *pair) for pair in zip(together, draws, strict=True)]
            seconds = self._recovered(flying, before, began)
            for strike in striking:
                strike.result()
        again = self._new_reruns()
        outcome = "NOT recovered" if seconds is None else f"recovered in {seconds:.1f} s"
        self.say(f"{'':7} {outcome}, {again} reruns")
        for fault in together:
            self.rows[fault.name].note(flying, seconds, again)
        if seconds is None:
            self.unrecovered += [fault.name for fault in together]

    def _new_reruns(self) -> int:
        before, self._reruns = self._reruns, self.traffic.reruns()
        return self._reruns - before

    def _strike(self, fault: Fault, draw: random.Random) -> None:
        with struck(fault, self.stage, self.traffic, draw):
            time.sleep(draw.uniform(*fault.lasts))

    def _recovered(self, flying: list[Run], before: dict[str, int], began: float) -> float | None:
        """Return the seconds until every job has committed another task or ended; None if one does neither."""
        waiting = list(flying)
        while waiting:
            if time.monotonic() > began + RECOVERY_PATIENCE:
                return None
            time.sleep(LOOK_EVERY)
            waiting = [
                run for run in waiting
                if not run.verdict and self.stage.watcher.committed(run.future.job_id) <= before[run.future.job_id]
            ]  # fmt: skip
        return time.monotonic() - began


def schedule(faults: Sequence[Fault], number: int, draw: random.Random) -> list[Fault]:
    """Return so many faults: each kind once before any comes again, then by how often they are in a deck."""
    first = list(faults)
    draw.shuffle(first)
    later = [fault for fault in faults for _ in range(fault.often)]
    found = first[:number]
    found += draw.choices(later, k=max(0, number - len(found)))
    draw.shuffle(found)
    return found


def companion(fault: Fault, left: Sequence[Fault]) -> Fault | None:
    """Return the next fault that may happen together with one: of another area."""
    return next((other for other in reversed(left) if other.area != fault.area), None)
