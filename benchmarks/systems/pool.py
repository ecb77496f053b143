"""`multiprocessing` by hand: a pool of two; parts go through the parent as bytes that it does not look into."""

from __future__ import annotations

import platform
from multiprocessing import get_context

from benchmarks.by_hand import chunks, in_order, map_to_bytes, reduce_bytes
from benchmarks.systems.system import N_WORKERS, System
from benchmarks.workloads import Job, Pairs


class Pool(System):
    """What a user writes who has one machine and no library."""

    def start(self) -> str:
        """Start the pool."""
        self.pool = get_context("forkserver").Pool(N_WORKERS)
        return platform.python_version()

    def mapreduce(self, job: Job) -> Pairs:
        """Map the chunks, then reduce the parts."""
        mapped = self.pool.starmap(
            map_to_bytes, [(job.map_func, chunk) for chunk in chunks(job.data, job.n_splits)], chunksize=1
        )
        reductions = [(job.reduce_func, list(parts)) for parts in zip(*mapped, strict=True)]
        return in_order(self.pool.starmap(reduce_bytes, reductions, chunksize=1))

    def no_ops(self, job: Job) -> int:
        """Map one element a task."""
        return len(self.pool.map(job.map_func, [[element] for element in job.data], chunksize=1))

    def stop(self) -> None:
        """End the pool."""
        self.pool.terminate()
        self.pool.join()


SYSTEM = Pool
