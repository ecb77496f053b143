"""What ends every test here, the look for what a cluster has left, sees each kind of thing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.config import Settings
from mrq.ports import Message
from mrq.records import MemberInfo
from tests.integration.cluster import MARK, Cluster, eventually, leftovers

pytestmark = pytest.mark.real


def test_whatever_a_cluster_leaves_is_seen(settings: Settings, tmp_path: Path) -> None:
    """A process, a member, a job's node and file, a message in a queue, and a private queue."""
    cluster = Cluster(settings, tmp_path)
    tree, store, broker = cluster.registry.tree, cluster.client._store, RabbitMQBroker(settings)
    sleeper = subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: cluster.mark})
    try:
        eventually(lambda: [left.split()[0] for left in leftovers(cluster, broker)] == ["process"], "it runs")
        info = MemberInfo(hostname="h", pid=1, python="3", mrq="0")
        cluster.registry.register("workers", "w-1", info)
        tree.create("/jobs/job_7", b"")
        store.write("jobs/job_8/input", b"")
        broker.publish([Message(broker.topology.tasks, "map.job_7", "task", b"{}")]).result(20)
        broker.subscribe(lambda _: None)

        def seen() -> set[str]:
            return {left.partition(": ")[0] for left in leftovers(cluster, broker)}

        private = f"private queue {settings.rabbitmq_prefix}.private"
        kinds = {"process sleep 600 ", "member w-1", "znode job_7", "file job_8", "queue map"}
        eventually(lambda: {name.rpartition(".")[0] for name in seen()} >= {private}, "RabbitMQ shows it")
        assert {name for name in seen() if not name.startswith(private)} == kinds
    finally:
        sleeper.kill()
        sleeper.wait()
        broker.close()
        cluster.client.close()
