"""The control plane's JSON in motion: messages at RabbitMQ, and to child processes; `mrq.records` is what is kept.

All of it is pydantic, versioned by ``v``, and small. Nothing here is ever pickled; data travels in signed files
(`mrq.blob`, `mrq.segment`). Times are seconds since the epoch (UTC), digests and keys are hex.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrq.core.model import Phase
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
PackName = Annotated[str, Field(pattern=r"^[0-9]{1,19}-[0-9]{1,9}$")]
"""Epoch and number; it becomes a part of paths."""
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
        packs: the names of the job's packs (`mrq.packs`), if the task reads what is in them.
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
    packs: list[PackName] = []
