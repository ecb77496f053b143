"""Ray: remote functions with two CPUs; chunks and parts are objects in its shared memory."""

from __future__ import annotations

import os
from typing import Any

# Ray reads these when it is imported: no usage statistics, and, as it does on a laptop, loopback only.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

import ray  # the environment comes first

from benchmarks.by_hand import N_REDUCERS, Part, chunks, in_order, map_part, reduce_parts
from benchmarks.systems.system import N_WORKERS, System
from benchmarks.workloads import Job, Pairs

OBJECT_STORE_BYTES = 2 * 2**30


def _reduced(reduce_func: Any, *parts: Part) -> Pairs:
    return reduce_parts(reduce_func, parts)


def _called(function: Any, argument: Any) -> Any:
    return function(argument)


class Ray(System):
    """No dashboard, no usage statistics, no log monitor."""

    def start(self) -> str:
        """Start Ray's processes on loopback."""
        ray.init(
            num_cpus=N_WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error",
            object_store_memory=OBJECT_STORE_BYTES,
        )  # fmt: skip
        self.map = ray.remote(num_returns=N_REDUCERS)(map_part)
        self.reduce = ray.remote(_reduced)
        self.call = ray.remote(_called)
        return str(ray.__version__)

    def mapreduce(self, job: Job) -> Pairs:
        """Map each chunk to an object for each reducer, which takes its own."""
        function = ray.put(job.map_func)
        mapped = [self.map.remote(function, ray.put(chunk)) for chunk in chunks(job.data, job.n_splits)]
        reduced = [self.reduce.remote(job.reduce_func, *parts) for parts in zip(*mapped, strict=True)]
        return in_order(ray.get(reduced))

    def no_ops(self, job: Job) -> int:
        """Map one element a task."""
        function = ray.put(job.map_func)
        return len(ray.get([self.call.remote(function, [element]) for element in job.data]))

    def stop(self) -> None:
        """End Ray's processes."""
        ray.shutdown()


SYSTEM = Ray
