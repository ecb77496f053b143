"""mrq on the real servers that the environment names (MRQ_*): RabbitMQ, ZooKeeper, HDFS."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import mrq
from benchmarks.systems.mrq_embedded import Embedded
from benchmarks.systems.system import N_WORKERS
from mrq.config import Settings
from tests.integration.cluster import Cluster, own_place, wipe


class Real(Embedded):
    """A master and two workers of one slot as processes of their own, in a place of their own at the servers."""

    def start(self) -> str:
        """Start masters and workers; what a run before this one had to leave is removed first."""
        os.environ.update(own_place(f"bench-{os.getppid()}"))
        self.settings = Settings.load(connect_timeout=10)
        wipe(self.settings)
        self.folder = TemporaryDirectory(prefix="mrq-bench-")
        self.cluster = Cluster(self.settings, Path(self.folder.name))
        self.client = self.cluster.client
        self.cluster.start(n_masters=1, n_workers=N_WORKERS)
        return mrq.__version__

    def stop(self) -> None:
        """End all, and remove what it has at the servers."""
        self.cluster.stop()
        self.cluster.client.close()
        wipe(self.settings)
        self.folder.cleanup()


SYSTEM = Real
