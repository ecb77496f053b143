"""One seed, one schedule: who is there, what they are asked for, what befalls them, what must be true in the end."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any

from mrq.blob import Signer
from mrq.core.model import JobState, Phase
from mrq.errors import MrqError
from mrq.future import JobFuture
from mrq.segment import SegmentReader
from tests.sim import hooks
from tests.sim.cast import Cast, ClientNode, MasterNode, Node, Services, WorkerNode, heard
from tests.sim.functions import KINDS, Task, expected
from tests.sim.network import FAIR, Weather
from tests.sim.store import Inode
from tests.sim.world import Crashed, Violation, World

PATIENCE = 150.0
"""Virtual seconds within which all ends once the troubles have."""
SETTLE = 25.0
"""Virtual seconds within which nothing is left over after that."""

SERVICES = ("zookeeper", "rabbitmq", "hdfs")


@dataclass
class Order:
    """A job that the client wants."""

    kind: Task
    n: int
    n_workers: int
    n_reducers: int
    at: float = 0.0
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
    """What a seed stands for."""

    seed: int
    masters: int = 1
    workers: int = 1
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
    "expire a session",
    "cut a link",
    "take a service away",
    "reset a connection",
    "lose a queue",
    "leave a stray file",
)


def plan_of(seed: int) -> Plan:
    """Draw a schedule; most have some kinds of trouble and not others, so that each gets its share alone."""
    dice = Random(seed)
    plan = Plan(seed, masters=dice.choice((1, 1, 2, 2, 3)), workers=dice.choice((1, 2, 2, 3)))
    plan.until = dice.uniform(2.0, 9.0)
    names = list(KINDS)
    for _ in range(dice.choice((1, 1, 1, 2))):
        order = Order(
            KINDS[dice.choice(names)],
            dice.choice((5, 7, 12)) if dice.random() > 0.04 else 0,
            dice.choice((1, 2, 3, 6)),
            dice.choice((1, 2, 3)),
            at=dice.uniform(0, 1),
        )
        if dice.random() < 0.15:
            order.cancel_after = dice.choice((0.0, dice.uniform(0, 0.3), dice.uniform(0, 6)))
        plan.orders.append(order)
    rates = {
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
    strength = dice.choice((0.3, 1.0, 1.0, 2.0))
    plan.weather = Weather(
        **{name: rate * strength * dice.random() for name, rate in rates.items() if dice.random() < 0.4}
    )
    kinds = [kind for kind in CHAOS if dice.random() < 0.35]
    if kinds:
        for _ in range(dice.choice((0, 1, 2, 4, 7))):
            plan.chaos.append((dice.uniform(0, plan.until), dice.choice(kinds)))
    _storm(plan, dice)
    return plan


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


class Schedule:
    """A plan being played."""

    def __init__(self, plan: Plan, *, telling: bool = False, first_job: int = 0) -> None:
        self.plan = plan
        self.world = World(plan.seed, telling=telling)
        self.services = Services(self.world)
        self.cast = Cast(self.services)
        self.client: Node | None = None
        if first_job:
            self.services.tree.create("/ids/jobs", str(first_job - 1).encode(), 0)

    def play(self) -> None:
        """Play it to the end; raises `Violation`."""
        world, plan = self.world, self.plan
        with hooks.installed(world), heard(self.services.judge):
            for _ in range(plan.masters):
                self.cast.add(MasterNode)
            for _ in range(plan.workers):
                self.cast.add(WorkerNode)
            self.client = self.cast.add(ClientNode)
            self.services.network.weather = plan.weather
            for order in plan.orders:
                world.at(order.at, partial(self._submit, order))
            for at, what in plan.chaos:
                world.at(at, partial(self._befall, what))
            if plan.until:
                world.run(plan.until)
            self._calm()
            self._end()

    # ------------------------------------------------------------ what the client wants

    def _submit(self, order: Order) -> None:
        client = self.client
        if not isinstance(client, ClientNode):
            return
        if not client.process.act(partial(self._submit_now, client, order)) or not order.job_id:
            self.world.at(0.3, partial(self._submit, order))

    def _submit_now(self, client: ClientNode, order: Order) -> None:
        self.world.tell(client.name, f"submits {order}")
        try:
            order.job_id = client.submit(order.kind, order.data, order.n_workers, order.n_reducers)
        except MrqError as error:
            self.world.tell(client.name, f"could not submit: {error!r}")
            return
        self._follow(order)
        if order.cancel_after is not None:
            self.world.at(order.cancel_after, partial(self._cancel, order))

    def _follow(self, order: Order) -> None:
        if isinstance(self.client, ClientNode) and order.job_id and not order.over:
            order.future = self.client.follow(order.job_id)

    def _cancel(self, order: Order) -> None:
        client, future = self.client, order.future
        if client is None or future is None:
            return

        def now() -> None:
            self.world.tell(client.name, f"cancels {order.job_id}")
            order.cancelled = True
            future.cancel()

        if not client.process.act(now):
            self.world.at(0.2, partial(self._cancel, order))

    # ------------------------------------------------------------ what befalls them

    def _befall(self, what: str) -> None:
        dice, world = self.world.dice, self.world
        verb, _, whom = what.partition(" ")
        role = {"a master": "masters", "a worker": "workers"}.get(whom)
        if what == "kill the client":
            if self.client and self.client.alive:
                self.client.crash()
                world.at(dice.uniform(0.1, 5), self._new_client)
        elif what == "kill a child":
            for node in self.cast.living("workers"):
                if isinstance(node, WorkerNode) and (child := node.executor.a_child()):
                    world.tell(child.name, "DIES")
                    child.die()
                    break
        elif what == "kill the owner":
            for node in self.cast.living("masters"):
                if isinstance(node, MasterNode) and node.master._jobs:
                    node.crash()
        elif what == "leave a stray file":
            self._leave_stray()
        elif verb == "add" and role:
            self._add(role)
        elif role:
            living = self.cast.living(role)
            if living:
                node = dice.choice(living)
                if verb == "kill":
                    node.crash()
                elif verb == "reset":
                    node.broker.reset(dice.uniform(0.01, 0.3))
                elif verb == "stop":
                    node.nap(dice.uniform(0.5, 12))
                else:
                    node.leave()
                if verb in ("kill", "end"):
                    world.at(dice.uniform(0.1, 6), partial(self._add, role))
        else:
            self._befall_network(what)

    def _befall_network(self, what: str) -> None:
        dice = self.world.dice
        nodes = [node for node in self.cast.nodes.values() if node.alive]
        if what == "lose a queue":
            name = self.services.rabbit.topology.queue(dice.choice(("map", "shuffle", "reduce")))
            self.world.tell("rabbitmq", f"loses what waits in {name}")
            self.services.rabbit._queues[name].ready.clear()
        elif what == "take a service away":
            service, seconds = dice.choice(SERVICES), dice.uniform(0.3, 8)
            self.world.tell(service, f"is away for {seconds:.1f} s")
            for node in nodes:
                node.cut(service, seconds)
        elif nodes:
            node, seconds = dice.choice(nodes), dice.uniform(0.1, 8)
            if what == "expire a session":
                node.session.expire()
            elif what == "reset a connection":
                node.broker.reset(dice.uniform(0.01, 2))
            else:
                service = dice.choice(SERVICES)
                self.world.tell(node.name, f"is cut off from {service} for {seconds:.1f} s")
                node.cut(service, seconds)

    def _leave_stray(self) -> None:
        """Put a copy of a result beside the results, as a person might, or a job of another system."""
        files = self.services.hdfs.files
        for path in [path for path in files if path.endswith(f"/{Phase.REDUCE.results}/0")]:
            stray = path[:-1] + "9"
            if stray not in files:
                self.world.tell("hdfs", f"somebody leaves {stray}")
                files[stray] = Inode("", files[path].data)
        if self.world.now < self.plan.until:
            self.world.at(0.3, self._leave_stray)

    def _add(self, role: str) -> None:
        if len(self.cast.living(role)) < 4:
            self.cast.add(MasterNode if role == "masters" else WorkerNode)

    def _new_client(self) -> None:
        if self.client and not self.client.alive:
            self.client = self.cast.add(ClientNode)
            for order in self.plan.orders:
                self._follow(order)

    def _calm(self) -> None:
        """End all troubles; whoever starts now stays."""
        self.world.tell("", "-------- the troubles end --------")
        self.services.network.weather = FAIR
        self.services.network.heal()
        for role in ("masters", "workers"):
            if not self.cast.living(role):
                self._add(role)
        self._new_client()

    # ------------------------------------------------------------ how it ends

    def _end(self) -> None:
        world, deadline = self.world, self.world.now + PATIENCE
        while world.now < deadline and (left := self._unfinished()):
            world.run(min(deadline, world.now + 0.5))
            for role in ("masters", "workers"):  # one may have died as the troubles ended
                if not self.cast.living(role):
                    self._add(role)
            self._new_client()
        if left := self._unfinished():
            self._accuse(f"not ended {PATIENCE:g} s after the troubles: {', '.join(left)}")
        for order in self.plan.orders:
            self._check(order)
        settled = self.world.now + SETTLE
        while world.now < settled and (left := self._left_over()):
            world.run(min(settled, world.now + 0.5))
        if left := self._left_over():
            self._accuse(f"left over: {', '.join(left)}")
        for order in self.plan.orders:
            self._check_bytes(order)

    def _unfinished(self) -> list[str]:
        left = [str(o) for o in self.plan.orders if not o.over]
        for job_id in sorted(self.services.tree.kids.get("/jobs", ())):
            record = self.services.judge.record(job_id)
            if record is None:
                left.append(f"{job_id} without a record")
            elif not record.state.ended:
                left.append(f"{job_id} is {record.state.value}")
        return left

    def _left_over(self) -> list[str]:
        """Return what should not be there when all jobs have ended and all is well."""
        late, record = self.services.judge.late, self.services.judge.record
        left = [
            f"{depth.ready + depth.unacked} messages in {name}"
            for name, depth in self.services.rabbit.depths().items()
            if name != "dead" and depth.ready + depth.unacked
        ]
        left += [
            f"an owner of {path.split('/')[2]}"
            for path in self.services.tree.nodes
            if path.endswith("/owner") and path not in late
        ]
        left += [
            f"the attempt {path}"
            for path in self.services.hdfs.files
            if "/attempts/" in path
            and path not in late
            and record(path.split("/")[1])  # a submission may give up
        ]
        for role in ("masters", "workers"):
            for node in self.cast.living(role):
                entry = self.services.tree.nodes.get(f"/{role}/{node.name}")
                if entry is None or entry.owner != node.session.number:
                    left.append(f"{node.name} is not registered")
        left += [f"{p} is running" for n in self.cast.living("workers") for p in n.executor.running()]  # type: ignore[attr-defined]
        return left

    def _check(self, order: Order) -> None:
        """Compare how a job ended with what it is."""
        future = order.future
        assert future
        try:
            result = future.result(timeout=0)
        except CancelledError:
            if not order.cancelled:
                self._accuse(f"{order.job_id} is cancelled, and nobody asked for it")
            return
        except BaseException as error:
            if type(error).__name__ not in order.kind.ends or order.n == 0:
                self._accuse(f"{order.job_id} ({order}) failed: {error!r}")
            return
        if "result" not in order.kind.ends and order.n:
            self._accuse(f"{order.job_id} ({order}) has a result")
        elif order.n == 0:
            if result != []:
                self._accuse(f"{order.job_id}: of no data came {result}")
        elif order.kind.exact and result != expected(order.kind, order.data):
            self._accuse(f"{order.job_id} ({order}): {result} is not {expected(order.kind, order.data)}")
        elif result != self._as_committed(order.job_id):
            self._accuse(f"{order.job_id} ({order}): {result} is not what was committed")

    def _as_committed(self, job_id: str) -> list[tuple[Any, Any]]:
        from mrq.core.keys import sorted_by_key

        files, signer = self.services.judge.results(job_id), Signer(hooks.one_key(), job_id)
        store = _Files(files)
        pairs: list[tuple[Any, Any]] = []
        for path in sorted(path for path in files if f"/{Phase.REDUCE.results}/" in path):
            index = path.rpartition("/")[2]
            pairs += SegmentReader(store, path, len(files[path]), signer, "reduce", index).partition(0)
        return sorted_by_key(pairs)

    def _check_bytes(self, order: Order) -> None:
        """Compare the committed files with those of a run without troubles."""
        record = self.services.judge.record(order.job_id)
        if record is None or record.state is not JobState.COMPLETED or not order.kind.exact:
            return
        shape = (order.kind.like or order.kind.name, order.n, order.n_workers, order.n_reducers)
        calm = undisturbed(shape, int(order.job_id.partition("_")[2]))
        if self.services.judge.results(order.job_id) != calm:
            self._accuse(f"{order.job_id} ({order}): the files are not the same bytes as without troubles")

    def _accuse(self, what: str) -> None:
        self.world.accuse(what)
        assert self.world.violation
        raise self.world.violation


class _Files:
    """As much of a store as a reader needs."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self._files[path][offset:]
        return data if length is None else data[:length]


@cache
def undisturbed(shape: tuple[str, int, int, int], number: int) -> dict[str, bytes]:
    """Return the files that a job commits when nothing befalls it."""
    name, n, n_workers, n_reducers = shape
    plan = Plan(0, orders=[Order(KINDS[name], n, n_workers, n_reducers)])
    schedule = Schedule(plan, first_job=number)
    world = schedule.world
    with hooks.installed(world), heard(schedule.services.judge):
        schedule.cast.add(MasterNode)
        schedule.cast.add(WorkerNode)
        schedule.client = schedule.cast.add(ClientNode)
        world.at(0.1, partial(schedule._submit, plan.orders[0]))
        world.run(60.0, lambda: plan.orders[0].future is not None and plan.orders[0].future.done())
    return schedule.services.judge.results(plan.orders[0].job_id)


def run(seed: int, *, telling: bool = False) -> tuple[Violation | None, World]:
    """Play a seed; return what was broken, if anything, and the world after it."""
    schedule = Schedule(plan_of(seed), telling=telling)
    try:
        schedule.play()
    except Violation as violation:
        return violation, schedule.world
    return None, schedule.world
