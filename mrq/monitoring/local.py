"""`LocalMonitoring`: asks the servers, each only when it is needed, and prints what they say."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from mrq import layout
from mrq.config import Settings
from mrq.core.model import PHASES, JobState, Phase, TaskState
from mrq.errors import JobError, MrqError
from mrq.inline import InlineStore
from mrq.monitoring import prints
from mrq.monitoring.views import Job, MasterInfo, Missing, Queue, Queues, Status, Task, Tree, WorkerInfo, Zoo
from mrq.ports import Broker, Store
from mrq.registry import Registry
from mrq.store.address import describe, open_store

SETTLE_SECONDS = 2.0
"""After a job's end: how long its last tasks are waited for."""


class LocalMonitoring:
    """Shows the state of a cluster. Changes nothing, but for `cancel`.

    A server is connected to when something is first asked of it. No answer takes longer than
    ``settings.connect_timeout``. Not thread-safe.

    Args:
        settings: where the servers are; by default from file and environment (`Settings.load`).
        registry: this one, in place of that of the settings' ZooKeeper; it stays the caller's to close.
        store: likewise, in place of HDFS.
        broker: likewise, in place of RabbitMQ.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        registry: Registry | None = None,
        store: Store | None = None,
        broker: Broker | None = None,
    ) -> None:
        settings = settings or Settings.load()
        patience = min(settings.connect_timeout, settings.operation_timeout)
        self._settings = settings.model_copy(update={"operation_timeout": patience})
        self._registry = registry
        self._store = store
        self._broker = broker
        self._opened = ExitStack()

    # ------------------------------------------------------------ connections

    @property
    def registry(self) -> Registry:
        """What ZooKeeper holds.

        Raises:
            CoordinationUnavailable: ZooKeeper does not answer.
            AuthenticationFailed: it refuses the login.
        """
        if self._registry is None:
            from mrq.coordination.zookeeper import ZooKeeperCoordination

            tree = ZooKeeperCoordination(self._settings, outlives_sessions=True)
            self._opened.callback(tree.close)
            self._registry = Registry(tree)
        return self._registry

    @property
    def store(self) -> Store:
        """HDFS; nothing is sent before it is asked for something."""
        if self._store is None:
            self._store = open_store(describe(self._settings))
            self._opened.callback(self._store.close)
        return self._store

    @property
    def broker(self) -> Broker:
        """RabbitMQ.

        Raises:
            BrokerUnavailable: RabbitMQ does not answer.
            AuthenticationFailed: it refuses the login.
        """
        if self._broker is None:
            from mrq.broker.rabbitmq import RabbitMQBroker

            opened = RabbitMQBroker(self._settings)
            self._opened.callback(opened.close)
            self._broker = opened
        return self._broker

    def close(self) -> None:
        """Close the connections that were opened here."""
        self._opened.close()

    def __enter__(self) -> LocalMonitoring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ at a glance

    def status(self) -> Status:
        """Return masters, workers, jobs and queues; a server that is away is named, and the rest is there."""
        asked: dict[str, Callable[[], dict[str, Any]]] = {
            "ZooKeeper": lambda: {
                "masters": self.masters(),
                "workers": self.workers(),
                "jobs": self.jobs(),
            },
            "HDFS": lambda: {"": self.store.status(layout.JOBS)},
            "RabbitMQ": lambda: {"queues": self.queues()},
        }
        found: dict[str, Any] = {}
        missing: dict[str, Missing] = {}
        with ThreadPoolExecutor(len(asked)) as pool:  # at once: several may be away
            answers = {service: pool.submit(ask) for service, ask in asked.items()}
        for service, answer in answers.items():
            try:
                found |= answer.result()
            except MrqError as error:
                missing[service] = Missing(error=type(error).__name__, message=str(error))
        found.pop("", None)
        return Status(**found, missing=missing)

    def masters(self) -> dict[str, MasterInfo]:
        """Return the registered masters by name."""
        return {name: MasterInfo.of(info) for name, info in self.registry.members("masters").items()}

    def workers(self) -> dict[str, WorkerInfo]:
        """Return the registered workers by name."""
        return {name: WorkerInfo.of(info) for name, info in self.registry.members("workers").items()}

    def jobs(self) -> list[Job]:
        """Return the jobs that have not been cleared and that this login may read, oldest first."""
        now = time.time()
        jobs = []
        for held in self.registry.readable_jobs():
            job_id = held.record.job_id
            jobs.append(Job.of(held, self.registry.owner(job_id), self.registry.progress(job_id), now))
        return jobs

    def queues(self) -> Queues:
        """Return the depth of each queue, ``dead`` among them: the dead letters."""
        return Queues(
            (name, Queue(ready=depth.ready, unacked=depth.unacked, consumers=depth.consumers))
            for name, depth in self.broker.depths().items()
        )

    def print_queues(self) -> Queues:
        """Print the depth of each queue; return the same as data."""
        queues = self.queues()
        prints.queues(queues)
        return queues

    def cancel(self, job_id: str) -> None:
        """Cancel a job, as its future's ``cancel`` does, but without reading anything of it.

        Raises:
            UnknownJob: there is no such job.
            JobError: it has ended otherwise.
        """
        if not self.registry.request_cancel(job_id, time.time()):
            state = self.registry.require(job_id).record.state
            raise JobError(f"{job_id} can't be cancelled any more: it has {state.value}", job_id=job_id)

    # ------------------------------------------------------------ ZooKeeper

    def zoo(self) -> Zoo:
        """Return what ZooKeeper holds: members, tasks, jobs, and the tasks of dead workers.

        A result may be there a moment before its job's last tasks are in ZooKeeper; they are waited for.
        """
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            zoo = self._zoo()
            if not any(map(_settles, zoo.jobs.values())) or time.monotonic() > end:
                return zoo
            time.sleep(SETTLE_SECONDS / 50)

    def _zoo(self) -> Zoo:
        workers = self.workers()
        jobs = self.jobs()
        tasks = {phase: self._tasks(jobs, phase) for phase in PHASES}
        return Zoo(
            masters=self.masters(),
            workers=workers,
            map_tasks=tasks[Phase.MAP],
            shuffle_tasks=tasks[Phase.SHUFFLE],
            reduce_tasks=tasks[Phase.REDUCE],
            jobs={_number(job.job_id): job for job in jobs},
            dead_worker_tasks={
                f"{phase.value} {name}": task
                for phase in PHASES
                for name, task in tasks[phase].items()
                if task.state == TaskState.RUNNING and task.worker_hostname not in workers
            },
        )

    def _tasks(self, jobs: list[Job], phase: Phase) -> dict[str, Task]:
        return {
            f"{_number(job.job_id)}_{row.index}": Task.of(row)
            for job in jobs
            for page in self.registry.pages(job.job_id, phase)
            for row in page.rows
        }

    def print_zoo(self) -> Zoo:
        """Print what ZooKeeper holds, in sections; return the same as data."""
        zoo = self.zoo()
        prints.zoo(zoo)
        return zoo

    # ------------------------------------------------------------ HDFS

    def hdfs(self, path: str = layout.JOBS) -> Tree:
        """Return a folder's tree: names of folders end with a slash, a file's leads to its length in bytes.

        Small files that jobs keep in their records, not in HDFS (`mrq.inline`), are in it too.

        Args:
            path: below the settings' ``hdfs_root``; a folder that is not there is empty.
        """
        inline: dict[str, str] = {}
        for held in self.registry.readable_jobs():
            inline |= held.record.inline
        return _tree(InlineStore(self.store, inline), path)

    def print_hdfs(self, path: str = layout.JOBS) -> Tree:
        """Print a folder's tree, each level indented; return the same as data."""
        tree = self.hdfs(path)
        prints.tree(tree)
        return tree


def _settles(job: Job) -> bool:
    """Whether a job completed so shortly ago that its master may not have told all of it yet."""
    return job.state == JobState.COMPLETED and job.done < job.total and job.age - job.seconds < SETTLE_SECONDS


def _tree(store: Store, path: str) -> Tree:
    tree = Tree()
    for entry in sorted(store.list(path), key=lambda entry: _natural(entry.name)):
        if entry.is_dir:
            tree[f"{entry.name}/"] = _tree(store, f"{path}/{entry.name}".lstrip("/"))
        else:
            tree[entry.name] = entry.length
    return tree


def _number(job_id: str) -> str:
    return job_id.removeprefix("job_")


def _natural(name: str) -> list[tuple[int, str]]:
    """Order numbers within names by their value: ``2`` before ``10``."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts) if part]
