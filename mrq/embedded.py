"""`EmbeddedCluster`: masters and workers in this process, the user's functions in real child processes, no servers.

The same client, master and worker run as on the real servers, over the embedded adapters.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import wait
from pathlib import Path

from mrq.broker.embedded import EmbeddedBroker, EmbeddedBrokerServer
from mrq.client import JobClient
from mrq.config import Settings
from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.errors import ConfigurationError
from mrq.master import Master
from mrq.monitoring import LocalMonitoring
from mrq.registry import Registry
from mrq.store.address import describe
from mrq.store.folder import FolderStore
from mrq.worker import Worker


class Member:
    """A master or worker on a thread of its own, with its own session and connection."""

    def __init__(self, service: Master | Worker, tree: EmbeddedCoordination, broker: EmbeddedBroker) -> None:
        self.service = service
        self.tree = tree
        self.broker = broker
        self.thread = threading.Thread(target=service.run, name=f"mrq-{service.name}", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Let it drain, then close what it has."""
        self.service.stop()
        self.thread.join()
        self.broker.close()
        self.tree.close()


class EmbeddedCluster(JobClient):
    """A whole cluster in this process, as a client of itself.

    Args:
        n_workers: workers; each runs one task of a phase at a time in a child process. By default one per core.
        n_masters: masters.
        folder: where files go; by default a temporary folder that ends with the cluster.
        settings: for sizes and intervals; its servers are not used.

    Raises:
        ConfigurationError: a number is less than 1.
    """

    def __init__(
        self,
        n_workers: int | None = None,
        n_masters: int = 1,
        *,
        folder: str | Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        n_workers = n_workers or len(_cores())
        if n_workers < 1 or n_masters < 1:
            raise ConfigurationError("an EmbeddedCluster needs one worker and one master at least")
        settings = settings or Settings.load()
        self._temporary = None if folder else tempfile.mkdtemp(prefix="mrq-")
        self._root = Path(folder or self._temporary or "")
        self._tree = EmbeddedTree()
        self._server = EmbeddedBrokerServer(settings)
        super().__init__(Registry(EmbeddedCoordination(self._tree)), FolderStore(self._root), settings)
        self._broker = EmbeddedBroker(self._server)
        self.workers = [self._add_worker(f"worker-{n}") for n in range(n_workers)]
        self.masters = [self._add_master(f"master-{n}") for n in range(n_masters)]
        self._wait_for_members()

    def _add_master(self, name: str) -> Member:
        tree, broker = EmbeddedCoordination(self._tree), EmbeddedBroker(self._server)
        master = Master(name, Registry(tree), broker, FolderStore(self._root), self._settings)
        return Member(master, tree, broker)

    def _add_worker(self, name: str) -> Member:
        tree, broker = EmbeddedCoordination(self._tree), EmbeddedBroker(self._server)
        worker = Worker(name, Registry(tree), broker, describe(self._root), self._settings)
        return Member(worker, tree, broker)

    @property
    def local_monitoring(self) -> LocalMonitoring:
        """What there is to see of the cluster."""
        return LocalMonitoring(
            self._settings, registry=self._registry, store=self._store, broker=self._broker
        )

    def _wait_for_members(self) -> None:
        """Return when all are registered, so that the first job knows how many slots there are."""
        arrived = threading.Event()
        registry = self._registry
        while len(registry.members("workers", lambda _path: arrived.set())) < len(self.workers):
            arrived.wait(0.1)
            arrived.clear()

    def _disconnect(self) -> None:
        """End masters and workers, then all that they used."""
        members = [*self.masters, *self.workers]
        for member in members:
            member.service.stop()
        for member in members:
            member.stop()
        self._broker.close()
        super()._disconnect()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def close(self, *, wait_for_jobs: bool = False) -> None:
        """End the cluster; jobs that have not ended are cancelled, for there is nobody else to run them.

        Args:
            wait_for_jobs: wait for their futures first.
        """
        futures = self._follower.pending()
        if wait_for_jobs:
            wait(futures)
        for future in futures:
            future.cancel()
        super().close()


def _cores() -> set[int]:
    import os

    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
