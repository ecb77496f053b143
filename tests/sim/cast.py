"""Who acts: clients, masters and workers as processes, each with its session, its connection and its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mrq.broker._embedded_server import EmbeddedBrokerServer
from mrq.config import Settings
from mrq.errors import MrqError
from mrq.following import Follower
from mrq.future import JobFuture
from mrq.master import Master
from mrq.registry import Registry
from mrq.submit import Options, Submitter
from mrq.worker import Worker
from tests.sim.broker import SimBroker
from tests.sim.executor import SimExecutor
from tests.sim.hooks import InlinePool
from tests.sim.judge import Judge
from tests.sim.network import Network
from tests.sim.plan import Order
from tests.sim.store import SimHdfs, SimStore
from tests.sim.tree import SimSession, SimTree
from tests.sim.world import Crashed, Process, SimInbox, World

SETTINGS = Settings(
    poll_interval=1.0, reconcile_after=4.5, operation_timeout=3.0, drain_timeout=5.0, give_up_after=1000.0
)


INLINE_BYTES = (0, 60, 3000, 16384)
"""How much may stay inline: nothing, what fits into a pack, a part, and all that a schedule's jobs make."""


class Services:
    """The three servers and the network to them."""

    def __init__(self, world: World, *, slots: int = 1) -> None:
        self.world = world
        self.network = Network(world)
        self.judge = Judge(world)
        self.tree = SimTree(world, self.judge)
        self.hdfs = SimHdfs(world, self.judge)
        inline_bytes = INLINE_BYTES[int(world.random() * len(INLINE_BYTES))]
        self.settings = SETTINGS.model_copy(update={"inline_bytes": inline_bytes, "slots": slots})
        self.rabbit = EmbeddedBrokerServer(self.settings)
        self.judge.tree, self.judge.hdfs, self.judge.server = self.tree, self.hdfs, self.rabbit


class Node:
    """One process of the cluster. It acts from the moment it is made.

    Attributes:
        role: masters, workers or clients.
    """

    role = ""

    def __init__(self, services: Services, name: str) -> None:
        self.services = services
        self.world = services.world
        self.process = Process(self.world, name)
        self.inbox = SimInbox(self.world, self.process)
        self.session = SimSession(services.tree, services.network, self.process)
        self.registry = Registry(self.session)
        self.broker = SimBroker(services.rabbit, services.network, self.process, services.judge)
        self.store = SimStore(services.hdfs, services.network, self.process)
        self.leaving = False
        self.world.tell(name, "starts")

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def alive(self) -> bool:
        return self.process.alive

    def begin(self, call: Callable[[], None]) -> None:
        """Have the process's main thread do something at once; a server's absence ends it, as it does a daemon."""

        def tried() -> None:
            try:
                call()
            except MrqError as error:
                self.world.tell(self.name, f"can't start: {error}")
                self.crash()

        self.world.at(0.0, partial(self.process.act, tried))

    def crash(self) -> None:
        """Die (SIGKILL)."""
        if self.process.alive:
            self.world.tell(self.name, "DIES")
            self.process.die()
            self.session.abandon()
            self.world.at(self.world.between(0.0, 1.5), self.broker.close)

    def nap(self, seconds: float) -> None:
        """Be stopped (SIGSTOP), and go on later as if nothing had been."""
        if self.process.alive:
            self.world.tell(self.name, f"SLEEPS {seconds:.1f} s")
            self.process.asleep_until = max(self.process.asleep_until, self.world.now + seconds)
            self.cut("zookeeper", seconds)
            self.cut("rabbitmq", seconds)

    def cut(self, service: str, seconds: float) -> None:
        """Lose a service for a while."""
        self.services.network.cut(self.process, service, seconds)
        if service == "zookeeper":
            self.session.suspend(seconds)
        elif service == "rabbitmq" and seconds > 2:
            self.broker.reset(seconds)

    def leave(self) -> None:
        """End in good order (SIGTERM)."""

    def _left(self) -> None:
        self.world.tell(self.name, "has left")
        self.broker.flush()
        self.process.die()
        self.broker.close()
        self.session.close()


class MasterNode(Node):
    """A `Master`."""

    role = "masters"

    def __init__(self, services: Services, name: str) -> None:
        super().__init__(services, name)
        self.master = Master(
            name, self.registry, self.broker, self.store, self.services.settings, inbox=self.inbox
        )
        self.begin(self.master.open)

    def leave(self) -> None:
        if not self.leaving:
            self.leaving = True
            self.world.tell(self.name, "is told to end")
            self.master.stop()
            self._end()

    def _end(self) -> None:
        """Do what `Master.run` does when its inbox is served no more."""
        if self.process.alive and not self.process.act(self._let_all_go):
            self.world.at(0.05, self._end)

    def _let_all_go(self) -> None:
        for job_id in list(self.master._jobs):
            self.master._let_go(job_id, release=True)
        self._left()


class WorkerNode(Node):
    """A `Worker`, with simulated children."""

    role = "workers"

    def __init__(self, services: Services, name: str) -> None:
        super().__init__(services, name)
        self.executor = SimExecutor(self.world, services.network, services.hdfs, self.process, services.judge)
        self._leaves_at = 0.0
        address: dict[str, Any] = {"kind": "folder", "root": "simulated"}
        self.worker = Worker(
            name,
            self.registry,
            self.broker,
            address,
            self.services.settings,
            inbox=self.inbox,
            executor=self.executor,  # type: ignore[arg-type]
            incarnation=name,
        )
        self.inbox.after_turn = self._after_turn
        self.begin(self.worker.open)

    def leave(self) -> None:
        if not self.leaving:
            self.leaving = True
            self.world.tell(self.name, "is told to end")
            self._leaves_at = self.world.now
            self.worker.stop()
            self.inbox.put(self._drains)

    def _drains(self) -> None:
        self.executor.draining = True

    def _after_turn(self) -> None:
        """Do what `Worker.run` does when it has drained."""
        if self.worker.has_drained() or self.inbox._stopped:
            if self.executor.running() and self.world.now < self._leaves_at + SETTINGS.drain_timeout:
                self.world.accuse(f"{self.name} leaves while its tasks run, which it had time for")
            self.executor.close()
            self._left()


class _Pool:
    """The client's threads: each call is made soon, beside everything else."""

    def __init__(self, node: ClientNode) -> None:
        self._node = node

    def submit(self, call: Callable[..., Any], *args: Any) -> None:
        def run() -> None:
            try:
                if self._node.alive:
                    call(*args)
            except Crashed:
                pass

        self._node.world.at(0.001, run)


class ClientNode(Node):
    """A program that uses mrq."""

    role = "clients"

    def __init__(self, services: Services, name: str) -> None:
        super().__init__(services, name)
        self._submitter = Submitter(self.registry, self.store, self.services.settings, InlinePool())  # type: ignore[arg-type]
        self._follower = Follower(self.registry, self.store, self.services.settings, self.inbox, _Pool(self))  # type: ignore[arg-type]

    def submit(self, order: Order) -> str:
        """Submit a job; raises what `mapreduce` raises."""
        kind = order.kind
        options = Options(
            requested_n_workers=order.n_workers,
            n_reducers=order.n_reducers,
            retries=kind.retries,
            task_timeout=kind.timeout,
            speculative=order.speculative,
            memory_limit=kind.memory_limit,
            max_skipped=kind.max_skipped,
        )
        return self._submitter.submit(order.data, kind.map_func, kind.reduce_func, options)

    def follow(self, job_id: str) -> JobFuture:
        """Return a job's future."""
        return self._follower.follow(job_id)


class Cast:
    """All nodes that were ever there."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.nodes: dict[str, Node] = {}
        self._made = 0
        network = services.network
        network.crash = self._crash
        network.nap = lambda process, seconds: self.nodes[process.machine.name].nap(seconds)

    def add(self, cls: type[Node]) -> Node:
        """Start another process."""
        self._made += 1
        name = f"{cls.role[:-1]}-{self._made}"
        node = self.nodes[name] = cls(self.services, name)
        return node

    def living(self, role: str) -> list[Node]:
        """Return those that are there and want to stay."""
        return [n for n in self.nodes.values() if n.role == role and n.alive and not n.leaving]

    def _crash(self, process: Process) -> None:
        node = self.nodes[process.machine.name]
        if process is node.process or self.services.world.random() < 0.3:
            node.crash()
        else:
            self.services.world.tell(process.name, "DIES")
            process.die()


@contextmanager
def heard(judge: Judge) -> Iterator[None]:
    """Let the judge hear what the code under test logs, and nobody else."""
    import logging

    logger = logging.getLogger("mrq")
    before = logger.level, logger.propagate
    logger.setLevel(judge.level)
    logger.propagate = False
    logger.addHandler(judge)
    try:
        yield
    finally:
        logger.removeHandler(judge)
        logger.setLevel(before[0])
        logger.propagate = before[1]
