"""A worker's child processes, simulated: the real `child.Runner` and `phases`, in processes that die when they must."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mrq.executor import verdict
from mrq.executor.child import Runner
from mrq.ports import Store
from mrq.wire import Assignment, Outcome, TaskMessage
from tests.sim import hooks
from tests.sim.judge import Judge
from tests.sim.network import Network
from tests.sim.store import SimHdfs, SimStore
from tests.sim.world import Crashed, Process, World

OnOutcome = Callable[[Assignment, Outcome], None]


class _SimRunner(Runner):
    """Runs tasks as a child does, but for the store that it opens."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._sim_store = store

    def _open(self, address: dict[str, Any]) -> Store:
        return self._sim_store


class Asleep(BaseException):
    """Unwinds what a child was doing when its function began to take its time: it is done again when that is over.

    So one that takes long keeps nobody else from going on, as it would if it waited for its time inside a call. It has
    read, and written nothing.
    """


class Child(Process):
    """A process that runs one task.

    Attributes:
        takes: how long each of its function's waits is, as far as it has come.
        executions: what `hooks.execution` said, call by call.
        n_waits: how many of its waits are over or begun, this time.
        n_asked: how often `hooks.execution` was called, this time.
        sleeps: it is in the last of its waits.
    """

    def __init__(
        self, world: World, name: str, host: Process, assignment: Assignment, on_outcome: OnOutcome
    ) -> None:
        super().__init__(world, name, host)
        self.assignment = assignment
        self.on_outcome = on_outcome
        self.told = False
        self.last_words: Outcome | None = None
        self.takes: list[float] = []
        self.executions: list[int] = []
        self.n_waits = self.n_asked = 0
        self.sleeps = False
        self.when_dead: Callable[[], None] = lambda: None

    def check(self) -> None:
        super().check()
        if self.sleeps:
            raise Asleep

    def die(self) -> None:
        super().die()
        self.world.at(0.0, self.when_dead)

    def die_by_itself(self) -> None:
        """End as a function does that calls ``os._exit``."""
        self.last_words = verdict.ended(3)
        self.alive = False
        raise Crashed(self.name)


class SimExecutor:
    """Does what `mrq.executor.pool.Executor` does for a worker."""

    def __init__(self, world: World, network: Network, hdfs: SimHdfs, host: Process, judge: Judge) -> None:
        self.world = world
        self.network = network
        self.hdfs = hdfs
        self.host = host
        self.judge = judge
        self.draining = False
        self._children: list[Child] = []
        self._n = 0

    def start(self, assignment: Assignment, timeout: float | None, on_outcome: OnOutcome) -> None:
        """See `Executor.start`."""
        self.judge.started(self.host, assignment, draining=self.draining)
        self._n += 1
        child = Child(self.world, f"{self.host.name}.{self._n}", self.host, assignment, on_outcome)
        self._children.append(child)
        wait = self.world.between(0.002, 0.02)
        if self.world.random() < self.network.weather.slow * 4:
            wait = self.world.between(0.1, 4.0)
        self.world.at(wait, partial(self._run, child, timeout))

    def kill(self, job_id: str) -> None:
        """See `Executor.kill`."""
        for child in [c for c in self._children if c.assignment.task.job_id == job_id]:
            self.end(child, verdict.killed("the job was cancelled"))

    def kill_task(self, task_id: str) -> None:
        """See `Executor.kill_task`."""
        for child in [c for c in self._children if c.assignment.task.task_id == task_id]:
            self.end(child, verdict.killed("another attempt has committed it"))

    def running(self) -> list[TaskMessage]:
        """See `Executor.running`."""
        return [child.assignment.task for child in self._children]

    def close(self) -> None:
        """See `Executor.close`."""
        for child in list(self._children):
            self.end(child, verdict.killed("the worker is ending"))

    def end(self, child: Child, outcome: Outcome) -> None:
        """Kill a child; its outcome is that, unless it has told one."""
        child.alive = False
        self._tell(child, outcome)

    def a_child(self) -> Child | None:
        """Return one that runs, for the chaos to kill."""
        return self._children[0] if self._children else None

    def _run(self, child: Child, timeout: float | None) -> None:
        child.when_dead = partial(self._see_whether_dead, child)
        if child.lives and timeout is not None:
            self.world.at(timeout, partial(self._too_late, child, timeout))
        self._go_on(child)

    def _go_on(self, child: Child) -> None:
        """Run a child to its end, or until it sleeps."""
        child.sleeps = False
        child.act(partial(self._work, child))
        self._see_whether_dead(child)

    def _see_whether_dead(self, child: Child) -> None:
        if not child.alive and not child.busy and self.host.alive:
            self._tell(child, child.last_words or verdict.killed("the helper that forks processes has ended"))

    def _work(self, child: Child) -> None:
        runner = _SimRunner(SimStore(self.hdfs, self.network, child))
        outer, hooks.child = hooks.child, child
        child.n_asked = child.n_waits = 0
        try:
            child.check()
            outcome = runner.run(child.assignment)
            child.check()
            self._tell(child, outcome)
        except Asleep:
            self.world.at(child.takes[-1], partial(self._go_on, child))
        finally:
            hooks.child = outer

    def _too_late(self, child: Child, timeout: float) -> None:
        if not child.told and child.lives:
            self.end(child, verdict.timed_out(timeout))

    def _tell(self, child: Child, outcome: Outcome) -> None:
        if child.told:
            return
        child.told = True
        self._children.remove(child)
        self.judge.ended(child.assignment, outcome)
        task = child.assignment.task
        self.world.tell(
            child.name, f"{task.task_id} {outcome.kind} {outcome.type} {outcome.message}".rstrip()
        )
        self.world.at(self.world.between(0.0005, 0.003), partial(self._told, child, outcome))

    def _told(self, child: Child, outcome: Outcome) -> None:
        if self.host.alive:
            child.on_outcome(child.assignment, outcome)
