"""`JobFuture`: a job as a `concurrent.futures.Future`, to the letter, and its `Progress`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrq.core.model import JobState, Phase
from mrq.errors import JobError
from mrq.records import PhaseProgress
from mrq.sidecar import Printed, Skipped
from mrq.stored import StoredResult

if TYPE_CHECKING:
    from mrq.report import Report

Result = list[tuple[Any, Any]]

__all__ = ["CancelledError", "JobFuture", "Printed", "Progress", "Result", "Skipped"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        job_id: the job.
        state: its phase, or how it ended.
        phases: for each phase, the tasks done, the tasks in all, and what the done ones handled.
    """

    job_id: str
    state: JobState
    phases: Mapping[Phase, PhaseProgress]

    @property
    def fraction(self) -> float:
        """Tasks done as a share of all tasks, from 0 to 1."""
        if self.state is JobState.COMPLETED:
            return 1.0
        total = sum(phase.total for phase in self.phases.values())
        return sum(phase.done for phase in self.phases.values()) / total if total else 0.0

    def __str__(self) -> str:
        parts = [f"{phase.value} {p.done}/{p.total}" for phase, p in self.phases.items()]
        return f"{self.job_id} {self.state.value}: {', '.join(parts) or 'not begun'}"


class JobFuture(Future[Result]):
    """The result of a job that masters and workers compute: ``[(key, y), …]`` sorted by key.

    It behaves as the standard library says of `concurrent.futures.Future`: `wait`, `as_completed`,
    `asyncio.wrap_future`, callbacks and timeouts work. Unlike a thread's call, a job that runs can be cancelled too.

    Attributes:
        job_id: the job, for `Client.attach` in another process.
    """

    def __init__(
        self,
        job_id: str,
        cancel: Callable[[], bool],
        progress: Callable[[], Progress],
        skipped: Callable[[], list[Skipped]] = list,
        output: Callable[[], list[Printed]] = list,
        report: Callable[[], Report] | None = None,
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self._request_cancel = cancel
        self._read_progress = progress
        self._read_skipped = skipped
        self._read_output = output
        self._read_report = report

    def result(self, timeout: float | None = None) -> Result:
        """Return ``[(key, y), …]``, sorted by key; see `concurrent.futures.Future.result`."""
        found: Result | StoredResult = super().result(timeout)
        if isinstance(found, list):
            return found
        with self._condition:  # all who ask get the same list, as of any future
            if not isinstance(self._result, list):
                self._result = list(found)
            return self._result

    def iter_result(self, timeout: float | None = None) -> Iterator[tuple[Any, Any]]:
        """Return an iterator over ``(key, y)``, sorted by key: a result of any size, that memory need not hold.

        A big result is copied to this machine's temporary folder when the job completes, so it can be read after the
        client was closed too. Raises as `result` does.
        """
        return iter(super().result(timeout))

    def cancel(self) -> bool:
        """Cancel the job, also while it runs.

        Returns:
            False when the job has ended otherwise, or when the cluster could not be told in time; True when it
            is cancelled. Its tasks' processes then end within seconds.
        """
        if self.done():
            return self.cancelled()
        return self._request_cancel() and self.end_cancelled()

    def progress(self) -> Progress:
        """Return how far the job is, as its master last published it.

        Raises:
            CoordinationUnavailable: ZooKeeper can't be asked now.
            UnknownJob: the job has been cleared.
        """
        return self._read_progress()

    def skipped(self) -> list[Skipped]:
        """Return the bad records that the job was done without: ``(task, position, record, error)``, in that order.

        Of a job that runs, or has failed, those that its committed tasks skipped.

        Raises:
            UnknownJob: the job has been cleared.
            Unavailable: a server does not answer.
        """
        return self._read_skipped()

    def output(self) -> list[Printed]:
        """Return what the job's functions printed and logged: ``(job_id, task, attempt, line)``, by task and attempt.

        Each attempt's last 64 KiB are kept, and can be read as soon as it has ended.

        Raises:
            UnknownJob: the job has been cleared.
            Unavailable: a server does not answer.
        """
        return self._read_output()

    def report(self) -> Report:
        """Return where the job's time went; a notebook shows it as a picture.

        Raises:
            JobError: the job has not ended, or no timeline of it was kept.
            UnknownJob: it has been cleared.
            Unavailable: a server does not answer.
        """
        if self._read_report is None:
            raise JobError(f"nothing keeps a timeline of {self.job_id}", job_id=self.job_id)
        return self._read_report()

    # What follows is for the client that resolves the future.

    def begin(self) -> None:
        """Say that a master has the job."""
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING

    def end(self, result: Result | StoredResult | BaseException) -> None:
        """Set the result or the exception, unless the future was cancelled meanwhile."""
        try:
            if isinstance(result, BaseException):
                self.set_exception(result)
            else:
                self.set_result(result)  # type: ignore[arg-type]  # `result` makes it a list when it is asked for
        except InvalidStateError:
            return  # cancelled: the caller does not want it any more

    def end_cancelled(self) -> bool:
        """Come to the cancelled state, from any that is not an end; return whether this is the state now."""
        with self._condition:
            if self._state == FINISHED:
                return False
            if self._state in (CANCELLED, CANCELLED_AND_NOTIFIED):
                return True
            # The base class refuses to cancel a running call, since a thread can't be stopped. A job can.
            # In one go, for another thread may begin, end or cancel the future meanwhile.
            self._state = CANCELLED
            self.set_running_or_notify_cancel()  # or wait() and as_completed() would never hear of it
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]  # typeshed does not know it
        return True

    def __repr__(self) -> str:
        text = super().__repr__()
        return text.replace("<JobFuture", f"<JobFuture {self.job_id}", 1)

    def _repr_html_(self) -> str:
        state = "running" if self.running() else "finished" if self.done() else "pending"
        return f"<code>{self.job_id}</code>: {'cancelled' if self.cancelled() else state}"
