"""What to do: all that the core ever asks for, to be performed in the order given."""

from __future__ import annotations

from dataclasses import dataclass

from mrq.core.model import Failure, JobState, Phase


@dataclass(frozen=True, slots=True)
class Persist:
    """Write the job's state to its record, under this epoch, or stop acting for the job."""

    state: JobState


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand a task to the workers.

    Attributes:
        attempt: from 0, within the epoch.
        backup: whether an earlier attempt runs still, so that another worker should have this one.
    """

    phase: Phase
    index: int
    attempt: int
    backup: bool = False


@dataclass(frozen=True, slots=True)
class Revoke:
    """Have workers kill what still runs of a task that is committed: a straggler, or its backup."""

    phase: Phase
    index: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Write the manifest of the reduce results, then the record: completed."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Write the record: failed, and why."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Cancel:
    """Write the record: cancelled."""


@dataclass(frozen=True, slots=True)
class Forget:
    """The job has ended: have workers kill what still runs of it, clear its attempts away, let it go."""


Command = Persist | Publish | Revoke | Finish | Fail | Cancel | Forget
