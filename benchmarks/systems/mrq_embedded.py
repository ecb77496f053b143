"""mrq in one process tree: `EmbeddedCluster`."""

from __future__ import annotations

import mrq
from benchmarks.systems.system import N_WORKERS, System
from benchmarks.workloads import Job, Pairs
from mrq.client import JobClient
from mrq.core.model import Phase

PATIENCE = 600.0
"""Longer than any deadline: the benchmark's own come first."""


class Embedded(System):
    """One master and two workers as threads, the functions in child processes, files in a temporary folder."""

    client: JobClient

    def start(self) -> str:
        """Start the cluster."""
        self.client = mrq.EmbeddedCluster(n_workers=N_WORKERS)
        return mrq.__version__

    def mapreduce(self, job: Job) -> Pairs:
        """Run one job."""
        return self.at_once(job, 1)[0]

    def at_once(self, job: Job, n: int) -> list[Pairs]:
        """Submit a job n times, then wait for all, as the notebook does."""
        submit = self.client.mapreduce
        futures = [submit(job.data, job.map_func, job.reduce_func, job.n_splits) for _ in range(n)]
        return [future.result(PATIENCE) for future in futures]

    def no_ops(self, job: Job) -> int:
        """Run a job of as many map tasks as there are elements; its one reducer has nothing to do."""
        future = self.client.mapreduce(job.data, job.map_func, job.reduce_func, job.n_splits, n_reducers=1)
        assert future.result(PATIENCE) == []
        return future.progress().phases[Phase.MAP].total

    def stop(self) -> None:
        """End the cluster."""
        self.client.close()


SYSTEM = Embedded
