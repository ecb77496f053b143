"""What befalls the processes of a schedule, beside the weather of the network."""

from __future__ import annotations

from functools import partial

from mrq.core.model import Phase
from tests.sim.cast import Cast, ClientNode, MasterNode, Node, Services, WorkerNode
from tests.sim.plan import Plan
from tests.sim.store import Inode

SERVICES = ("zookeeper", "rabbitmq", "hdfs")
ROLES: dict[str, type[Node]] = {"masters": MasterNode, "workers": WorkerNode}
MOST = 5
"""So many of a role at most."""


class Chaos:
    """Makes trouble.

    Args:
        plan: says until when.
        services: the world, and the servers.
        cast: whom it befalls.

    Attributes:
        client: the program that uses mrq.
    """

    def __init__(self, plan: Plan, services: Services, cast: Cast) -> None:
        self.plan = plan
        self.services = services
        self.world = services.world
        self.cast = cast
        self.client: Node | None = None

    def befall(self, what: str) -> None:
        """Let one thing happen, as `tests.sim.plan.CHAOS` names it."""
        verb, _, whom = what.partition(" ")
        role = {"a master": "masters", "a worker": "workers"}.get(whom)
        special = {
            "kill the client": self._kill_client,
            "kill a child": self._kill_child,
            "kill the owner": self._kill_owner,
            "leave a stray file": self._leave_stray,
            "scale down": self._scale_down,
            "scale up": self._scale_up,
            "fill the store": self._fill_store,
            "lose a queue": self._lose_queue,
        }
        if what in special:
            special[what]()
        elif verb == "add" and role:
            self.add(role)
        elif role:
            self._befall_one(verb, role)
        else:
            self._befall_network(what)

    def add(self, role: str) -> None:
        """Start another, if there are few."""
        if len(self.cast.living(role)) < MOST:
            self.cast.add(ROLES[role])

    def new_client(self) -> None:
        """Start another program in place of one that died; it follows the same jobs."""
        if self.client and not self.client.alive:
            self.client = self.cast.add(ClientNode)
            for order in self.plan.orders:
                if isinstance(self.client, ClientNode) and order.job_id and not order.over:
                    order.future = self.client.follow(order.job_id)

    # ------------------------------------------------------------ processes

    def _befall_one(self, verb: str, role: str) -> None:
        dice = self.world.dice
        living = self.cast.living(role)
        if living:
            node = dice.choice(living)
            if verb == "kill":
                node.crash()
            elif verb == "reset":
                node.broker.reset(dice.uniform(0.01, 0.3))
            elif verb == "stop":
                node.nap(dice.uniform(0.5, 12))
            elif verb == "slow":
                self.world.tell(node.name, "is SLOW from now on")
                node.process.slowness = 10.0
            else:
                node.leave()
            if verb in ("kill", "end"):
                self.world.at(dice.uniform(0.1, 6), partial(self.add, role))

    def _kill_client(self) -> None:
        if self.client and self.client.alive:
            self.client.crash()
            self.world.at(self.world.between(0.1, 5), self.new_client)

    def _kill_child(self) -> None:
        for node in self.cast.living("workers"):
            if isinstance(node, WorkerNode) and (child := node.executor.a_child()):
                self.world.tell(child.name, "DIES")
                child.die()
                break

    def _kill_owner(self) -> None:
        for node in self.cast.living("masters"):
            if isinstance(node, MasterNode) and node.master._jobs:
                node.crash()

    def _scale_down(self) -> None:
        """Have all workers but one drain at once, as a smaller `LocalCluster` does; more come later."""
        for node in self.cast.living("workers")[1:]:
            node.leave()
        self.world.at(self.world.between(0.5, 6), self._scale_up)

    def _scale_up(self) -> None:
        for _ in range(2):
            self.add("workers")

    # ------------------------------------------------------------ services and links

    def _befall_network(self, what: str) -> None:
        dice = self.world.dice
        nodes = [node for node in self.cast.nodes.values() if node.alive]
        if what == "take a service away":
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

    def _lose_queue(self) -> None:
        name = self.services.rabbit.topology.queue(self.world.dice.choice(("map", "shuffle", "reduce")))
        self.world.tell("rabbitmq", f"loses what waits in {name}")
        self.services.rabbit._queues[name].ready.clear()

    def _fill_store(self) -> None:
        seconds = self.world.between(0.2, 4)
        self.world.tell("hdfs", f"is full for {seconds:.1f} s")
        self.services.hdfs.full_until = self.world.now + seconds

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
