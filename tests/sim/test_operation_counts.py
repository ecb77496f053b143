"""What a job costs the servers, counted in calls: the same on any machine, however busy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from mrq import packs
from tests.sim import cast, hooks
from tests.sim.broker import SimBroker
from tests.sim.cast import ClientNode, MasterNode, WorkerNode, heard
from tests.sim.functions import KINDS
from tests.sim.plan import Order, Plan
from tests.sim.schedule import Schedule
from tests.sim.store import SimStore
from tests.sim.tree import SimSession

CALLS: dict[type, dict[str, str]] = {
    SimStore: dict.fromkeys(("write", "rename", "make_dirs", "delete"), "HDFS changes")
    | dict.fromkeys(("read", "status", "list"), "HDFS looks"),
    SimSession: dict.fromkeys(("create", "set", "delete"), "ZooKeeper writes"),
}


def calls(n_map: int, n_reduce: int, inline_bytes: int) -> Counter[str]:
    """Run a job where nothing goes wrong, on one master and one worker; count from its submission to its end."""
    count: Counter[str] = Counter()
    order = Order(KINDS["count"], 40, n_map, n_reduce)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cast, "INLINE_BYTES", (inline_bytes,))
        stands = tuple(
            stand for stand in hooks._STANDS if stand[0] is not packs
        )  # packs as in a real cluster
        patch.setattr(hooks, "_STANDS", stands)
        schedule = Schedule(Plan(0, orders=[order]))
        world = schedule.world
        with hooks.installed(world), heard(schedule.services.judge):
            schedule.cast.add(MasterNode)
            schedule.cast.add(WorkerNode)
            schedule.chaos.client = schedule.cast.add(ClientNode)
            world.run(1.0, lambda: False)
            for kind, names in CALLS.items():
                for name, what in names.items():
                    patch.setattr(kind, name, counted(getattr(kind, name), count, what))
            patch.setattr(SimBroker, "publish", counted(SimBroker.publish, count, "publishes", len))
            schedule._submit(order)
            world.run(60.0, lambda: order.future is not None and order.future.done())
    assert order.future
    assert order.future.exception(0) is None
    return count


def counted(
    call: Callable[..., Any], count: Counter[str], what: str, how_many: Callable[[Any], int] = lambda _: 1
) -> Callable[..., Any]:
    """Let a method be counted."""

    def counting(self: Any, first: Any, *args: Any, **more: Any) -> Any:
        count[what] += how_many(first)
        return call(self, first, *args, **more)

    return counting


def per_task(inline_bytes: int) -> dict[str, float]:
    """Return what each task more costs; the job's own cost falls out."""
    small, big = calls(4, 2, inline_bytes), calls(16, 2, inline_bytes)
    return {what: (big[what] - small[what]) / 12 for what in small}


def test_a_task_costs_three_messages_and_no_write_to_zookeeper() -> None:
    """It is given out, received, and done."""
    for inline_bytes in (0, 32768):
        cost = per_task(inline_bytes)
        assert cost["publishes"] == 3
        assert cost["ZooKeeper writes"] * 12 <= 2, "progress is written now and then, not for each task"


def test_a_file_costs_a_write_and_a_rename() -> None:
    """A map task reads code and input, writes its result and renames it; each of two shuffle tasks then reads it."""
    cost = per_task(0)
    assert cost["HDFS changes"] == 2
    assert cost["HDFS looks"] == 2 + 2


def test_small_results_of_many_tasks_cost_no_file_each() -> None:
    """One pack has them all, and each of two shuffle tasks reads that."""
    cost = per_task(60)
    assert cost["HDFS changes"] == 0
    few, many = calls(20, 2, 60), calls(40, 2, 60)
    assert few["HDFS changes"] == many["HDFS changes"]


def test_a_small_job_changes_hdfs_for_its_manifest_only() -> None:
    """Its folder, the manifest, its rename, two deletes of attempts, and the timeline; however many tasks."""
    small, big = calls(4, 2, 32768), calls(16, 4, 32768)
    assert small["HDFS changes"] == big["HDFS changes"] <= 6
    assert small["HDFS looks"] == big["HDFS looks"] <= 1
    assert small["ZooKeeper writes"] <= 16
