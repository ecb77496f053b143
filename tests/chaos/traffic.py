"""The jobs that run while things break, and what plain Python says of them."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from mrq.connect import Client
from mrq.errors import Unavailable
from mrq.future import JobFuture
from tests.chaos.traces import Places, Traces
from tests.integration.cluster import eventually
from tests.jobs import plain, random_strings

PATIENCE = 240.0
"""Seconds after which a job that has not ended counts as hung: many times what the worst fault costs."""
REFUSED_PAUSE = 1.0
NOISE_BYTES = 40_000
"""Of one value in a big job: more than stays inline."""

Element = tuple[int, str]


class Purposely(Exception):
    """What a function raises that is meant to."""


@dataclass(frozen=True)
class Work:
    """One job's functions and data; its map tasks leave a trace each time they run.

    Args:
        traces: where they are left.
        kind: what it computes.
        data: numbered texts, one for each map task.
        seconds: that a map task takes at least.
    """

    traces: Traces
    kind: Literal["count", "order", "big", "flaky", "wrong"]
    data: Sequence[Element]
    seconds: float

    def map(self, elements: list[Element]) -> list[tuple[Any, Any]]:
        runs = [self.traces.leave(number) for number, _ in elements]
        time.sleep(self.seconds)
        if self.kind == "wrong" or (self.kind == "flaky" and min(runs) == 1):
            raise Purposely(self.kind)
        return self.pairs(elements)

    def pairs(self, elements: list[Element]) -> list[tuple[Any, Any]]:
        """The map function's result, without anything else."""
        if self.kind == "big":
            return [(letter, noise(letter + text)) for _, text in elements for letter in text[:5]]
        return [(letter, number) for number, text in elements for letter in text]

    def reduce(self, values: list[Any]) -> Any:
        time.sleep(self.seconds / 20)
        return self.reduced(values)

    def reduced(self, values: list[Any]) -> Any:
        """The reduce function's result, without anything else."""
        if self.kind == "big":
            return blake2b(b"".join(values)).hexdigest()
        return tuple(values) if self.kind == "order" else sum(values)

    def expected(self) -> list[tuple[Any, Any]] | type[Exception]:
        return Purposely if self.kind == "wrong" else plain(self.data, self.pairs, self.reduced)

    def reruns(self, names: Iterable[str]) -> int:
        """Return how many traces there are beyond those that it takes."""
        takes = 2 if self.kind == "flaky" else 1
        ran = Counter(name.split(".")[0] for name in names)
        return sum(max(0, times - takes) for times in ran.values())


@dataclass
class Run:
    """A submitted job.

    Attributes:
        verdict: ``right`` and ``wrong`` are about the result; ``lost`` ended otherwise; ``hung`` did not end.
    """

    work: Work
    future: JobFuture
    verdict: Literal["", "right", "wrong", "lost", "hung"] = ""
    story: str = ""


@dataclass
class Traffic:
    """Keeps jobs in flight: each of some users submits one after the other.

    Args:
        client: that submits.
        places: for traces.
        seed: what the jobs are.
        users: how many jobs are in flight at once.
    """

    client: Client
    places: Places
    seed: int
    users: int = 3
    runs: list[Run] = field(default_factory=list)
    refused: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        self._threads = [
            threading.Thread(target=self._use, args=(number,), name=f"chaos-user-{number}", daemon=True)
            for number in range(self.users)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Submit no more, and wait for what is in flight."""
        self._over.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
        hanging = [thread.name for thread in self._threads if thread.is_alive()]
        assert not hanging, f"submissions hang: {hanging}"

    def in_flight(self) -> list[Run]:
        return [run for run in list(self.runs) if not run.verdict]

    def flying(self) -> list[Run]:
        """Return the jobs in flight, as soon as there are any."""
        return list(eventually(self.in_flight, "a job is submitted", PATIENCE))

    def reruns(self) -> int:
        return sum(run.work.reruns(self.places.left(run.work.traces)) for run in list(self.runs))

    def _use(self, user: int) -> None:
        draw = random.Random(f"{self.seed}/{user}")
        number = 0
        while not self._over.is_set():
            work = self._work(draw, f"{user}-{number}")
            number += 1
            try:
                future = self.client.mapreduce(
                    work.data, work.map, work.reduce, len(work.data), n_reducers=3,
                    retries=4 if work.kind == "flaky" else 0,
                )  # fmt: skip
            except Unavailable:  # nothing was submitted, and that was said
                self.refused += 1
                self._over.wait(REFUSED_PAUSE)
                continue
            run = Run(work, future)
            self.runs.append(run)
            run.verdict, run.story = judge(run)

    def _work(self, draw: random.Random, name: str) -> Work:
        kinds: list[Any] = ["count", "order", "big", "flaky", "wrong"]
        (kind,) = draw.choices(kinds, [4, 4, 2, 2, 1])
        texts = random_strings(draw.randint(5, 12), seed=draw.getrandbits(32))
        return Work(self.places.traces(name), kind, list(enumerate(texts)), draw.choice([0.1, 0.4, 1.0]))


def noise(seed: str) -> bytes:
    """Return bytes that nothing makes smaller."""
    return random.Random(seed).randbytes(NOISE_BYTES)


def judge(run: Run) -> tuple[Literal["right", "wrong", "lost", "hung"], str]:
    """Wait for a job's end, and say whether that is what it should be."""
    expected = run.work.expected()
    name = run.future.job_id
    try:
        result = run.future.result(PATIENCE)
    except TimeoutError:
        return "hung", f"{name} has not ended after {PATIENCE:g} s"
    except BaseException as error:  # whatever it is, it is the job's end
        if expected is Purposely and isinstance(error, Purposely):
            return "right", ""
        return "lost", f"{name} ({run.work.kind}): {error!r}"
    if result == expected:
        return "right", ""
    return "wrong", f"{name} ({run.work.kind}) gave {str(result)[:300]} instead of {str(expected)[:300]}"
