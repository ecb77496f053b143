"""The table of faults on the compose network, and the stage that it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from mrq.connect import Client
from mrq.errors import MrqError
from mrq.store.address import describe, open_store
from tests.chaos.faults import Fault
from tests.chaos.traces import HdfsTraces
from tests.chaos.traffic import Traffic
from tests.chaos.watcher import Watcher
from tests.compose.network import Network, docker, eventually

GATEWAYS = ("http://httpfs-1:14000", "http://httpfs-2:14000")
ROOT = "mrq"
PLACE = "chaos"
"""A folder in HDFS for traces."""


class ComposeStage:
    """A compose network with masters and workers, and a client on this machine.

    Args:
        network: that is up.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.client = Client(network.settings())
        self.watcher = Watcher(network.settings())
        self._store = open_store(describe(network.settings(operation_timeout=5)))

    def close(self) -> None:
        self.client.close()
        self.watcher.close()
        self._store.close()

    def containers(self, *services: str) -> list[str]:
        """Return the ids of the services' containers that run."""
        found = [one for service in services for one in self.network.containers(service)]
        return sorted(one["Id"] for one in found if one["State"]["Status"] == "running")

    def traces(self, job: str) -> HdfsTraces:
        """See `tests.chaos.traces.Places`."""
        return HdfsTraces(GATEWAYS, f"{ROOT}/{PLACE}/{job}")

    def left(self, traces: Any) -> list[str]:
        """See `tests.chaos.traces.Places`."""
        try:
            return [entry.name for entry in self._store.list(traces.folder.removeprefix(f"{ROOT}/"))]
        except MrqError:
            return []

    def healthy(self) -> bool:
        """Whether all containers are."""
        return set(self.network.health().values()) == {"healthy"}


Strike = Callable[[ComposeStage, Traffic, Random], Iterator[None]]


def one(order: str, undo: str, *services: str) -> Strike:
    """Give the engine an order about one container of the services, and another that undoes it."""

    def strike(stage: ComposeStage, traffic: Traffic, draw: Random) -> Iterator[None]:
        container = draw.choice(stage.containers(*services))
        docker(*order.split(), container)
        yield
        docker(*undo.split(), container)
        eventually(stage.healthy, f"all is healthy after {order} of {services}", 180)

    return strike


def every(order: str, undo: str, *services: str) -> Strike:
    """The same, for all containers of the services."""

    def strike(stage: ComposeStage, traffic: Traffic, draw: Random) -> Iterator[None]:
        containers = stage.containers(*services)
        docker(*order.split(), *containers)
        yield
        docker(*undo.split(), *containers)
        eventually(stage.healthy, f"all is healthy after {order} of {services}", 180)

    return strike


def cut_off(service: str) -> Strike:
    """Take a container off the network, and put it back."""

    def strike(stage: ComposeStage, traffic: Traffic, draw: Random) -> Iterator[None]:
        network = f"{stage.network.project}_default"
        container = draw.choice(stage.containers(service))
        docker("network", "disconnect", network, container)
        yield
        docker("network", "connect", network, container)
        eventually(stage.healthy, f"all is healthy after a {service} was cut off", 180)

    return strike


KILL, STOP, RESTART = ("kill", "start"), ("pause", "unpause"), ("restart --time 10", "start")
ZOOKEEPERS = ("zookeeper-1", "zookeeper-2", "zookeeper-3")
DATANODES = ("datanode-1", "datanode-2")
SHORT, LONG = (1.0, 4.0), (6.0, 9.0)
"""Within the time that a session lives, and longer."""

CONTAINERS = [
    Fault(name, "", "", strike, lasts, area="containers")
    for name, strike, lasts in (
        ("worker killed", one(*KILL, "worker"), SHORT),
        ("all workers killed", every(*KILL, "worker"), SHORT),
        ("worker paused", one(*STOP, "worker"), LONG),
        ("worker cut off", cut_off("worker"), LONG),
        ("master killed", one(*KILL, "master"), SHORT),
        ("all masters killed", every(*KILL, "master"), SHORT),
        ("master paused", one(*STOP, "master"), LONG),
        ("master cut off", cut_off("master"), LONG),
        ("RabbitMQ killed", one(*KILL, "rabbitmq"), SHORT),
        ("RabbitMQ restarted", one(*RESTART, "rabbitmq"), SHORT),
        ("RabbitMQ paused", one(*STOP, "rabbitmq"), SHORT),
        ("a ZooKeeper server killed", one(*KILL, *ZOOKEEPERS), SHORT),
        ("a ZooKeeper server paused", one(*STOP, *ZOOKEEPERS), LONG),
        ("NameNode killed", one(*KILL, "namenode"), SHORT),
        ("NameNode paused", one(*STOP, "namenode"), SHORT),
        ("a DataNode killed", one(*KILL, *DATANODES), SHORT),
        ("an HttpFS gateway killed", one(*KILL, "httpfs-1", "httpfs-2"), SHORT),
        ("both HttpFS gateways paused", every(*STOP, "httpfs-1", "httpfs-2"), SHORT),
    )
]
