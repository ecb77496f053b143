"""What somebody might do to backup tasks and shares with the best intentions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mrq.core.job
import mrq.core.policy
import mrq.executor.phases
import mrq.performer
from mrq.core.model import Outstanding
from tests.sim.mutating import mutation

_stragglers = mrq.core.policy.stragglers


@mutation(
    "backup-overwrites",
    "A backup's result takes the place of the straggler's",
    (mrq.executor.phases._Task, "commit"),
)
def _backup_overwrites(self: Any, written: Any) -> Any:
    if self.assignment.task.backup and self.store.status(self._result):
        self.store.delete(self._result)
    return _commit(self, written)


_commit = mrq.executor.phases._Task.commit


@mutation("backup-anyway", "`speculative=False` is not looked at", (mrq.core.policy, "stragglers"))
def _backup_anyway(job: Any, now: float) -> list[int]:
    return _stragglers(replace(job, spec=replace(job.spec, speculative=True)), now)


@mutation("backup-again", "A backup that is late has a backup, too", (mrq.core.policy, "stragglers"))
def _backup_again(job: Any, now: float) -> list[int]:
    return _stragglers(replace(job, backups=0), now)


@mutation(
    "backup-beyond-share",
    "A job has more tasks out than it asked for",
    (mrq.core.policy, "fair_window"),
)
def _beyond(_requested: int | None, *others: Any) -> int:
    return _fair_window(None, *others)


_fair_window = mrq.core.policy.fair_window


@mutation(
    "no-revoke",
    "Nobody stops a straggler whose backup has committed",
    (mrq.performer.Performer, "perform"),
)
def _no_revoke(self: Any, owned: Any) -> None:
    for command in [c for c in owned.todo if isinstance(c, mrq.performer.Revoke)]:
        owned.todo.remove(command)
    _perform(self, owned)


_perform = mrq.performer.Performer.perform


@mutation(
    "straggler-blamed",
    "A straggler's failure counts although its backup is the attempt that is out",
    (mrq.core.job, "_is_current"),
)
def _any_attempt(job: Any, event: Any) -> bool:
    if event.phase is not job.phase or event.epoch != job.epoch:
        return False
    return isinstance(job.outstanding.get(event.index), Outstanding)
