"""The futures of submitted jobs: watched, and polled, until what the job has come to can be read."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Executor
from functools import partial
from typing import Literal

from mrq.blob import Signer
from mrq.config import Settings
from mrq.core.model import PHASES, JobState
from mrq.errors import Detached, JobError, MrqError, SessionLost, Unavailable, UnknownJob
from mrq.future import JobFuture, Progress, Result
from mrq.inbox import Inbox
from mrq.ports import Store
from mrq.records import JobRecord, PhaseProgress
from mrq.registry import Registry
from mrq.report import report_of
from mrq.results import read_failure, read_result, read_skipped
from mrq.sidecar import Printed, Skipped, read_output
from mrq.stored import StoredResult

log = logging.getLogger(__name__)

WAITING_IS_SAID_AFTER = 5.0
"""Seconds after which a job that nobody works on has its reason logged."""


class Follower:
    """Resolves futures. Everything but reading results happens on the inbox's turns.

    Args:
        registry: of the coordination service.
        store: where results are.
        settings: for the intervals.
        inbox: the client's.
        pool: reads results.
    """

    def __init__(
        self, registry: Registry, store: Store, settings: Settings, inbox: Inbox, pool: Executor
    ) -> None:
        self._registry = registry
        self._store = store
        self._settings = settings
        self._inbox = inbox
        self._pool = pool
        self._pending: dict[str, JobFuture] = {}
        self._reading: set[str] = set()
        self._lock = threading.Lock()
        self._answered = self._said = inbox.now()
        inbox.every(settings.poll_interval, self._poll)

    def pending(self) -> list[JobFuture]:
        """Return the futures that have not ended."""
        with self._lock:
            return list(self._pending.values())

    def close(self) -> None:
        """Stop waiting; futures that have not ended raise `Detached`."""
        for future in self.pending():
            job_id = future.job_id
            message = f"the client was closed before {job_id} ended; it goes on: attach to it from a new one"
            self._finish(job_id, Detached(message, job_id=job_id))

    def follow(self, job_id: str) -> JobFuture:
        """Return the future of a job."""
        with self._lock:
            if job_id in self._pending:
                return self._pending[job_id]
            future = JobFuture(
                job_id,
                partial(self._cancel, job_id),
                partial(self._progress, job_id),
                partial(self._skipped, job_id),
                partial(self._output, job_id),
                partial(report_of, job_id, self._registry, self._store),
            )
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
            held = self._registry.job(job_id, self._changed)
        except (Unavailable, SessionLost) as error:
            self._unanswered(error)
            return
        except MrqError as error:
            self._finish(job_id, error)
            return
        self._answered = self._inbox.now()
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
            self._pool.submit(self._read, held.record, self._inbox.now() + self._settings.give_up_after)

    def _changed(self, path: str) -> None:
        # One function for all looks: a session keeps a watch a function, and polls would pile them up.
        self._inbox.put(partial(self._look, path.rpartition("/")[2]))

    def _read(self, record: JobRecord, deadline: float) -> None:
        """Read what the job has come to; runs on the pool."""
        try:
            signer = Signer(bytes.fromhex(record.key), record.job_id)
            read = read_result if record.state is JobState.COMPLETED else read_failure
            self._finish(record.job_id, read(self._store, signer, record))
        except Unavailable as error:
            if self._inbox.now() > deadline:
                self._finish(record.job_id, error)
                return
            log.warning("the result of %s can't be read yet: %s", record.job_id, error)
            again = partial(self._pool.submit, self._read, record, deadline)
            self._inbox.later(self._settings.poll_interval, again)
        except BaseException as error:
            self._finish(record.job_id, error)

    def _finish(self, job_id: str, result: Result | StoredResult | BaseException) -> None:
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
        now = self._inbox.now()
        if self._pending and now - self._said > WAITING_IS_SAID_AFTER:
            self._said = now
            self._say_who_is_missing()

    def _say_who_is_missing(self) -> None:
        try:
            roles: tuple[Literal["masters", "workers"], ...] = ("masters", "workers")
            for role in roles:
                if not self._registry.members(role):
                    log.warning(
                        "%s: no %s are registered; jobs wait until one is", ", ".join(self._pending), role
                    )
        except (Unavailable, SessionLost) as error:
            self._unanswered(error)

    def _unanswered(self, error: Unavailable | SessionLost) -> None:
        silent = self._inbox.now() - self._answered
        log.warning("jobs can't be followed for %.0f s: %s", silent, error)
        if silent > self._settings.give_up_after:
            for job_id in list(self._pending):
                self._finish(
                    job_id, type(error)(f"{error}; {job_id} is submitted all the same: attach to it later")
                )

    def _cancel(self, job_id: str) -> bool:
        try:
            return self._registry.request_cancel(job_id, time.time())
        except (Unavailable, SessionLost, JobError) as error:
            log.warning("%s was not cancelled: %s", job_id, error)
            return False

    def _skipped(self, job_id: str) -> list[Skipped]:
        record = self._registry.require(job_id).record
        return read_skipped(self._store, Signer(bytes.fromhex(record.key), job_id), record)

    def _output(self, job_id: str) -> list[Printed]:
        record = self._registry.require(job_id).record
        return read_output(self._store, Signer(bytes.fromhex(record.key), job_id))

    def _progress(self, job_id: str) -> Progress:
        record = self._registry.require(job_id).record
        shown = self._registry.progress(job_id).phases
        phases = {}
        for phase in PHASES:
            total = record.spec(1).n_tasks(phase)
            known = shown.get(phase, PhaseProgress())
            done = total if record.state is JobState.COMPLETED else known.done  # what is shown may be late
            phases[phase] = known.model_copy(update={"done": done, "total": total})
        return Progress(job_id, record.state, phases)
