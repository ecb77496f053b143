"""A job's story in the order of time, from what ZooKeeper, HDFS and RabbitMQ have of it.

Nothing keeps a history: the record says where the job is, files say when each task was done, and names of attempts
tell of earlier epochs. Clocks of several machines are put into one line; a second here or there means nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from mrq import layout
from mrq.config import Settings
from mrq.core.model import PHASES, JobState, Phase, TaskState
from mrq.errors import MrqError
from mrq.inline import InlineStore
from mrq.monitoring import LocalMonitoring
from mrq.ops.deadletters import DeadLetters, Letter
from mrq.ops.waiting import reasons
from mrq.records import JobRecord, PhaseProgress, TaskRow


class Happened(BaseModel):
    """Something that happened at a time, in seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    at: float
    what: str


class PhaseStory(BaseModel):
    """How a phase went.

    Attributes:
        done: tasks whose results are in the store, of ``total``.
        began, ended: when the first and the last result was written; 0 before that.
        records_in, records_out, seconds: what the tasks handled together, as their master last published it.
        workers: how many tasks each worker did, or has.
        again: tasks that needed more than one attempt, by index, and the number of the last one.
        running: tasks that run, by index, and at which worker.
    """

    model_config = ConfigDict(frozen=True)

    done: int
    total: int
    began: float
    ended: float
    records_in: int
    records_out: int
    seconds: float
    workers: dict[str, int]
    again: dict[int, int]
    running: dict[int, str]


class Story(BaseModel):
    """All that is known of a job. No key is in it.

    Attributes:
        epochs: those that left a trace, in order; each is a claim by a master.
        events: in the order of time.
        files: by folder below the job's, how many files and how many bytes.
        dead_letters: of this job.
        waits_for: why it has not ended; empty when it has.
        unknown: by server, why it could not be asked.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    state: JobState
    owner: str | None
    client: str
    seconds: float
    epochs: list[int]
    events: list[Happened]
    phases: dict[Phase, PhaseStory]
    files: dict[str, tuple[int, int]]
    dead_letters: list[Letter]
    waits_for: list[str]
    unknown: dict[str, str]


def explain(job_id: str, servers: LocalMonitoring, settings: Settings, now: float | None = None) -> Story:
    """Tell a job's story.

    Raises:
        UnknownJob: there is no such job.
        CoordinationUnavailable: without ZooKeeper nothing can be told.
    """
    return _Teller(servers.registry.require(job_id).record, servers, settings, now or time.time()).tell()


class _Teller:
    def __init__(self, record: JobRecord, servers: LocalMonitoring, settings: Settings, now: float) -> None:
        self.record = record
        self.job_id = record.job_id
        self.servers = servers
        self.settings = settings
        self.now = now
        self.unknown: dict[str, str] = {}

    def tell(self) -> Story:
        record, registry = self.record, self.servers.registry
        listed = self._ask("HDFS", self._list) or {}
        names = [name for folder in ("attempts", "errors", "output") for name in listed.get(folder, ())]
        rows = {
            phase: [row for page in registry.pages(self.job_id, phase) for row in page.rows]
            for phase in PHASES
        }
        shown = registry.progress(self.job_id).phases
        phases = {p: self._phase(p, shown.get(p, PhaseProgress()), rows[p], listed) for p in PHASES}
        dead = self._ask("RabbitMQ", self._dead_letters) or []
        depths = self._ask("RabbitMQ", lambda: self.servers.broker.depths()) or {}
        owner = registry.owner(self.job_id)
        events = [*self._of_record(), *_of_phases(phases), *_of_errors(listed), *_of_letters(dead)]
        return Story(
            job_id=self.job_id,
            state=record.state,
            owner=owner,
            client=record.client,
            seconds=round((record.ended_at or self.now) - record.submitted_at, 3),
            epochs=sorted({epoch for _, _, epoch, _ in _attempts(names).values()} | ({record.epoch} - {0})),
            events=sorted(events, key=lambda event: event.at),
            phases=phases,
            files={
                folder: (len(found), sum(n for n, _ in found.values())) for folder, found in listed.items()
            },
            dead_letters=dead,
            waits_for=list(reasons(record, owner, registry, rows, depths)) if not record.state.ended else [],
            unknown=self.unknown,
        )

    def _ask(self, service: str, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except MrqError as error:
            self.unknown[service] = str(error)
            return None

    def _list(self) -> dict[str, dict[str, tuple[int, float]]]:
        """Return the job's files by folder and name, each with its length and when it was written."""
        store = InlineStore(self.servers.store, self.record.inline)
        home = layout.folder(self.job_id)
        found: dict[str, dict[str, tuple[int, float]]] = {}
        for entry in store.list(home):
            inside = store.list(f"{home}/{entry.name}") if entry.is_dir else [entry]
            if inside:
                found[entry.name] = {file.name: (file.length, file.modified) for file in inside}
        return found

    def _dead_letters(self) -> list[Letter]:
        if not self.servers.broker.depths()["dead"].ready:
            return []
        letters = DeadLetters(self.servers.broker, self.servers.registry, self.settings).letters()
        return [letter for letter in letters if letter.job_id == self.job_id]

    def _phase(
        self,
        phase: Phase,
        shown: PhaseProgress,
        rows: list[TaskRow],
        listed: dict[str, dict[str, tuple[int, float]]],
    ) -> PhaseStory:
        results = listed.get(phase.results, {})
        times = [at for _, at in results.values() if at]  # what is inline has none
        return PhaseStory(
            done=max(len(results), shown.done),
            total=self.record.spec(1).n_tasks(phase),
            began=min(times, default=0.0),
            ended=max(times, default=0.0),
            records_in=shown.stats.records_in,
            records_out=shown.stats.records_out,
            seconds=round(shown.stats.seconds, 3),
            workers=dict(Counter(row.worker for row in rows if row.worker)),
            again={row.index: row.attempt for row in rows if row.attempt},
            running={row.index: row.worker for row in rows if row.state is TaskState.RUNNING},
        )

    def _of_record(self) -> Iterator[Happened]:
        record, nodes = self.record, self.servers.registry.nodes(self.job_id)
        yield Happened(
            at=record.submitted_at,
            what=f"submitted by {record.client or 'somebody'} (Python {record.python}, mrq {record.mrq}): "
            f"{record.input_records:,} elements, {record.n_map} map tasks, {record.n_reduce} partitions",
        )
        if "owner" in nodes:
            who, epoch = nodes["owner"].data.decode(errors="replace"), nodes["owner"].czxid
            yield Happened(at=nodes["owner"].created, what=f"claimed by {who}: epoch {epoch}")
        if record.state.ended:
            yield Happened(at=record.ended_at, what=_end(record))


def _end(record: JobRecord) -> str:
    failure = record.failure
    if failure is None:
        return record.state.value
    what = ": ".join(part for part in (failure.type, failure.message) if part) or failure.kind
    tries = f"{failure.attempts} attempt{'s' * (failure.attempts != 1)}"
    return (
        f"{record.state.value}: {failure.phase.value} {failure.index} after {tries}: {failure.kind}: {what}"
    )


def _of_phases(phases: dict[Phase, PhaseStory]) -> Iterator[Happened]:
    for phase, story in phases.items():
        if story.began:
            yield Happened(
                at=story.began, what=f"{phase.value}: the first of {story.total} results is written"
            )
        if story.done == story.total > 1 and story.ended:
            yield Happened(
                at=story.ended, what=f"{phase.value}: the last of {story.total} results is written"
            )


def _of_errors(listed: dict[str, dict[str, tuple[int, float]]]) -> Iterator[Happened]:
    errors = listed.get("errors", {})
    for name, (phase, index, epoch, attempt) in _attempts(errors).items():
        yield Happened(
            at=errors[name][1], what=f"{phase.value} {index} raised on attempt {attempt} (epoch {epoch})"
        )


def _attempts(names: Iterable[str]) -> dict[str, tuple[Phase, int, int, int]]:
    """Return what names of attempts' files say; others are left out."""
    found = {}
    for name in names:
        with suppress(ValueError):
            found[name] = layout.attempt_of("-".join(name.split("-")[:4]))  # a run may follow
    return found


def _of_letters(letters: list[Letter]) -> Iterator[Happened]:
    for letter in letters:
        yield Happened(
            at=letter.at, what=f"{letter.phase} {letter.index} became a dead letter: {letter.reason}"
        )


# ---------------------------------------------------------------- as text


def lines(story: Story) -> Iterator[str]:
    """Return the story as text."""
    owner = f", owned by {story.owner}" if story.owner else ""
    yield f"{story.job_id}: {story.state.value}{owner}, {story.seconds:.1f} s from its submission"
    if story.epochs:
        yield f"epochs that left a trace: {', '.join(map(str, story.epochs))}"
    yield ""
    for event in story.events:
        when = (
            datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
            if event.at
            else "?"
        )
        yield f"{when:24}  {event.what}"
    yield ""
    for phase, known in story.phases.items():
        yield (
            f"{phase.value:8} {known.done}/{known.total} tasks, {known.records_in:,} records in, "
            f"{known.records_out:,} out, {known.seconds:.1f} s of work"
        )
        if known.workers:
            yield "         by " + ", ".join(f"{name}: {n}" for name, n in sorted(known.workers.items()))
        for index, attempt in known.again.items():
            yield f"         {phase.value} {index} needed attempt {attempt}"
    if story.files:
        yield "files    " + ", ".join(
            f"{name}: {n} ({size:,} bytes)" for name, (n, size) in story.files.items()
        )
    for letter in story.dead_letters:
        yield f"dead     {letter.id}: mrq dlq show {letter.id}"
    for reason in story.waits_for:
        yield f"waits    {reason}"
    for service, why in story.unknown.items():
        yield f"unknown  {service}: {why}"
