"""Messages that no master or worker wrote, while a good job runs: refused or dead letters; nothing comes of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import mrq
from mrq import envelope
from mrq.blob import new_key
from mrq.broker._embedded_server import encode
from mrq.broker.topology import Topology
from mrq.core.model import PHASES, Phase
from mrq.ops.deadletters import DeadLetters
from mrq.ports import Message
from mrq.records import JobRecord
from mrq.wire import Control, Outcome, OutcomeKind, Report, TaskMessage
from tests.integration.cluster import eventually
from tests.jobs import Gate, add_up, count_characters, plain, random_strings
from tests.security.fuzz import Fuzzer

DATA = random_strings(60)


class Outsider:
    """Somebody who may publish whatever, wherever, but can't read the job's record; and a job that goes on meanwhile.

    Attributes:
        record: of the job, whose key only the test knows.
    """

    def __init__(self, cluster: mrq.EmbeddedCluster, gate: Gate, record: JobRecord) -> None:
        self.cluster = cluster
        self.gate = gate
        self.record = record
        self.topology = Topology.from_settings(cluster._settings)
        self.letters = DeadLetters(cluster._broker, cluster._registry, cluster._settings)
        self.before = 0
        self.before = self.n_dead()

    def say(self, message: Message) -> None:
        """Publish, past all that our own adapter would check."""
        self.cluster._server.publish(encode(message), mandatory=False)

    def task(self, index: int = 0, **more: Any) -> TaskMessage:
        """A task of the job, which runs."""
        fields = {"job_id": self.record.job_id, "phase": Phase.MAP, "epoch": self.record.epoch, "attempt": 0}
        return TaskMessage(index=index, **(fields | more))

    def report(self, kind: OutcomeKind | None, index: int = 0, **more: Any) -> Report:
        """A report of the job's."""
        outcome = Outcome(kind=kind, type="Forged", message="forged") if kind else None
        return Report(
            **self.task(index, **more).model_dump(exclude={"backup"}), worker="nobody", outcome=outcome
        )

    def n_dead(self) -> int:
        """How many letters died because of us."""
        return self.cluster._broker.depths()["dead"].ready - self.before


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    with mrq.EmbeddedCluster(n_workers=2, n_masters=2) as cluster:
        yield cluster


@pytest.fixture
def outsider(
    cluster: mrq.EmbeddedCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Outsider]:
    """A job whose one map task runs, until the test is over; then it must end as if nothing had been."""
    gate = Gate(tmp_path)

    def map_func(strings: list[str]) -> list[tuple[str, int]]:
        gate.wait("map")
        return count_characters(strings)

    future = cluster.mapreduce(DATA, map_func, add_up, 1)
    eventually(lambda: gate.reached("map"), "its task runs")
    yield Outsider(cluster, gate, cluster._registry.require(future.job_id).record)
    gate.open("map")
    assert future.result(60) == plain(DATA, count_characters, add_up)
    assert len(gate.reached("map")) == 1, "its task was ended, or run by somebody else"
    assert all(member.thread.is_alive() for member in (*cluster.masters, *cluster.workers))
    assert all(member.service.healthy() for member in (*cluster.masters, *cluster.workers))
    assert [record.exc_text or record.msg for record in caplog.records if record.exc_info] == []


@contextmanager
def said(caplog: pytest.LogCaptureFixture, *sentences: str) -> Iterator[None]:
    """See that this is logged."""
    with caplog.at_level(logging.ERROR):
        yield
        eventually(
            lambda: all(sentence in caplog.text for sentence in sentences),
            f"{' and '.join(sentences)} is said",
        )


def unsigned(message: Message) -> Message:
    return replace(
        message, headers={name: value for name, value in message.headers.items() if name != "signature"}
    )


FORGERIES: Mapping[str, Callable[[Message], Message]] = {
    "unsigned": unsigned,
    "signed with another key": lambda message: message,
    "signed with nothing": lambda message: replace(message, headers={"signature": ""}),
    "signed with a number": lambda message: replace(message, headers={"signature": 7}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_report_neither_ends_a_task_nor_fails_its_job(
    outsider: Outsider, caplog: pytest.LogCaptureFixture, forgery: str
) -> None:
    """Whatever it tells of; the master says so, and goes on."""
    with said(caplog, f"{outsider.record.job_id}: a report message is not signed with the job's key"):
        for kind in (None, *get_args(OutcomeKind)):
            for index in (0, 1, 2**62):
                body = outsider.report(kind, index)
                outsider.say(FORGERIES[forgery](envelope.report(outsider.topology, body, new_key().hex())))


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_task_becomes_a_dead_letter(
    outsider: Outsider, caplog: pytest.LogCaptureFixture, forgery: str
) -> None:
    """Also one of an epoch that is to come; nobody runs it, and it is not replayed."""
    bodies = [
        outsider.task(), outsider.task(2**62), outsider.task(epoch=2**62), outsider.task(attempt=9),
        *(outsider.task(phase=phase, backup=True) for phase in PHASES),
    ]  # fmt: skip
    with said(caplog, f"{outsider.record.job_id}: a task message is not signed with the job's key"):
        for body in bodies:
            outsider.say(FORGERIES[forgery](envelope.task(outsider.topology, body, new_key().hex())))
        eventually(lambda: outsider.n_dead() == len(bodies), "all are dead letters")
    told = outsider.letters.replay()
    assert len(told) == len({body.model_dump_json(exclude={"backup"}) for body in bodies})
    assert all("not signed" in why for why in told.values())
    outsider.letters.drop()


def test_a_forged_dead_letter_is_not_believed(outsider: Outsider, caplog: pytest.LogCaptureFixture) -> None:
    """The master would publish that task again."""
    message = envelope.task(outsider.topology, outsider.task(), new_key().hex())
    with said(caplog, f"{outsider.record.job_id}: a task message is not signed with the job's key"):
        outsider.say(replace(message, exchange=outsider.topology.dead_letters))
    outsider.letters.drop()


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_order_ends_no_child(
    outsider: Outsider, caplog: pytest.LogCaptureFixture, forgery: str
) -> None:
    """The tasks go on in the very processes that they began in."""
    with said(caplog, f"{outsider.record.job_id}: a control message is not signed with the job's key"):
        body = Control(job_id=outsider.record.job_id, order="cancel")
        outsider.say(FORGERIES[forgery](envelope.control(outsider.topology, body, new_key().hex())))


def test_an_order_of_the_jobs_own_is_obeyed(tmp_path: Path) -> None:
    """So that the refusal of others means something."""
    gate = Gate(tmp_path)
    with mrq.EmbeddedCluster(n_workers=1) as cluster:
        future = cluster.mapreduce(DATA, lambda _: [("waited", gate.wait("map") or 1)], add_up, 1)
        (first,) = eventually(lambda: gate.reached("map"), "the task runs")
        record = cluster._registry.require(future.job_id).record
        order = Control(job_id=future.job_id, order="cancel")
        cluster._broker.publish(
            [envelope.control(Topology.from_settings(cluster._settings), order, record.key)]
        )
        eventually(
            lambda: set(gate.reached("map")) > {first}, "it was killed, and runs again in another process"
        )
        gate.open("map")
        assert future.result(60) == [("waited", 1)]


@pytest.mark.parametrize(
    "name",
    ["job_987654321", "../../x", "job_0/owner", "job_1e3", "", "\x00", "x" * 3000],
    ids=lambda name: repr(name[:20]),
)
def test_a_task_of_no_job_is_dropped_at_once(outsider: Outsider, name: str) -> None:
    """Or is a dead letter, when no job can be called so; no worker waits for what will never be."""
    good = json.loads(outsider.task().encode())
    for phase in PHASES:
        body = json.dumps(good | {"job_id": name, "phase": phase}).encode()
        for _ in range(50):
            outsider.say(Message(outsider.topology.tasks, f"{phase.value}.x", "task", body))
    depths = outsider.cluster._broker.depths
    eventually(lambda: all(depths()[p.value].ready == 0 for p in PHASES), "all are taken", 10)
    expected = 0 if name.startswith("job_9") else 150
    eventually(lambda: outsider.n_dead() == expected, f"{outsider.n_dead()} are dead letters")
    outsider.letters.drop()


def test_a_message_of_another_version_is_refused_in_a_sentence(
    outsider: Outsider, caplog: pytest.LogCaptureFixture
) -> None:
    """To each exchange; though it is signed, as that of a newer mrq would be."""
    topology, key = outsider.topology, outsider.record.key
    good = [
        envelope.task(topology, outsider.task(), key),
        envelope.report(topology, outsider.report("refused"), key),
        envelope.control(topology, Control(job_id=outsider.record.job_id, order="cancel"), key),
    ]
    models = ("TaskMessage", "Report", "Control")
    with said(caplog, *(f"not a {model} of version 1: v: Input should be 1" for model in models)):
        for message in good:
            newer = message.body.replace(b'"v":1', b'"v":2', 1)
            assert newer != message.body
            signed = envelope._signed(replace(message, body=newer), outsider.record.job_id, key)
            outsider.say(signed)
        eventually(lambda: outsider.n_dead() == 1, "the task is a dead letter")
    (why,) = outsider.letters.replay().values()
    assert why.startswith("it can't be read: not a TaskMessage of version 1")
    outsider.letters.drop()


def test_a_message_of_100_mb_is_refused(outsider: Outsider, caplog: pytest.LogCaptureFixture) -> None:
    """Though it is good JSON it is not parsed, and it is not shown in full."""
    job_id, size = outsider.record.job_id, 100_000_000
    topology = outsider.topology
    places = {
        (topology.tasks, f"map.{job_id}"): "task",
        (topology.events, job_id): "report",
        (topology.control, ""): "control",
    }
    body = outsider.task().encode()[:-1] + b',"x":"' + b"x" * size + b'"}'
    models = ("TaskMessage", "Report", "Control")
    with said(caplog, *(f"a body of {len(body):,} bytes, more than any {model} has" for model in models)):
        for (exchange, key), type_ in places.items():
            outsider.say(Message(exchange, key, type_, body))
        eventually(lambda: outsider.n_dead() == 1, "the task is a dead letter")
    (letter,) = outsider.letters.letters()
    (opened,) = outsider.letters.show(letter.id)
    assert len(opened.model_dump_json()) < 200_000
    assert "bytes more" in opened.body
    outsider.letters.drop()


def test_six_thousand_damaged_messages_cost_nothing(outsider: Outsider) -> None:
    """To every exchange, beside a job that goes on."""
    topology, record, fuzzer = outsider.topology, outsider.record, Fuzzer(3)
    good = [
        envelope.task(topology, outsider.task(), record.key),
        envelope.report(topology, outsider.report("refused"), record.key),
        envelope.control(topology, Control(job_id=record.job_id, order="cancel"), record.key),
        replace(envelope.task(topology, outsider.task(), record.key), exchange=topology.dead_letters),
    ]
    headers: list[Any] = [
        {},
        {"signature": "ö"},
        {"signature": 1},
        {"x-death-time": "x", "x-first-death-queue": 7},
    ]
    for number in range(6000):
        message = good[number % len(good)]
        damaged = replace(message, body=fuzzer.damaged(message.body))
        if fuzzer.dice.random() < 0.3:
            damaged = replace(
                damaged, headers=fuzzer.dice.choice(headers), type=fuzzer.dice.choice(("", "x", "task"))
            )
        outsider.say(damaged)
    depths = outsider.cluster._broker.depths
    eventually(lambda: all(depths()[p.value].ready == 0 for p in PHASES), "all are taken")
    assert outsider.n_dead() > 2000
    assert len(outsider.letters.show(outsider.letters.letters()[0].id)) >= 1
    outsider.letters.drop()
