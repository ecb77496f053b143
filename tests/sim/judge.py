"""The promises, checked at the moment when they could be broken."""

from __future__ import annotations

import logging
import re
from collections import Counter
from typing import TYPE_CHECKING

from mrq import layout
from mrq.blob import Signer
from mrq.broker._embedded_server import EmbeddedBrokerServer, Stored
from mrq.core.model import JobState
from mrq.errors import BadMessage
from mrq.inline import from_text
from mrq.ports import Message
from mrq.records import JobRecord, Pack
from mrq.wire import Assignment, Control, Outcome, Report, TaskMessage, decode
from tests.sim.world import Process, World

if TYPE_CHECKING:
    from tests.sim.store import Inode, SimHdfs
    from tests.sim.tree import Entry, SimSession, SimTree

_ORDER = {state: n for n, state in enumerate(JobState)}
_FAILING = ("raised", "timeout", "crashed", "refused")
MOST_WATCHES = 8
STOP_SECONDS = 0.3
"""How long an attempt may run whose task was committed while it waited in its queue."""


class Judge(logging.Handler):
    """Hears of every effect, and accuses whoever breaks a promise.

    Attributes:
        tree: the truth about records.
        hdfs: the truth about files.
        server: the truth about queues.
        committed: what files were committed, as they were.
        cleared: jobs that were removed on purpose.
        late: owners and attempts that were made after their job's end.
        fair: nothing goes wrong but what functions do, so that no task should run twice without need.
    """

    tree: SimTree
    hdfs: SimHdfs
    server: EmbeddedBrokerServer

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO if world.telling else logging.ERROR)
        self.world = world
        self.committed: dict[str, Inode] = {}
        self.committed_data: dict[str, bytes] = {}
        self.cleared: set[str] = set()
        self.late: set[str] = set()
        self.fair = False
        self._ended_by: dict[str, tuple[SimSession, int] | None] = {}
        self._persisted: set[tuple[str, int, str]] = set()
        self._carried: set[tuple[str, str, int, int]] = set()
        self._blamed: dict[tuple[str, str, int, int], set[int]] = {}
        self._claims: dict[tuple[str, int], str] = {}
        self._starts: Counter[str] = Counter()
        self._bodies: dict[bytes, TaskMessage] = {}
        self._out: dict[tuple[str, int, str], dict[int, int]] = {}
        self._backups: dict[tuple[str, int], set[int]] = {}
        self._run: set[bytes] = set()
        self._running: dict[str, tuple[str, int, float]] = {}

    # ------------------------------------------------------------ what the code under test logs

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log record into the story; an unexpected exception is a broken promise."""
        if record.exc_info:
            self.world.accuse(f"a call in an inbox failed: {record.exc_info[1]!r}")
        if self.world.telling:
            self.world.tell("", f"      log: {record.getMessage()}")

    # ------------------------------------------------------------ the tree

    def created(self, path: str, entry: Entry) -> None:
        """A node is new: a claim, perhaps, or a job."""
        parts = path.split("/")
        if len(parts) == 4 and parts[3] == "owner":
            self._claims[parts[2], entry.czxid] = entry.data.decode()
            record = self.record(parts[2])
            if record and record.state.ended:
                self.late.add(path)
            self.world.tell(
                "zookeeper", f"{parts[2]} is claimed by {entry.data.decode()}: epoch {entry.czxid}"
            )
        elif len(parts) == 3 and parts[1] == "jobs" and entry.data:
            self.world.tell("zookeeper", f"{parts[2]} is submitted")

    def written(self, path: str, old: Entry, new: Entry, writer: str) -> None:
        """A node is about to be written."""
        parts = path.split("/")
        if len(parts) != 3 or parts[1] != "jobs" or not old.data:
            return
        job_id, before, after = parts[2], decode(JobRecord, old.data), decode(JobRecord, new.data)
        what = (
            f"{job_id}: {before.state.value} -> {after.state.value} (epoch {before.epoch} -> {after.epoch})"
        )
        self.world.tell("zookeeper", what)
        if before.state.ended:
            self.world.accuse(f"an ended record was written: {what}")
        if after.epoch < before.epoch:
            self.world.accuse(f"a stale epoch wrote the record: {what}")
        if _ORDER[after.state] < _ORDER[before.state]:
            self.world.accuse(f"a phase went back: {what}")
        by_client = after.epoch == before.epoch and after.cancel_requested and not before.cancel_requested
        if not by_client and self._claims.get((job_id, after.epoch)) != writer:
            self.world.accuse(f"{writer} wrote under an epoch that is not its own: {what}")
        if after.state is JobState.FAILED:
            self._blame(after)
        if after.packs[: len(before.packs)] != before.packs:
            self.world.accuse(f"a pack in the record is gone or another: {what}")
        if before.inline.items() - after.inline.items():
            self.world.accuse(f"what was inline in the record is gone or another: {what}")
        self._persisted.add((job_id, after.epoch, after.state.value))
        if after.state.ended:
            sessions = ((s, s.number) for s in self.tree.sessions if s.process.name == writer)
            self._ended_by[job_id] = next(sessions, None)
        n_claims = sum(claimed == job_id for claimed, _ in self._claims)
        if self.fair and after.state is JobState.REDUCE and n_claims == 1:
            self._check_stopped(after)

    def _check_stopped(self, record: JobRecord) -> None:
        """By the time that a job has shuffled, no attempt of a map task runs any more, unless it has just begun."""
        for task_id, epoch, since in self._running.values():
            ours = task_id.startswith(f"{record.job_id}/map/") and epoch == record.epoch
            if ours and self.world.now - since > STOP_SECONDS:
                self.world.accuse(f"{task_id} still runs, though another attempt has committed")

    def _blame(self, record: JobRecord) -> None:
        """A job fails by what was reported under the epoch that fails it."""
        failure = record.failure
        if failure is None:
            self.world.accuse(f"{record.job_id} failed without a reason")
            return
        attempts = self._blamed.get((record.job_id, failure.phase.value, failure.index, record.epoch), set())
        needed = {"refused": 1, "poison": 3, "skipped": 0, "unfinished": 0}.get(
            failure.kind, record.retries + 1
        )
        if len(attempts) < needed:
            self.world.accuse(
                f"{record.job_id} failed in epoch {record.epoch} by {failure.phase.value} {failure.index}, "
                f"{failure.kind}, of which that epoch has {len(attempts)} reports, not {needed}"
            )
        last = self._out.get((record.job_id, record.epoch, failure.phase.value), {}).get(failure.index)
        if needed and last is not None and last not in attempts:
            self.world.accuse(
                f"{record.job_id} failed by {failure.phase.value} {failure.index}, which is out again"
            )

    def watched(self, who: str, path: str, n: int) -> None:
        """A session has so many watches on one path."""
        if n > MOST_WATCHES:
            self.world.accuse(f"{who} has {n} watches on {path}: one more with each look")

    def record(self, job_id: str) -> JobRecord | None:
        """Return a job's record as it is."""
        entry = self.tree.nodes.get(f"/jobs/{job_id}")
        return decode(JobRecord, entry.data) if entry and entry.data else None

    def was_left(self, job_id: str) -> bool:
        """Whether a job's files may be left, until somebody clears it.

        Whoever failed or cancelled it died, or lost its session; or it was never submitted, for its client gave up.
        """
        record = self.record(job_id)
        ended_by = self._ended_by.get(job_id)
        if record is None or record.state is JobState.COMPLETED:
            return record is None
        return ended_by is None or not ended_by[0].process.alive or ended_by[0].number != ended_by[1]

    # ------------------------------------------------------------ the store

    def renamed(self, path: str, inode: Inode) -> None:
        """A file has its final name."""
        if _is_result(path):
            self.world.tell("hdfs", f"{path} is committed")
            if path in self.committed:
                self.world.accuse(f"{path} was committed twice")
            self.committed[path] = inode
            self.committed_data[path] = inode.data

    def changed(self, path: str) -> None:
        """A file's content becomes another."""
        if _is_result(path):
            self.world.accuse(f"{path} changed after its commit")

    def unlinked(self, path: str) -> None:
        """A file is removed or replaced."""
        if _is_result(path) and path.split("/")[1] not in self.cleared:
            self.world.accuse(f"{path} was removed or replaced after its commit")

    def begun(self, path: str) -> None:
        """A file is created."""
        record = self.record(path.split("/")[1]) if "/attempts/" in path else None
        if record and record.state.ended:
            self.late.add(path)

    def results(self, job_id: str) -> dict[str, bytes]:
        """Return the results of a job's tasks by path, be they files or inline in its record."""
        record = self.record(job_id)
        files = self.committed_data | (from_text(record.inline) | self._packed(record) if record else {})
        return {path: data for path, data in files.items() if re.match(rf"jobs/{job_id}/\w+_results/", path)}

    def _packed(self, record: JobRecord) -> dict[str, bytes]:
        """Return the map results in packs that the record names."""
        signer = Signer(bytes.fromhex(record.key), record.job_id)
        files: dict[str, bytes] = {}
        for name in record.packs:
            sealed = bytes(self.hdfs.files[layout.pack(record.job_id, name)].data)
            files |= from_text(decode(Pack, signer.open("pack", name, sealed)).files)
        return files

    # ------------------------------------------------------------ the broker

    def sent(self, process: Process, message: Message) -> None:
        """A process publishes."""
        if self.world.telling:
            where = message.exchange.rpartition(".")[2]
            detail = " ".join(
                f"{key} {message.headers[key]}" for key in ("epoch", "attempt") if key in message.headers
            )
            self.world.tell(process.name, f"-> {where}{_told(message)} {detail}")

    def arrived(self, stored: Stored) -> None:
        """The broker has a message."""
        if stored.exchange.endswith(".tasks"):
            task = self._task(stored)
            if (task.job_id, task.epoch, task.phase.value) not in self._persisted:
                self.world.accuse(
                    f"{task.task_id} of epoch {task.epoch} was published before that was persisted"
                )
            self._given_out(task)
        elif stored.exchange.endswith(".events"):
            report = decode(Report, stored.body)
            place = (report.job_id, report.phase.value, report.index, report.epoch)
            if report.outcome and report.outcome.kind in _FAILING:
                self._blamed.setdefault(place, set()).add(report.attempt)
            if report.outcome and report.outcome.inline:
                record = self.record(
                    report.job_id
                )  # its owner may have been succeeded, and takes it all the same
                epochs = {report.epoch, record.epoch if record else report.epoch}
                self._carried |= {(*place[:3], epoch) for epoch in epochs}

    def _given_out(self, task: TaskMessage) -> None:
        """No more tasks of a job are out than its client asked for, and few of them twice."""
        record = self.record(task.job_id)
        if record is None:
            return
        out = self._out.setdefault((task.job_id, task.epoch, task.phase.value), {})
        out[task.index] = max(task.attempt, out.get(task.index, 0))
        n_out = sum(self._is_out(task, index, attempt) for index, attempt in out.items())
        if self.fair and record.window is not None and n_out > record.window:
            self.world.accuse(
                f"{n_out} tasks of {task.job_id} are out in epoch {task.epoch}, more than {record.window}"
            )
        if task.backup:
            backups = self._backups.setdefault((task.task_id, task.epoch), set())
            backups.add(task.attempt)
            if not record.speculative:
                self.world.accuse(f"{task.task_id} has a backup, though its job is not speculative")
            if len(backups) > 1:
                self.world.accuse(f"{task.task_id} has more than one backup in epoch {task.epoch}")

    def _is_out(self, task: TaskMessage, index: int, attempt: int) -> bool:
        place = (task.job_id, task.phase.value, index, task.epoch)
        committed = f"jobs/{task.job_id}/{task.phase.results}/{index}" in self.committed
        return attempt not in self._blamed.get(place, ()) and place not in self._carried and not committed

    def acked(self, queue: str, stored: Stored) -> None:
        """A task leaves its queue for good: it must be done, failed and told, void, or there once more."""
        if stored.exchange.endswith(".tasks") and queue in self.server._queues:
            self._check_ack(queue, stored)

    def _check_ack(self, queue: str, stored: Stored) -> None:
        try:
            task = self._task(stored)
        except BadMessage:
            return
        record = self.record(task.job_id)
        if record is None or record.state.ended or record.cancel_requested or record.epoch > task.epoch:
            return
        if f"jobs/{task.job_id}/{task.phase.results}/{task.index}" in self.committed:
            return
        place = (task.job_id, task.phase.value, task.index, task.epoch)
        blamed = self._blamed.get(place, ())
        if place in self._carried or any(attempt >= task.attempt for attempt in blamed):
            return
        copies = list(self.server._queues[queue].ready)
        for consumer in self.server._queues[queue].consumers:
            copies += [other for other in consumer.unacked.values() if other is not stored]
        if not any(self._supersedes(self._task(copy), task) for copy in copies):
            self.world.accuse(
                f"{task.task_id} ({task.epoch}, {task.attempt}) was acked, but nothing came of it"
            )

    @staticmethod
    def _supersedes(copy: TaskMessage, task: TaskMessage) -> bool:
        return copy.task_id == task.task_id and (copy.epoch, copy.attempt) >= (task.epoch, task.attempt)

    def _task(self, stored: Stored) -> TaskMessage:
        task = self._bodies.get(stored.body)
        if task is None:
            task = self._bodies[stored.body] = decode(TaskMessage, stored.body)
        return task

    # ------------------------------------------------------------ the workers

    def started(self, host: Process, assignment: Assignment, *, draining: bool) -> None:
        """A worker starts a task; what it has read itself must not speak against it."""
        task = assignment.task
        self._starts[task.job_id] += 1
        if draining:
            self.world.accuse(f"{host.name} starts {task.task_id}, though it is to end")
        if self.fair and task.encode() in self._run:
            self.world.accuse(
                f"{task.task_id} ({task.epoch}, {task.attempt}) runs again, and nothing was wrong"
            )
        self._run.add(task.encode())
        self._running[assignment.run] = (task.task_id, task.epoch, self.world.now)
        session = next(s for s in self.tree.sessions if s.process is host)
        data = session.known.get(f"/jobs/{task.job_id}")
        if self.world.telling:
            self.world.tell(host.name, f"starts {task.task_id} ({task.epoch}, {task.attempt})")
        record = decode(JobRecord, data) if data else None
        if record and (record.epoch > task.epoch or record.state.ended or record.cancel_requested):
            self.world.accuse(
                f"{host.name} starts {task.task_id} of epoch {task.epoch}, though it has read that the job is "
                f"{record.state.value} in epoch {record.epoch}"
            )

    def n_started(self, job_id: str) -> int:
        """Return how many tasks of a job were started so far."""
        return self._starts[job_id]

    def ended(self, assignment: Assignment, outcome: Outcome) -> None:
        """A child has told an outcome."""
        self._running.pop(assignment.run, None)
        if outcome.kind == "killed":
            self._run.discard(assignment.task.encode())
        if outcome.kind == "refused":
            self.world.accuse(f"{assignment.task.task_id} was refused: {outcome.type}: {outcome.message}")


def _is_result(path: str) -> bool:
    parts = path.split("/")
    return (len(parts) == 4 and parts[2].endswith("_results")) or (len(parts) == 3 and parts[2] == "manifest")


def _told(message: Message) -> str:
    """Say what a message is about."""
    if message.type == "control":
        order = decode(Control, message.body)
        return f" {order.order} {order.task_id or order.job_id}"
    if message.type == "task":
        backup = decode(TaskMessage, message.body).backup
        return f" {message.message_id}{', as a backup,' if backup else ''}"
    outcome = decode(Report, message.body).outcome
    skipped = f", {outcome.skipped} skipped," if outcome and outcome.skipped else ""
    return f": {outcome.kind if outcome else 'started'}{skipped} {message.message_id}"
