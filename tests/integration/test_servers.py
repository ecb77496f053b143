"""Servers that are away, refuse the login, or go away in the middle of a job and come back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mrq
from mrq.config import Settings
from mrq.core.model import Phase
from mrq.errors import AuthenticationFailed, CoordinationUnavailable, MrqError, StoreUnavailable
from tests.integration.cluster import Cluster, eventually
from tests.integration.test_failures import DATA, gated_job
from tests.jobs import Gate, add_up, count_characters, plain

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

Start = Callable[..., Cluster]
NOWHERE = "127.0.0.1:9"  # the discard port: nothing listens there
NATIVE = Path(__file__).parents[2] / "infra" / "native"


@contextmanager
def stopped(*services: str) -> Iterator[None]:
    """Stop services of the native servers, and start them again at the end, whatever happens."""
    subprocess.run([NATIVE / "down", *services], check=True, timeout=120)
    try:
        yield
    finally:
        subprocess.run([NATIVE / "up", *services], check=True, timeout=180)


def test_a_client_without_zookeeper_says_so_by_the_deadline(servers: Settings) -> None:
    """Nothing listens, or there is no such host: CoordinationUnavailable, with the address in it."""
    for hosts in (NOWHERE, "no-such-host.invalid:2181"):
        with pytest.raises(CoordinationUnavailable, match=hosts.partition(":")[0]):
            mrq.Client(zookeeper_hosts=hosts, connect_timeout=2)


def test_a_client_with_a_wrong_password_is_refused(start: Start) -> None:
    """ZooKeeper's tree is closed to it; the sentence names the user and not the password."""
    start(n_masters=1, n_workers=1)
    with pytest.raises(AuthenticationFailed, match="mrq") as raised:
        mrq.Client(password="not-the-password")
    assert "not-the-password" not in str(raised.value)


def test_without_hdfs_a_client_says_so_and_submits_nothing(start: Start) -> None:
    """StoreUnavailable by the deadline, at the start or at a submission, and no job that could never run."""
    cluster = start(n_masters=1, n_workers=1)
    with pytest.raises(StoreUnavailable, match=NOWHERE):
        mrq.Client(hdfs_urls=f"http://{NOWHERE}", connect_timeout=3)
    with mrq.Client(operation_timeout=3) as client:
        with stopped("httpfs"), pytest.raises(StoreUnavailable, match="HDFS"):
            client.mapreduce(DATA, count_characters, add_up)
        assert client.jobs() == []
    assert cluster.client.mapreduce(DATA, count_characters, add_up).result(60) == plain(
        DATA, count_characters, add_up
    )


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ({"MRQ_RABBITMQ_HOSTS": NOWHERE}, 3, "RabbitMQ"),
        ({"MRQ_ZOOKEEPER_HOSTS": NOWHERE}, 3, "ZooKeeper"),
        ({"MRQ_PASSWORD": "not-the-password"}, 4, "mrq"),
        ({"MRQ_SLOTS": "none"}, 2, "slots"),
    ],
)
def test_a_worker_that_can_not_start_says_why(
    settings: Settings, wrong: dict[str, str], code: int, said: str
) -> None:
    """One line on stderr, no traceback, and an exit code for each kind of trouble."""
    run = subprocess.run(
        [sys.executable, "-m", "mrq.cli", "worker"],
        env=os.environ | {"MRQ_CONNECT_TIMEOUT": "2"} | wrong,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, "Traceback" in run.stderr) == (code, False), run.stderr
    assert said in run.stderr
    assert "not-the-password" not in run.stderr


SERVICES = {
    "rabbitmq": ("rabbitmq",),
    "zookeeper": ("zookeeper-1", "zookeeper-2", "zookeeper-3"),
    "httpfs": ("httpfs",),
    "namenode": ("namenode",),
    "datanodes": ("datanode-1", "datanode-2"),
}


@pytest.mark.parametrize("server", list(SERVICES))
def test_a_job_ends_exactly_when_a_server_is_lost_midway(start: Start, tmp_path: Path, server: str) -> None:
    """The server goes away while map tasks run and comes back later: no human hand, the exact result."""
    cluster, gate = start(n_masters=2, n_workers=2), Gate(tmp_path)
    future = gated_job(cluster, gate, Phase.MAP)
    cluster.worker_of(future.job_id, Phase.MAP)
    with stopped(*SERVICES[server]):
        gate.open("map")
    assert future.result(180) == plain(DATA, count_characters, add_up)
    assert cluster.client.mapreduce(DATA, count_characters, add_up, 2).result(120) == future.result()
    eventually(lambda: healthy(cluster), "masters and workers are registered again")


def test_a_job_submitted_without_rabbitmq_runs_when_it_is_back(start: Start) -> None:
    """The client needs no broker: the job is durable, and waits."""
    cluster = start(n_masters=1, n_workers=1)
    with stopped("rabbitmq"):
        future = cluster.client.mapreduce(DATA, count_characters, add_up, 2)
        assert not future.done()
    assert future.result(180) == plain(DATA, count_characters, add_up)


def test_one_of_three_zookeepers_and_one_of_two_datanodes_may_die(start: Start, tmp_path: Path) -> None:
    """A minority of the servers is not missed."""
    cluster, gate = start(n_masters=1, n_workers=2), Gate(tmp_path)
    future = gated_job(cluster, gate, Phase.MAP)
    cluster.worker_of(future.job_id, Phase.MAP)
    with stopped("zookeeper-1", "datanode-1"):
        gate.open("map")
        assert future.result(180) == plain(DATA, count_characters, add_up)
        again = cluster.client.mapreduce(DATA, count_characters, add_up, 2)
        assert again.result(180) == future.result()


def healthy(cluster: Cluster) -> bool:
    """Whether all processes are registered."""
    try:
        members = {*cluster.registry.members("masters"), *cluster.registry.members("workers")}
    except MrqError:
        return False
    return set(cluster.processes) <= members
