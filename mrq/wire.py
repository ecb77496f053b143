"""The control plane's JSON: messages at RabbitMQ, records at ZooKeeper, orders to child processes.

All of it is pydantic, versioned by ``v``, and small. Nothing here is ever pickled; data travels in signed files
(`mrq.blob`, `mrq.segment`). Times are seconds since the epoch (UTC), digests and keys are hex.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrq.core.model import Failure, JobState, Phase, Spec, TaskState
from mrq.errors import BadMessage

VERSION = 1
"""Of every message, record and file; it is in the names of queues and znodes too."""

MAX_TASKS = 10_000_000
"""Of one phase: a master keeps a bit for each."""

JobId = Annotated[str, Field(pattern=r"^job_(0|[1-9][0-9]{0,17})$")]
"""It becomes a part of paths."""
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""`blob.KEY_SIZE` bytes as hex."""
Number = Annotated[int, Field(ge=0, lt=2**63)]
Base64 = Annotated[str, Field(pattern=r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]
Time = Annotated[float, Field(ge=0, lt=253402300800)]  # the year 10000, which no calendar shows

_SHOWN = 80
"""How many characters of a field's name an error repeats: it may be somebody's, of any length."""


class Wire(BaseModel):
    """What all have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    v: Literal[1] = 1

    def encode(self) -> bytes:
        """Return the JSON as bytes."""
        return self.model_dump_json().encode()


W = TypeVar("W", bound=Wire)


def decode(model: type[W], data: bytes) -> W:
    """Read a message or record.

    Raises:
        BadMessage: not JSON, another version, or not that model.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:_SHOWN] or "body"
        where = "".join(letter if letter.isprintable() else "?" for letter in where)
        raise BadMessage(f"not a {model.__name__} of version {VERSION}: {where}: {first['msg']}") from None


# ---------------------------------------------------------------- messages


class TaskMessage(Wire):
    """Master to workers: run this task. All else about the job is in its record."""

    job_id: JobId
    phase: Phase
    index: Number
    epoch: Number
    attempt: Number
    backup: bool = False

    @property
    def task_id(self) -> str:
        """The message id, as in ``job_7/map/3``."""
        return f"{self.job_id}/{self.phase.value}/{self.index}"


class Stats(Wire):
    """What a task handled: records and bytes in and out, and the seconds it ran."""

    records_in: Number = 0
    records_out: Number = 0
    bytes_in: Number = 0
    bytes_out: Number = 0
    seconds: float = 0.0


OutcomeKind = Literal["done", "raised", "timeout", "crashed", "refused", "killed"]


class Outcome(Wire):
    """How an attempt ended.

    Attributes:
        kind: ``done``: a result is committed (perhaps another attempt's); ``raised``: the user's function did;
            ``timeout``: the child was killed for taking too long; ``crashed``: the child ended by itself;
            ``refused``: this task can't run at all; ``killed``: by no fault of its own, as when the job was
            cancelled, or another attempt has committed.
        digest: of the committed file.
        type: class of what was raised, or what ended the child.
        message: for people; shortened to a few hundred characters.
        path: the store's file with the pickled exception.
        skipped: how many bad records the committed result was made without.
        began: when the child process began with it; 0 when that is not known.
        spent: the seconds of each kind (`mrq.executor.stopwatch`) from then on.
        inline: the result itself, base64, where it has no file (`mrq.inline`).
    """

    kind: OutcomeKind
    length: Number = 0
    digest: str = ""
    skipped: Number = 0
    stats: Stats = Stats()
    type: str = ""
    message: str = ""
    path: str = ""
    began: float = 0.0
    spent: dict[str, float] = {}
    inline: Base64 = ""


class Report(Wire):
    """Worker to the owning master: a task was received (no outcome yet), or an attempt ended.

    Attributes:
        received: when the worker got the task, on its own clock, as all times that it tells.
        sent: when it tells this.
    """

    job_id: JobId
    phase: Phase
    index: Number
    epoch: Number
    attempt: Number
    worker: str
    received: float = 0.0
    sent: float = 0.0
    outcome: Outcome | None = None


class Control(Wire):
    """Master to all workers: kill what still runs of this job, or of a task that is committed; or say what still runs.

    Attributes:
        task_id: which task to revoke, as in ``job_7/map/3``.
        epoch: of the master that knows it to be committed; a later one may not, if the result was inline.
    """

    job_id: JobId
    order: Literal["cancel", "report", "revoke"]
    task_id: str = ""
    epoch: int = 0


# ---------------------------------------------------------------- records


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
    inline: dict[str, Base64] = {}

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

    phases: dict[Phase, PhaseProgress] = {}


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
    skipped: list[SkippedEntry] = []
    inline: dict[str, Base64] = {}


class TaskOutput(Wire):
    """What an attempt wrote to stdout and stderr: a signed file.

    Attributes:
        lines: the last ones.
        left_out: how many came before those.
    """

    lines: list[str]
    left_out: Number = 0


# ---------------------------------------------------------------- parent and child process


class Assignment(Wire):
    """A worker to its child process: all that a task needs, and no credential but the job's own key.

    Attributes:
        store: where the store is (`mrq.store.address`).
        check_first: look whether the result is committed already before running.
        run: tells this run of the attempt from any other, in the names of the files that it writes.
        memory_limit: how many bytes the task may take.
        max_skipped: how many bad records it may leave out.
        inline: the job's small files so far (`mrq.inline`).
        inline_bytes: how long a result may be to stay inline.
    """

    task: TaskMessage
    key: Key
    n_map: int
    n_reduce: int
    input_length: int
    frame_bytes: int
    store: dict[str, Any]
    check_first: bool = False
    run: str = "0"
    memory_limit: Number | None = None
    max_skipped: int = 0
    inline: dict[str, Base64] = {}
    inline_bytes: int = 0
