"""Orders to stop a task: from whom a worker takes them."""

from __future__ import annotations

from mrq import envelope, layout
from mrq.core.model import Phase
from mrq.wire import Control
from tests.sim import hooks
from tests.sim.cast import MasterNode, WorkerNode, heard
from tests.sim.functions import KINDS
from tests.sim.plan import Order, Plan
from tests.sim.schedule import Schedule
from tests.sim.store import Inode


def test_a_task_is_stopped_by_its_own_epoch_and_not_by_one_that_is_over() -> None:
    """What an older master knew to be committed may have been inline, and gone with it."""
    order = Order(KINDS["slow"], 5, 1, 1)
    schedule = Schedule(Plan(0, orders=[order]))
    world, services = schedule.world, schedule.services
    with hooks.installed(world), heard(services.judge):
        schedule.begin()
        worker = next(node for node in schedule.cast.nodes.values() if isinstance(node, WorkerNode))
        world.run(5.0, lambda: bool(worker.executor.running()))
        record, [task] = services.judge.record(order.job_id), worker.executor.running()
        assert record
        assert (task.phase, task.epoch) == (Phase.MAP, record.epoch)
        path = layout.result(order.job_id, task.phase, task.index)
        services.judge.committed[path] = Inode(path, b"another's")

        def ordered_to_stop(epoch: int) -> bool:
            """Give the order, and say whether the task ends long before it is done."""
            body = Control(job_id=order.job_id, order="revoke", task_id=task.task_id, epoch=epoch)
            worker.broker.publish([envelope.control(services.rabbit.topology, body, record.key)])
            world.run(world.now + 0.2)
            return task not in worker.executor.running()

        assert not ordered_to_stop(record.epoch - 1)
        assert ordered_to_stop(record.epoch)


def test_a_task_of_a_job_that_is_over_is_stopped_without_an_order() -> None:
    """The order is a broadcast, and may be lost: here nobody lives who would give it."""
    order = Order(KINDS["endless"], 5, 1, 1)
    schedule = Schedule(Plan(0, orders=[order]))
    world = schedule.world
    with hooks.installed(world), heard(schedule.services.judge):
        schedule.begin()
        nodes = schedule.cast.nodes.values()
        worker = next(node for node in nodes if isinstance(node, WorkerNode))
        world.run(5.0, lambda: bool(worker.executor.running()))
        assert worker.executor.running()
        next(node for node in nodes if isinstance(node, MasterNode)).process.die()
        worker.registry.request_cancel(order.job_id, world.now)
        world.run(world.now + 1.5, lambda: not worker.executor.running())
        assert worker.executor.running() == []
