"""Whole stories as text: ``python -m tests.sim.golden`` writes them anew; a test compares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.sim.functions import KINDS
from tests.sim.plan import Order, Plan
from tests.sim.schedule import Schedule

FOLDER = Path(__file__).parent / "golden"


def _plan(kind: str = "count", **changes: object) -> Plan:
    order = Order(KINDS[kind], 7, 2, 1, at=0.5)
    plan = Plan(1, masters=1, workers=1, orders=[order], until=6.0)
    for name, value in changes.items():
        setattr(plan, name, value)
    return plan


def _cancelled() -> Plan:
    plan = _plan("slow")
    plan.orders[0].cancel_after = 0.8
    return plan


def _straggler() -> Plan:
    return _plan(workers=3, until=3.0, orders=[Order(KINDS["straggles"], 5, 5, 1, at=0.5)])


STORIES: dict[str, Callable[[], Plan]] = {
    "undisturbed": _plan,
    "worker-dies": lambda: _plan("slow", chaos=[(1.1, "kill a worker")]),
    "master-fails-over": lambda: _plan("slow", chaos=[(1.1, "kill the owner")], masters=2),
    "cancelled": _cancelled,
    "straggler": _straggler,
    "bad-records": lambda: _plan("bad records", orders=[Order(KINDS["bad records"], 9, 2, 1, at=0.5)]),
    "full-store": lambda: _plan("slow", chaos=[(1.5, "fill the store")]),
}


def story(name: str) -> str:
    """Play a story; times are left out, for they change with every call that is added or spared."""
    schedule = Schedule(STORIES[name](), telling=True)
    schedule.play()
    lines = [line[11:].rstrip() for line in schedule.world.story if " log: " not in line]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for title in STORIES:
        (FOLDER / f"{title}.txt").write_text(story(title), encoding="utf-8")
