"""What mrq keeps in the coordination tree, and the only module that knows where.

/ids/jobs                      the last job number given out
/masters/<name>                ephemeral MemberInfo
/workers/<name>                ephemeral MemberInfo
/jobs/<job>                    JobRecord, written by compare-and-set
/jobs/<job>/owner              ephemeral: the owning master's name; its czxid is the epoch
/jobs/<job>/progress           ProgressRecord, now and then
/jobs/<job>/<phase>-<n>        TaskPage, now and then
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from mrq.core.model import Epoch, JobState, Phase
from mrq.errors import AuthenticationFailed, BadMessage, NodeExists, NodeMissing, UnknownJob, VersionConflict
from mrq.ports import Coordination, Node, Watch
from mrq.records import JobRecord, MemberInfo, ProgressRecord, TaskPage
from mrq.wire import W, decode

log = logging.getLogger(__name__)

_NUMBER = re.compile("[0-9]{1,18}")

Role = Literal["masters", "workers"]


@dataclass(frozen=True, slots=True)
class Held:
    """A job's record as it was read, and the version to compare when it is written."""

    record: JobRecord
    version: int


class StaleEpoch(Exception):
    """Another master owns the job now, or it has ended: stop acting for it. Never reaches a user."""


class Registry:
    """Typed reads and writes of the tree. Raises what `ports.Coordination` raises.

    Args:
        tree: the coordination service.
    """

    def __init__(self, tree: Coordination) -> None:
        self.tree = tree

    # ------------------------------------------------------------ jobs

    def next_job_id(self) -> str:
        """Return an id that no other caller ever gets: ``job_0``, ``job_1`` and so on."""
        while True:
            node = self.tree.get("/ids/jobs")
            number = _last(node) + 1 if node else 0
            try:
                if node:
                    self.tree.set("/ids/jobs", str(number).encode(), node.version)
                else:
                    self.tree.create("/ids/jobs", b"0")
            except (NodeExists, NodeMissing, VersionConflict):
                continue  # somebody else took that number
            return f"job_{number}"

    def last_job_number(self) -> int:
        """Return the last number given out to a job; -1 before the first."""
        node = self.tree.get("/ids/jobs")
        return _last(node) if node else -1

    def submit(self, record: JobRecord) -> None:
        """Make a job known to the masters; a reply that was lost does no harm, also if one has written it since.

        Raises:
            NodeExists: another job has this number.
        """
        path = _job(record.job_id)
        try:
            self.tree.create(path, record.encode())
        except NodeExists:
            self.tree.sync()
            held = self.job(record.job_id)
            if held is None or held.record.key != record.key:
                raise

    def job_ids(self, watch: Watch | None = None) -> list[str]:
        """Return all jobs, oldest first."""
        return sorted(self.tree.children("/jobs", watch), key=_number)

    def job(self, job_id: str, watch: Watch | None = None) -> Held | None:
        """Return a job's record, or None.

        Raises:
            BadMessage: the znode holds something else.
        """
        node = self.tree.get(_job(job_id), watch)
        if node is None or not node.data:  # an empty one is none: see `claim` and `delete_job`
            return None
        try:
            held = Held(decode(JobRecord, node.data), node.version)
        except BadMessage as error:
            raise BadMessage(f"the znode of {job_id} is {error}") from None
        if held.record.job_id != job_id:
            raise BadMessage(f"the znode of {job_id} holds the record of {held.record.job_id}")
        return held

    def readable_jobs(self) -> Iterator[Held]:
        """Return the jobs' records, oldest first, without those that are not this login's or no records at all."""
        for job_id in self.job_ids():
            try:
                held = self.job(job_id)
            except AuthenticationFailed:
                continue
            except BadMessage as error:
                log.warning("%s is left out: %s", job_id, error)
                continue
            if held:
                yield held

    def require(self, job_id: str) -> Held:
        """Return a job's record.

        Raises:
            UnknownJob: there is none.
        """
        held = self.job(job_id)
        if held is None:
            raise UnknownJob(
                f"there is no job {job_id}: it was never submitted here, or has been cleared", job_id=job_id
            )
        return held

    def amend(self, job_id: str, held: Held, epoch: Epoch, *, pack: str = "", **changes: Any) -> Held:
        """Write a job's record as its owner under ``epoch``.

        Args:
            job_id: the job.
            held: its record as last read or written.
            epoch: of the owner's claim.
            pack: the name of one more pack.
            changes: to the record's fields.

        Raises:
            StaleEpoch: a later epoch has written it, it has ended, or it is gone.
        """
        while True:
            if held.record.epoch > epoch or held.record.state.ended:
                raise StaleEpoch(job_id)
            packs = [*held.record.packs, *([pack] if pack else [])]  # an earlier one may have come late
            record = held.record.model_copy(update={**changes, "packs": packs, "epoch": epoch})
            try:
                version = self.tree.set(_job(job_id), record.encode(), held.version)
            except (VersionConflict, NodeMissing):
                current = self.job(job_id)
                if current is None:
                    raise StaleEpoch(job_id) from None
                if current.record == record:
                    return current  # our own write, whose reply was lost
                before, now = held.record, current.record
                if (now.epoch, now.state) != (before.epoch, before.state):
                    raise StaleEpoch(job_id) from None  # what we meant to write rests on an old reading
                held = current
                continue
            return Held(record, version)

    def request_cancel(self, job_id: str, now: float) -> bool:
        """Ask for a job's end, as its client; return False when it has ended otherwise.

        A job that no master has claimed yet is cancelled on the spot.
        """
        while True:
            held = self.require(job_id)
            record = held.record
            if record.state.ended or record.cancel_requested:
                return record.state not in (JobState.COMPLETED, JobState.FAILED)
            changes: dict[str, Any] = {"cancel_requested": True}
            if record.epoch == 0:
                changes |= {"state": JobState.CANCELLED, "ended_at": now}
            try:
                self.tree.set(_job(job_id), record.model_copy(update=changes).encode(), held.version)
            except (VersionConflict, NodeMissing):
                continue
            return True

    def delete_job(self, job_id: str) -> bool:
        """Remove all that the tree has of a job.

        A person may not delete what is in /jobs: then an empty node stays, which counts as none, for a master to
        `bury`.
        """
        try:
            return self.tree.delete(_job(job_id))
        except AuthenticationFailed:
            for name in self.tree.children(_job(job_id)):
                self.tree.delete(f"{_job(job_id)}/{name}")
            self.tree.set(_job(job_id), b"")  # refused, too, unless the job is theirs
            return True

    def bury(self, job_id: str) -> None:
        """Delete a job's node if nothing is in it."""
        node = self.tree.get(_job(job_id))
        if node is not None and not node.data:
            self.tree.delete(_job(job_id))

    # ------------------------------------------------------------ ownership

    def claim(self, job_id: str, master: str) -> Epoch | None:
        """Become a job's owner; return the epoch, or None when somebody else is, or there is no such job."""
        try:
            path = f"{_job(job_id)}/owner"
            return self.tree.create(path, master.encode(), ephemeral=True, parents=False).czxid
        except NodeMissing:
            return None  # cleared a moment ago
        except NodeExists:
            node = self.tree.get(f"{_job(job_id)}/owner")
            return node.czxid if node and node.mine else None

    def owner(self, job_id: str, watch: Watch | None = None) -> str | None:
        """Return the owning master's name; the watch tells of its end."""
        node = self.tree.get(f"{_job(job_id)}/owner", watch)
        return node.data.decode(errors="replace") if node else None

    def release(self, job_id: str) -> None:
        """Give a job up, if this session owns it."""
        node = self.tree.get(f"{_job(job_id)}/owner")
        if node and node.mine:
            self.tree.delete(f"{_job(job_id)}/owner")

    # ------------------------------------------------------------ members

    def register(self, role: Role, name: str, info: MemberInfo) -> None:
        """Be a member while the session lasts; call again to change the info, or after the session was lost."""
        path = f"/{role}/{name}"
        try:
            self.tree.create(path, info.encode(), ephemeral=True)
        except NodeExists:
            node = self.tree.get(path)
            if (
                node is None or not node.mine
            ):  # left by a session of ours that is over: it would vanish under us
                self.tree.delete(path)
                self.tree.create(path, info.encode(), ephemeral=True)
            else:
                self.tree.set(path, info.encode())

    def members(self, role: Role, watch: Watch | None = None) -> dict[str, MemberInfo]:
        """Return the live members by name."""
        found = {}
        for name in self.tree.children(f"/{role}", watch):
            node = self.tree.get(f"/{role}/{name}")
            if node is None:
                continue
            try:
                found[name] = decode(MemberInfo, node.data)
            except BadMessage as error:
                log.warning("the member %s of the %s is left out: %s", name, role, error)
        return found

    # ------------------------------------------------------------ for people

    def write_progress(self, job_id: str, progress: ProgressRecord) -> None:
        """Publish how far a job is."""
        self._put(job_id, "progress", progress.encode())

    def progress(self, job_id: str) -> ProgressRecord:
        """Return how far a job is, as last published."""
        return self._shown(job_id, "progress", ProgressRecord) or ProgressRecord()

    def write_page(self, job_id: str, number: int, page: TaskPage) -> None:
        """Publish a page of task states."""
        self._put(job_id, f"{page.phase.value}-{number}", page.encode())

    def pages(self, job_id: str, phase: Phase) -> list[TaskPage]:
        """Return a phase's pages in order."""
        page = re.compile(rf"{phase.value}-[0-9]{{1,18}}")
        names = [name for name in self.tree.children(_job(job_id)) if page.fullmatch(name)]
        pages = [self._shown(job_id, name, TaskPage) for name in sorted(names, key=_page_number)]
        return [page for page in pages if page]

    def nodes(self, job_id: str) -> dict[str, Node]:
        """Return what the tree has of a job, for its times: ``""`` is the record, then owner, progress and pages."""
        names = ["", *self.tree.children(_job(job_id))]
        found = {name: self.tree.get(f"{_job(job_id)}/{name}".rstrip("/")) for name in names}
        return {name: node for name, node in found.items() if node is not None}

    def _shown(self, job_id: str, name: str, model: type[W]) -> W | None:
        """Read what is there for people only; what is no such record costs them that, and nothing else."""
        node = self.tree.get(f"{_job(job_id)}/{name}")
        try:
            return decode(model, node.data) if node else None
        except BadMessage as error:
            log.warning("%s of %s is left out: %s", name, job_id, error)
            return None

    def _put(self, job_id: str, name: str, data: bytes) -> None:
        path = f"{_job(job_id)}/{name}"
        try:
            self.tree.set(path, data)
        except NodeMissing:
            with suppress(
                NodeExists, NodeMissing
            ):  # missing: the job was cleared, nothing of it is to come back
                self.tree.create(path, data, parents=False)


def _job(job_id: str) -> str:
    return f"/jobs/{job_id}"


def _number(job_id: str) -> tuple[int, str]:
    digits = job_id.rpartition("_")[2]
    return (int(digits) if _NUMBER.fullmatch(digits) else -1, job_id)


def _last(node: Node) -> int:
    text = node.data.decode(errors="replace")
    if text != "-1" and not _NUMBER.fullmatch(text):  # -1: none was given out yet
        raise BadMessage(
            "the znode /ids/jobs holds no number: write the greatest number that a job ever had into it"
        )
    return int(text)


def _page_number(name: str) -> int:
    return int(name.rpartition("-")[2])
