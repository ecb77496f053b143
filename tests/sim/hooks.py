"""What the code under test meets in place of this machine's clocks, threads and dice while a world runs.

`installed` puts them in place. A user's function, which comes back from its pickle as a copy without our globals,
finds its world and its process here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mrq.executor.child
import mrq.executor.phases
import mrq.executor.stopwatch
import mrq.following
import mrq.inline
import mrq.performer
import mrq.results
import mrq.retention
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


_STANDS = (
    (mrq.executor.phases, "ThreadPoolExecutor", InlinePool),
    (mrq.results, "ThreadPoolExecutor", InlinePool),
    (mrq.executor.child, "time", WallClock),
    (mrq.executor.stopwatch, "time", WallClock),
    (mrq.inline, "time", WallClock),
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
    task = child.assignment.task
    place = (task.job_id, task.phase, task.index)
    world.executions[place] = world.executions.get(place, 0) + 1
    return world.executions[place] - 1


def take(seconds: float) -> None:
    """Take time."""
    assert world
    sleeper = child
    assert sleeper
    world.run(world.now + seconds, lambda: not sleeper.lives)
    sleeper.check()


def die() -> None:
    """End this process."""
    assert child
    child.die_by_itself()


def lot() -> int:
    """Return what nobody can foresee."""
    assert world
    return world.dice.randrange(1000)
