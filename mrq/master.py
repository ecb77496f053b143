"""A master: claim -> load -> step -> perform, again and again.

One thread decides, by turns (`mrq.inbox`). What happens to a job becomes an event for `core.job.step`; the commands
that come back are performed in order, and one that a server can't take now stays at the head of its job's list
until it can (`mrq.performer`). Failover is no second code path: the successor claims, looks at what is committed,
and steps.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections.abc import Callable
from functools import partial

import mrq
from mrq import envelope, layout
from mrq.broker.topology import Topology
from mrq.config import Settings
from mrq.core import policy
from mrq.core.events import (
    CancelRequested,
    Event,
    JobClaimed,
    TaskDone,
    TaskFailed,
    TaskLost,
    TaskStarted,
    Tick,
    WindowChanged,
)
from mrq.core.job import step
from mrq.core.model import Job, JobState, Phase
from mrq.errors import BadMessage, MrqError
from mrq.inbox import Inbox
from mrq.performer import Owned, Performer
from mrq.ports import Broker, Delivery, Session, Store
from mrq.registry import Registry, StaleEpoch
from mrq.wire import Control, JobRecord, MemberInfo, Report, TaskMessage, decode

log = logging.getLogger(__name__)

CLAIM_SPREAD = 0.02
"""Seconds that a master waits before it claims, for each job that it has: the least busy one comes first."""
CLAIM_SPREAD_MOST = 0.5
TICK = 0.1
PROGRESS_EVERY = 0.25
RETRY_DELAY = 0.5


class Master:
    """Owns jobs and drives each to its end.

    Args:
        name: unique among the masters.
        registry: of the coordination service; the master registers itself there.
        broker: where tasks go and reports come from.
        store: holds the jobs' files.
        settings: for the intervals.
    """

    def __init__(
        self, name: str, registry: Registry, broker: Broker, store: Store, settings: Settings
    ) -> None:
        self.name = name
        self._registry = registry
        self._broker = broker
        self._store = store
        self._settings = settings
        self._topology = Topology.from_settings(settings)
        self._inbox = Inbox()
        self._mail = broker.subscribe(lambda delivery: self._inbox.put(partial(self._on_delivery, delivery)))
        self._performer = Performer(registry, broker, store, self._topology, settings)
        self._jobs: dict[str, Owned] = {}
        self._ended: set[str] = set()
        self._others: dict[str, float] = {}  # jobs that another master owns, and when we last looked
        self._workers: dict[str, MemberInfo] = {}
        self._shown: MemberInfo | None = None

    # ------------------------------------------------------------ life

    def run(self) -> None:
        """Serve until `stop`; then give the jobs up, for other masters to claim at once."""
        self._registry.tree.add_listener(lambda state: self._inbox.put(partial(self._on_session, state)))
        self._look_at_members()
        self._look_at_jobs()
        self._inbox.every(TICK, self._tick)
        self._inbox.every(PROGRESS_EVERY, self._show_progress)
        self._inbox.every(self._settings.poll_interval, self._poll)
        self._inbox.every(self._settings.reconcile_after / 3, self._reconcile)
        log.info("master %s is ready", self.name)
        self._inbox.serve()
        for job_id in list(self._jobs):
            self._let_go(job_id, release=True)

    def stop(self) -> None:
        """Have `run` return. Any thread may call it."""
        self._inbox.stop()

    def healthy(self) -> bool:
        """Whether the master is connected and consuming."""
        return self._broker.healthy()

    # ------------------------------------------------------------ claims

    def _later(self, seconds: float, call: Callable[..., None], *args: object) -> None:
        self._inbox.later(seconds, partial(self._safely, call, *args))

    def _safely(self, call: Callable[..., None], *args: object) -> None:
        """Make a call that looks things up: when a server is away, the next poll looks again."""
        try:
            call(*args)
        except MrqError as error:
            log.warning("master %s waits: %s", self.name, error)

    def _poll(self) -> None:
        self._safely(self._look_at_members)
        self._safely(self._look_at_jobs)
        for job_id in list(self._jobs):
            self._safely(self._look_at_record, job_id)

    def _look_at_jobs(self) -> None:
        job_ids = self._registry.job_ids(
            lambda _path: self._inbox.put(partial(self._safely, self._look_at_jobs))
        )
        self._ended &= set(job_ids)
        now = time.monotonic()
        for job_id in job_ids:
            seen = self._others.get(job_id, 0.0)
            if (
                job_id not in self._ended
                and job_id not in self._jobs
                and now - seen >= self._settings.poll_interval
            ):
                self._others[job_id] = now
                self._later(
                    min(CLAIM_SPREAD * len(self._jobs), CLAIM_SPREAD_MOST), self._try_to_claim, job_id
                )
        for job_id in self._jobs.keys() - set(job_ids):
            self._let_go(job_id, release=False)  # it was cleared away

    def _try_to_claim(self, job_id: str) -> None:
        if job_id in self._jobs or job_id in self._ended:
            return
        held = self._registry.job(job_id)
        if held is None or held.record.state.ended:
            self._ended.add(job_id)
            self._others.pop(job_id, None)
            return
        watch = partial(self._inbox.put, partial(self._later, 0.0, self._try_to_claim, job_id))
        if self._registry.owner(job_id, lambda _path: watch()) is not None:
            return
        epoch = self._registry.claim(job_id, self.name)
        if epoch is not None:
            self._take_over(job_id, epoch)

    def _take_over(self, job_id: str, epoch: int) -> None:
        """Load a job that this master has claimed, and step it from there."""
        try:
            held = self._registry.job(job_id, self._record_watch(job_id))
            if held is None or held.record.state.ended:
                self._registry.release(job_id)
                return
            record = held.record
            self._mail.bind(self._topology.events, job_id)
            self._mail.bind(self._topology.dead_letters, f"*.{job_id}")
            window = policy.fair_window(record.window, self._slots(), len(self._jobs) + 1)
            owned = Owned(Job(record.spec(window)), held, epoch)
            committed = {phase: self._committed(job_id, phase) for phase in self._phase_of(record)}
        except MrqError:
            self._inbox.put(partial(self._safely, self._registry.release, job_id))
            raise
        log.info("master %s owns %s (epoch %d)", self.name, job_id, epoch, extra={"job": job_id})
        self._jobs[job_id] = owned
        self._others.pop(job_id, None)
        self._apply(job_id, JobClaimed(epoch, record.state, committed, time.monotonic()))
        if record.cancel_requested:
            self._apply(job_id, CancelRequested(time.monotonic()))
        self._share()

    @staticmethod
    def _phase_of(record: JobRecord) -> tuple[Phase, ...]:
        return (Phase.MAP,) if record.state is JobState.SUBMITTED else (Phase(record.state.value),)

    def _committed(self, job_id: str, phase: Phase) -> frozenset[int]:
        files = self._store.list(layout.results(job_id, phase))
        return frozenset(int(file.name) for file in files if file.name.isdigit())

    def _let_go(self, job_id: str, *, release: bool) -> None:
        """Stop acting for a job."""
        owned = self._jobs.pop(job_id, None)
        if owned is None:
            return
        if owned.job.state.ended:
            self._ended.add(job_id)
        for exchange, key in ((self._topology.events, job_id), (self._topology.dead_letters, f"*.{job_id}")):
            self._safely(self._mail.unbind, exchange, key)
        if release:
            self._safely(self._registry.release, job_id)
        self._share()

    # ------------------------------------------------------------ step and perform

    def _apply(self, job_id: str, event: Event) -> None:
        owned = self._jobs.get(job_id)
        if owned is None:
            return
        owned.job, commands = step(owned.job, event)
        owned.todo.extend(commands)
        if isinstance(event, TaskDone):
            owned.heard = time.monotonic()
        self._perform(job_id)

    def _perform(self, job_id: str) -> None:
        """Perform what is to be done for a job, as far as the servers let us."""
        owned = self._jobs.get(job_id)
        if owned is None or owned.waiting:
            return
        try:
            self._performer.perform(owned)
        except StaleEpoch:
            log.warning("%s is not ours any more (epoch %d)", job_id, owned.epoch, extra={"job": job_id})
            self._let_go(job_id, release=True)
        except MrqError as error:
            log.warning("%s waits: %s", job_id, error, extra={"job": job_id})
            owned.waiting = True
            self._inbox.later(RETRY_DELAY, partial(self._retry, owned))
        else:
            if owned.job.state.ended:
                self._let_go(job_id, release=True)

    def _retry(self, owned: Owned) -> None:
        owned.waiting = False
        if self._jobs.get(owned.job_id) is owned:
            self._perform(owned.job_id)

    def _tick(self) -> None:
        now = time.monotonic()
        for job_id, owned in list(self._jobs.items()):
            if owned.job.again:
                self._apply(job_id, Tick(now))

    # ------------------------------------------------------------ news

    def _on_delivery(self, delivery: Delivery) -> None:
        delivery.ack()  # a hint; the truth is in the store
        message = delivery.message
        try:
            if message.type == "task":
                self._on_dead_letter(decode(TaskMessage, message.body))
            else:
                self._on_report(decode(Report, message.body))
        except BadMessage as error:
            log.error("a %s message is ignored: %s", message.type or "nameless", error)

    def _on_report(self, report: Report) -> None:
        owned = self._jobs.get(report.job_id)
        if owned is None or owned.job.state.ended or report.index >= owned.job.spec.n_tasks(report.phase):
            return
        now = time.monotonic()
        owned.board.note(report)
        place = (report.phase, report.index)
        attempt = (report.epoch, report.attempt)
        outcome = report.outcome
        if outcome is None:
            self._apply(report.job_id, TaskStarted(*place, *attempt, report.worker, now))
        elif outcome.kind == "done":
            self._apply(report.job_id, TaskDone(*place, now))
        else:
            failed = TaskFailed(
                *place,
                *attempt,
                outcome.kind,
                now,
                type=outcome.type,
                message=outcome.message,
                path=outcome.path,
            )
            self._apply(report.job_id, failed)

    def _on_dead_letter(self, task: TaskMessage) -> None:
        log.warning("%s was dead-lettered", task.task_id, extra={"job": task.job_id})
        self._apply(task.job_id, TaskLost(task.phase, task.index, task.epoch, task.attempt, time.monotonic()))

    def _record_watch(self, job_id: str) -> Callable[[str], None]:
        return lambda _path: self._inbox.put(partial(self._safely, self._look_at_record, job_id))

    def _look_at_record(self, job_id: str) -> None:
        """See whether the client wants the job to end, or another master has it."""
        owned = self._jobs.get(job_id)
        if owned is None:
            return
        held = self._registry.job(job_id, self._record_watch(job_id))
        if held is None or held.record.epoch > owned.epoch:
            self._let_go(job_id, release=True)
        elif held.record.cancel_requested and not owned.job.state.ended:
            self._apply(job_id, CancelRequested(time.monotonic()))

    def _on_session(self, state: Session) -> None:
        if state is Session.LOST:
            log.warning("master %s lost its session: its jobs belong to others now", self.name)
            for job_id in list(self._jobs):
                self._let_go(job_id, release=False)
            self._shown = None
        elif state is Session.CONNECTED:
            self._poll()

    # ------------------------------------------------------------ members and shares

    def _look_at_members(self) -> None:
        info = MemberInfo(
            hostname=socket.gethostname(),
            pid=os.getpid(),
            python=".".join(platform.python_version_tuple()[:2]),
            mrq=mrq.__version__,
            state="working" if self._jobs else "idle",
            jobs=len(self._jobs),
        )
        if info != self._shown or self.name not in self._registry.members("masters"):
            self._registry.register("masters", self.name, info)
            self._shown = info
        workers = self._registry.members("workers")
        if workers.keys() != self._workers.keys():
            self._workers = workers
            self._share()

    def _slots(self) -> int:
        return sum(info.slots for info in self._workers.values())

    def _share(self) -> None:
        """Give every job its fair share of the slots that live now."""
        for job_id, owned in list(self._jobs.items()):
            if owned.job.state.ended or owned.job.state is JobState.SUBMITTED:
                continue
            window = policy.fair_window(owned.held.record.window, self._slots(), len(self._jobs))
            if window != owned.job.spec.window:
                self._apply(job_id, WindowChanged(window, time.monotonic()))

    # ------------------------------------------------------------ truth

    def _reconcile(self) -> None:
        """Compare jobs that show no progress with the store, the queues and the workers."""
        now = time.monotonic()
        for job_id, owned in list(self._jobs.items()):
            if not owned.job.state.ended and now - owned.heard > self._settings.reconcile_after / 3:
                self._safely(self._reconcile_one, job_id, owned, now)

    def _reconcile_one(self, job_id: str, owned: Owned, now: float) -> None:
        phase = owned.job.phase
        for index in self._committed(job_id, phase):
            if not owned.job.committed >> index & 1 and owned.job.state.value == phase.value:
                self._apply(job_id, TaskDone(phase, index, now))
        if owned.job.state.ended or not owned.job.outstanding:
            return
        order = Control(job_id=job_id, order="report")
        self._broker.publish([envelope.control(self._topology, order)])
        phase = owned.job.phase
        empty = self._broker.depths()[phase.value].ready == 0
        lost = policy.unheard_of(
            owned.job, now, self._settings.reconcile_after, queue_empty=empty, workers=self._workers
        )
        for index in lost:
            attempt = owned.job.outstanding[index].attempt
            log.warning("%s/%s/%d is published again: nobody has it", job_id, phase.value, index)
            self._apply(job_id, TaskLost(phase, index, owned.epoch, attempt, now))

    # ------------------------------------------------------------ for people

    def _show_progress(self) -> None:
        for owned in list(self._jobs.values()):
            self._safely(self._performer.show, owned)
