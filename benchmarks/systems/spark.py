"""Spark: PySpark's RDDs in `local[2]`; parts go through its shuffle, each with its chunk's number for the order."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

from pyspark import SparkConf, SparkContext

from benchmarks.by_hand import N_REDUCERS, Part, in_order, map_part, reduce_parts
from benchmarks.systems.system import N_WORKERS, System
from benchmarks.workloads import Job, Pairs

Numbered = tuple[int, tuple[int, Part]]

SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "3g",
    "spark.scheduler.mode": "FAIR",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


def _of_one_reducer(part: Iterable[Numbered]) -> list[Part]:
    """Return the parts in the order of their chunks: what a shuffle brings first, it brings first."""
    in_their_order = sorted((numbered for _, numbered in part), key=itemgetter(0))
    return [groups for _, groups in in_their_order]


class Spark(System):
    """No user interface; workers are kept from job to job, as they are by default."""

    def start(self) -> str:
        """Start the JVM."""
        os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
        settings = (
            SparkConf()
            .setMaster(f"local[{N_WORKERS}]")
            .setAppName("benchmark")
            .setAll(list(SETTINGS.items()))
        )
        self.context = SparkContext(conf=settings)
        self.context.setLogLevel("ERROR")
        return str(self.context.version)

    def mapreduce(self, job: Job) -> Pairs:
        """Map each partition, send each part to its reducer, reduce."""
        map_func, reduce_func = job.map_func, job.reduce_func

        def mapped(number: int, chunk: Iterable[Any]) -> Iterator[Numbered]:
            parts = map_part(map_func, list(chunk))
            return ((reducer, (number, part)) for reducer, part in enumerate(parts))

        def reduced(part: Iterable[Numbered]) -> Pairs:
            return reduce_parts(reduce_func, _of_one_reducer(part))

        chunks = self.context.parallelize(job.data, job.n_splits)
        parts = chunks.mapPartitionsWithIndex(mapped).partitionBy(N_REDUCERS, int)
        return in_order([parts.mapPartitions(reduced).collect()])

    def no_ops(self, job: Job) -> int:
        """Map a partition of one element a task."""
        map_func = job.map_func

        def called(chunk: Iterable[Any]) -> list[int]:
            map_func(list(chunk))
            return [1]

        return len(self.context.parallelize(job.data, len(job.data)).mapPartitions(called).collect())

    def stop(self) -> None:
        """End the JVM."""
        self.context.stop()


SYSTEM = Spark
