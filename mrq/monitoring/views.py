"""What monitoring sees, as data. No key of a job is in it, so it may be shown to anyone."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from mrq.core.model import JobState, TaskState
from mrq.monitoring import html
from mrq.records import MemberInfo, PhaseProgress, ProgressRecord, TaskRow
from mrq.registry import Held


class View(BaseModel):
    """What all have in common."""

    model_config = ConfigDict(frozen=True, use_enum_values=True)


class Member(View):
    """A registered master or worker.

    Attributes:
        state: ``idle``, ``working`` or ``busy``, ``draining``.
        jobs: how many it owns (a master), or has tasks of (a worker).
        hostname, pid: where it runs.
        python, mrq: its versions.
    """

    state: str
    jobs: int
    hostname: str
    pid: int
    python: str
    mrq: str

    @classmethod
    def of(cls, info: MemberInfo) -> Self:
        """Take what the member has said of itself."""
        return cls(**info.model_dump(include=set(cls.model_fields)))


class MasterInfo(Member):
    """A registered master."""


class WorkerInfo(Member):
    """A registered worker; it runs ``slots`` tasks of each phase at once."""

    slots: int


class Task(View):
    """A task as its master last published it.

    Attributes:
        state: ``pending``, ``queued``, ``in-progress`` or ``completed``.
        worker_hostname: the name of the worker that has or had it; by default that is ``<hostname>-<pid>``.
        received: whether a worker has said that it has it.
    """

    state: TaskState
    worker_hostname: str | None
    received: bool

    @classmethod
    def of(cls, row: TaskRow) -> Task:
        """Take what the master has published."""
        return cls(state=row.state, worker_hostname=row.worker or None, received=row.received)


class PhaseView(View):
    """How far a phase is: its tasks, and what those that are done handled."""

    done: int
    total: int
    records_in: int
    records_out: int
    bytes_in: int
    bytes_out: int
    seconds: float

    @classmethod
    def of(cls, phase: PhaseProgress) -> Self:
        """Take what the master has published."""
        return cls(done=phase.done, total=phase.total, **phase.stats.model_dump(exclude={"v"}))


class Job(View):
    """A job that has not been cleared.

    Attributes:
        state: ``submitted``, a phase, or how it ended.
        owner: the master that drives it, if one does.
        done: tasks that are committed, of all ``total``, over the three phases.
        age: seconds since it was submitted.
        seconds: from submission to its end, or until now.
        phases: each phase by its name, as its master last published it.
        failure: why it failed.
        client: who submitted it.
    """

    job_id: str
    state: JobState
    owner: str | None = None
    done: int
    total: int
    age: float
    seconds: float
    phases: dict[str, PhaseView] = Field(default={}, repr=False)
    failure: str = ""
    client: str = ""

    @classmethod
    def of(cls, held: Held, owner: str | None, progress: ProgressRecord, now: float) -> Job:
        """Put together what is known of a job."""
        record = held.record
        return cls(
            job_id=record.job_id,
            state=record.state,
            owner=owner,
            done=sum(phase.done for phase in progress.phases.values()),
            total=record.n_map + 2 * record.n_reduce,
            age=round(now - record.submitted_at, 3),
            seconds=round((record.ended_at or now) - record.submitted_at, 3),
            phases={phase.value: PhaseView.of(known) for phase, known in progress.phases.items()},
            failure=_reason(held),
            client=record.client,
        )


def _reason(held: Held) -> str:
    failure = held.record.failure
    if failure is None:
        return ""
    what = ": ".join(part for part in (failure.type, failure.message) if part)
    return f"{failure.phase.value} {failure.index}: {what or failure.kind}"


class Queue(View):
    """A queue's messages that wait, and that are with a consumer; its consumers. -1 stands for "not known"."""

    ready: int
    unacked: int
    consumers: int


class Queues(dict[str, Queue]):
    """The queues by their short names."""

    def _repr_html_(self) -> str:
        return html.table("Queues", self)


class Missing(View):
    """Why a server could not be asked: the error's class, and its message."""

    error: str
    message: str


class Status(View):
    """A cluster at a glance.

    Attributes:
        masters, workers: by name.
        jobs: oldest first.
        queues: ``map``, ``shuffle``, ``reduce`` and ``dead``, the dead letters.
        missing: by name, the servers that did not answer; what they know is not in here.
    """

    masters: dict[str, MasterInfo] = {}
    workers: dict[str, WorkerInfo] = {}
    jobs: list[Job] = []
    queues: dict[str, Queue] = {}
    missing: dict[str, Missing] = {}

    def _repr_html_(self) -> str:
        return (
            html.table("Masters", self.masters)
            + html.table("Workers", self.workers)
            + html.table("Jobs", {job.job_id: job for job in self.jobs}, _NOT_SHOWN)
            + html.table("Queues", self.queues)
            + (html.table("Away", self.missing) if self.missing else "")
        )


class Zoo(View):
    """What ZooKeeper holds. Tasks are called ``<job>_<index>``.

    Attributes:
        dead_worker_tasks: those in progress at a worker that is not registered any more, as in ``map 0_3``.
    """

    masters: dict[str, MasterInfo]
    workers: dict[str, WorkerInfo]
    map_tasks: dict[str, Task]
    shuffle_tasks: dict[str, Task]
    reduce_tasks: dict[str, Task]
    jobs: dict[str, Job]
    dead_worker_tasks: dict[str, Task]

    def _repr_html_(self) -> str:
        return (
            html.table("Masters", self.masters)
            + html.table("Workers", self.workers)
            + html.table("Map tasks", self.map_tasks)
            + html.table("Shuffle tasks", self.shuffle_tasks)
            + html.table("Reduce tasks", self.reduce_tasks)
            + html.table("Jobs", self.jobs, _NOT_SHOWN)
            + html.table("Dead worker tasks", self.dead_worker_tasks)
        )


_NOT_SHOWN = frozenset({"job_id", "phases"})
"""Of a job: what a table has as the row's name, and what is too much for it."""


class Tree(dict[str, Any]):
    """Of files: a folder's name ends with a slash and leads to another tree, a file's leads to its length."""

    def _repr_html_(self) -> str:
        return html.tree(self)
