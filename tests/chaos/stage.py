"""What chaos is for: native servers of the campaign's own, and masters, workers and a client behind a bad network."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from mrq.config import Settings, split_address
from mrq.connect import Client
from tests.chaos.proxy import Lane, Network
from tests.chaos.traces import FolderTraces
from tests.chaos.watcher import Watcher
from tests.integration.cluster import Cluster, check_nothing_is_left, eventually
from tests.native.servers import NATIVE, Instance

SESSION_SECONDS = 3.0
"""The timeout of ZooKeeper sessions: so that a killed master is succeeded soon."""
PATIENT = {
    "MRQ_ZOOKEEPER_SESSION_TIMEOUT": str(SESSION_SECONDS),
    "MRQ_RECONCILE_AFTER": "6",
    "MRQ_DRAIN_TIMEOUT": "10",
    "MRQ_CONNECT_TIMEOUT": "90",  # what starts while its servers are down waits for them
    "MRQ_SLOTS": "2",
}
MASTERS, WORKERS = 2, 3
FULL_DISK = "datanode-2"
"""The DataNode whose data lies on a small disk of its own."""
DISK_BYTES = 512 * 2**20
RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
DFSADMIN = "org.apache.hadoop.hdfs.tools.DFSAdmin"


class Stage:
    """Masters and workers that are processes of their own, and a client, each behind doors of its own.

    Args:
        servers: running; the environment names them.
        folder: for logs.
    """

    def __init__(self, servers: Instance, folder: Path) -> None:
        self.servers = servers
        self.settings = Settings.load()
        self.network = Network()
        self.lanes = {"client": Lane(self.network, self.settings)}
        self.cluster = Cluster(Settings.load(**self.lanes["client"].settings()), folder)
        self.watcher = Watcher(self.settings)
        self.children_killed: Counter[str] = Counter()
        self.disk = servers.folder / FULL_DISK / "data"
        self._number = 0
        self._lock = threading.Lock()

    @property
    def client(self) -> Client:
        return self.cluster.client

    def begin(self) -> None:
        """Start masters and workers."""
        for role, number in (("master", MASTERS), ("worker", WORKERS)):
            for _ in range(number):
                self.start(role)
        self.cluster.wait_registered()

    def end(self) -> None:
        """Stop them; they end well, and leave nothing behind."""
        self.cluster.wait_registered()
        self.client.clear(force=True)
        codes = self.cluster.stop()
        assert set(codes.values()) <= {0, -signal.SIGKILL}, f"exit codes: {codes}"
        check_nothing_is_left(self.cluster)

    def close(self) -> None:
        """Let go of all, whatever happened."""
        for lane in self.lanes.values():
            for door in lane.to():
                door.clear()
        self.cluster.stop()
        self.client.close()
        self.watcher.close()
        for lane in self.lanes.values():
            lane.close()
        self.network.close()

    # ------------------------------------------------------------ masters and workers

    def start(self, role: str) -> None:
        """Start one more."""
        with self._lock:
            name = f"{role}-{self._number}"
            self._number += 1
            self.lanes[name] = lane = Lane(self.network, self.settings)
            given = {f"MRQ_{name.upper()}": value for name, value in lane.settings().items()}
            self.cluster.start_one(role, name, **given)

    def alive(self, role: str) -> list[str]:
        """Return the names of those that run."""
        with self._lock:
            processes = list(self.cluster.processes.items())
        return [name for name, process in processes if name.startswith(role) and process.poll() is None]

    def serving(self, role: str) -> list[str]:
        """Return the names of those that are registered, so that they heed signals, as soon as there are any."""
        return list(
            eventually(
                lambda: [name for name in self.alive(role) if name in self.watcher.members(role)],
                f"a {role} is registered",
            )
        )

    def kill(self, name: str) -> None:
        """Kill -9 one of them."""
        self.cluster.kill(name)
        self._retire(name)

    def drain(self, name: str) -> None:
        """SIGTERM one of them, and see that it ends well."""
        process = self.cluster.processes[name]
        process.terminate()
        assert process.wait(60) == 0, f"{name} ended with {process.returncode}"
        with self._lock:
            del self.cluster.processes[name]
        self._retire(name)

    def helpers(self, name: str) -> list[int]:
        """Return the processes that a worker has started, which fork the children that run tasks."""
        return started_by(self.cluster.processes[name].pid)

    def children(self) -> set[int]:
        """Return the processes of all workers that run tasks, or could."""
        helpers = [helper for name in self.alive("worker") for helper in self.helpers(name)]
        return {child for helper in helpers for child in started_by(helper)}

    def end_session(self, name: str) -> None:
        """Be the session of a master or worker, or of the client, in its place, and close it.

        So a session ends whose owner is connected: the server drops its connection, and the next one is refused.
        """
        if name == "client":
            client_id = self.client._registry.tree._session.client.client_id  # type: ignore[attr-defined]  # the real one has it
        elif session := self._session_of(name):
            client_id = session, password_of(session)
        else:
            return
        thief = KazooClient(",".join(self.settings.zookeeper_hosts), client_id=client_id)
        thief.start(15)
        thief.stop()
        thief.close()

    def _session_of(self, name: str) -> int:
        """Return the session that a member's node belongs to, 0 when it has none."""
        role = name.partition("-")[0]
        node = f"{self.settings.zookeeper_root}/{role}s/{name}"
        for dump in self._ask_zookeeper(b"dump"):
            for part in dump.split("\n0x")[1:]:
                session, _, nodes = part.partition(":")
                if node in nodes.split():
                    return int(session, 16)
        return 0

    def _ask_zookeeper(self, word: bytes) -> list[str]:
        """Return what each server answers, or nothing."""
        answers = []
        for host in self.settings.zookeeper_hosts:
            answers.append("")
            with suppress(OSError), socket.create_connection(split_address(host), 2) as connection:
                connection.settimeout(2)
                connection.sendall(word)
                answers[-1] = connection.makefile("rb").read().decode()
        return answers

    def _retire(self, name: str) -> None:
        self.lanes.pop(name).close()

    # ------------------------------------------------------------ the servers

    def signal(self, service: str, number: int) -> None:
        """Send a server a signal, if it runs; its pid may be another's by now, unless it began at the same time."""
        with suppress(OSError, ValueError):
            pid, began = (self.servers.folder / service / "pid").read_text().split()
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] == began:
                os.kill(int(pid), number)

    def zookeeper_leader(self) -> str:
        """Return the service that leads the ensemble."""

        def leader() -> str:
            leads = ["Mode: leader" in answer for answer in self._ask_zookeeper(b"srvr")]
            return f"zookeeper-{leads.index(True) + 1}" if any(leads) else ""

        return str(eventually(leader, "ZooKeeper has a leader"))

    def rabbitmqctl(self, *words: str) -> None:
        """Give the broker an order."""
        ports = dict(line.split() for line in (self.servers.folder / "ports").read_text().splitlines())
        home = self.servers.folder / "rabbitmq"
        given = {"HOME": str(home), "RABBITMQ_NODENAME": "mrq@localhost", "ERL_EPMD_PORT": ports["EPMD"]}
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | given
        run([RABBITMQCTL, *words], environment)

    def dfsadmin(self, *words: str) -> None:
        """Give the NameNode an order."""
        conf = self.servers.folder / "namenode" / "conf"
        ports = dict(line.split() for line in (self.servers.folder / "ports").read_text().splitlines())
        given = {"HADOOP_USER_NAME": "hdfs", "MRQ_SERVER_NAMENODE": f"localhost:{ports['NAMENODE']}"}
        java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{conf}:{NATIVE}/jars/*", DFSADMIN]
        run([*java, *words], {"PATH": os.environ["PATH"]} | given)

    # ------------------------------------------------------------ looking

    def traces(self, job: str) -> FolderTraces:
        """See `tests.chaos.traces.Places`."""
        folder = self.cluster.folder / "runs" / job
        folder.mkdir(parents=True)
        return FolderTraces(str(folder))

    def left(self, traces: Any) -> list[str]:
        """See `tests.chaos.traces.Places`; the last ones are last."""
        found = [(path.stat().st_mtime, path.name) for path in Path(traces.folder).iterdir()]
        return [name for _, name in sorted(found)]


def started_by(pid: int) -> list[int]:
    """Return a process's children."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread has its own
        with suppress(OSError):
            found += [int(word) for word in children.read_text().split()]
    return sorted(found)


def run(words: list[str], environment: dict[str, str]) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-1000:]} {done.stderr[-1000:]}"


def password_of(session: int) -> bytes:
    """Return the password of a ZooKeeper session, which is made of its id (ZooKeeperServer.generatePasswd)."""
    seed = (session ^ 0xB3415C00 ^ 0x5DEECE66D) & (2**48 - 1)  # java.util.Random
    password = b""
    for _ in range(4):
        seed = (seed * 0x5DEECE66D + 0xB) & (2**48 - 1)
        password += (seed >> 16).to_bytes(4, "little")
    return password
