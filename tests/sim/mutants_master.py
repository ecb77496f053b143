"""What somebody might do to the master with the best intentions."""

from __future__ import annotations

from typing import Any

import mrq.claims
import mrq.core.job
import mrq.core.policy
import mrq.master
import mrq.performer
import mrq.registry
from mrq.core.commands import Persist
from mrq.core.model import JobState
from mrq.errors import NodeMissing, VersionConflict
from mrq.ports import Session
from mrq.registry import Held
from tests.sim.mutating import MUTATIONS, Mutation, mutation

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
