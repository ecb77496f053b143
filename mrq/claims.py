"""Which jobs there are, and the attempts of one master to own some of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial

from mrq.core.model import Epoch
from mrq.errors import BadMessage, MrqError
from mrq.inbox import Inbox
from mrq.registry import Registry

log = logging.getLogger(__name__)

SPREAD = 0.02
"""Seconds that a master waits before it claims, for each job that it has: the least busy one comes first."""
SPREAD_MOST = 0.5


class Claims:
    """Looks for jobs without an owner and claims them.

    Args:
        master: the name to claim under.
        registry: where the jobs are.
        inbox: the master's; everything here happens on its turns.
        look_again: how many seconds after a look at another master's job it is looked at once more, though no
            watch told of anything.
        look: called when jobs came or went.
        taken: called with job and epoch when a claim succeeds.

    Attributes:
        ended: the jobs that are over.
        others: the priorities of the jobs that other masters have.
    """

    def __init__(
        self,
        master: str,
        registry: Registry,
        inbox: Inbox,
        look_again: float,
        look: Callable[[], None],
        taken: Callable[[str, Epoch], None],
    ) -> None:
        self._master = master
        self._registry = registry
        self._inbox = inbox
        self._look_again = look_again
        self._look = look
        self._taken = taken
        self._looked: dict[str, float] = {}
        self._unreadable: dict[str, str] = {}
        self._ours: Collection[str] = ()
        self.ended: set[str] = set()
        self.others: dict[str, int] = {}
        self._unanswered: set[str] = set()

    def look(self, ours: Collection[str]) -> set[str]:
        """See what jobs there are, and try for those that may be free; return all."""
        self._ours = ours
        job_ids = self._registry.job_ids(self._jobs_changed)
        present = set(job_ids)
        self.ended &= present
        self.others = {job_id: p for job_id, p in self.others.items() if job_id in present - set(ours)}
        self._looked = {job_id: at for job_id, at in self._looked.items() if job_id in present}
        self._unreadable = {job_id: why for job_id, why in self._unreadable.items() if job_id in present}
        now = self._inbox.now()
        for job_id in job_ids:
            if job_id in self.ended or job_id in ours:
                continue
            if now - self._looked.get(job_id, -self._look_again) >= self._look_again:
                self._looked[job_id] = now
                self._inbox.later(min(SPREAD * len(ours), SPREAD_MOST), partial(self._try, job_id))
        return present

    def _jobs_changed(self, _path: str) -> None:
        self._inbox.put(partial(self._safely, self._look))

    def _owner_changed(self, path: str) -> None:
        self._inbox.put(partial(self._try, path.split("/")[2]))

    def _try(self, job_id: str) -> None:
        self._safely(partial(self._claim, job_id))

    def _claim(self, job_id: str) -> None:
        """Own a job, unless it has ended or somebody else does; the watch tells when that one is gone."""
        if job_id in self._ours or job_id in self.ended:
            return
        try:
            held = self._registry.job(job_id)
        except BadMessage as error:
            if self._unreadable.get(job_id) != str(error):  # said once, for it is looked at again and again
                log.error("%s is left alone: %s; see mrq doctor", job_id, error)
            self._unreadable[job_id] = str(error)
            return
        if held is None or held.record.state.ended:
            self._give_back(job_id)
            self.ended.add(job_id)
            self.others.pop(job_id, None)
            if held is None:
                self._registry.bury(job_id)  # what a person who may not delete below it left of a cleared job
            return
        if self._registry.owner(job_id, self._owner_changed) not in (None, self._master):
            self.others[job_id] = held.record.priority
            return  # if we are its owner without knowing, the reply to an earlier claim was lost
        self._unanswered.add(job_id)
        epoch = self._registry.claim(job_id, self._master)
        self._unanswered.discard(job_id)
        if epoch is not None:
            self.others.pop(job_id, None)
            self._taken(job_id, epoch)

    def _give_back(self, job_id: str) -> None:
        """Let go of a job that ended while the reply to our claim was lost."""
        if job_id in self._unanswered:
            self._registry.release(job_id)
            self._unanswered.discard(job_id)

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except MrqError as error:  # the next poll tries again
            log.warning("master %s can't look at jobs now: %s", self._master, error)
