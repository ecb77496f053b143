"""The control plane's JSON: what was written is read, and nothing else."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq import wire
from mrq.core.model import Failure, JobState, Phase, Spec, TaskState
from mrq.errors import BadMessage
from mrq.records import (
    FailureRecord,
    JobRecord,
    Manifest,
    ManifestEntry,
    MemberInfo,
    PhaseProgress,
    ProgressRecord,
    TaskPage,
    TaskRow,
)
from mrq.wire import Assignment, Control, Outcome, OutcomeKind, Report, Stats, TaskMessage, Wire, decode

TASK = TaskMessage(job_id="job_7", phase=Phase.MAP, index=3, epoch=2**40, attempt=1)
STATS = Stats(records_in=1, records_out=2, bytes_in=3, bytes_out=4, seconds=0.5)
FAILURE = FailureRecord(
    kind="raised", phase=Phase.REDUCE, index=1, attempts=2, type="ValueError", message="nö"
)
RECORD = JobRecord(
    job_id="job_7",
    key="ab" * 32,
    n_map=4,
    n_reduce=2,
    window=3,
    retries=1,
    task_timeout=1.5,
    python="3.11",
    mrq="0.1.0",
    state=JobState.FAILED,
    epoch=9,
    failure=FAILURE,
)
SAMPLES: list[Wire] = [
    TASK,
    STATS,
    *(Outcome(kind=kind, stats=STATS, message="nö") for kind in get_args(OutcomeKind)),
    Report(job_id="job_7", phase=Phase.MAP, index=3, epoch=5, attempt=0, worker="ada"),
    Report(
        job_id="job_7",
        phase=Phase.MAP,
        index=3,
        epoch=5,
        attempt=0,
        worker="ada",
        outcome=Outcome(kind="done"),
    ),
    Control(job_id="job_7", order="cancel"),
    FAILURE,
    RECORD,
    MemberInfo(hostname="ada", pid=1, python="3.11", mrq="0.1.0", slots=2),
    TaskPage(phase=Phase.MAP, rows=[TaskRow(index=0, state=TaskState.RUNNING, worker="ada", received=True)]),
    ProgressRecord(phases={Phase.MAP: PhaseProgress(done=1, total=2, stats=STATS)}),
    Manifest(job_id="job_7", results=[ManifestEntry(length=1, digest="ab", records=2)]),
    Assignment(
        task=TASK,
        key="ab" * 32,
        n_map=1,
        n_reduce=1,
        input_length=0,
        frame_bytes=1024,
        store={"kind": "folder"},
    ),
]
MODELS = [model for model in vars(wire).values() if isinstance(model, type) and issubclass(model, Wire)]
MODELS.remove(Wire)


def named(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_what_was_written_is_read(sample: Wire) -> None:
    """Field by field."""
    assert decode(type(sample), sample.encode()) == sample


def test_every_message_and_record_says_its_version() -> None:
    """So that a later mrq can tell."""
    assert all(json.loads(sample.encode())["v"] == 1 for sample in SAMPLES)


@pytest.mark.parametrize("version", [0, 2, -1, 1.5, "1", None, "one", [1]], ids=repr)
@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_another_version_is_refused(sample: Wire, version: Any) -> None:
    """And the error says which one was expected."""
    body = json.dumps(json.loads(sample.encode()) | {"v": version}).encode()
    with pytest.raises(BadMessage, match=f"not a {type(sample).__name__} of version 1: v: "):
        decode(type(sample), body)


def test_fields_that_are_not_known_are_ignored() -> None:
    """A newer mrq of the same version may say more."""
    body = json.loads(TASK.encode()) | {"colour": "blue"}
    assert decode(TaskMessage, json.dumps(body).encode()) == TASK


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"index": -1}, "index"),
        ({"attempt": -1}, "attempt"),
        ({"phase": "fly"}, "phase"),
        ({"job_id": None}, "job_id"),
        ({"epoch": "later"}, "epoch"),
    ],
)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], where: str) -> None:
    """The first one."""
    with pytest.raises(BadMessage, match=f"not a TaskMessage of version 1: {where}: "):
        decode(TaskMessage, json.dumps(json.loads(TASK.encode()) | change).encode())


def test_an_error_does_not_repeat_what_it_was_given() -> None:
    """A record holds the job's key."""
    body = json.dumps(json.loads(RECORD.encode()) | {"key": ["s3cret"]}).encode()
    with pytest.raises(BadMessage) as caught:
        decode(JobRecord, body)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("model", MODELS, ids=named)
@given(data=st.binary(max_size=200))
def test_bytes_of_any_kind_are_read_or_refused(model: type[Wire], data: bytes) -> None:
    """Never another error."""
    read_or_refused(model, data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_a_message_with_any_field_replaced_is_read_or_refused(sample: Wire, data: st.DataObject) -> None:
    """By any JSON, infinities and lone surrogates included."""
    body = json.loads(sample.encode())
    for name in data.draw(st.lists(st.sampled_from(sorted(body)), max_size=3)):
        body[name] = data.draw(json_values)
    read_or_refused(type(sample), json.dumps(body).encode())


@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_a_message_that_was_damaged_is_read_or_refused(sample: Wire, data: st.DataObject) -> None:
    """A byte changed, cut, or put in."""
    body = bytearray(sample.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        stop = data.draw(st.integers(start, min(start + 4, len(body))))
        body[start:stop] = data.draw(st.binary(max_size=4))
    read_or_refused(type(sample), bytes(body))


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b'{"epoch": 1' + b"0" * 5000 + b"}"],
    ids=["empty", "null", "deep list", "deep object", "long number", "huge epoch"],
)
@pytest.mark.parametrize("model", [TaskMessage, JobRecord], ids=named)
def test_hostile_bytes_are_refused(model: type[Wire], data: bytes) -> None:
    """By the parser's own limits."""
    with pytest.raises(BadMessage):
        decode(model, data)


def read_or_refused(model: type[Wire], data: bytes) -> None:
    try:
        outcome = f"version {decode(model, data).v}"
    except BadMessage as error:
        outcome = str(error)
    assert outcome.startswith(("version 1", f"not a {model.__name__} of version 1: "))


def test_a_task_s_message_id_names_job_phase_and_index() -> None:
    """As people see it in the management UI."""
    assert TASK.task_id == "job_7/map/3"


def test_a_task_s_message_is_small() -> None:
    """Far under 4 KiB, whatever the job's size."""
    assert len(TASK.encode()) < 256


def test_a_record_tells_the_core_what_it_needs() -> None:
    """With the window in force, not the one asked for."""
    assert RECORD.spec(window=2) == Spec("job_7", n_map=4, n_reduce=2, window=2, retries=1)


def test_a_failure_is_the_same_on_the_wire() -> None:
    """Field by field."""
    failure = Failure("poison", Phase.MAP, 3, 2, "SIGSEGV", "ended", "jobs/job_7/errors/x")
    assert FailureRecord.of(failure).model_dump(exclude={"v"}) == {
        name: getattr(failure, name) for name in Failure.__slots__
    }
