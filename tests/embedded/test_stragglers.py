"""A task that takes for ever on one worker, and the backup that ends its job."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import mrq
from tests.contract.broker_servers import eventually
from tests.jobs import add_up


def test_a_backup_ends_the_job_and_the_straggler_is_killed(tmp_path: Path) -> None:
    """Its worker's slot is free again: the child is gone, and no delivery on loan."""

    def map_func(numbers: list[int]) -> Any:
        if 0 in numbers:
            straggler = tmp_path / "straggler"
            try:
                straggler.touch(exist_ok=False)
            except FileExistsError:
                pass  # this is the backup
            else:
                straggler.write_text(str(os.getpid()))
                time.sleep(1000)
        return [(number, 1) for number in numbers]

    with mrq.EmbeddedCluster(n_workers=2) as cluster:
        future = cluster.mapreduce(range(4), map_func, add_up, 4)
        assert future.result(60) == [(number, 1) for number in range(4)]
        pid = int((tmp_path / "straggler").read_text())
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the straggler has ended")
        eventually(lambda: set(loans(cluster).values()) == {(0, 0)}, "no task is in a queue or on loan")


def loans(cluster: mrq.EmbeddedCluster) -> dict[str, tuple[int, int]]:
    """Return how many tasks wait, and how many are with a worker, by queue."""
    return {name: (depth.ready, depth.unacked) for name, depth in cluster._broker.depths().items()}
