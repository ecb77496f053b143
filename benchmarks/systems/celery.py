"""Celery: a worker of two processes, on the RabbitMQ that the environment names (MRQ_*); results come back by `rpc`.

python -m benchmarks.systems.celery QUEUE      # what the benchmark starts as the worker
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any
from urllib.parse import quote

import celery

from benchmarks.by_hand import chunks, in_order, map_to_bytes, reduce_bytes
from benchmarks.systems.system import N_WORKERS, System
from benchmarks.workloads import Job, Pairs
from mrq.config import Settings

PREFETCH = 64
PATIENCE = 600.0
"""Longer than any deadline: the benchmark's own come first."""


def application(queue: str) -> Any:
    """Return the app, for both sides: everything by pickle, and what costs messages but no results switched off."""
    settings = Settings.load()
    user, password = quote(settings.username, ""), quote(settings.password.get_secret_value(), "")
    app = celery.Celery(
        queue,
        broker=f"amqp://{user}:{password}@{settings.rabbitmq_hosts[0]}/{quote(settings.rabbitmq_vhost, '')}",
        backend="rpc://",
    )
    app.conf.update(
        accept_content=["pickle"],
        task_serializer="pickle",
        result_serializer="pickle",
        task_default_queue=queue,
        task_default_exchange=queue,
        task_default_routing_key=queue,
        worker_prefetch_multiplier=PREFETCH,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=False,
    )
    app.task(map_to_bytes, name="map")
    app.task(reduce_bytes, name="reduce")
    app.task(_called, name="call")
    return app


def _called(function: Any, argument: Any) -> Any:
    return function(argument)


class Celery(System):
    """A queue of its own, removed at the end."""

    worker: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start the worker; it is there once it has done a task."""
        self.queue = f"mrq-bench-{os.getppid()}.celery"
        self.app = application(self.queue)
        self._remove_queue()  # what was left in it by a worker that was ended
        environment = os.environ | {
            "C_FORCE_ROOT": "1"
        }  # root may run it too: the tasks are the benchmark's own
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.systems.celery", self.queue], env=environment
        )
        first = self.app.tasks["call"].delay(len, [])
        while not first.ready():
            if self.worker.poll() is not None:
                raise RuntimeError(f"the worker ended with exit code {self.worker.returncode}")
            time.sleep(0.1)
        return str(celery.__version__)

    def mapreduce(self, job: Job) -> Pairs:
        """Run one job."""
        return self.at_once(job, 1)[0]

    def at_once(self, job: Job, n: int) -> list[Pairs]:
        """Map all jobs' chunks; reduce each job's parts as soon as they are there. One thread may wait for results."""
        map_, reduce = self.app.tasks["map"], self.app.tasks["reduce"]
        mapped = [
            [map_.delay(job.map_func, chunk) for chunk in chunks(job.data, job.n_splits)] for _ in range(n)
        ]
        reduced = []
        for tasks in mapped:
            by_reducer = zip(*[task.get(PATIENCE) for task in tasks], strict=True)
            reduced.append([reduce.delay(job.reduce_func, parts) for parts in by_reducer])
        return [in_order(task.get(PATIENCE) for task in tasks) for tasks in reduced]

    def no_ops(self, job: Job) -> int:
        """Map one element a task."""
        tasks = [self.app.tasks["call"].delay(job.map_func, [element]) for element in job.data]
        return sum(task.get(PATIENCE) is not None for task in tasks)

    def stop(self) -> None:
        """End the worker, and remove its queue."""
        if self.worker:
            self.worker.terminate()
            self.worker.wait(PATIENCE)
        self._remove_queue()
        self.app.close()

    def _remove_queue(self) -> None:
        with self.app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=10)
            connection.default_channel.queue_delete(self.queue)
            connection.default_channel.exchange_delete(self.queue)


SYSTEM = Celery

if __name__ == "__main__":
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    application(sys.argv[1]).worker_main(["--quiet", "worker", "--concurrency", str(N_WORKERS), *options])
