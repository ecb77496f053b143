"""What happened: the only way in which anything reaches the core. Time comes with the event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mrq.core.model import Epoch, JobState, Phase


@dataclass(frozen=True, slots=True)
class JobClaimed:
    """A master owns the job from now on: its first, or the successor of one that died.

    Attributes:
        epoch: the claim's.
        state: as the job's record has it.
        committed: for each phase the indices whose results are in the store.
        now: seconds.
    """

    epoch: Epoch
    state: JobState
    committed: Mapping[Phase, frozenset[int]]
    now: float


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A worker has received a task."""

    phase: Phase
    index: int
    epoch: Epoch
    attempt: int
    worker: str
    now: float


@dataclass(frozen=True, slots=True)
class TaskDone:
    """A task's result is committed, by whichever attempt of whichever epoch.

    Attributes:
        seconds: how long the attempt ran; 0 when that is not known.
    """

    phase: Phase
    index: int
    now: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """An attempt ended without a result.

    Attributes:
        kind: ``"raised"`` (the function raised), ``"timeout"`` or ``"crashed"`` (its process ended), or
            ``"refused"`` (the worker can't run it and no other could: no retry helps).
        type: the exception's class, or what ended the process.
        message: for people, shortened.
        path: the store's file that holds the pickled exception, or empty.
    """

    phase: Phase
    index: int
    epoch: Epoch
    attempt: int
    kind: str
    now: float
    type: str = ""
    message: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class TaskLost:
    """A published attempt will bring no report: dead-lettered, or gone with its queue or worker."""

    phase: Phase
    index: int
    epoch: Epoch
    attempt: int
    now: float


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The client wants the job to end."""

    now: float


@dataclass(frozen=True, slots=True)
class WindowChanged:
    """The job's fair share of the cluster is another: workers came or went, or jobs did.

    Attributes:
        window: how many of its tasks may be outstanding at once, at least 1.
    """

    window: int
    now: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed.

    Attributes:
        others: whether several workers live, so that a straggler's backup has somewhere to go.
    """

    now: float
    others: bool = True


Event = JobClaimed | TaskStarted | TaskDone | TaskFailed | TaskLost | CancelRequested | WindowChanged | Tick
