"""How a master performs the core's commands, in order: persist, then publish; write the manifest, then finish.

Each is waited for but the messages: those go out together, and the master goes on. What the broker does not confirm
comes back to the head of its job's list.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from mrq import envelope, layout, packs, sidecar
from mrq.blob import Signer
from mrq.board import Board
from mrq.broker.topology import Topology
from mrq.core.commands import Cancel, Command, Fail, Finish, Forget, Persist, Publish, Revoke
from mrq.core.model import PHASES, Job, JobState, Phase
from mrq.errors import BadMessage, StoreNotFound
from mrq.ports import Broker, Message, Store
from mrq.records import FailureRecord, Manifest, ManifestEntry, SkippedEntry
from mrq.registry import Held, Registry, StaleEpoch
from mrq.segment import SegmentReader
from mrq.timeline import Archive, Recorder
from mrq.wire import Control, Report, TaskMessage, decode

log = logging.getLogger(__name__)

Sent = Publish | Revoke
"""The commands that are messages."""


@dataclass(eq=False)
class Owned:
    """A job that this master owns.

    Attributes:
        job: the core's state of it.
        held: its record as last read or written.
        epoch: of this master's claim.
        todo: commands still to be performed; what fails stays at the head, or comes back there.
        resumed: whether another claim went before.
        due: whether its turn to be performed has been asked for.
        waiting: whether something failed and is to be tried again later.
        heard: when its last task was committed, on the master's clock.
        recorder: notes when what happens.
        inline: results that have no file (`mrq.inline`); what is packed is in it no more.
        unpacked: for how many seconds map tasks ran, and how many bytes they made, that no pack has.
    """

    job: Job
    held: Held
    epoch: int
    heard: float
    recorder: Recorder
    todo: deque[Command] = field(default_factory=deque)
    due: bool = False
    waiting: bool = False
    inline: dict[str, str] = field(default_factory=dict)
    unpacked: tuple[float, int] = (0.0, 0)
    n_packs: int = 0
    board: Board = field(init=False)
    resumed: bool = field(init=False)

    def __post_init__(self) -> None:
        self.resumed = self.held.record.epoch > 0
        self.board = Board(self.job.spec.n_map, self.job.spec.n_reduce)

    @property
    def job_id(self) -> str:
        """The job."""
        return self.job.spec.job_id

    def keep(self, report: Report) -> bool:
        """Keep the inline result of a task, which is its commit; return False if it has another, or is over."""
        job, outcome = self.job, report.outcome
        if outcome is None or report.phase is not job.phase or job.committed >> report.index & 1:
            return False
        self.inline[layout.result(self.job_id, report.phase, report.index)] = outcome.inline
        if report.phase is Phase.MAP:
            seconds, n_bytes = self.unpacked
            self.unpacked = seconds + outcome.stats.seconds, n_bytes + outcome.length
        return True

    def awaits(self, command: Sent) -> bool:
        """Whether a message is still wanted: a task's only while that attempt is the one that is out."""
        if isinstance(command, Revoke):
            return True
        if self.job.state.value != command.phase.value:
            return False
        outstanding = self.job.outstanding.get(command.index)
        return outstanding is not None and outstanding.attempt == command.attempt

    @property
    def key(self) -> str:
        """The secret that signs the job's files and messages, as hex."""
        return self.held.record.key


class Performer:
    """Carries commands out. Each may be performed twice without harm, since its success may go unheard.

    Args:
        inline_bytes: of map results that may be in the record; more of them are packed.
        unsent: called on any thread with a job and those of its messages that the broker did not confirm, and why.
    """

    def __init__(
        self,
        registry: Registry,
        broker: Broker,
        store: Store,
        topology: Topology,
        inline_bytes: int,
        unsent: Callable[[Owned, Sequence[Sent], BaseException], None],
    ) -> None:
        self._registry = registry
        self._broker = broker
        self._store = store
        self._topology = topology
        self._inline_bytes = inline_bytes
        self._unsent = unsent
        self._archive = Archive(registry, store)

    def close(self) -> None:
        """End what still goes on beside."""
        self._archive.close()

    def perform(self, owned: Owned) -> None:
        """Perform all that is to be done for a job.

        Raises:
            StaleEpoch: the job is another master's now.
            MrqError: a server can't take it now; what is not done yet is still in ``owned.todo``.
        """
        seconds, n_bytes = owned.unpacked
        if owned.job.state is JobState.MAP and packs.due(n_bytes, seconds, owned.job.spec.window):
            self._pack(owned)
        while owned.todo:
            if isinstance(owned.todo[0], Sent):
                self._send(owned)
                continue
            self._perform_one(owned, owned.todo[0])
            owned.todo.popleft()

    def show(self, owned: Owned) -> None:
        """Publish progress and changed task pages for people."""
        pages = owned.board.changed_pages(owned.job)
        for number, page in pages:
            self._registry.write_page(owned.job_id, number, page)
        if pages:
            self._registry.write_progress(owned.job_id, owned.board.progress(owned.job))

    def _perform_one(self, owned: Owned, command: Command) -> None:
        match command:
            case Persist(state):
                if state is JobState.SHUFFLE and owned.unpacked[1] > self._inline_bytes:
                    self._pack(owned)
                inline = owned.held.record.inline | owned.inline
                with owned.recorder.act("persist"):
                    owned.held = self._registry.amend(
                        owned.job_id, owned.held, owned.epoch, state=state, inline=inline
                    )
            case Finish():
                self._finish(owned)
            case Fail(failure):
                self._end(owned, JobState.FAILED, failure=FailureRecord.of(failure))
            case Cancel():
                self._end(owned, JobState.CANCELLED)
            case Forget():
                self._clean(owned)
            case Publish() | Revoke():
                raise AssertionError("messages go out together")

    def _pack(self, owned: Owned) -> None:
        """Write the results of map tasks that have no file yet as a pack, and name it in the record."""
        name = f"{owned.epoch}-{owned.n_packs}"
        owned.n_packs += 1  # also if this fails: a write that was given up may still come
        folder = layout.results(owned.job_id, Phase.MAP)
        files = {path: text for path, text in owned.inline.items() if path.startswith(f"{folder}/")}
        with owned.recorder.act("persist"):
            packs.write(self._store, Signer(bytes.fromhex(owned.key), owned.job_id), name, files)
            owned.held = self._registry.amend(owned.job_id, owned.held, owned.epoch, pack=name)
        owned.inline = {path: text for path, text in owned.inline.items() if path not in files}
        owned.unpacked = 0.0, 0

    def _send(self, owned: Owned) -> None:
        """Send the messages at the head of the list, all at once, and go on."""
        batch: list[Sent] = []
        for command in owned.todo:
            if not isinstance(command, Sent):
                break
            batch.append(command)
        sent = self._broker.publish([self._message(owned, command) for command in batch])
        for _ in batch:
            owned.todo.popleft()
        sent.add_done_callback(partial(self._answered, owned, batch))

    def _answered(self, owned: Owned, batch: Sequence[Sent], sent: Future[None]) -> None:
        error = sent.exception()
        if error is not None:
            self._unsent(owned, batch, error)

    def _message(self, owned: Owned, command: Sent) -> Message:
        if isinstance(command, Revoke):
            return self._order(owned, "revoke", f"{owned.job_id}/{command.phase.value}/{command.index}")
        owned.recorder.publishes(command.phase, command.index, command.attempt)
        task = TaskMessage(
            job_id=owned.job_id,
            phase=command.phase,
            index=command.index,
            epoch=owned.epoch,
            attempt=command.attempt,
            backup=command.backup,
        )
        return envelope.task(self._topology, task, owned.key, urgent=owned.held.record.priority > 0)

    def _order(self, owned: Owned, order: Literal["cancel", "revoke"], task_id: str = "") -> Message:
        body = Control(job_id=owned.job_id, order=order, task_id=task_id, epoch=owned.epoch)
        return envelope.control(self._topology, body, owned.key)

    def _end(self, owned: Owned, state: JobState, **changes: Any) -> None:
        try:
            with owned.recorder.act("persist"):
                owned.held = self._registry.amend(
                    owned.job_id, owned.held, owned.epoch, state=state, ended_at=time.time(), **changes
                )
        except StaleEpoch:
            held = self._registry.job(owned.job_id)
            if held is None or held.record.epoch != owned.epoch or held.record.state is not state:
                raise
        log.info("%s has %s", owned.job_id, state.value, extra={"job": owned.job_id})

    def _finish(self, owned: Owned) -> None:
        """Complete the job, unless what it has come to can't be read, or lacks too much."""
        try:
            failure = self._complete(owned)
        except (BadMessage, StoreNotFound) as error:  # forged, damaged, gone: so it stays
            failure = _failure("unfinished", Phase.REDUCE, 0, type(error).__name__, str(error))
        if failure is not None:
            self._end(owned, JobState.FAILED, failure=failure)

    def _complete(self, owned: Owned) -> FailureRecord | None:
        """Complete the job; or return why not: its tasks skipped more together than it allows."""
        signer = Signer(bytes.fromhex(owned.key), owned.job_id)
        skipped, most = self._skipped(owned, signer), owned.held.record.max_skipped
        n_skipped = sum(entry.records for entry in skipped)
        if n_skipped <= most:
            with owned.recorder.act("manifest"):
                digest, inline = self._write_manifest(owned, signer, skipped)
            with owned.recorder.act("clean"):
                # Before the record: nobody comes back to a job that has ended, should this master die before `Forget`.
                self._store.delete(layout.attempts(owned.job_id))
            inline = owned.held.record.inline | inline
            self._end(owned, JobState.COMPLETED, manifest_digest=digest, inline=inline)
            return None
        last = skipped[-1]
        message = (
            f"{n_skipped} bad records were skipped by {len(skipped)} tasks; max_skipped={most} allows no more"
        )
        return _failure("skipped", last.phase, last.index, "TooManySkipped", message)

    def _skipped(self, owned: Owned, signer: Signer) -> list[SkippedEntry]:
        """Return what the tasks skipped, reading the ends of the results that no report told of."""
        if not owned.held.record.max_skipped:
            return []
        known, n_reduce = owned.board.skipped, owned.job.spec.n_reduce
        untold = owned.board.untold((Phase.MAP, Phase.REDUCE))
        known |= sidecar.count_skipped(self._store, signer, untold, n_reduce)
        tasks = sorted(known, key=lambda task: (PHASES.index(task[0]), task[1]))
        return [SkippedEntry(phase=phase, index=index, records=known[phase, index]) for phase, index in tasks]

    def _clean(self, owned: Owned) -> None:
        """End what still runs of the job, and clear away what no one will read."""
        self._broker.publish([self._order(owned, "cancel")])  # who misses it sees that the record has ended
        self._store.delete(layout.attempts(owned.job_id))
        self.show(owned)
        self._archive.keep(owned.held.record, owned.recorder, resumed=owned.resumed)

    def _write_manifest(
        self, owned: Owned, signer: Signer, skipped: list[SkippedEntry]
    ) -> tuple[str, dict[str, str]]:
        """Commit the manifest by rename, as any result; return digest and inline results of the one that counts."""
        entries = [self._entry(owned, signer, index) for index in range(owned.job.spec.n_reduce)]
        manifest = Manifest(job_id=owned.job_id, results=entries, skipped=skipped, inline=owned.inline)
        body = manifest.encode()
        attempt = f"{layout.attempts(owned.job_id)}/manifest-{owned.epoch}"
        target = layout.manifest(owned.job_id)
        self._store.write(attempt, signer.seal("manifest", "", body))
        if not self._store.rename(attempt, target):
            self._store.delete(attempt)
            body = signer.open("manifest", "", self._store.read(target))
            manifest = decode(Manifest, body)
        return signer.digest("manifest", "", body).hex(), manifest.inline

    def _entry(self, owned: Owned, signer: Signer, index: int) -> ManifestEntry:
        """Return what is known of a reduce result, reading the file's end if no report told it."""
        if index not in owned.board.results:
            path = layout.result(owned.job_id, Phase.REDUCE, index)
            reader = SegmentReader(self._store, path, None, signer, "reduce", str(index))
            summary, records = reader.summary, reader.entries[0].records
            owned.board.results[index] = ManifestEntry(
                length=summary.length, digest=summary.digest, records=records
            )
        return owned.board.results[index]


def _failure(kind: str, phase: Phase, index: int, type_: str, message: str) -> FailureRecord:
    return FailureRecord(kind=kind, phase=phase, index=index, attempts=1, type=type_, message=message)
