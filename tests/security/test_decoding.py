"""Ten thousand damaged messages and records: each is read as something good, or refused in one sentence."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pika
import pytest

from mrq import envelope
from mrq.blob import new_key
from mrq.broker.rabbitmq.consumer import decode as decode_delivery
from mrq.broker.rabbitmq.frames import read_frame
from mrq.broker.topology import MAX_BODY_BYTES, Topology
from mrq.core.model import JobState, Phase, TaskState
from mrq.errors import BadMessage, BadSignature
from mrq.ports import Message
from mrq.records import (
    FailureRecord,
    JobRecord,
    Manifest,
    ManifestEntry,
    MemberInfo,
    Pack,
    PhaseProgress,
    ProgressRecord,
    SkippedEntry,
    TaskOutput,
    TaskPage,
    TaskRow,
)
from mrq.wire import Control, Outcome, Report, Stats, TaskMessage, Wire, decode
from tests.security.fuzz import HOSTILE, Fuzzer, Raw

KEY = new_key().hex()
TASK = TaskMessage(job_id="job_7", phase=Phase.MAP, index=3, epoch=2**40, attempt=1, backup=True)
STATS = Stats(records_in=1, records_out=2, bytes_in=3, bytes_out=4, seconds=0.5)
DONE = Outcome(kind="done", length=9, digest="ab", skipped=1, stats=STATS)
REPORT = Report(job_id="job_7", phase=Phase.REDUCE, index=3, epoch=5, attempt=0, worker="ada", outcome=DONE)
ORDER = Control(job_id="job_7", order="cancel")
FAILURE = FailureRecord(
    kind="raised", phase=Phase.REDUCE, index=1, attempts=2, type="ValueError", message="nö"
)
RECORD = JobRecord(
    job_id="job_7", key=KEY, n_map=4, n_reduce=2, window=3, retries=1, task_timeout=1.5, memory_limit=2**30,
    python="3.11", mrq="0.1.0", client="c", submitted_at=1e9, ended_at=1e9, input_length=7, input_records=8,
    state=JobState.FAILED, epoch=9, failure=FAILURE, manifest_digest="ab", packs=["9-0"],
)  # fmt: skip
SAMPLES: list[Wire] = [
    TASK, REPORT, ORDER, RECORD, MemberInfo(hostname="ada", pid=1, python="3.11", mrq="0.1.0", slots=2, jobs=1),
    TaskPage(phase=Phase.MAP, rows=[TaskRow(index=0, state=TaskState.RUNNING, worker="ada", received=True)]),
    ProgressRecord(phases={Phase.MAP: PhaseProgress(done=1, total=2, stats=STATS)}),
    Manifest(
        job_id="job_7", results=[ManifestEntry(length=1, digest="ab", records=2)],
        skipped=[SkippedEntry(phase=Phase.MAP, index=0, records=1)],
    ),
    TaskOutput(lines=["a"], left_out=1), Pack(job_id="job_7", files={"jobs/job_7/map_results/0": "AAAA"}),
    DONE,
]  # fmt: skip
TOPOLOGY = Topology("mrq.v1", 20)
SIGNED = [
    envelope.task(TOPOLOGY, TASK, KEY),
    envelope.report(TOPOLOGY, REPORT, KEY),
    envelope.control(TOPOLOGY, ORDER, KEY),
]


def named(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_a_thousand_damaged_bodies_are_read_or_refused(sample: Wire) -> None:
    """Nothing but BadMessage is raised, in one line without secrets; what is read is written and read as the same."""
    fuzzer, refused = Fuzzer(1), 0
    for _ in range(1000):
        body = fuzzer.damaged(sample.encode())
        try:
            found = decode(type(sample), body)
        except BadMessage as error:
            refused += 1
            said = str(error)
            assert said.startswith(f"not a {named(sample)} of version 1: ")
            assert len(said) < 400
            assert said.isprintable()
            assert KEY not in said
        else:
            assert decode(type(sample), found.encode()) == found
    assert refused > 500


@pytest.mark.parametrize("message", SIGNED, ids=lambda message: message.type)
def test_no_damaged_message_passes_for_a_signed_one(message: Message) -> None:
    """Whatever its body says, it is not what the job's key was used on."""
    fuzzer = Fuzzer(2)
    envelope.check(message, "job_7", KEY)
    for _ in range(1000):
        damaged = Message(
            message.exchange,
            message.routing_key,
            message.type,
            fuzzer.damaged(message.body),
            headers=message.headers,
        )
        with pytest.raises(
            BadSignature, match=rf"job_7: a {message.type} message is not signed with the job's key"
        ):
            envelope.check(damaged, "job_7", KEY)


@pytest.mark.parametrize(
    "headers", [{}, {"signature": ""}, *({"signature": value} for value in HOSTILE[:40])], ids=repr
)
def test_a_signature_of_any_other_kind_is_none(headers: Mapping[str, Any]) -> None:
    """It lacks, or is no text, or not ASCII."""
    with pytest.raises(BadSignature):
        envelope.check(Message("x", "job_7", "task", TASK.encode(), headers=headers), "job_7", KEY)


def test_a_signature_is_good_for_one_job_one_type_and_one_key() -> None:
    """A task message is no report, and another job's is none of ours."""
    task = SIGNED[0]
    for type_, job_id, key in (
        ("report", "job_7", KEY),
        ("task", "job_8", KEY),
        ("task", "job_7", new_key().hex()),
    ):
        moved = Message(task.exchange, task.routing_key, type_, task.body, headers=task.headers)
        with pytest.raises(BadSignature):
            envelope.check(moved, job_id, key)


def test_a_message_that_is_longer_than_any_of_ours_is_not_even_parsed() -> None:
    """Though it is a good one but for that."""
    body = TASK.encode()[:-1] + b',"more":"' + b"x" * MAX_BODY_BYTES + b'"}'
    decode(TaskMessage, body)
    with pytest.raises(BadMessage, match=r"a body of 4,\d+ bytes, more than any TaskMessage has"):
        envelope.read(TaskMessage, Message("x", "y", "task", body))


ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**62,
    "x",
    "ö",
    b"\xff\xfe",
    [],
    {},
    [{}],
    [{"time": 1}],
    [{"time": "x"}],
    [None],
    {"time": []},
]


@pytest.mark.parametrize(
    "name",
    ["x-death", "x-delivery-count", "x-first-death-queue", "signature", "epoch", b"\xff", ""],
    ids=repr,
)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_headers_of_any_kind_are_taken_or_left_out(name: Any, value: Any) -> None:
    """Whoever publishes may put anything there; a delivery comes of it all the same."""
    properties = pika.BasicProperties(headers={name: value}, type=b"\xff", message_id=b"\xfe")  # type: ignore[arg-type]
    method = SimpleNamespace(exchange=b"\xff", routing_key="map.job_7")
    message, count = decode_delivery(method, properties, TASK.encode())
    assert (message.type, message.message_id, message.exchange) == ("\ufffd", "\ufffd", "\ufffd")
    assert all(isinstance(key, str) and isinstance(kept, (str, int)) for key, kept in message.headers.items())
    assert isinstance(count, int)
    with pytest.raises(BadSignature):
        envelope.check(message, "job_7", KEY)


def test_a_delivery_without_properties_is_one_without_a_type() -> None:
    """And without a body it is no message."""
    message, count = decode_delivery(
        SimpleNamespace(exchange="", routing_key=""), pika.BasicProperties(), b""
    )
    assert (message.type, message.headers, count) == ("", {}, 0)
    with pytest.raises(BadMessage, match="not a TaskMessage of version 1: body"):
        envelope.read(TaskMessage, message)


def test_the_fuzzer_writes_what_it_is_told() -> None:
    """Raw JSON as it is; all else as JSON is written."""
    from tests.security import fuzz

    assert fuzz._text({"a": [Raw("NaN"), 1, "ö"], "b": {}}) == b'{"a":[NaN,1,"\\u00f6"],"b":{}}'


def header_frame(table: bytes) -> bytes:
    """The frame that RabbitMQ sends before a body of 7 bytes, with a table of headers as it is."""
    body = struct.pack(">HHQHL", 60, 0, 7, 1 << 13, len(table)) + table
    return struct.pack(">BHL", 2, 5, len(body)) + body + b"\xce"


@pytest.mark.parametrize(
    "value",
    [
        b"T" + b"\xff" * 8,
        b"T" + struct.pack(">Q", 2**62),
        b"d" + struct.pack(">d", math.nan),
        b"f" + struct.pack(">f", math.inf),
    ],
)
def test_headers_that_pika_cannot_read_are_none(value: bytes) -> None:
    """A time beyond all calendars, and what is no number: the connection goes on, and what follows is read."""
    frame = header_frame(b"\x01t" + value)
    with pytest.raises((ArithmeticError, OSError, ValueError)):
        pika.frame.decode_frame(frame)
    taken, header = read_frame(frame + b"more")
    assert (taken, header.channel_number, header.body_size, header.properties.headers) == (
        len(frame),
        5,
        7,
        None,
    )
    assert read_frame(frame[:-1]) == (0, None)


def test_headers_that_pika_can_read_are_read() -> None:
    """As ever."""
    _, header = read_frame(header_frame(b"\x01tI\0\0\0\x07"))
    assert header.properties.headers == {"t": 7}
