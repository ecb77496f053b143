"""The nouns: phases, tasks, jobs. Frozen values; a change makes a new one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from mrq.core.paged import Paged

Epoch = int
"""A fencing token: the transaction id of a job's claim. A later claim has a greater one."""


class Phase(StrEnum):
    """The three kinds of task, in the order in which a job goes through them."""

    MAP = "map"
    SHUFFLE = "shuffle"
    REDUCE = "reduce"

    @property
    def results(self) -> str:
        """The folder, below the job's, that this phase's committed results are in."""
        return f"{self.value}_results"


PHASES = tuple(Phase)


class JobState(StrEnum):
    """Where a job is: in a phase, or at one of three ends."""

    SUBMITTED = "submitted"
    MAP = "map"
    SHUFFLE = "shuffle"
    REDUCE = "reduce"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class TaskState(StrEnum):
    """Where a task is."""

    PENDING = "pending"  # to be published
    QUEUED = "queued"  # published; no worker has said that it has it
    RUNNING = "in-progress"  # received by a worker
    COMPLETED = "completed"  # its result is committed


@dataclass(frozen=True, slots=True)
class Spec:
    """What the client asked for; never changes.

    Attributes:
        job_id: as in ``"job_7"``.
        n_map: how many splits, so map tasks.
        n_reduce: how many partitions, so shuffle tasks, and reduce tasks.
        window: how many tasks of the job may be outstanding at once.
        retries: how often a task whose function raised, or took too long, is tried again.
        crash_limit: how many crashes of its own process make a task poison.
        speculative: whether stragglers get backup tasks.
    """

    job_id: str
    n_map: int
    n_reduce: int
    window: int
    retries: int = 0
    crash_limit: int = 3
    speculative: bool = True

    def n_tasks(self, phase: Phase) -> int:
        """How many tasks that phase has."""
        return self.n_map if phase is Phase.MAP else self.n_reduce


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A task that was published and is not known to be committed.

    Attributes:
        attempt: which attempt this is, from 0, within the epoch.
        state: QUEUED or RUNNING.
        worker: who runs it; empty while QUEUED.
        since: when it came into this state, or last gave a sign of life, in seconds of the caller's clock.
        started: when its worker first said that it has it.
    """

    attempt: int
    state: TaskState
    worker: str
    since: float
    started: float = 0.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with a task so far: attempts made, exceptions and timeouts, crashes of its process."""

    attempts: int = 0
    failures: int = 0
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed.

    Attributes:
        kind: ``"raised"``, ``"timeout"``, ``"poison"`` or ``"refused"``.
        phase: of the task.
        index: of the task within its phase.
        attempts: how often it was tried.
        type: the exception's class, for people.
        message: its text, shortened, for people.
        path: the store's file that holds the pickled exception, or empty.
    """

    kind: str
    phase: Phase
    index: int
    attempts: int
    type: str = ""
    message: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its master sees it. ``core.job.step`` alone makes new ones.

    Only the current phase's tasks are held, and of those only what is not implied: a task below ``cursor``
    that is neither outstanding nor in ``again`` is committed, so a job of 100,000 tasks costs what its window does.

    Attributes:
        spec: what was asked for.
        epoch: the claim under which this master acts; 0 before the first.
        state: where the job is.
        committed: the current phase's committed tasks, as a bit set.
        cursor: the first task that was never published in this epoch.
        outstanding: by index, the tasks that are published and not committed.
        again: by index, the tasks to publish once more, and when at the earliest.
        trouble: by index, what went wrong with tasks of the current phase.
        timed: how many committed tasks of the phase told how long they took.
        seconds: how long those took together.
        backups: the current phase's tasks that have had a backup task, as a bit set.
        failure: why it failed.
    """

    spec: Spec
    epoch: Epoch = 0
    state: JobState = JobState.SUBMITTED
    committed: int = 0
    cursor: int = 0
    outstanding: Paged[Outstanding] = field(default_factory=Paged)
    again: Paged[float] = field(default_factory=Paged)
    trouble: Paged[Trouble] = field(default_factory=Paged)
    timed: int = 0
    seconds: float = 0.0
    backups: int = 0
    failure: Failure | None = None

    @property
    def phase(self) -> Phase:
        """The current phase. Raises ValueError outside of the three."""
        return Phase(self.state.value)

    @property
    def n_committed(self) -> int:
        """How many tasks of the current phase are committed."""
        return self.committed.bit_count()
