"""A cluster of real processes for tests: masters and workers as a user starts them, on the real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mrq.config import Settings
from mrq.connect import Client
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.core.model import PHASES, Phase, TaskState
from mrq.ports import Broker
from mrq.registry import Registry
from mrq.store.address import describe, open_store
from tests.management import Management

PATIENCE = 60.0
"""Seconds after which a condition that does not hold fails its test."""
MARK = "MRQ_TEST_MARK"


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Return what the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)
    return value


class Cluster:
    """Masters and workers that are processes of their own, and a client.

    Args:
        settings: of the servers.
        folder: for logs.
        more: settings as environment variables for the processes.
    """

    def __init__(self, settings: Settings, folder: Path, **more: str) -> None:
        self.settings = settings
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.more = more
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.client = Client(settings)
        self.registry: Registry = self.client._registry

    def start(self, n_masters: int = 1, n_workers: int = 2, **more: str) -> None:
        """Start so many more, and wait until all are registered."""
        for role, number in (("master", n_masters), ("worker", n_workers)):
            for _ in range(number):
                self.start_one(role, **more)
        self.wait_registered()

    def start_one(
        self, role: str, name: str | None = None, program: Sequence[str] = ("-m", "mrq.cli"), **more: str
    ) -> str:
        """Start a master or worker, by another program than mrq's own if that is given."""
        name = name or f"{role}-{sum(n.startswith(role) for n in self.processes)}"
        environment = os.environ | self.more | more | {"MRQ_NAME": name, MARK: self.mark}
        log = open(self.folder / f"{name}.log", "ab")  # noqa: SIM115  # the process keeps it
        with log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *program, role], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, start_new_session=True,
            )  # fmt: skip
        return name

    def wait_registered(self) -> None:
        """Wait until every process that runs is registered."""

        def all_there() -> bool:
            for name, process in self.processes.items():
                if process.poll() not in (None, -signal.SIGKILL):
                    raise AssertionError(f"{name} ended with {process.returncode}:\n{self.log(name)[-3000:]}")
            alive = {name for name, process in self.processes.items() if process.poll() is None}
            members = {*self.registry.members("masters"), *self.registry.members("workers")}
            return alive <= members

        eventually(all_there, "all masters and workers are registered")

    def log(self, name: str) -> str:
        """Return what a process has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a process a signal, as ``kill -9`` does."""
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[name].wait(PATIENCE)

    def owner(self, job_id: str) -> str:
        """Return the name of the master that owns a job."""
        return str(eventually(lambda: self.registry.owner(job_id), f"{job_id} is owned"))

    def worker_of(self, job_id: str, phase: Phase, index: int | None = None) -> str:
        """Return the name of a live worker that has a running task of a phase, as its master shows it."""

        def found() -> str:
            for page in self.registry.pages(job_id, phase):
                for row in page.rows:
                    process = self.processes.get(row.worker)
                    wanted = index is None or row.index == index
                    if row.state is TaskState.RUNNING and wanted and process and process.poll() is None:
                        return row.worker
            return ""

        return str(eventually(found, f"a {phase.value} task of {job_id} runs"))

    def stop(self) -> dict[str, int]:
        """Have all processes drain; return their exit codes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            if process.poll() is None:
                process.terminate()
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        return codes

    def left_over(self) -> list[str]:
        """Return what is left of processes that carry this cluster's mark, as command lines."""
        return list(marked(MARK, self.mark).values())


def marked(name: str, mark: str) -> dict[int, str]:
    """Return the processes with that mark in their environment: number -> command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{name}={mark}".encode() not in (folder / "environ").read_bytes():
                continue
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@contextmanager
def running(
    settings: Settings, folder: Path, n_masters: int = 1, n_workers: int = 2, **more: str
) -> Iterator[Cluster]:
    """Run a cluster; at the end stop it and see that it leaves nothing."""
    cluster = Cluster(settings, folder, **more)
    try:
        cluster.start(n_masters, n_workers)
        yield cluster
        cluster.client.clear(force=True)
        codes = cluster.stop()
        unexpected = {name: code for name, code in codes.items() if code not in (0, -signal.SIGKILL)}
        assert not unexpected, f"exit codes {unexpected}: {[cluster.log(n)[-2000:] for n in unexpected]}"
        check_nothing_is_left(cluster)
    except BaseException:
        for name in cluster.processes:
            print(f"--- {name}\n{cluster.log(name)[-4000:]}")
        raise
    finally:
        cluster.stop()
        cluster.client.close()


def check_nothing_is_left(cluster: Cluster) -> None:
    """Fail unless queues, znodes, files and processes of the cluster are gone, or soon are."""
    from mrq.broker.rabbitmq import RabbitMQBroker

    broker = RabbitMQBroker(cluster.settings)
    try:
        with suppress(AssertionError):
            eventually(lambda: not leftovers(cluster, broker), "nothing is left over", 30)
        assert leftovers(cluster, broker) == []
    finally:
        broker.close()


def leftovers(cluster: Cluster, broker: Broker) -> list[str]:
    """Return what a cluster that was cleared and stopped should not have left, each with its kind."""
    tree, settings = cluster.registry.tree, cluster.settings
    depths = broker.depths().items()
    found = {
        "process": cluster.left_over(),
        "member": [name for role in ("masters", "workers") for name in tree.children(f"/{role}")],
        "znode": tree.children("/jobs"),
        "file": [entry.name for entry in cluster.client._store.list("jobs")],
        "queue": [f"{name}: {depth}" for name, depth in depths if depth.ready or depth.consumers],
        "private queue": private_queues(settings),
    }
    return [f"{kind} {name}" for kind, names in found.items() for name in names]


def private_queues(settings: Settings) -> list[str]:
    """Return the names of the queues below our prefix that are not the four durable ones."""
    durable = {f"{settings.rabbitmq_prefix}.{name}" for name in (*(p.value for p in PHASES), "dead")}
    return [name for name in Management(settings).queues(settings.rabbitmq_prefix) if name not in durable]


def own_place(name: str = "") -> dict[str, str]:
    """Return the names of a tree, a folder and queues that nobody else has, as environment variables."""
    place = f"mrq-{name or f'test-{uuid.uuid4().hex[:8]}'}"
    return {
        "MRQ_ZOOKEEPER_ROOT": f"/{place}",
        "MRQ_HDFS_ROOT": f"/{place}",
        "MRQ_RABBITMQ_PREFIX": place,
    }


def wipe(settings: Settings) -> None:
    """Remove the tree, folder, queues and exchanges of such a place."""
    tree = ZooKeeperCoordination(settings)
    for child in tree.children("/"):
        tree.delete(f"/{child}")
    tree.close()
    store = open_store(describe(settings.model_copy(update={"hdfs_root": "/"})))
    store.delete(settings.hdfs_root.strip("/"))
    store.close()
    Management(settings).delete_all(settings.rabbitmq_prefix)
