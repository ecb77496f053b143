"""A worker: consume -> check -> run in a child process -> report -> ack.

One thread decides, by turns (`mrq.inbox`); the broker's thread, the coordination's and the executor's only put what
came into the inbox. User code never runs here, only in the children of `mrq.executor`, which read, run and commit;
the worker hears how it ended, reports it with a publisher confirm, and only then acks.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from functools import partial
from typing import Any

from mrq import envelope, packs
from mrq.broker.topology import Topology
from mrq.config import Settings
from mrq.core.model import PHASES, Phase
from mrq.errors import BadMessage, MrqError
from mrq.executor.pool import Executor
from mrq.inbox import Inbox
from mrq.known import KnownJobs, is_behind
from mrq.membership import PYTHON, Membership
from mrq.ports import Broker, Delivery, Message, Session
from mrq.records import JobRecord
from mrq.registry import Registry
from mrq.running import Loans, Running, fields
from mrq.wire import Assignment, Control, Outcome, Report, TaskMessage

log = logging.getLogger(__name__)

RETRY_DELAY = 1.0
"""Seconds before a task that could not be run here goes back to its queue."""
REGISTER_EVERY = 1.0


class Worker:
    """Runs up to ``settings.slots`` tasks of each phase at once.

    Args:
        name: unique among the workers.
        registry: of the coordination service; the worker registers itself there.
        broker: where tasks come from and reports go.
        store: the address that the children open (`mrq.store.address`).
        settings: for slots, sizes and patience.
        inbox: where it takes its turns; a simulation brings its own.
        executor: runs the tasks; by default in children of a new helper process.
        incarnation: what no other worker ever had, also none of this name; by default random.
    """

    def __init__(
        self,
        name: str,
        registry: Registry,
        broker: Broker,
        store: dict[str, Any],
        settings: Settings,
        *,
        inbox: Inbox | None = None,
        executor: Executor | None = None,
        incarnation: str | None = None,
    ) -> None:
        self.name = name
        self._registry = registry
        self._broker = broker
        self._store = store
        self._settings = settings
        self._topology = Topology.from_settings(settings)
        self._inbox = inbox or Inbox()
        self._executor = executor or Executor(
            warm=settings.slots, name=name, preload=(f"mrq.store.{store['kind']}",)
        )
        self._running: dict[tuple[str, Phase, int], Running] = {}
        self._jobs = KnownJobs(registry, self._inbox)
        self._runs = map(f"{incarnation or secrets.token_hex(4)}.{{}}".format, itertools.count())
        self._unconfirmed = 0  # reports on the way
        self._draining = False
        self._membership = Membership("workers", name, registry)

    # ------------------------------------------------------------ life

    def run(self) -> None:
        """Serve until `stop`; then let running tasks end, at most ``settings.drain_timeout`` seconds."""
        try:
            self.open()
            self._inbox.serve(until=self.has_drained)
        finally:
            self._executor.close()

    def open(self) -> None:
        """Register, and begin to consume."""
        self._registry.tree.add_listener(lambda state: self._inbox.put(partial(self._on_session, state)))
        self._register()
        self._inbox.every(REGISTER_EVERY, self._register)
        self._inbox.every(self._settings.poll_interval, self._look_at_jobs)
        self._broker.subscribe(self._enqueue(self._on_control)).bind(self._topology.control, "")
        for phase in PHASES:
            self._broker.consume(
                self._topology.queue(phase), self._settings.slots, self._enqueue(self._on_delivery)
            )
        log.info("worker %s is ready: %d slots", self.name, self._settings.slots)

    def stop(self) -> None:
        """Have `run` drain and return. Any thread may call it."""
        self._inbox.put(self._drain)

    def healthy(self) -> bool:
        """Whether the worker is connected and consuming."""
        return self._broker.healthy()

    def has_drained(self) -> bool:
        """Whether it was told to stop, and what it ran is reported and acked."""
        return self._draining and not self._running and not self._unconfirmed

    def _drain(self) -> None:
        if not self._draining:
            self._draining = True
            log.info("worker %s drains: %d tasks run", self.name, len(self._running))
            self._inbox.later(self._settings.drain_timeout, self._inbox.stop)
            self._broker.stop_consuming()

    # ------------------------------------------------------------ deliveries

    def _enqueue(self, handler: Any) -> Any:
        return lambda delivery: self._inbox.put(partial(handler, delivery))

    def _on_delivery(self, delivery: Delivery) -> None:
        try:
            task = envelope.read(TaskMessage, delivery.message)
        except BadMessage as error:
            self._bury(delivery, error)
        else:
            self._consider(task, delivery)

    def _bury(self, delivery: Delivery, error: BadMessage) -> None:
        log.error("a message in %s goes to the dead letters: %s", delivery.queue, error)
        delivery.reject(requeue=False)

    def _give_back(self, task: TaskMessage, delivery: Delivery | Loans, why: object) -> None:
        log.warning("%s goes back to its queue: %s", task.task_id, why, extra=fields(task))
        self._inbox.later(RETRY_DELAY, partial(delivery.reject, requeue=True))

    def _consider(self, task: TaskMessage, delivery: Delivery) -> None:
        """Run a task, unless its job is over, unknown, or owned under a later epoch, or this worker is to end."""
        if self._draining:
            delivery.reject(requeue=True)
            return
        try:
            record = self._jobs.record(task.job_id, task.phase)
            if record is not None:
                envelope.check(delivery.message, task.job_id, record.key)
        except BadMessage as error:  # the message, or the job's record
            self._bury(delivery, error)
            return
        except MrqError as error:
            self._give_back(task, delivery, error)
            return
        if record is None or not record.goes_on or task.epoch < record.epoch:
            log.info("%s is dropped: its job or its epoch is over", task.task_id, extra=fields(task))
            delivery.ack()
            return
        if self._jobs.is_revoked(task, record.key):
            log.info("%s is dropped: another attempt has committed it", task.task_id, extra=fields(task))
            delivery.ack()
            return
        new = Running(task, record.key, Loans([delivery]), self._inbox.now())
        if is_behind(record, task.phase):
            self._give_back(task, delivery, f"its job's record says {record.state.value}")
        elif record.python != PYTHON:
            message = (
                f"the functions were pickled by Python {record.python}, worker {self.name} runs {PYTHON}"
            )
            refused = Outcome(kind="refused", type="VersionMismatch", message=message)
            self._report(new, refused)
        else:
            self._start(new, delivery, record)

    def _start(self, new: Running, delivery: Delivery, record: JobRecord) -> None:
        task = new.task
        key = (task.job_id, task.phase, task.index)
        running = self._running.get(key)
        if running is not None and task.backup and task.epoch == running.task.epoch:
            # It runs here already, as the straggler perhaps: another worker is to have this attempt.
            self._inbox.later(RETRY_DELAY, partial(delivery.reject, requeue=True))
        elif running is not None:
            self._redelivered(running, task, delivery)
        else:
            self._run(new, delivery, record)

    def _run(self, running: Running, delivery: Delivery, record: JobRecord) -> None:
        task = running.task
        self._running[task.job_id, task.phase, task.index] = running
        self._broker.publish([self._report_of(running)])
        assignment = Assignment(
            task=task,
            key=record.key,
            n_map=record.n_map,
            n_reduce=record.n_reduce,
            input_length=record.input_length,
            frame_bytes=self._settings.frame_bytes,
            store=self._store,
            check_first=task.attempt > 0 or delivery.delivery_count > 0,
            run=next(self._runs),
            memory_limit=record.memory_limit or self._settings.task_memory_limit,
            max_skipped=record.max_skipped,
            inline=record.inline,
            inline_bytes=self._inline_bytes(record, task),
            packs=record.packs if task.phase is Phase.SHUFFLE else [],
        )
        self._executor.start(assignment, record.task_timeout, self._on_outcome_elsewhere)

    def _inline_bytes(self, record: JobRecord, task: TaskMessage) -> int:
        """Return how long a result may be to have no file: so that all of its phase fit into the record, or a pack."""
        if record.max_skipped or task.attempt:
            return 0  # what was skipped is looked for in files; a report that was lost may be lost again
        n_tasks = record.n_map if task.phase is Phase.MAP else record.n_reduce
        most = self._settings.inline_bytes // max(n_tasks, 1)
        packed = task.phase is Phase.MAP and self._settings.inline_bytes and len(record.packs) < packs.MOST
        return max(most, packs.RESULT_BYTES) if packed else most

    def _redelivered(self, running: Running, task: TaskMessage, delivery: Delivery) -> None:
        """The task runs here already: its first channel is gone, or a new epoch asks for it too."""
        running.loans.deliveries.append(delivery)
        self._broker.publish([self._report_of(running)])
        if (task.epoch, task.attempt) > (running.task.epoch, running.task.attempt):
            running.task = task
            self._broker.publish([self._report_of(running)])

    # ------------------------------------------------------------ outcomes

    def _on_outcome_elsewhere(self, assignment: Assignment, outcome: Outcome) -> None:
        self._inbox.put(partial(self._on_outcome, assignment.task, outcome))

    def _on_outcome(self, ran: TaskMessage, outcome: Outcome) -> None:
        running = self._running.pop((ran.job_id, ran.phase, ran.index), None)
        if running is None:
            return
        task, delivery = running.task, running.loans
        log.info("%s: %s %s", task.task_id, outcome.kind, outcome.message, extra=fields(task))
        if outcome.kind != "killed":
            self._report(running, outcome)
        elif outcome.type == "StoreFull":
            self._report(running, outcome.model_copy(update={"kind": "refused"}))
        elif running.revoked or self._jobs.is_over(task.job_id):
            delivery.ack()
        else:  # not the task's fault: the store is away, or our own helper died
            self._give_back(task, delivery, outcome.message)

    def _report(self, running: Running, outcome: Outcome) -> None:
        """Tell the master, and ack once the broker has confirmed that; unconfirmed, it is delivered again."""
        task, delivery = running.task, running.loans

        def confirmed(publish: Any) -> None:
            error = publish.exception()
            if error is None:
                delivery.ack()
            else:
                log.warning("the report of %s was not sent: %s", task.task_id, error, extra=fields(task))
                delivery.reject(requeue=True)
            self._inbox.put(self._confirmed)

        published = self._broker.publish([self._report_of(running, outcome)])
        self._unconfirmed += 1
        published.add_done_callback(confirmed)

    def _confirmed(self) -> None:
        self._unconfirmed -= 1

    def _report_of(self, running: Running, outcome: Outcome | None = None) -> Message:
        task, now = running.task, time.time()
        report = Report(
            job_id=task.job_id,
            phase=task.phase,
            index=task.index,
            epoch=task.epoch,
            attempt=task.attempt,
            worker=self.name,
            received=now - (self._inbox.now() - running.received),
            sent=now,
            outcome=outcome,
        )
        return envelope.report(self._topology, report, running.key)

    # ------------------------------------------------------------ orders and membership

    def _on_control(self, delivery: Delivery) -> None:
        delivery.ack()
        try:
            order = envelope.read(Control, delivery.message)
            running = [one for one in self._running.values() if one.task.job_id == order.job_id]
            for one in running[:1]:  # of a job that does not run here nothing can be harmed
                envelope.check(delivery.message, order.job_id, one.key)
        except BadMessage as error:
            log.error("an order is ignored: %s", error)
            return
        if order.order == "cancel":
            self._jobs.forget(order.job_id)
            self._executor.kill(order.job_id)
        elif order.order == "revoke":
            self._jobs.revoke(order, delivery.message)
            self._revoke(order, running)
        else:
            self._broker.publish([self._report_of(one) for one in running])
            self._broker.refresh()  # that somebody asks is a sign that a task does not come to us

    def _look_at_jobs(self) -> None:
        """Kill what runs of jobs that are over: the order to do so may have been lost."""
        for job_id in sorted({job_id for job_id, _, _ in self._running}):
            if self._jobs.is_over(job_id):
                self._executor.kill(job_id)

    def _revoke(self, order: Control, running: list[Running]) -> None:
        """Give up a task that another attempt has committed."""
        for one in running:
            if one.task.task_id == order.task_id and one.task.epoch <= order.epoch:
                one.revoked = True
                self._executor.kill_task(order.task_id)

    def _on_session(self, state: Session) -> None:
        if state is Session.LOST:
            self._jobs.forget_all()
            self._membership.end()
        elif state is Session.CONNECTED:
            self._jobs.forget_all()  # their watches may be gone with an old session
            self._register()

    def _register(self) -> None:
        try:
            self._membership.show(
                slots=self._settings.slots,
                state="draining" if self._draining else "busy" if self._running else "idle",
                jobs=len({job_id for job_id, _, _ in self._running}),
            )
        except MrqError as error:
            log.warning("worker %s is not registered: %s", self.name, error)
