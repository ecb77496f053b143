"""The compose network as it stands in infra/, run for real: its servers, its ports, its faults, and its end."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from mrq.connect import Client
from mrq.store.address import describe, open_store
from tests.compose.network import Network, NetworkFailed, docker, eventually, health_of, service_of
from tests.jobs import WORDS, add_up, count_characters, plain, random_strings

pytestmark = pytest.mark.timeout(900)

SERVERS = [
    "rabbitmq", "zookeeper-1", "zookeeper-2", "zookeeper-3", "namenode", "datanode-1", "datanode-2", "httpfs-1",
    "httpfs-2",
]  # fmt: skip
STORE = """
from mrq.config import Settings
from mrq.store.address import describe, open_store
store = open_store(describe(Settings.load()))
"""


@contextmanager
def opened(network: Network, **settings: Any) -> Iterator[Any]:
    """HDFS as a client on this machine sees it."""
    store = open_store(describe(network.settings(**settings)))
    yield store
    store.close()


def run_job(network: Network, data: list[str] = WORDS) -> None:
    """Submit the notebook's job from this machine and see that its result is exact."""
    with Client(network.settings()) as client:
        result = client.mapreduce(data, count_characters, add_up, requested_n_workers=2).result(180)
    assert result == plain(data, count_characters, add_up)


@pytest.fixture
def another(images: None) -> Iterator[Callable[..., Network]]:
    """A function that makes a network beside the main one; it is removed at the end."""
    made: list[Network] = []

    def make(**variables: str) -> Network:
        made.append(Network(f"mrq-test-{secrets.token_hex(4)}", **variables))
        return made[-1]

    yield make
    for network in made:
        network.down()


def test_every_service_is_healthy(network: Network) -> None:
    health = network.health()
    assert sorted(health) == sorted([*(f"{name}-1" for name in SERVERS), "master-1", "worker-1", "worker-2"])
    assert set(health.values()) == {"healthy"}, network.report()


def test_a_job_of_a_client_on_this_machine_has_the_exact_result(network: Network) -> None:
    run_job(network)
    run_job(network, random_strings(20_000))


def test_masters_and_workers_are_called_by_their_containers_ids(network: Network) -> None:
    with Client(network.settings()) as client:
        masters, workers = client._registry.members("masters"), client._registry.members("workers")
    assert set(masters) == {one["Id"][:12] for one in network.containers("master")}
    assert set(workers) == {one["Id"][:12] for one in network.containers("worker")}


def test_rabbitmq_4_has_our_queues_and_no_guest(network: Network) -> None:
    assert network.management("overview")["rabbitmq_version"].startswith("4.")
    queues = {queue["name"]: queue["type"] for queue in network.management("queues/mrq")}
    for name in ("map", "shuffle", "reduce", "dead"):
        assert queues[f"mrq.v1.{name}"] == "quorum"
    with pytest.raises(requests.HTTPError, match="401"):
        network.management("overview", ("guest", "guest"))


def test_only_loopback_addresses_are_published(network: Network) -> None:
    published = {}
    for one in network.containers():
        for bindings in one["NetworkSettings"]["Ports"].values():
            for binding in bindings or []:
                assert binding["HostIp"] == "127.0.0.1", service_of(one)
                published[int(binding["HostPort"])] = service_of(one)
    assert sorted(published) == sorted(network.ports.values())
    if Path("/proc/net/tcp").exists():
        assert listeners(published) == {(port, "127.0.0.1") for port in published}


def listeners(ports: dict[int, str]) -> set[tuple[int, str]]:
    """Who listens on these ports, as the kernel tells."""
    found = set()
    lines = [
        line for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    for line in lines:
        address, _, state = line.split()[1:4]
        host, port = address.split(":")
        if state == "0A" and int(port, 16) in ports:
            found.add((int(port, 16), {"0100007F": "127.0.0.1"}.get(host, host)))
    return found


def test_this_machine_and_a_container_read_what_the_other_wrote(network: Network) -> None:
    with opened(network) as store:
        store.write("from-host", b"host " * 1000)
        assert network.python("worker", STORE + "print(len(store.read('from-host')))") == "5000"
        network.python("worker", STORE + "store.write('from-container', b'container')")
        assert store.read("from-container") == b"container"
        store.delete("from-host")
        store.delete("from-container")


@pytest.mark.parametrize("gateway", ["httpfs-1", "httpfs-2"])
def test_one_gateway_dies_and_nobody_notices(network: Network, gateway: str) -> None:
    with opened(network) as store:
        store.write("before", b"before")
        docker("kill", network.container(gateway)["Id"])
        try:
            assert store.read("before") == b"before"
            store.write("after", b"after")
            assert network.python("worker", STORE + "print(store.read('after').decode())") == "after"
            run_job(network)
        finally:
            network.start(gateway)
        store.delete("before")
        store.delete("after")


def test_direct_webhdfs_from_this_machine_goes_to_the_datanodes_by_rewritten_redirects(
    network: Network,
) -> None:
    rewrite = ",".join(f"datanode-{n}:9864=127.0.0.1:{network.ports[f'DATANODE_{n}_HTTP']}" for n in (1, 2))
    direct = {
        "hdfs_urls": network.url("NAMENODE_HTTP"),
        "hdfs_direct": True,
        "hdfs_datanode_rewrite": rewrite,
    }
    with opened(network, **direct) as store, opened(network) as through_gateway:
        for number in range(6):  # the NameNode redirects to either DataNode
            store.write(f"direct-{number}", b"x" * 100_000)
            assert (
                through_gateway.read(f"direct-{number}") == store.read(f"direct-{number}") == b"x" * 100_000
            )
            store.delete(f"direct-{number}")


def test_servers_that_are_restarted_come_back_with_their_data(network: Network) -> None:
    restarted = ["rabbitmq", "zookeeper-1", "namenode", "datanode-2", "httpfs-1"]
    with opened(network) as store:
        store.write("kept", b"kept")
        network.compose("restart", *restarted)
        eventually(lambda: set(network.health().values()) == {"healthy"}, "all are healthy again", 120)
        assert store.read("kept") == b"kept"
        store.delete("kept")
    run_job(network)


def test_a_worker_whose_process_dies_is_started_again_and_works(network: Network) -> None:
    victim = network.containers("worker")[0]["Id"]
    with Client(network.settings()) as client:
        before = client._registry.members("workers")[victim[:12]]
        restarts = inspect(victim)["RestartCount"]
        docker("exec", victim, "sh", "-c", f"kill -9 {before.pid}", check=False)
        eventually(lambda: inspect(victim)["RestartCount"] == restarts + 1, "the engine starts it again")
        eventually(
            lambda: (
                health_of(inspect(victim)) == "healthy" and victim[:12] in client._registry.members("workers")
            ),
            "it is back",
        )
    run_job(network)


def test_a_worker_that_is_stopped_ends_well_and_its_health_check_tells(network: Network) -> None:
    victim = network.containers("worker")[0]["Id"]
    docker("stop", victim)
    assert inspect(victim)["State"]["ExitCode"] == 0
    docker("start", victim)
    eventually(lambda: health_of(inspect(victim)) == "healthy", "it is healthy again")
    assert json.loads(docker("inspect", "--format={{json .HostConfig.Init}}", victim)) is True
    absent = "MRQ_NAME=nobody exec /opt/mrq/healthcheck workers"
    assert "has no /mrq/v1/workers/nobody" in docker("exec", victim, "sh", "-c", absent, check=False)


def inspect(container: str) -> dict[str, Any]:
    """Return what Docker knows of a container."""
    found: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return found


def test_a_second_network_runs_beside_the_first_and_leaves_nothing(
    network: Network, another: Callable[..., Network]
) -> None:
    second = another()
    second.up(master=1, worker=1)
    run_job(second)
    run_job(network)
    with Client(network.settings()) as one, Client(second.settings()) as other:
        assert not one._registry.members("workers").keys() & other._registry.members("workers").keys()
    second.down()
    assert second.leftovers() == []
    assert set(network.health().values()) == {"healthy"}
    run_job(network)


def test_three_rabbitmq_nodes_form_a_cluster_by_profile(another: Callable[..., Network]) -> None:
    cluster = another(COMPOSE_PROFILES="rabbitmq-cluster")
    cluster.up("rabbitmq", "rabbitmq-2", "rabbitmq-3")
    nodes = {node["name"] for node in cluster.management("nodes") if node["running"]}
    assert nodes == {"rabbit@rabbitmq", "rabbit@rabbitmq-2", "rabbit@rabbitmq-3"}
    cluster.management("queues/mrq/q", put={"durable": True, "arguments": {"x-queue-type": "quorum"}})
    assert set(cluster.management("queues/mrq/q")["members"]) == nodes


def test_a_service_that_does_not_come_up_is_named_with_the_end_of_its_log(
    another: Callable[..., Network],
) -> None:
    lonely = another()  # one ZooKeeper server of three has no quorum
    with pytest.raises(NetworkFailed, match=r"(?s)zookeeper-1 is starting; its last log lines:\n.*\w"):
        lonely.up("zookeeper-1", seconds=15)
