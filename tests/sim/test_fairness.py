"""Who has to wait for whom, counted in tasks: the same on any machine, however busy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mrq.core.model import Phase
from mrq.future import JobFuture
from mrq.submit import Options
from tests.sim import hooks
from tests.sim.cast import ClientNode, MasterNode, WorkerNode, heard
from tests.sim.functions import KINDS
from tests.sim.plan import Plan
from tests.sim.schedule import Schedule

N_WORKERS = 4


@contextmanager
def cluster(n_masters: int) -> Iterator[Schedule]:
    """Masters, four workers and a client, whom nothing befalls."""
    schedule = Schedule(Plan(0))
    with hooks.installed(schedule.world), heard(schedule.services.judge):
        for _ in range(n_masters):
            schedule.cast.add(MasterNode)
        for _ in range(N_WORKERS):
            schedule.cast.add(WorkerNode)
        schedule.chaos.client = schedule.cast.add(ClientNode)
        schedule.world.run(1.0, lambda: False)
        yield schedule


def submit(schedule: Schedule, n_splits: int, priority: int = 0) -> JobFuture:
    """Submit a job of so many map tasks."""
    client, kind = schedule.chaos.client, KINDS["count"]
    assert isinstance(client, ClientNode)
    options = Options(requested_n_workers=n_splits, n_reducers=1, priority=priority)
    return client.follow(
        client._submitter.submit(list(range(2 * n_splits)), kind.map_func, kind.reduce_func, options)
    )


def mapped(schedule: Schedule, future: JobFuture) -> int:
    """Return how many map tasks of a job are done, as its master last said."""
    assert isinstance(schedule.chaos.client, ClientNode)
    shown = schedule.chaos.client.registry.progress(future.job_id).phases
    return shown[Phase.MAP].done if Phase.MAP in shown else 0


def until(schedule: Schedule, condition: Callable[[], bool]) -> None:
    schedule.world.run(120.0, condition)
    assert condition()


@pytest.mark.parametrize("n_masters", [1, 2])
def test_a_tiny_job_waits_for_few_tasks_of_a_big_one(n_masters: int) -> None:
    """Each of its three phases waits for the big one's window, not for its queue; also when another master has that."""
    with cluster(n_masters) as schedule:
        big = submit(schedule, 1000)
        until(schedule, lambda: mapped(schedule, big) > 20)
        tiny = submit(schedule, 2)
        before = schedule.services.judge.n_started(big.job_id)
        until(schedule, tiny.done)
        waited_for = schedule.services.judge.n_started(big.job_id) - before
        assert 0 < waited_for < 30


def test_of_two_equal_jobs_the_one_with_priority_is_done_first() -> None:
    """It was submitted later, and when it is done a quarter of the other is left at least."""
    with cluster(1) as schedule:
        plain, urgent = submit(schedule, 200), submit(schedule, 200, priority=3)
        until(schedule, urgent.done)
        assert mapped(schedule, plain) < 150  # 87 to 129, by the least change of what calls there are
