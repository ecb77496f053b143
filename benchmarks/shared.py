"""What `stragglers` measures with: a warm cluster, and a clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mrq
from mrq.client import JobClient


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


@contextmanager
def cluster(real: bool, n_masters: int, n_workers: int) -> Iterator[JobClient]:
    """A warm cluster: embedded, or processes on the real servers."""
    if not real:
        with mrq.EmbeddedCluster(n_workers=n_workers, n_masters=n_masters) as embedded:
            yield embedded
        return
    command = [sys.executable, "-m", "mrq.cli", "--log-level", "warning"]
    roles = ["master"] * n_masters + ["worker"] * n_workers
    processes = [
        subprocess.Popen([*command, role], env={**os.environ, "MRQ_NAME": f"bench-{i}"})
        for i, role in enumerate(roles)
    ]
    try:
        with mrq.Client() as client:
            while len(client._registry.members("workers")) < n_workers:
                if any(process.poll() is not None for process in processes):
                    raise SystemExit("a master or worker did not start")
                time.sleep(0.05)
            yield client
            client.clear()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)
