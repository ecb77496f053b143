"""The same attempt on two workers at once, as after a connection ended: an interleaving that chance hardly finds."""

from __future__ import annotations

from collections.abc import Callable

from mrq import layout
from mrq.blob import Signer
from mrq.core.model import Phase
from mrq.segment import SegmentReader
from mrq.wire import Assignment, Outcome, TaskMessage
from tests.sim import hooks
from tests.sim.cast import ClientNode
from tests.sim.executor import Child, _SimRunner
from tests.sim.functions import KINDS
from tests.sim.plan import Order, Plan
from tests.sim.schedule import Schedule
from tests.sim.store import SimStore
from tests.sim.world import Process


class Hooked(SimStore):
    """A store that lets something happen between an attempt's write and its rename."""

    before_rename: Callable[[], None] = lambda self: None

    def rename(self, source: str, target: str) -> bool:
        self.before_rename()
        return super().rename(source, target)


def test_an_attempt_that_runs_twice_reports_what_is_committed() -> None:
    """Both have written, each its own file; the first to rename wins, and both tell of that one."""
    schedule = Schedule(Plan(0))
    services = schedule.services
    with hooks.installed(schedule.world):
        client = ClientNode(services, "client")
        job_id = client.submit(Order(KINDS["by lot"], 12, 1, 1))
        record = services.judge.record(job_id)
        assert record
        task = TaskMessage(job_id=job_id, phase=Phase.MAP, index=0, epoch=1, attempt=0)
        assignment = Assignment(
            task=task,
            key=record.key,
            n_map=1,
            n_reduce=1,
            input_length=record.input_length,
            frame_bytes=1000,
            store={},
            inline=record.inline,
        )
        runs = [assignment.model_copy(update={"run": name}) for name in ("one", "other")]
        one, other = (_child(schedule, run, run.run) for run in runs)
        stores = [Hooked(services.hdfs, services.network, child) for child in (one, other)]
        told: list[Outcome] = []
        target = layout.result(job_id, Phase.MAP, 0)

        def other_runs() -> None:
            hooks.child = other
            told.append(_SimRunner(stores[1]).run(runs[1]))

        stores[0].before_rename = other_runs
        stores[1].before_rename = lambda: services.hdfs.rename(layout.attempt(task, "one"), target) and None
        hooks.child = one
        told.append(_SimRunner(stores[0]).run(runs[0]))
        committed = SegmentReader(
            stores[0], target, None, Signer(bytes.fromhex(record.key), job_id), "map", 0
        ).summary
    assert [outcome.digest for outcome in told] == [committed.digest, committed.digest]


def _child(schedule: Schedule, assignment: Assignment, name: str) -> Child:
    host = Process(schedule.world, f"worker of {name}")
    return Child(schedule.world, name, host, assignment, lambda *_: None)
