"""The client's half of a job: plan, upload, submit; then watch, and poll, until the result can be read.

mapreduce -> (code, input -> store) -> record -> ZooKeeper ... record says completed -> manifest -> results
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from types import TracebackType
from typing import Any

import mrq
from mrq import code, layout
from mrq.blob import Signer, new_key
from mrq.config import Settings
from mrq.core.model import PHASES, JobState
from mrq.errors import (
    ConfigurationError,
    Detached,
    JobError,
    MrqError,
    Unavailable,
    UnknownJob,
    VersionMismatch,
)
from mrq.future import JobFuture, Progress, Result
from mrq.inbox import Inbox
from mrq.inputs import InputSummary, write_input
from mrq.ports import Store
from mrq.registry import Registry
from mrq.results import read_failure, read_result
from mrq.wire import JobRecord

log = logging.getLogger(__name__)

PYTHON = ".".join(platform.python_version_tuple()[:2])
WAITING_IS_SAID_AFTER = 5.0
"""Seconds after which a job that nobody works on has its reason logged."""

MapFunc = Callable[[list[Any]], Iterable[tuple[Any, Any]]]
ReduceFunc = Callable[[list[Any]], Any]


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
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="mrq-client-io")
        self._pending: dict[str, JobFuture] = {}
        self._reading: set[str] = set()
        self._lock = threading.Lock()
        self._answered = self._said = time.monotonic()
        self._closed = False
        self._inbox.every(settings.poll_interval, self._poll)
        self._thread = threading.Thread(target=self._inbox.serve, name="mrq-client", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ submit

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
        _check(map_func, reduce_func, requested_n_workers, n_reducers, retries, task_timeout)
        packed = code.pack(map_func, reduce_func)
        slots = self._usable_slots()
        n_splits = requested_n_workers or max(slots, 1)
        job_id = self._registry.next_job_id()
        signer = Signer(key := new_key(), job_id)
        try:
            summary = self._upload(job_id, signer, packed, data, n_splits)
            record = JobRecord(
                job_id=job_id,
                key=key.hex(),
                n_map=summary.n_splits,
                n_reduce=(n_reducers or min(n_splits, summary.n_splits)) if summary.n_splits else 0,
                window=requested_n_workers,
                retries=retries,
                task_timeout=task_timeout,
                python=PYTHON,
                mrq=mrq.__version__,
                client=f"{socket.gethostname()}-{os.getpid()}",
                submitted_at=time.time(),
                input_length=summary.length,
                input_records=summary.records,
            )
            self._registry.submit(record)
        except BaseException:
            self._discard(job_id)
            raise
        log.info("%s is submitted: %d map tasks", job_id, record.n_map, extra={"job": job_id})
        return self._follow(job_id)

    def attach(self, job_id: str) -> JobFuture:
        """Return a future of a job that was submitted elsewhere, or earlier.

        Raises:
            UnknownJob: there is no such job.
        """
        with self._lock:
            if job_id in self._pending:
                return self._pending[job_id]
        self._registry.require(job_id)
        return self._follow(job_id)

    def _usable_slots(self) -> int:
        """Count the live slots; refuse workers that could not unpickle the functions."""
        workers = self._registry.members("workers")
        others = {name: info.python for name, info in workers.items() if info.python != PYTHON}
        if others:
            raise VersionMismatch(
                f"this client runs Python {PYTHON}, but {_listed(others)}: functions pickled here do not load there; "
                "use the same minor version on both sides",
                job_id="(not submitted)",
            )
        return sum(info.slots for info in workers.values())

    def _upload(
        self, job_id: str, signer: Signer, packed: bytes, data: Iterable[Any], n_splits: int
    ) -> InputSummary:
        """Write the job's files; the code and the folders go up while the data is cut."""
        sealed = signer.seal("code", "", packed)
        others = [self._pool.submit(self._store.write, layout.code(job_id), sealed)]
        folders = [layout.results(job_id, phase) for phase in PHASES]
        others += [self._pool.submit(self._make, folder) for folder in (*folders, layout.attempts(job_id))]
        try:
            with code.by_value():
                return write_input(
                    self._store,
                    layout.input_file(job_id),
                    data,
                    n_splits,
                    signer,
                    split_bytes=self._settings.split_bytes,
                    frame_bytes=self._settings.frame_bytes,
                )
        finally:
            wait(others)
            for other in others:
                other.result()

    def _make(self, folder: str) -> int:
        self._store.make_dirs(folder)
        return 0

    def _discard(self, job_id: str) -> None:
        """Remove what a submission that failed has left, if the store lets us."""
        try:
            if self._registry.job(job_id) is None:
                self._store.delete(layout.folder(job_id))
        except MrqError as error:
            log.warning("files of %s may be left over: %s", job_id, error)

    # ------------------------------------------------------------ follow

    def _follow(self, job_id: str) -> JobFuture:
        future = JobFuture(job_id, partial(self._cancel, job_id), partial(self._progress, job_id))
        with self._lock:
            self._pending[job_id] = future
        self._inbox.put(partial(self._look, job_id))
        return future

    def _look(self, job_id: str) -> None:
        """See where a job is, and have its next change told."""
        future = self._pending.get(job_id)
        if future is None or job_id in self._reading:
            return
        if future.done():
            self._drop(job_id)
            return
        try:
            held = self._registry.job(job_id, lambda _path: self._inbox.put(partial(self._look, job_id)))
        except Unavailable as error:
            self._unanswered(error)
            return
        except MrqError as error:
            self._finish(job_id, error)
            return
        self._answered = time.monotonic()
        if held is None:
            self._finish(job_id, UnknownJob(f"{job_id} was cleared before it ended", job_id=job_id))
            return
        if held.record.epoch:
            future.begin()
        if held.record.state is JobState.CANCELLED or held.record.cancel_requested:
            future.end_cancelled()
            self._drop(job_id)
        elif held.record.state.ended:
            self._reading.add(job_id)
            self._pool.submit(self._read, held.record, time.monotonic() + self._settings.give_up_after)

    def _read(self, record: JobRecord, deadline: float) -> None:
        """Read what the job has come to; runs on the pool."""
        while True:
            try:
                signer = Signer(bytes.fromhex(record.key), record.job_id)
                read = read_result if record.state is JobState.COMPLETED else read_failure
                self._finish(record.job_id, read(self._store, signer, record))
                return
            except Unavailable as error:
                if time.monotonic() > deadline or self._closed:
                    self._finish(record.job_id, error)
                    return
                log.warning("the result of %s can't be read yet: %s", record.job_id, error)
                time.sleep(self._settings.poll_interval)
            except BaseException as error:
                self._finish(record.job_id, error)
                return

    def _finish(self, job_id: str, result: Result | BaseException) -> None:
        future = self._pending.get(job_id)
        if future is not None:
            future.end(result)
        self._drop(job_id)

    def _drop(self, job_id: str) -> None:
        with self._lock:
            self._pending.pop(job_id, None)
        self._reading.discard(job_id)

    def _poll(self) -> None:
        for job_id in list(self._pending):
            self._look(job_id)
        now = time.monotonic()
        if self._pending and now - self._said > WAITING_IS_SAID_AFTER:
            self._said = now
            self._say_who_is_missing()

    def _say_who_is_missing(self) -> None:
        try:
            for role in ("masters", "workers"):
                if not self._registry.members(role):
                    log.warning(
                        "%s: no %s are registered; jobs wait until one is", ", ".join(self._pending), role
                    )
        except Unavailable as error:
            self._unanswered(error)

    def _unanswered(self, error: Unavailable) -> None:
        silent = time.monotonic() - self._answered
        log.warning("jobs can't be followed for %.0f s: %s", silent, error)
        if silent > self._settings.give_up_after:
            for job_id in list(self._pending):
                self._finish(
                    job_id, type(error)(f"{error}; {job_id} is submitted all the same: attach to it later")
                )

    def _cancel(self, job_id: str) -> bool:
        try:
            return self._registry.request_cancel(job_id, time.time())
        except (Unavailable, JobError) as error:
            log.warning("%s was not cancelled: %s", job_id, error)
            return False

    def _progress(self, job_id: str) -> Progress:
        record = self._registry.require(job_id).record
        return Progress(job_id, record.state, self._registry.progress(job_id).phases)

    # ------------------------------------------------------------ tidy up

    def jobs(self) -> list[JobRecord]:
        """Return the records of all jobs that have not been cleared, oldest first."""
        found = (self._registry.job(job_id) for job_id in self._registry.job_ids())
        return [held.record for held in found if held]

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
            if not record.state.ended and not force:
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
            wait(list(self._pending.values()))
        self._closed = True
        self._inbox.stop()
        self._thread.join(self._settings.operation_timeout)
        self._pool.shutdown(wait=True)
        for job_id in list(self._pending):
            message = (
                f"the client was closed before {job_id} ended; the job goes on: attach to it from a new one"
            )
            self._finish(job_id, Detached(message, job_id=job_id))
        self._disconnect()

    def _disconnect(self) -> None:
        """Close what the constructor was given."""
        self._store.close()
        self._registry.tree.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait_for_jobs=kind is None)


def _check(
    map_func: object,
    reduce_func: object,
    requested_n_workers: int | None,
    n_reducers: int | None,
    retries: int,
    task_timeout: float | None,
) -> None:
    """Refuse wrong arguments before anything is sent."""
    for name, func in (("map_func", map_func), ("reduce_func", reduce_func)):
        if not callable(func):
            raise ConfigurationError(f"{name} is not callable: {func!r}")
    for name, number in (("requested_n_workers", requested_n_workers), ("n_reducers", n_reducers)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ConfigurationError(f"{name} must be a whole number from 1, not {number!r}")
    if not isinstance(retries, int) or retries < 0:
        raise ConfigurationError(f"retries must be a whole number from 0, not {retries!r}")
    if task_timeout is not None and not task_timeout > 0:
        raise ConfigurationError(f"task_timeout must be more than 0 seconds, not {task_timeout!r}")


def _listed(pythons: dict[str, str]) -> str:
    shown = [f"worker {name} runs {python}" for name, python in sorted(pythons.items())[:3]]
    more = len(pythons) - len(shown)
    return ", ".join(shown) + (f" and {more} more differ" if more else "")
