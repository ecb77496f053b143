"""The JSON of what is kept: a job's record and what else ZooKeeper holds, and the small sealed files beside results."""

from __future__ import annotations

from pydantic import Field

from mrq.core.model import Failure, JobState, Phase, Spec, TaskState
from mrq.wire import MAX_TASKS, Base64, JobId, Key, Number, PackName, Stats, Time, Wire


class FailureRecord(Wire):
    """`core.model.Failure` on the wire."""

    kind: str
    phase: Phase
    index: Number
    attempts: Number
    type: str = ""
    message: str = ""
    path: str = ""

    @classmethod
    def of(cls, failure: Failure) -> FailureRecord:
        """Put a failure on the wire."""
        return cls(
            kind=failure.kind,
            phase=failure.phase,
            index=failure.index,
            attempts=failure.attempts,
            type=failure.type,
            message=failure.message,
            path=failure.path,
        )


class JobRecord(Wire):
    """A job's znode: the client writes it once, then the owning master, each time by compare-and-set.

    Attributes:
        key: the secret that signs the job's files; the znode's ACL protects it.
        window: how many tasks may be outstanding at once (the client's ``requested_n_workers``), or None.
        priority: doubles the job's share of the slots with each step.
        memory_limit: how many bytes a task may take, or None for what its worker's settings say.
        max_skipped: how many bad records the job may leave out.
        python: the client's, as in ``3.11``; functions pickled by value need the same on the workers.
        mrq: the client's version.
        called_at: when the client was asked for it, on the client's clock, as is ``submitted_at``.
        input_length: of the input file, in bytes.
        epoch: of the last claim; 0 before the first.
        cancel_requested: the client wants it to end.
        manifest_digest: of the manifest, once completed.
        inline: small files, base64 by path, that the store does not have (`mrq.inline`).
        packs: the names of files that hold map results (`mrq.packs`).
    """

    job_id: JobId
    key: Key
    n_map: int = Field(ge=0, le=MAX_TASKS)
    n_reduce: int = Field(ge=0, le=MAX_TASKS)
    window: int | None = None
    priority: int = Field(0, ge=-10, le=10)
    retries: int = Field(0, ge=0)
    speculative: bool = True
    task_timeout: float | None = Field(None, gt=0)
    memory_limit: Number | None = None
    max_skipped: int = Field(0, ge=0)
    python: str
    mrq: str
    client: str = ""
    called_at: Time = 0.0
    submitted_at: Time = 0.0
    ended_at: Time = 0.0
    input_length: Number = 0
    input_records: Number = 0
    state: JobState = JobState.SUBMITTED
    epoch: Number = 0
    cancel_requested: bool = False
    failure: FailureRecord | None = None
    manifest_digest: str = ""
    inline: dict[str, Base64] = Field(default_factory=dict)
    packs: list[PackName] = Field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended, and nobody wants it to."""
        return not self.state.ended and not self.cancel_requested

    def spec(self, window: int) -> Spec:
        """Return what the core needs to know, with the window in force."""
        return Spec(
            job_id=self.job_id,
            n_map=self.n_map,
            n_reduce=self.n_reduce,
            window=window,
            retries=self.retries,
            speculative=self.speculative,
        )


class MemberInfo(Wire):
    """A master's or worker's ephemeral znode."""

    hostname: str
    pid: Number
    python: str
    mrq: str
    slots: Number = 0
    state: str = "idle"
    jobs: Number = 0


class TaskRow(Wire):
    """One task as `print_zoo` shows it."""

    index: Number
    state: TaskState
    worker: str = ""
    received: bool = False
    attempt: Number = 0


class TaskPage(Wire):
    """Up to a few hundred tasks of one phase, in one znode."""

    phase: Phase
    rows: list[TaskRow]


class PhaseProgress(Wire):
    """How far a phase is, and what its committed tasks handled."""

    done: Number = 0
    total: Number = 0
    stats: Stats = Stats()


class ProgressRecord(Wire):
    """A job's progress znode, written by the master now and then."""

    phases: dict[Phase, PhaseProgress] = Field(default_factory=dict)


class ManifestEntry(Wire):
    """One committed reduce result: its file's length in bytes and digest, and how many keys it holds."""

    length: Number
    digest: str
    records: Number


class SkippedEntry(Wire):
    """A task whose committed result was made without so many bad records; they are at the end of its file."""

    phase: Phase
    index: Number
    records: Number


class Manifest(Wire):
    """What the result of a job is made of: a signed file, in the order of the partitions.

    Attributes:
        inline: the results that have no file of their own (`mrq.inline`).
    """

    job_id: JobId
    results: list[ManifestEntry]
    skipped: list[SkippedEntry] = Field(default_factory=list)
    inline: dict[str, Base64] = Field(default_factory=dict)


class Pack(Wire):
    """Small results of map tasks in one signed file: base64 by path."""

    job_id: JobId
    files: dict[str, Base64]


class TaskOutput(Wire):
    """What an attempt wrote to stdout and stderr: a signed file.

    Attributes:
        lines: the last ones.
        left_out: how many came before those.
    """

    lines: list[str]
    left_out: Number = 0
