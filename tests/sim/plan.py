"""One seed, one plan: who is there, what they are asked for, and what will befall them."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from mrq.future import JobFuture
from tests.sim.functions import KINDS, Task
from tests.sim.network import Weather
from tests.sim.world import Crashed


@dataclass
class Order:
    """A job that the client wants."""

    kind: Task
    n: int
    n_workers: int | None
    n_reducers: int | None
    at: float = 0.0
    speculative: bool = True
    cancel_after: float | None = None
    job_id: str = ""
    future: JobFuture | None = None
    cancelled: bool = False

    @property
    def data(self) -> list[int]:
        return list(range(self.n))

    @property
    def over(self) -> bool:
        """Whether the future has ended, and not because its client did."""
        future = self.future
        if future is None or not future.done():
            return False
        return future.cancelled() or not isinstance(future.exception(timeout=0), Crashed)

    def __str__(self) -> str:
        return (
            f"{self.kind.name!r} on {self.n} elements, {self.n_workers} splits, {self.n_reducers} partitions"
        )


@dataclass
class Plan:
    """What a seed stands for.

    Attributes:
        slots: of each worker.
        slow: at how many of the first workers functions take ten times as long.
        fair: nothing goes wrong but what functions do; processes come and go in good order.
    """

    seed: int
    masters: int = 1
    workers: int = 1
    slots: int = 1
    slow: int = 0
    fair: bool = False
    orders: list[Order] = field(default_factory=list)
    weather: Weather = field(default_factory=Weather)
    until: float = 0.0
    chaos: list[tuple[float, str]] = field(default_factory=list)


CHAOS = (
    "kill a master",
    "kill a worker",
    "kill the client",
    "kill a child",
    "stop a master",
    "stop a worker",
    "end a master",
    "end a worker",
    "add a master",
    "add a worker",
    "scale down",
    "scale up",
    "slow a worker",
    "expire a session",
    "cut a link",
    "take a service away",
    "fill the store",
    "reset a connection",
    "lose a queue",
    "leave a stray file",
)

IN_GOOD_ORDER = (
    "end a master",
    "end a worker",
    "add a master",
    "add a worker",
    "scale down",
    "scale up",
    "slow a worker",
    "kill the client",
)

RATES = {
    "lose": 0.01,
    "lose_reply": 0.015,
    "late": 0.01,
    "slow": 0.02,
    "crash": 0.012,
    "nap": 0.006,
    "duplicate": 0.08,
    "lag": 0.3,
    "torn": 0.03,
}


def plan_of(seed: int) -> Plan:
    """Draw a schedule; most have some kinds of trouble and not others, so that each gets its share alone."""
    dice = Random(seed)
    plan = Plan(seed, masters=dice.choice((1, 1, 2, 2, 3)), workers=dice.choice((1, 2, 2, 3)))
    plan.slots = dice.choice((1, 1, 1, 2))
    plan.until = dice.uniform(2.0, 9.0)
    for _ in range(dice.choice((1, 1, 1, 2))):
        plan.orders.append(_order(dice))
    strength = dice.choice((0.3, 1.0, 1.0, 2.0))
    plan.weather = Weather(
        **{name: rate * strength * dice.random() for name, rate in RATES.items() if dice.random() < 0.4}
    )
    kinds = [kind for kind in CHAOS if dice.random() < 0.35]
    if kinds:
        for _ in range(dice.choice((0, 1, 2, 4, 7))):
            plan.chaos.append((dice.uniform(0, plan.until), dice.choice(kinds)))
    _storm(plan, dice)
    return plan


def _order(dice: Random) -> Order:
    order = Order(
        KINDS[dice.choice(list(KINDS))],
        dice.choice((5, 7, 12)) if dice.random() > 0.04 else 0,
        dice.choice((None, 1, 2, 3, 6)),
        dice.choice((None, 1, 2, 3)),
        at=dice.uniform(0, 1),
        speculative=dice.random() < 0.8,
    )
    if dice.random() < 0.15:
        order.cancel_after = dice.choice((0.0, dice.uniform(0, 0.3), dice.uniform(0, 6)))
    return order


def _storm(plan: Plan, dice: Random) -> None:
    """Let some schedules have much of one trouble that is rare otherwise."""
    chance = dice.random()
    if chance < 0.08:  # the same attempts on several workers at once
        plan.workers = 3
        plan.weather.slow = 0.08
        plan.chaos += [(dice.uniform(0.2, plan.until), "reset a worker") for _ in range(15)]
        if dice.random() < 0.5:
            for order in plan.orders:
                order.kind = KINDS["by lot"]
    elif chance < 0.12:
        plan.weather.slow = 0.05
        plan.chaos += [(dice.uniform(0.2, plan.until), "kill a child") for _ in range(25)]
    elif chance < 0.20:  # stragglers, and their backups
        plan.workers, plan.slow, plan.until = 3, 1, 9.0
        for order in plan.orders:
            order.kind = KINDS[dice.choice(("slow", "straggles", "straggles, raises", "slow by lot"))]
            order.n, order.n_workers = 12, dice.choice((6, 12))
        if dice.random() < 0.5:
            plan.weather, plan.fair, plan.chaos = Weather(), True, []
        else:
            plan.chaos += [(dice.uniform(0.2, plan.until), "stop a worker") for _ in range(4)]
            plan.orders[0].cancel_after = dice.choice((None, dice.uniform(0.5, 6)))
    elif chance < 0.28:
        plan.weather, plan.fair = Weather(), True
        plan.chaos = [(dice.uniform(0, plan.until), dice.choice(IN_GOOD_ORDER)) for _ in range(4)]
