"""One trouble at each request or message of each process in turn: nothing is left to chance here."""

from __future__ import annotations

import pytest

from tests.sim.functions import KINDS
from tests.sim.network import Strike
from tests.sim.plan import Order, Plan
from tests.sim.schedule import Schedule
from tests.sim.world import Violation

PROCESSES = ("master", "worker", "child", "client")
TROUBLES = [
    pytest.param("crash", True, id="dies before it is done"),
    pytest.param("crash", False, id="dies after it is done"),
    pytest.param("nap", True, id="is stopped before it is done"),
    pytest.param("nap", False, id="is stopped after it is done"),
    pytest.param("lose_reply", True, id="asks again"),
    pytest.param("lose_reply", False, id="gives up, and it is done"),
    pytest.param("lose", True, id="gives up, and it is not done"),
    pytest.param("late", True, id="gives up, and it is done later"),
]


def struck(kind: str, strike: Strike) -> str:
    """Play a small job with one trouble; return what was broken, or nothing."""
    order = Order(KINDS[kind], 5, 2, 1, at=0.1)
    schedule = Schedule(Plan(strike.nth, masters=2, workers=2, orders=[order], until=2.5))
    schedule.services.network.strike = strike
    try:
        schedule.play()
    except Violation as violation:
        return f"{strike}: {violation}"
    return ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("trouble", "first"), TROUBLES)
def test_trouble_at_any_step_breaks_no_promise(process: str, trouble: str, first: bool) -> None:
    """Each request that such processes make until the job is over; for deaths and stops each message, too."""
    nth, broken = 0, []
    while True:
        strike = Strike(process, nth, trouble, first)
        broken += [fault] if (fault := struck("bad records", strike)) else []
        if not strike.has_come:
            break
        nth += 1
    assert nth >= 4, "there are more steps than that"
    assert broken == []
