"""Faults put into mrq on purpose: a simulation that finds none of them would be worth nothing.

Each mutation is what somebody might do to the code with the best intentions. `python -m tests.sim.mutations` plays
seeds until each was caught, and writes the table in docs/simulation.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrq.claims
import mrq.core.job
import mrq.core.policy
import mrq.executor.phases
import mrq.following
import mrq.master
import mrq.performer
import mrq.registry
import mrq.worker
from mrq import layout
from mrq.blob import Signer
from mrq.core.commands import Persist
from mrq.core.keys import sorted_by_key
from mrq.core.model import JobState, Phase
from mrq.errors import NodeError, NodeMissing, VersionConflict
from mrq.ports import Session
from mrq.registry import Held, Registry
from mrq.segment import SegmentReader
from tests.sim.schedule import run
from tests.sim.tree import SimSession

MOST_SEEDS = 3000
"""Within so many seeds each mutation must be caught."""

DOCS = Path(__file__).parents[2] / "docs" / "simulation.md"
BEGIN, END = "<!-- mutations: begin -->", "<!-- mutations: end -->"


@dataclass(frozen=True)
class Mutation:
    """One change to the code.

    Attributes:
        what: in words, for the table.
        changes: (module or class, name, what stands there instead).
    """

    what: str
    changes: tuple[tuple[Any, str, Any], ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have it in force."""
        before = [(owner, name, owner.__dict__[name]) for owner, name, _ in self.changes]
        for owner, name, new in self.changes:
            setattr(owner, name, new)
        try:
            yield
        finally:
            for owner, name, old in before:
                setattr(owner, name, old)


MUTATIONS: dict[str, Mutation] = {}


def mutation(
    name: str, what: str, *owners: tuple[Any, str]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as what stands in the given places instead."""

    def register(new: Callable[..., Any]) -> Callable[..., Any]:
        MUTATIONS[name] = Mutation(what, tuple((owner, attribute, new) for owner, attribute in owners))
        return new

    return register


# ---------------------------------------------------------------- the worker

_consider = mrq.worker.Worker._consider
_start = mrq.worker.Worker._start


def _taken(self: Any, task: Any, delivery: Any, record: Any) -> None:
    """Start a task whatever its record says."""
    new = mrq.worker._Running(task, record.key, mrq.worker._Loans([delivery]), self._inbox.now())
    self._start(new, delivery, record)


@mutation("no-epoch-check", "The worker runs tasks of epochs that are over", (mrq.worker.Worker, "_consider"))
def _any_epoch(self: Any, task: Any, delivery: Any) -> None:
    record = self._record
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
    known = self._records.get(task.job_id)
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
    if outcome.kind == "killed" and not self._is_over(ran.job_id):
        outcome = outcome.model_copy(update={"kind": "crashed"})
    _on_outcome(self, ran, outcome)


@mutation(
    "no-sync",
    "The worker drops the task of a job that its server has not heard of yet",
    (SimSession, "sync"),
)
def _no_sync(self: Any) -> None:
    return


# ---------------------------------------------------------------- the master

_perform = mrq.performer.Performer.perform


@mutation("publish-first", "The master publishes before it persists", (mrq.performer.Performer, "perform"))
def _publish_first(self: Any, owned: Any) -> None:
    if owned.todo and isinstance(owned.todo[0], Persist):
        publishes = [c for c in owned.todo if isinstance(c, mrq.performer.Publish)]
        rest = [c for c in owned.todo if not isinstance(c, mrq.performer.Publish)]
        owned.todo.clear()
        owned.todo.extend((*publishes, *rest))
    _perform(self, owned)


@mutation("no-persist", "The master does not persist phases", (mrq.performer.Performer, "perform"))
def _no_persist(self: Any, owned: Any) -> None:
    for command in [c for c in owned.todo if isinstance(c, Persist)]:
        owned.todo.remove(command)
    _perform(self, owned)


@mutation("no-compare", "The record is written whatever version it has", (mrq.registry.Registry, "amend"))
def _overwrite(self: Any, job_id: str, held: Any, epoch: int, **changes: Any) -> Any:
    record = held.record.model_copy(update={**changes, "epoch": epoch})
    return Held(record, self.tree.set(f"/jobs/{job_id}", record.encode()))


@mutation(
    "conflict-is-fine",
    "A VersionConflict is taken for the lost reply of our own write",
    (mrq.registry.Registry, "amend"),
)
def _ignore_conflict(self: Any, job_id: str, held: Any, epoch: int, **changes: Any) -> Any:
    record = held.record.model_copy(update={**changes, "epoch": epoch})
    try:
        return Held(record, self.tree.set(f"/jobs/{job_id}", record.encode(), held.version))
    except (VersionConflict, NodeMissing):
        return Held(record, held.version + 1)


@mutation(
    "retry-conflict",
    "After a VersionConflict the same is written with the new version",
    (mrq.registry.Registry, "amend"),
)
def _write_again(self: Any, job_id: str, held: Any, epoch: int, **changes: Any) -> Any:
    while True:
        record = held.record.model_copy(update={**changes, "epoch": epoch})
        try:
            return Held(record, self.tree.set(f"/jobs/{job_id}", record.encode(), held.version))
        except VersionConflict:
            held = self.job(job_id) or held


def _nothing(self: Any, *_: Any) -> None:
    return


def _take_over_unbound(self: Any, job_id: str, epoch: int) -> None:
    mail, self._mail = self._mail, _Unbound()
    try:
        _take_over(self, job_id, epoch)
    finally:
        self._mail = mail


class _Unbound:
    def bind(self, *_: Any) -> None:
        pass


_take_over = mrq.master.Master._take_over
MUTATIONS["no-reconcile-no-bind"] = Mutation(
    "The master neither binds its queue nor compares with the store",
    ((mrq.master.Master, "_reconcile", _nothing), (mrq.master.Master, "_take_over", _take_over_unbound)),
)
MUTATIONS["no-reconcile"] = Mutation(
    "The master never compares its jobs with store and queues", ((mrq.master.Master, "_reconcile", _nothing),)
)


@mutation("old-failure", "A failure of an older epoch counts", (mrq.core.job, "_is_current"))
def _any_failure(job: Any, event: Any) -> bool:
    return event.phase is job.phase and event.index in job.outstanding


@mutation(
    "session-end-unheard",
    "The master does not care that its session ended",
    (mrq.master.Master, "_on_session"),
)
def _unheard(self: Any, state: Any) -> None:
    if state is Session.CONNECTED:
        self._poll()


@mutation("failover-from-nothing", "The successor begins the job anew", (mrq.master.Master, "_apply"))
def _from_nothing(self: Any, job_id: str, event: Any) -> None:
    if isinstance(event, mrq.master.JobClaimed) and not event.state.ended:
        event = mrq.master.JobClaimed(event.epoch, JobState.MAP, {}, event.now)
    _apply(self, job_id, event)


_apply = mrq.master.Master._apply


@mutation(
    "no-retry", "A command that a server could not take is not tried again", (mrq.master.Master, "_retry")
)
def _no_retry(self: Any, owned: Any) -> None:
    return


@mutation("release-once", "A claim that could not be released is left", (mrq.master.Master, "_release"))
def _release_once(self: Any, job_id: str) -> None:
    self._safely(self._registry.release, job_id)


@mutation("ended-in-mind", "A job counts as ended before its record says so", (mrq.master.Master, "_let_go"))
def _ended_in_mind(self: Any, job_id: str, *, release: bool) -> None:
    owned = self._jobs.get(job_id)
    _let_go(self, job_id, release=release)
    if owned is not None and owned.job.state.ended:
        self._claims.ended.add(job_id)


_let_go = mrq.master.Master._let_go


@mutation("lost-claim", "A claim whose reply was lost is taken for another's", (mrq.claims.Claims, "_claim"))
def _lost_claim(self: Any, job_id: str) -> None:
    if job_id not in self._ours and self._registry.owner(job_id, self._owner_changed) is None:
        _claim(self, job_id)


_claim = mrq.claims.Claims._claim


# ---------------------------------------------------------------- files, and who reads them


@mutation(
    "overwrite", "A result is committed over the one that is there", (mrq.executor.phases._Task, "commit")
)
def _overwriting(self: Any, written: Any) -> Any:
    if self.store.status(self._result):
        self.store.delete(self._result)
    self.store.rename(self._attempt, self._result)
    return written


@mutation("write-in-place", "A result is written where it is read", (mrq.executor.phases._Task, "__init__"))
def _in_place(self: Any, assignment: Any, store: Any) -> None:
    _init(self, assignment, store)
    self._attempt = self._result


_init = mrq.executor.phases._Task.__init__


@mutation(
    "no-manifest",
    "The client reads what is in the folder, not what the manifest names",
    (mrq.following, "read_result"),
)
def _by_folder(store: Any, signer: Signer, record: Any) -> Any:
    pairs: list[Any] = []
    for number, file in enumerate(store.list(layout.results(record.job_id, Phase.REDUCE))):
        path = layout.result(record.job_id, Phase.REDUCE, int(file.name) if file.name.isdigit() else number)
        pairs += SegmentReader(store, path, None, signer, "reduce", file.name).partition(0)
    return sorted_by_key(pairs)


@mutation("late-files-gone", "A submission that was not answered takes its files away", (Registry, "submit"))
def _discarding(self: Any, record: Any) -> None:
    try:
        _submit(self, record)
    except (mrq.following.Unavailable, mrq.following.SessionLost) as error:
        raise NodeError(str(error)) from None


_submit = Registry.submit


@mutation(
    "give-up-lost-session",
    "The client's session ends, and so does the future",
    (mrq.following.Follower, "_look"),
)
def _gives_up(self: Any, job_id: str) -> None:
    try:
        self._registry.job(job_id)
    except mrq.following.SessionLost as error:
        self._finish(job_id, error)
        return
    except mrq.following.Unavailable:
        pass
    _look(self, job_id)


_look = mrq.following.Follower._look


# ---------------------------------------------------------------- the table


def caught(name: str, most: int = MOST_SEEDS, *, first: int = 0) -> tuple[int, str] | None:
    """Return after how many seeds a mutation was caught, and what was broken; None when it was not."""
    with MUTATIONS[name].applied():
        for seed in range(first, first + most):
            try:
                violation, _ = run(seed)
            except Exception as error:
                return seed + 1, f"an exception left the code: {error!r}"
            if violation:
                return seed + 1, str(violation)
    return None


def table(results: dict[str, tuple[int, str] | None]) -> str:
    """Return the table of the docs."""
    rows = ["| mutation | what broke | seeds |", "| --- | --- | ---: |"]
    for name, result in results.items():
        n, what = result or (0, "**not caught**")
        rows.append(f"| {MUTATIONS[name].what} (`{name}`) | {_short(what)} | {n or ''} |")
    return "\n".join(rows)


def _short(what: str) -> str:
    what = what.replace("|", "/")
    return what if len(what) <= 110 else what[:107] + "..."


def main() -> None:
    """Play on two processes, and write the table into the docs."""
    from concurrent.futures import ProcessPoolExecutor

    from tests.sim import mutations  # by its name, for the other processes

    chosen = sys.argv[1:] or list(MUTATIONS)
    results = {}
    with ProcessPoolExecutor(2) as pool:
        for name, result in zip(chosen, pool.map(mutations.caught, chosen), strict=True):
            results[name] = result
            print(name, *(result or ("NOT CAUGHT",)), flush=True)
    if not sys.argv[1:]:
        text = DOCS.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        DOCS.write_text(f"{head}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim.mutations", *sys.argv[1:]])
    main()
