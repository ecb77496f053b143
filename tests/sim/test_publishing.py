"""The master does not wait for confirms: what is not confirmed comes back to it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mrq.errors import BrokerUnavailable
from mrq.master import Master
from tests.sim import hooks
from tests.sim.broker import SimBroker
from tests.sim.cast import ClientNode, MasterNode, WorkerNode, heard
from tests.sim.functions import KINDS
from tests.sim.plan import Order, Plan
from tests.sim.schedule import Schedule
from tests.sim.world import SimFuture


def published() -> Counter[tuple[str, int]]:
    """Run a job on one master and one worker; return how often each attempt of each task was published."""
    count: Counter[tuple[str, int]] = Counter()
    publish = SimBroker.publish

    def counting(self: SimBroker, messages: Any) -> Any:
        count.update((m.message_id, int(m.headers["attempt"])) for m in messages if m.type == "task")
        return publish(self, messages)

    order = Order(KINDS["count"], 12, 6, 2)
    schedule = Schedule(Plan(0, orders=[order]))
    world = schedule.world
    with hooks.installed(world), heard(schedule.services.judge), pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimBroker, "publish", counting)
        schedule.cast.add(MasterNode)
        schedule.cast.add(WorkerNode)
        schedule.chaos.client = schedule.cast.add(ClientNode)
        world.run(1.0)
        schedule._submit(order)
        world.run(60.0, lambda: order.future is not None and order.future.done())
    assert order.future
    assert order.future.exception(0) is None
    return count


def test_nobody_waits_for_a_confirm(monkeypatch: pytest.MonkeyPatch) -> None:
    def waits(*_: Any) -> None:
        raise AssertionError("somebody waits")

    monkeypatch.setattr(SimFuture, "result", waits)
    assert len(published()) == 6 + 2 + 2


@pytest.mark.parametrize("arrives", [True, False])
def test_what_is_not_confirmed_is_sent_again_if_somebody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    """The first tasks are lost, or their confirm is; no other look finds them."""
    monkeypatch.setattr(Master, "_reconcile", lambda _: None)
    arrive = SimBroker._arrive
    lost: list[Any] = []

    def unconfirmed(self: SimBroker, batch: Any, future: SimFuture, deadline: float) -> None:
        if lost or not batch[0][0].exchange.endswith(".tasks"):
            arrive(self, batch, future, deadline)
            return
        lost.extend(batch)
        if arrives:
            self._take(batch)
        self.world.at(1.0, lambda: self._end(future, BrokerUnavailable("no confirm in time")))

    monkeypatch.setattr(SimBroker, "_arrive", unconfirmed)
    count = published()
    again = [task for task, n in count.items() if n > 1]
    assert len(lost) == 2
    assert len(again) == (0 if arrives else len(lost))
    assert len(count) == 6 + 2 + 2
