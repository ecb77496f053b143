"""The client's half of a job: submit it (`mrq.submit`), then follow it until its future ends (`mrq.following`).

mapreduce -> (code, input -> store) -> record -> ZooKeeper ... record says completed -> manifest -> results
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

from mrq import layout
from mrq.config import Settings
from mrq.errors import JobError, MrqError
from mrq.following import Follower
from mrq.future import JobFuture
from mrq.inbox import Inbox
from mrq.ports import Store
from mrq.records import JobRecord
from mrq.registry import Registry
from mrq.submit import MapFunc, Options, ReduceFunc, Submitter

POOL_SIZE = 8
"""Threads for uploads and results."""


class JobClient:
    """Submits jobs and resolves their futures; `mrq.Client` and `mrq.EmbeddedCluster` are ones with servers.

    Leaving its ``with`` block waits for the futures, as leaving an `Executor`'s does; when an exception leaves
    the block, it does not wait. One background thread watches all jobs; a few more read results.

    Args:
        registry: of the coordination service.
        store: where the jobs' files go.
        settings: for sizes and intervals.
    """

    def __init__(self, registry: Registry, store: Store, settings: Settings) -> None:
        self._registry = registry
        self._store = store
        self._settings = settings
        self._inbox = Inbox()
        self._pool = ThreadPoolExecutor(POOL_SIZE, thread_name_prefix="mrq-client-io")
        self._submitter = Submitter(registry, store, settings, self._pool)
        self._follower = Follower(registry, store, settings, self._inbox, self._pool)
        self._closed = False
        self._thread = threading.Thread(target=self._inbox.serve, name="mrq-client", daemon=True)
        self._thread.start()

    def mapreduce(
        self,
        data: Iterable[Any],
        map_func: MapFunc,
        reduce_func: ReduceFunc,
        requested_n_workers: int | None = None,
        *,
        n_reducers: int | None = None,
        retries: int = 0,
        task_timeout: float | None = None,
        priority: int = 0,
        speculative: bool = True,
        memory_limit: int | None = None,
        max_skipped: int = 0,
    ) -> JobFuture:
        """Run ``map_func`` over splits of the data, and ``reduce_func`` over the values of each key.

        Returns once the job is durable: from then on it ends whatever becomes of this client.
        After Dean and Ghemawat, "MapReduce: Simplified Data Processing on Large Clusters", OSDI 2004.

        Args:
            data: any iterable, of any picklable elements; it is read once.
            map_func: ``[x, …] -> [(key, value), …]``, called with the elements of one split.
            reduce_func: ``[value, …] -> y``, called with all values of one key in the order of the data.
            requested_n_workers: how many splits to make, and so how many workers to use at most; by default as
                many as there are slots.
            n_reducers: how many partitions to reduce; by default as many as splits were requested.
            retries: how often a task whose function raised is tried again.
            task_timeout: how many seconds one task may take; None for any time.
            priority: from -10 to 10; each step doubles the share of the slots that the job gets beside others.
            speculative: whether a task that takes far longer than the others runs on another worker too; the first
                to commit wins.
            memory_limit: how many bytes a task may take beyond what its process starts with; a function that takes
                more gets a MemoryError, and the future raises `TaskMemoryError`. None for what the workers are set to.
            max_skipped: how many bad records the job may leave out: elements on which ``map_func`` raises, and keys on
                which ``reduce_func`` does. ``future.skipped()`` returns them.

        Returns:
            The future of ``[(key, y), …]``, sorted by key. It raises what a function raised.

        Raises:
            ConfigurationError: an argument is wrong.
            NotShippable: a function or an element does not pickle.
            VersionMismatch: the workers run another minor version of Python.
            Unavailable: ZooKeeper or HDFS did not answer by the deadline; nothing was submitted.
        """
        if self._closed:
            raise MrqError("this client is closed; make a new one")
        options = Options(
            requested_n_workers=requested_n_workers,
            n_reducers=n_reducers,
            retries=retries,
            task_timeout=task_timeout,
            priority=priority,
            speculative=speculative,
            memory_limit=memory_limit,
            max_skipped=max_skipped,
        )
        return self._follower.follow(self._submitter.submit(data, map_func, reduce_func, options))

    def attach(self, job_id: str) -> JobFuture:
        """Return a future of a job that was submitted elsewhere, or earlier.

        Raises:
            UnknownJob: there is no such job.
        """
        self._registry.require(job_id)
        return self._follower.follow(job_id)

    def jobs(self) -> list[JobRecord]:
        """Return the records of the jobs that have not been cleared and that this login may read, oldest first."""
        return [held.record for held in self._registry.readable_jobs()]

    def clear(self, job_id: str | None = None, *, force: bool = False) -> list[str]:
        """Remove jobs that have ended, with their files; return which.

        Args:
            job_id: that one; by default all.
            force: cancel and remove jobs that run, too.

        Raises:
            JobError: the job named runs, and ``force`` is False.
        """
        cleared = []
        for record in [self._registry.require(job_id).record] if job_id else self.jobs():
            if record.goes_on and not force:
                if job_id:
                    raise JobError(f"{job_id} runs; cancel it, or clear it with force=True", job_id=job_id)
                continue
            self._clear_one(record)
            cleared.append(record.job_id)
        return cleared

    def _clear_one(self, record: JobRecord) -> None:
        if not record.state.ended:
            self._registry.request_cancel(record.job_id, time.time())
            deadline = time.monotonic() + self._settings.operation_timeout
            while time.monotonic() < deadline:  # let its master end it: that kills its tasks
                held = self._registry.job(record.job_id)
                if held is None or held.record.state.ended:
                    break
                time.sleep(0.05)
        self._registry.delete_job(record.job_id)
        self._store.delete(layout.folder(record.job_id))

    def close(self, *, wait_for_jobs: bool = False) -> None:
        """Let go of the servers. Futures that have not ended raise `Detached`; their jobs go on.

        Args:
            wait_for_jobs: wait for the futures first.
        """
        if self._closed:
            return
        if wait_for_jobs:
            wait(self._follower.pending())
        self._closed = True
        self._inbox.stop()
        self._thread.join(self._settings.operation_timeout)
        self._follower.close()
        self._pool.shutdown(wait=True)
        self._disconnect()

    def _disconnect(self) -> None:
        """Close what the constructor was given."""
        self._store.close()
        self._registry.tree.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait_for_jobs=kind is None)
