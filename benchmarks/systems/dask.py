"""Dask: futures on a `LocalCluster` of two processes; data is scattered, and each part goes straight to its reducer."""

from __future__ import annotations

import pickle
from operator import itemgetter
from typing import Any

import dask.config
import distributed

from benchmarks.by_hand import N_REDUCERS, chunks, in_order, map_to_bytes, reduce_bytes
from benchmarks.systems.system import N_WORKERS, System
from benchmarks.workloads import Job, Pairs


def _mapped(map_func: Any, chunk: bytes) -> list[bytes]:
    return map_to_bytes(map_func, pickle.loads(chunk))


def _reduced(reduce_func: Any, *parts: bytes) -> bytes:
    return pickle.dumps(reduce_bytes(reduce_func, parts), pickle.HIGHEST_PROTOCOL)


class Dask(System):
    """No dashboard, no memory limits, which cost time and help nothing here; patience with workers that are busy.

    All data goes as bytes: Dask looks through lists and dicts item by item, which took it ten times as long.
    """

    def start(self) -> str:
        """Start scheduler and workers."""
        dask.config.set({"distributed.comm.timeouts.tcp": "300s", "distributed.scheduler.worker-ttl": None})
        self.cluster = distributed.LocalCluster(
            n_workers=N_WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
        )  # fmt: skip
        self.client = distributed.Client(self.cluster)
        return str(distributed.__version__)

    def mapreduce(self, job: Job) -> Pairs:
        """Scatter the chunks, map each, pick each reducer's parts out where they are, reduce."""
        submit = self.client.submit
        pickled = [pickle.dumps(chunk, pickle.HIGHEST_PROTOCOL) for chunk in chunks(job.data, job.n_splits)]
        scattered = self.client.scatter(pickled, hash=False)
        mapped = [submit(_mapped, job.map_func, chunk, pure=False) for chunk in scattered]
        reduced = []
        for number in range(N_REDUCERS):
            parts = [submit(itemgetter(number), whole, pure=False) for whole in mapped]
            reduced.append(submit(_reduced, job.reduce_func, *parts, pure=False))
        return in_order(map(pickle.loads, self.client.gather(reduced)))

    def no_ops(self, job: Job) -> int:
        """Map one element a task."""
        futures = self.client.map(job.map_func, [[element] for element in job.data], pure=False)
        return len(self.client.gather(futures))

    def stop(self) -> None:
        """End all."""
        self.client.close()
        self.cluster.close()


SYSTEM = Dask
