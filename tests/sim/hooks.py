"""What the code under test meets in place of this machine's clocks, threads and dice while a world runs.

`installed` puts them in place. A user's function, which comes back from its pickle as a copy without our globals,
finds its world and its process here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import mrq.code
import mrq.executor.child
import mrq.executor.phases
import mrq.executor.stopwatch
import mrq.following
import mrq.inline
import mrq.packs
import mrq.performer
import mrq.results
import mrq.retention
import mrq.sidecar
import mrq.submit
import mrq.timeline
import mrq.worker

if TYPE_CHECKING:
    from tests.sim.executor import Child
    from tests.sim.world import World

world: World | None = None
child: Child | None = None
"""The process whose user function runs now."""


class WallClock:
    """Stands for the module `time` where the code under test measures, and where it writes times down for people."""

    @staticmethod
    def time() -> float:
        return world.now if world else 0.0

    perf_counter = monotonic = time


class InlinePool:
    """Stands for a `ThreadPoolExecutor` whose results are waited for at once: makes each call when it is given."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, call: Callable[..., Any], *items: Iterable[Any]) -> list[Any]:
        return list(map(call, *items))

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def one_key() -> bytes:
    """Stands for `new_key`, so that the same job has the same bytes in every world."""
    return b"a key for simulated jobs, 32 byte"[:32]


def no_limit(_assignment: Any) -> AbstractContextManager[None]:
    """Stands for `limited`: memory is the world's (`need`), not this machine's."""
    return nullcontext()


_STANDS = (
    (mrq.code, "local_modules", cache(mrq.code.local_modules)),
    (mrq.executor.phases, "limited", no_limit),
    (mrq.sidecar, "ThreadPoolExecutor", InlinePool),
    (mrq.executor.phases, "ThreadPoolExecutor", InlinePool),
    (mrq.results, "ThreadPoolExecutor", InlinePool),
    (mrq.executor.child, "time", WallClock),
    (mrq.executor.stopwatch, "time", WallClock),
    (mrq.inline, "time", WallClock),
    (mrq.packs, "SECONDS", 0.01),  # so that even these small jobs make several
    (mrq.submit, "new_key", one_key),
    (mrq.submit, "time", WallClock),
    (mrq.performer, "time", WallClock),
    (mrq.retention, "time", WallClock),
    (mrq.following, "time", WallClock),
    (mrq.timeline, "ThreadPoolExecutor", InlinePool),
    (mrq.timeline, "time", WallClock),
    (mrq.worker, "time", WallClock),
)


@contextmanager
def installed(new: World) -> Iterator[None]:
    """Let a world be the only one there is."""
    global world, child
    before = [(module, name, getattr(module, name)) for module, name, _ in _STANDS]
    for module, name, stand in _STANDS:
        setattr(module, name, stand)
    outer, world = world, new
    outer_child, child = child, None
    try:
        yield
    finally:
        world, child = outer, outer_child
        for module, name, real in before:
            setattr(module, name, real)


# ---------------------------------------------------------------- for users' functions


def execution() -> int:
    """Return how often this task was executed before."""
    assert world
    assert child
    if child.n_asked == len(child.executions):
        task = child.assignment.task
        place = (task.job_id, task.phase, task.index)
        child.executions.append(world.executions.get(place, 0))
        world.executions[place] = child.executions[-1] + 1
    child.n_asked += 1
    return child.executions[child.n_asked - 1]


def take(seconds: float) -> None:
    """Take time; more of it where all is slow."""
    assert child
    sleep(seconds * child.machine.slowness)


def sleep(seconds: float) -> None:
    """Let time pass. What the function did before is done again after it."""
    assert child
    child.n_waits += 1
    if child.n_waits > len(child.takes):
        child.takes.append(seconds)
        child.sleeps = True
        child.check()


def need(n_bytes: int) -> None:
    """Need so much memory."""
    assert child
    limit = child.assignment.memory_limit
    if limit is not None and n_bytes > limit:
        raise MemoryError(f"no {n_bytes} bytes")


def die() -> None:
    """End this process."""
    assert child
    child.die_by_itself()


def lot() -> int:
    """Return what nobody can foresee."""
    assert world
    return world.dice.randrange(1000)
