"""A plan being played: the calm beginning, the troubles, and the end at which every promise must have been kept."""

from __future__ import annotations

from functools import cache, partial

from mrq.errors import MrqError, NodeExists
from tests.sim import hooks
from tests.sim.cast import Cast, ClientNode, MasterNode, Services, WorkerNode, heard
from tests.sim.chaos import Chaos
from tests.sim.ending import Ending
from tests.sim.functions import KINDS
from tests.sim.network import FAIR
from tests.sim.plan import Order, Plan, plan_of
from tests.sim.world import Violation, World

PATIENCE = 150.0
"""Virtual seconds within which all ends once the troubles have."""
SETTLE = 25.0
"""Virtual seconds within which nothing is left over after that."""


class Schedule:
    """A plan being played."""

    def __init__(self, plan: Plan, *, telling: bool = False, first_job: int = 0) -> None:
        self.plan = plan
        self.world = World(plan.seed, telling=telling)
        self.services = Services(self.world, slots=plan.slots)
        self.services.judge.fair = plan.fair
        self.cast = Cast(self.services)
        self.chaos = Chaos(plan, self.services, self.cast)
        self.ending = Ending(self.services, self.cast)
        if first_job:
            self.services.tree.create("/ids/jobs", str(first_job - 1).encode(), 0)

    def play(self) -> None:
        """Play it to the end; raises `Violation`."""
        world, plan = self.world, self.plan
        with hooks.installed(world), heard(self.services.judge):
            self.begin()
            self.services.network.weather = plan.weather
            for at, what in plan.chaos:
                world.at(at, partial(self.chaos.befall, what))
            if plan.until:
                world.run(plan.until)
            self._calm()
            self._end()

    def begin(self) -> None:
        """Start everybody, and have the client ask for its jobs."""
        for _ in range(self.plan.masters):
            self.cast.add(MasterNode)
        for number in range(self.plan.workers):
            self.cast.add(WorkerNode).process.slowness = 10.0 if number < self.plan.slow else 1.0
        self.chaos.client = self.cast.add(ClientNode)
        for order in self.plan.orders:
            self.world.at(order.at, partial(self._submit, order))

    # ------------------------------------------------------------ what the client wants

    def _submit(self, order: Order) -> None:
        client = self.chaos.client
        if not isinstance(client, ClientNode):
            return
        if not client.process.act(partial(self._submit_now, client, order)) or not order.job_id:
            self.world.at(0.3, partial(self._submit, order))

    def _submit_now(self, client: ClientNode, order: Order) -> None:
        self.world.tell(client.name, f"submits {order}")
        try:
            order.job_id = client.submit(order)
        except MrqError as error:
            if isinstance(error, NodeExists):
                self.world.accuse(f"a submission found its own record in its way: {error}")
            self.world.tell(client.name, f"could not submit: {error!r}")
            return
        if not order.over:
            order.future = client.follow(order.job_id)
        if order.cancel_after is not None:
            self.world.at(order.cancel_after, partial(self._cancel, order))

    def _cancel(self, order: Order) -> None:
        client, future = self.chaos.client, order.future
        if client is None or future is None:
            return

        def now() -> None:
            self.world.tell(client.name, f"cancels {order.job_id}")
            order.cancelled = True
            future.cancel()

        if not client.process.act(now):
            self.world.at(0.2, partial(self._cancel, order))

    # ------------------------------------------------------------ how it ends

    def _calm(self) -> None:
        """End all troubles; whoever starts now stays."""
        self.world.tell("", "-------- the troubles end --------")
        self.services.network.weather = FAIR
        self.services.network.heal()
        self.services.hdfs.full_until = min(self.services.hdfs.full_until, self.world.now)
        for node in self.cast.nodes.values():
            node.process.slowness = 1.0
        self._replace_the_dead()

    def _replace_the_dead(self) -> None:
        for role in ("masters", "workers"):
            if not self.cast.living(role):
                self.chaos.add(role)
        self.chaos.new_client()

    def _end(self) -> None:
        world, orders = self.world, self.plan.orders
        deadline = world.now + PATIENCE
        while world.now < deadline and self.ending.unfinished(orders):
            world.run(min(deadline, world.now + 0.5))
            self._replace_the_dead()  # one may have died as the troubles ended
        if left := self.ending.unfinished(orders):
            self._accuse(f"not ended {PATIENCE:g} s after the troubles: {', '.join(left)}")
        for order in orders:
            if fault := self.ending.fault_of(order):
                self._accuse(fault)
        settled = world.now + SETTLE
        while world.now < settled and self.ending.left_over():
            world.run(min(settled, world.now + 0.5))
        if left := self.ending.left_over():
            self._accuse(f"left over: {', '.join(left)}")
        for order in orders:
            self._check_bytes(order)

    def _check_bytes(self, order: Order) -> None:
        """Compare the committed files with those of a run without troubles."""
        mine, record = self.ending.files_of(order), self.services.judge.record(order.job_id)
        if mine is None or record is None:
            return
        shape = (order.kind.like or order.kind.name, order.n, max(1, record.n_map), max(1, record.n_reduce))
        if mine != undisturbed(shape, int(order.job_id.partition("_")[2])):
            self._accuse(f"{order.job_id} ({order}): the files are not the same bytes as without troubles")

    def _accuse(self, what: str) -> None:
        self.world.accuse(what)
        assert self.world.violation
        raise self.world.violation


@cache
def undisturbed(shape: tuple[str, int, int, int], number: int) -> dict[str, bytes]:
    """Return what the tasks of a job commit when nothing befalls it."""
    name, n, n_map, n_reduce = shape
    order = Order(KINDS[name], n, n_map, n_reduce, at=0.1)
    schedule = Schedule(Plan(0, orders=[order]), first_job=number)
    with hooks.installed(schedule.world), heard(schedule.services.judge):
        schedule.begin()
        schedule.world.run(200.0, lambda: order.over)
    return schedule.services.judge.results(order.job_id)


def run(seed: int, *, telling: bool = False) -> tuple[Violation | None, World]:
    """Play a seed; return what was broken, if anything, and the world after it."""
    schedule = Schedule(plan_of(seed), telling=telling)
    try:
        schedule.play()
    except Violation as violation:
        return violation, schedule.world
    return None, schedule.world
