"""A master: claim -> load -> step -> perform, again and again.

One thread decides, by turns (`mrq.inbox`). What happens to a job becomes an event for `core.job.step`. The commands
that come back are performed in a turn of their own, after all that was in the inbox by then, so that what many reports
bring about goes out together. They are performed in order, and one that a server can't take now stays at the head of
its job's list until it can (`mrq.performer`). Failover is no second code path: the successor claims, looks at what is
committed, and steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from mrq import envelope, news, truth
from mrq.broker.topology import Topology
from mrq.claims import Claims
from mrq.config import Settings
from mrq.core import policy
from mrq.core.events import CancelRequested, Event, JobClaimed, TaskDone, Tick, WindowChanged
from mrq.core.job import step
from mrq.core.model import Job, JobState
from mrq.errors import BadMessage, MrqError
from mrq.inbox import Inbox
from mrq.membership import Membership
from mrq.performer import Owned, Performer, Sent
from mrq.ports import Broker, Delivery, Session, Store
from mrq.records import JobRecord, MemberInfo
from mrq.registry import Registry, StaleEpoch
from mrq.retention import Retention
from mrq.timeline import Recorder
from mrq.wire import Control, TaskMessage

log = logging.getLogger(__name__)

TICK = 0.1
PROGRESS_EVERY = 0.25
RETIRE_POLLS = 10
"""How many polls pass between two looks for jobs that have been kept long enough."""
RETRY_DELAY = 0.5


class Master:
    """Owns jobs and drives each to its end.

    Args:
        name: unique among the masters.
        registry: of the coordination service; the master registers itself there.
        broker: where tasks go and reports come from.
        store: holds the jobs' files.
        settings: for the intervals.
        inbox: where it takes its turns; a simulation brings its own.
    """

    def __init__(
        self,
        name: str,
        registry: Registry,
        broker: Broker,
        store: Store,
        settings: Settings,
        *,
        inbox: Inbox | None = None,
    ) -> None:
        self.name = name
        self._registry = registry
        self._broker = broker
        self._store = store
        self._settings = settings
        self._topology = Topology.from_settings(settings)
        self._inbox = inbox or Inbox()
        self._mail = broker.subscribe(lambda delivery: self._inbox.put(partial(self._on_delivery, delivery)))
        self._performer = Performer(
            registry, broker, store, self._topology, settings.inline_bytes, self._unsent_elsewhere
        )
        self._jobs: dict[str, Owned] = {}
        self._claims = Claims(
            name, registry, self._inbox, settings.poll_interval, self._look_at_jobs, self._take_over
        )
        self._workers: dict[str, MemberInfo] = {}
        self._membership = Membership("masters", name, registry)

    # ------------------------------------------------------------ life

    def run(self) -> None:
        """Serve until `stop`. The end of the session then gives the jobs up, for other masters to claim."""
        try:
            self.open()
            self._inbox.serve()
        finally:
            self._performer.close()

    def open(self) -> None:
        """Register, and begin to look at jobs."""
        self._registry.tree.add_listener(lambda state: self._inbox.put(partial(self._on_session, state)))
        self._look_at_members()
        self._look_at_jobs()
        self._inbox.every(TICK, self._tick)
        self._inbox.every(PROGRESS_EVERY, self._show_progress)
        self._inbox.every(self._settings.poll_interval, self._poll)
        self._inbox.every(self._settings.reconcile_after / 3, self._reconcile)
        retention = Retention(self._registry, self._store, self._settings)
        self._inbox.every(RETIRE_POLLS * self._settings.poll_interval, partial(self._safely, retention.sweep))
        log.info("master %s is ready", self.name)

    def stop(self) -> None:
        """Have `run` return. Any thread may call it."""
        self._inbox.stop()

    def healthy(self) -> bool:
        """Whether the master is connected and consuming."""
        return self._broker.healthy()

    # ------------------------------------------------------------ jobs come and go

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
        self._share()

    def _look_at_jobs(self) -> None:
        job_ids = self._claims.look(self._jobs)
        for job_id in self._jobs.keys() - job_ids:
            self._let_go(job_id, release=False)  # it was cleared away

    def _take_over(self, job_id: str, epoch: int) -> None:
        """Load a job that this master has claimed, and step it from there."""
        recorder = Recorder(epoch)
        try:
            held = self._registry.job(job_id, self._record_changed)
            if held is None or held.record.state.ended:
                self._registry.release(job_id)
                return
            record = held.record
            self._mail.bind(self._topology.events, job_id)
            self._mail.bind(self._topology.dead_letters, f"*.{job_id}")
            window = self._window(record, self._total_weight() + policy.weight(record.priority))
            owned = Owned(Job(record.spec(window)), held, epoch, self._inbox.now(), recorder)
            committed = dict([truth.known_set(self._store, record)])
        except MrqError:
            self._inbox.put(partial(self._release, job_id))
            raise
        log.info("master %s owns %s (epoch %d)", self.name, job_id, epoch, extra={"job": job_id})
        self._jobs[job_id] = owned
        self._apply(job_id, JobClaimed(epoch, record.state, committed, self._inbox.now()))
        if record.cancel_requested:
            self._apply(job_id, CancelRequested(self._inbox.now()))
        self._share()

    def _let_go(self, job_id: str, *, release: bool) -> None:
        """Stop acting for a job."""
        owned = self._jobs.pop(job_id, None)
        if owned is None:
            return
        if owned.held.record.state.ended:
            self._claims.ended.add(job_id)
        for exchange, key in ((self._topology.events, job_id), (self._topology.dead_letters, f"*.{job_id}")):
            self._safely(self._mail.unbind, exchange, key)
        if release:
            self._release(job_id)
        self._share()

    def _release(self, job_id: str) -> None:
        """Have no claim on a job that is not ours; again and again, for others can't have it meanwhile."""
        if job_id in self._jobs:
            return
        try:
            self._registry.release(job_id)
        except MrqError as error:
            log.warning("%s can't be released yet: %s", job_id, error, extra={"job": job_id})
            self._inbox.later(RETRY_DELAY, partial(self._release, job_id))

    # ------------------------------------------------------------ step and perform

    def _apply(self, job_id: str, event: Event) -> None:
        owned = self._jobs.get(job_id)
        if owned is None:
            return
        owned.job, commands = step(owned.job, event)
        owned.todo.extend(commands)
        if isinstance(event, TaskDone):
            owned.heard = self._inbox.now()
        if owned.todo and not owned.due:
            owned.due = True
            self._inbox.put(partial(self._perform, owned))

    def _perform(self, owned: Owned) -> None:
        """Perform what is to be done for a job, as far as the servers let us."""
        owned.due, job_id = False, owned.job_id
        if owned.waiting or self._jobs.get(job_id) is not owned:
            return
        try:
            self._performer.perform(owned)
        except StaleEpoch:
            log.warning("%s is not ours any more (epoch %d)", job_id, owned.epoch, extra={"job": job_id})
            self._let_go(job_id, release=True)
        except MrqError as error:
            self._hold(owned, error)
        else:
            if owned.job.state.ended:
                self._let_go(job_id, release=True)

    def _hold(self, owned: Owned, error: BaseException) -> None:
        """Go on with a job later, when a server may take what it can't now."""
        if isinstance(error, BadMessage):
            self._give_up(owned.job_id, error)
            return
        log.warning("%s waits: %s", owned.job_id, error, extra={"job": owned.job_id})
        if not owned.waiting:
            owned.waiting = True
            self._inbox.later(RETRY_DELAY, partial(self._retry, owned))

    def _unsent_elsewhere(self, owned: Owned, batch: Sequence[Sent], error: BaseException) -> None:
        self._inbox.put(partial(self._unsent, owned, batch, error))

    def _unsent(self, owned: Owned, batch: Sequence[Sent], error: BaseException) -> None:
        """Put messages that were not confirmed back, before all else, but for those that are not wanted any more."""
        if self._jobs.get(owned.job_id) is owned:
            owned.todo.extendleft(reversed([command for command in batch if owned.awaits(command)]))
            self._hold(owned, error)

    def _give_up(self, job_id: str, error: BadMessage) -> None:
        """Let a job go whose record is none any more: nobody knows what it is to come to."""
        log.error("%s is given up: %s", job_id, error, extra={"job": job_id})
        self._let_go(job_id, release=True)

    def _retry(self, owned: Owned) -> None:
        owned.waiting = False
        self._perform(owned)

    def _tick(self) -> None:
        now = self._inbox.now()
        for job_id, owned in list(self._jobs.items()):
            if owned.job.again or owned.job.outstanding:  # something to try again, or perhaps a straggler
                self._apply(job_id, Tick(now, others=len(self._workers) > 1))

    # ------------------------------------------------------------ news

    def _on_delivery(self, delivery: Delivery) -> None:
        delivery.ack()  # a hint; the truth is in the store
        message = delivery.message
        try:
            told = news.read(message)
            owned = self._jobs.get(told.job_id)
            if owned is None:
                return
            envelope.check(message, owned.job_id, owned.key)
        except BadMessage as error:
            log.error("a %s message is ignored: %s", message.type or "nameless", error)
            return
        self._on_news(owned, told)

    def _on_news(self, owned: Owned, told: news.News) -> None:
        if owned.job.state.ended or told.index >= owned.job.spec.n_tasks(told.phase):
            return
        if isinstance(told, TaskMessage):
            log.warning("%s was dead-lettered", told.task_id, extra={"job": told.job_id})
        elif told.outcome and told.outcome.inline and not owned.keep(told):
            return  # another result of this task counts
        else:
            owned.board.note(told)
            owned.recorder.hears(told)
        self._apply(told.job_id, news.event(told, self._inbox.now()))

    def _record_changed(self, path: str) -> None:
        # One function for all looks: a session keeps a watch a function, and polls would pile them up.
        self._inbox.put(partial(self._safely, self._look_at_record, path.rpartition("/")[2]))

    def _look_at_record(self, job_id: str) -> None:
        """See whether the client wants the job to end, or another master has it."""
        owned = self._jobs.get(job_id)
        if owned is None:
            return
        try:
            held = self._registry.job(job_id, self._record_changed)
        except BadMessage as error:
            self._give_up(job_id, error)
            return
        if held is None or held.record.epoch > owned.epoch:
            self._let_go(job_id, release=True)
        elif held.record.cancel_requested and not owned.job.state.ended:
            self._apply(job_id, CancelRequested(self._inbox.now()))

    def _on_session(self, state: Session) -> None:
        if state is Session.LOST:
            log.warning("master %s lost its session: its jobs belong to others now", self.name)
            for job_id in list(self._jobs):
                self._let_go(job_id, release=True)  # it may have been claimed in the new session already
            self._membership.end()
        elif state is Session.CONNECTED:
            self._poll()

    # ------------------------------------------------------------ members and shares

    def _look_at_members(self) -> None:
        self._membership.show(state="working" if self._jobs else "idle", jobs=len(self._jobs))
        workers = self._registry.members("workers")
        if workers.keys() != self._workers.keys():
            self._workers = workers
            self._share()

    def _slots(self) -> int:
        return sum(info.slots for info in self._workers.values())

    def _total_weight(self) -> float:
        """Return the weights of all active jobs together, as far as this master knows."""
        priorities = [owned.held.record.priority for owned in self._jobs.values()]
        return sum(map(policy.weight, (*priorities, *self._claims.others.values())))

    def _window(self, record: JobRecord, total: float) -> int:
        return policy.fair_window(record.window, self._slots(), policy.weight(record.priority) / total)

    def _share(self) -> None:
        """Give every job its fair share of the slots that live now."""
        total = self._total_weight()
        for job_id, owned in list(self._jobs.items()):
            if owned.job.state.ended or owned.job.state is JobState.SUBMITTED:
                continue
            window = self._window(owned.held.record, total)
            if window != owned.job.spec.window:
                self._apply(job_id, WindowChanged(window, self._inbox.now()))

    # ------------------------------------------------------------ truth

    def _reconcile(self) -> None:
        """Compare jobs that show no progress with the store, the queues and the workers."""
        now = self._inbox.now()
        for job_id, owned in list(self._jobs.items()):
            if not owned.job.state.ended and now - owned.heard > self._settings.reconcile_after / 3:
                self._safely(self._reconcile_one, job_id, owned)

    def _reconcile_one(self, job_id: str, owned: Owned) -> None:
        for event in truth.committed(owned, self._store, self._inbox.now()):
            self._apply(job_id, event)
        if owned.job.state.ended or not owned.job.outstanding:
            return
        order = Control(job_id=job_id, order="report")
        self._broker.publish([envelope.control(self._topology, order, owned.key)])
        depths = self._broker.depths()
        patience = self._settings.reconcile_after
        for lost in truth.lost(owned, depths, self._workers, patience, self._inbox.now()):
            log.warning("%s/%s/%d is published again: nobody has it", job_id, lost.phase.value, lost.index)
            self._apply(job_id, lost)

    # ------------------------------------------------------------ for people

    def _show_progress(self) -> None:
        for owned in list(self._jobs.values()):
            self._safely(self._performer.show, owned)
