"""What somebody might do to the worker with the best intentions."""

from __future__ import annotations

from typing import Any

import mrq.worker
from tests.sim.mutating import mutation
from tests.sim.tree import SimSession

_consider = mrq.worker.Worker._consider
_start = mrq.worker.Worker._start


def _taken(self: Any, task: Any, delivery: Any, record: Any) -> None:
    """Start a task whatever its record says."""
    new = mrq.worker.Running(task, record.key, mrq.worker.Loans([delivery]), self._inbox.now())
    self._start(new, delivery, record)


@mutation("no-epoch-check", "The worker runs tasks of epochs that are over", (mrq.worker.Worker, "_consider"))
def _any_epoch(self: Any, task: Any, delivery: Any) -> None:
    record = self._jobs.record
    try:
        known = record(task.job_id)
    except mrq.worker.MrqError:
        known = None
    if known is not None and known.epoch > task.epoch and not known.state.ended:
        _taken(self, task, delivery, known)
    else:
        _consider(self, task, delivery)


@mutation("ack-first", "The worker acks a task when it starts it", (mrq.worker.Worker, "_start"))
def _ack_at_start(self: Any, new: Any, delivery: Any, record: Any) -> None:
    _start(self, new, delivery, record)
    delivery.ack()


@mutation(
    "ack-unconfirmed",
    "The worker acks without waiting for the report's confirm",
    (mrq.worker.Worker, "_report"),
)
def _ack_beside(self: Any, running: Any, outcome: Any) -> None:
    running.loans.ack()
    self._broker.publish([self._report_of(running, outcome)])


@mutation(
    "drop-killed",
    "The worker acks a task whose child was killed by no fault of its own",
    (mrq.worker.Worker, "_on_outcome"),
)
def _drop_killed(self: Any, ran: Any, outcome: Any) -> None:
    running = self._running.get((ran.job_id, ran.phase, ran.index))
    if running is not None and outcome.kind == "killed":
        del self._running[ran.job_id, ran.phase, ran.index]
        running.loans.ack()
    else:
        _on_outcome(self, ran, outcome)


_on_outcome = mrq.worker.Worker._on_outcome


@mutation(
    "cancel-unheard",
    "The worker ignores that a job was cancelled or has ended",
    (mrq.worker.Worker, "_consider"),
)
def _run_all(self: Any, task: Any, delivery: Any) -> None:
    known = self._jobs._records.get(task.job_id)
    if known is not None and (known.state.ended or known.cancel_requested):
        _taken(self, task, delivery, known)
    else:
        _consider(self, task, delivery)


@mutation(
    "blame-killed",
    "A child that was killed by no fault of its own counts as a crash of the task's",
    (mrq.worker.Worker, "_on_outcome"),
)
def _blame(self: Any, ran: Any, outcome: Any) -> None:
    if outcome.kind == "killed" and not self._jobs.is_over(ran.job_id):
        outcome = outcome.model_copy(update={"kind": "crashed"})
    _on_outcome(self, ran, outcome)


@mutation(
    "no-sync",
    "The worker drops the task of a job that its server has not heard of yet",
    (SimSession, "sync"),
)
def _no_sync(self: Any) -> None:
    return


@mutation("drain-at-once", "A worker that is told to end does so at once", (mrq.worker.Worker, "_drain"))
def _drain_at_once(self: Any) -> None:
    self._draining = True
    self._broker.stop_consuming()
    self._inbox.stop()


@mutation("drain-takes-more", "A draining worker takes what comes", (mrq.worker.Worker, "_consider"))
def _takes_more(self: Any, task: Any, delivery: Any) -> None:
    draining, self._draining = self._draining, False
    _consider(self, task, delivery)
    self._draining = self._draining or draining


@mutation(
    "leave-unconfirmed",
    "A draining worker leaves before its reports are confirmed",
    (mrq.worker.Worker, "has_drained"),
)
def _leaves(self: Any) -> bool:
    return self._draining and not self._running


@mutation(
    "full-crash",
    "A task that finds the store full counts as a crash of its own",
    (mrq.worker.Worker, "_on_outcome"),
)
def _full_is_crash(self: Any, ran: Any, outcome: Any) -> None:
    if outcome.type == "StoreFull":
        outcome = outcome.model_copy(update={"kind": "crashed"})
    _on_outcome(self, ran, outcome)
