"""When what happened of a job: noted by its master, written beside the job's results once it has ended.

    Recorder (in memory) -> Timeline -> JSON -> zlib -> signed file, on a thread of its own

It is for people (`mrq.report`): no job waits for it, and none fails for the lack of it. What was done under an earlier
owner is not in it.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from mrq import layout
from mrq.blob import Signer
from mrq.core.model import PHASES, Epoch, JobState, Phase
from mrq.errors import MrqError
from mrq.ports import Store
from mrq.records import JobRecord
from mrq.registry import Registry
from mrq.wire import Report, Wire, decode

log = logging.getLogger(__name__)

_DIGITS = 5
"""Of the seconds that are kept: 10 microseconds."""
_ROLE = "timeline"


class Attempt(NamedTuple):
    """One run of a task. Times are in seconds from the timeline's zero; None when not known.

    Attributes:
        task: by its index within the phase.
        attempt: within the epoch.
        worker: by its number in `Timeline.workers`; ``received``, ``began`` and ``sent`` are on that worker's clock.
        end: ``done``, ``second`` (another attempt was done before), how it failed, or ``lost``: nothing was heard.
        published: when the master gave the task out.
        received: when the worker got it.
        spent: the child's seconds by kind (`mrq.executor.stopwatch`), in no order.
        began: when the child process began with it.
        sent: when the worker told how it ended.
        heard: when the master heard that.
        records_in, records_out, bytes_in, bytes_out: what it handled.
    """

    task: int
    attempt: int
    worker: int
    end: str
    published: float | None
    received: float | None
    spent: dict[str, float]
    began: float | None = None
    sent: float | None = None
    heard: float | None = None
    records_in: int = 0
    records_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Act(NamedTuple):
    """Something that the master did for the job as a whole, and waited for."""

    kind: str
    began: float
    ended: float


class Timeline(Wire):
    """When what happened. Times are in seconds after ``zero``, which is when the last owner claimed the job.

    Attributes:
        zero: in seconds since the epoch, on the master's clock.
        resumed: whether there was another owner before.
        called, submitted: on the client's clock: it was asked for the job; it wrote the job's record.
        acts: the master's, in order; the last one tells of the job's end.
        workers: the names.
        attempts: of each phase, in the order in which they ended.
    """

    job_id: str
    state: JobState
    n_map: int
    n_reduce: int
    zero: float
    resumed: bool
    called: float
    submitted: float
    acts: list[Act]
    workers: list[str]
    attempts: dict[Phase, list[Attempt]]


class Recorder:
    """What a master notes of a job that it owns; it begins with the claim.

    Args:
        epoch: of the claim.
    """

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._zero = time.time()
        self._acts: list[Act] = []
        self._workers: dict[str, int] = {}
        self._published: dict[tuple[Phase, int, Epoch, int], float] = {}
        self._running: dict[tuple[tuple[Phase, int, Epoch, int], int], float | None] = {}
        self._attempts: dict[Phase, list[Attempt]] = {phase: [] for phase in PHASES}
        self._done: dict[tuple[Phase, int], int] = {}
        self._told: set[tuple[Phase, int, float]] = set()

    @contextmanager
    def act(self, kind: str) -> Iterator[None]:
        """Note what the master does inside the block."""
        began = self._now()
        yield
        self._acts.append(Act(kind, began, self._now()))

    def publishes(self, phase: Phase, index: int, attempt: int) -> None:
        """Note that a task is given out."""
        self._published.setdefault((phase, index, self._epoch, attempt), self._now())

    def hears(self, report: Report) -> None:
        """Note what a worker tells; what it tells twice is noted once."""
        worker = self._workers.setdefault(report.worker, len(self._workers))
        run = (_key(report), worker)
        if report.outcome is None:
            self._running[run] = self._since(report.received)
            return
        told = (report.phase, report.index, report.sent)
        if told in self._told:
            return
        self._told.add(told)
        self._running.pop(run, None)
        self._attempts[report.phase].append(self._ended(report, worker))

    def timeline(self, record: JobRecord, *, resumed: bool) -> Timeline:
        """Return what was noted of a job that has ended."""
        attempts = {phase: list(rows) for phase, rows in self._attempts.items()}
        for (key, worker), received in self._running.items():
            phase, index, _, attempt = key
            end = "lost" if self._done.get((phase, index), attempt) == attempt else "second"
            attempts[phase].append(
                Attempt(index, attempt, worker, end, self._published.get(key), received, {})
            )
        return Timeline(
            job_id=record.job_id,
            state=record.state,
            n_map=record.n_map,
            n_reduce=record.n_reduce,
            zero=self._zero,
            resumed=resumed,
            called=self._since(record.called_at or record.submitted_at) or 0.0,
            submitted=self._since(record.submitted_at) or 0.0,
            acts=self._acts,
            workers=list(self._workers),
            attempts=attempts,
        )

    def _ended(self, report: Report, worker: int) -> Attempt:
        outcome, place = report.outcome, (report.phase, report.index)
        assert outcome is not None
        end = "second" if outcome.kind == "done" and place in self._done else outcome.kind
        if outcome.kind == "done":
            self._done.setdefault(place, report.attempt)
        return Attempt(
            report.index,
            report.attempt,
            worker,
            end,
            self._published.get(_key(report)),
            self._since(report.received),
            {kind: round(seconds, _DIGITS) for kind, seconds in outcome.spent.items()},
            self._since(outcome.began),
            self._since(report.sent),
            self._now(),
            outcome.stats.records_in,
            outcome.stats.records_out,
            outcome.stats.bytes_in,
            outcome.stats.bytes_out,
        )

    def _now(self) -> float:
        return round(time.time() - self._zero, _DIGITS)

    def _since(self, moment: float) -> float | None:
        return round(moment - self._zero, _DIGITS) if moment else None


def _key(report: Report) -> tuple[Phase, int, Epoch, int]:
    return report.phase, report.index, report.epoch, report.attempt


class Archive:
    """Writes the timelines of jobs that have ended, one after the other, on a thread that nobody waits for.

    Args:
        registry: tells whether a job was cleared meanwhile.
        store: where the files go.
    """

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._store = store
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mrq-timeline")

    def keep(self, record: JobRecord, recorder: Recorder, *, resumed: bool) -> None:
        """Have a job's timeline written soon. The recorder is not to be told anything any more."""
        self._pool.submit(partial(self._keep, record, recorder, resumed))

    def close(self) -> None:
        """End the thread; what is not begun is not written."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _keep(self, record: JobRecord, recorder: Recorder, resumed: bool) -> None:
        job_id = record.job_id
        try:
            if self._registry.job(job_id) is None:
                return
            write(self._store, record, recorder.timeline(record, resumed=resumed))
            if self._registry.job(job_id) is None:  # it was cleared while we wrote
                self._store.delete(layout.folder(job_id))
        except MrqError as error:
            log.info("no timeline of %s is kept: %s", job_id, error, extra={"job": job_id})
        except Exception:
            log.exception("no timeline of %s is kept", job_id, extra={"job": job_id})


def write(store: Store, record: JobRecord, timeline: Timeline) -> None:
    """Write a job's timeline."""
    signer = Signer(bytes.fromhex(record.key), record.job_id)
    store.write(layout.timeline(record.job_id), signer.seal(_ROLE, "", zlib.compress(timeline.encode())))


def read(store: Store, record: JobRecord) -> Timeline:
    """Read a job's timeline.

    Raises:
        StoreNotFound: there is none.
        BadMessage: it is damaged, or not the job's.
    """
    signer = Signer(bytes.fromhex(record.key), record.job_id)
    return decode(
        Timeline, zlib.decompress(signer.open(_ROLE, "", store.read(layout.timeline(record.job_id))))
    )
