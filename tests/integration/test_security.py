"""Files, messages and nodes of somebody else's on the real servers, beside a job that goes on and ends right."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pika
import pytest

from mrq import envelope, layout
from mrq.blob import new_key
from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.broker.topology import Topology
from mrq.config import Settings
from mrq.core.model import JobState, Phase
from mrq.errors import BadMessage, BadSignature
from mrq.future import JobFuture
from mrq.ops.deadletters import DeadLetters
from mrq.records import JobRecord
from mrq.wire import Control, Outcome, OutcomeKind, Report, TaskMessage
from tests.integration.cluster import Cluster, eventually
from tests.jobs import Gate, GatedKey, add_up, random_strings
from tests.security.amqp import TABLES, Publisher, Raw
from tests.security.forgery import Trace, forged
from tests.security.fuzz import Fuzzer

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

Start = Callable[..., Cluster]
DATA = random_strings(60)
EXPECTED = [(text, 1) for text in sorted(DATA)]
MEMORY = 400 * 2**20
"""Bytes that no master or worker may take, whatever it is sent."""


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """All files have files of their own."""
    monkeypatch.setenv("MRQ_INLINE_BYTES", "0")
    return Settings.load()


def one_each(strings: list[str]) -> list[tuple[str, int]]:
    """Map: so many keys that all files are longer than a forged one need be."""
    return [(text, 1) for text in strings]


@contextmanager
def good_job(cluster: Cluster, gate: Gate) -> Iterator[JobRecord]:
    """A job whose only map task runs meanwhile, once and in one process, and which then ends right."""

    def map_func(strings: list[str]) -> list[tuple[str, int]]:
        gate.wait("good")
        return one_each(strings)

    future = cluster.client.mapreduce(DATA, map_func, add_up, 1, speculative=False)
    eventually(lambda: gate.reached("good"), "its task runs")
    yield cluster.registry.require(future.job_id).record
    gate.open("good")
    assert future.result(60) == EXPECTED
    assert len(gate.reached("good")) == 1, "its task was ended, or run by somebody else"
    assert cluster.client.mapreduce(DATA, one_each, add_up, 2).result(60) == EXPECTED
    for name, process in cluster.processes.items():
        assert process.poll() is None, cluster.log(name)[-2000:]
        assert "Traceback" not in cluster.log(name), cluster.log(name)[-4000:]
        assert resident(process.pid) < MEMORY


def resident(pid: int) -> int:
    """Return the most bytes of memory that a process ever had."""
    (line,) = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) * 1024


# ---------------------------------------------------------------- files

PHASES = {"map_results/0": Phase.MAP, "shuffle_results/0": Phase.SHUFFLE, "reduce_results/0": Phase.REDUCE}


def gated(cluster: Cluster, gate: Gate, phase: Phase | None) -> JobFuture:
    """Submit a job that waits at the gate in a phase."""

    def map_func(strings: list[str]) -> list[tuple[Any, int]]:
        if phase is Phase.MAP:
            gate.wait("map")
        return [(GatedKey(text, gate) if phase is Phase.SHUFFLE else text, 1) for text in strings]

    def reduce_func(values: list[int]) -> int:
        if phase is Phase.REDUCE:
            gate.wait("reduce")
        return sum(values)

    return cluster.client.mapreduce(DATA, map_func, reduce_func, 1, n_reducers=1)


def test_files_that_are_forged_while_their_job_runs_are_refused(start: Start, tmp_path: Path) -> None:
    """In each phase its master is stopped, what was committed is replaced in HDFS, and the master goes on."""
    cluster = start(n_masters=1, n_workers=3)
    store, trace = cluster.client._store, Trace(tmp_path / "trace")

    def length(future: JobFuture, name: str) -> int:
        status = store.status(f"{layout.folder(future.job_id)}/{name}")
        return status.length if status else 0

    with good_job(cluster, Gate(tmp_path)):
        for name in ("code", "input", *PHASES, "manifest"):
            (tmp_path / name.partition("/")[0]).mkdir()
            gate, phase = Gate(tmp_path / name.partition("/")[0]), PHASES.get(name)
            if name == "manifest":
                phase = Phase.REDUCE
            if phase is None:
                cluster.kill("master-0", signal.SIGSTOP)
                future = gated(cluster, gate, None)
            else:
                future = gated(cluster, gate, phase)
                eventually(lambda gate=gate, phase=phase: gate.reached(phase.value), f"{phase} runs")
                cluster.kill("master-0", signal.SIGSTOP)
            if name in PHASES:
                gate.open(PHASES[name].value)
                eventually(lambda future=future, name=name: length(future, name), f"{name} is committed")
            data = forged(name, future.job_id, trace, length(future, name))
            store.write(f"{layout.folder(future.job_id)}/{name}", data)
            cluster.kill("master-0", signal.SIGCONT)
            gate.open("reduce")
            said = rf"{future.job_id}: .*not signed with the job's key.*submit the job again"
            with pytest.raises(BadSignature, match=said):
                future.result(60)
    assert not trace.path.exists()


# ---------------------------------------------------------------- messages


class Outsider:
    """Somebody who may publish at RabbitMQ, and does not know the job's key."""

    def __init__(self, settings: Settings, record: JobRecord) -> None:
        topology = Topology.from_settings(settings)
        self.topology = topology
        self.record = record
        key, fields = new_key().hex(), {"job_id": record.job_id, "phase": Phase.MAP, "index": 0, "attempt": 0}
        self.tasks = [
            envelope.task(topology, TaskMessage(epoch=epoch, **(fields | more)), key)
            for epoch in (record.epoch, 2**62)
            for more in ({}, {"index": 2**62}, {"attempt": 7}, {"phase": Phase.REDUCE})
        ]
        outcomes = [None, *(Outcome(kind=kind, type="Forged", message="x") for kind in get_args(OutcomeKind))]
        self.reports = [
            envelope.report(topology, Report(epoch=record.epoch, worker="x", outcome=outcome, **fields), key)
            for outcome in outcomes
        ]
        orders = [
            Control(job_id=record.job_id, order=order, task_id=f"{record.job_id}/map/0")
            for order in ("cancel", "revoke", "report")
        ]
        self.orders = [envelope.control(topology, order, key) for order in orders]
        self.letters = [replace(task, exchange=topology.dead_letters) for task in self.tasks]


@pytest.fixture
def letters(settings: Settings) -> Iterator[DeadLetters]:
    """The dead letters, which are dropped at the end: each by itself can be looked at, too."""
    from mrq.coordination.zookeeper import ZooKeeperCoordination
    from mrq.registry import Registry

    broker, tree = RabbitMQBroker(settings), ZooKeeperCoordination(settings)
    yield DeadLetters(broker, Registry(tree), settings)
    broker.close()
    tree.close()


def test_messages_of_others_are_refused_or_become_dead_letters(
    start: Start, letters: DeadLetters, tmp_path: Path
) -> None:
    """Unsigned, of another version, with odd headers, without a body, of 100 MB, and damaged in 1500 ways."""
    cluster = start(n_masters=1, n_workers=2)
    with good_job(cluster, Gate(tmp_path)) as record, Publisher(cluster.settings) as publisher:
        outsider, fuzzer = Outsider(cluster.settings, record), Fuzzer(5)
        forgeries = [*outsider.tasks, *outsider.reports, *outsider.orders, *outsider.letters]
        for message in forgeries:
            assert publisher.say_message(message) == ""
            assert publisher.say_message(replace(message, headers={})) == ""
            newer = message.body.replace(b'"v":1', b'"v":2', 1)
            assert publisher.say_message(replace(message, body=newer)) == ""
        places = {message.exchange: message for message in forgeries}.values()
        for message in places:
            for table in TABLES.values():
                publisher.say(message.exchange, message.routing_key, message.body, Raw(table))
            publisher.say(message.exchange, message.routing_key, b"", pika.BasicProperties())
            big = bytes(100_000_000)
            said = publisher.say(message.exchange, message.routing_key, big, pika.BasicProperties())
            assert "message size 100000000 is larger than configured max size 65536" in said
        for number in range(1500):
            message = forgeries[number % len(forgeries)]
            body = fuzzer.damaged(message.body)[:60_000]
            publisher.say_message(
                replace(message, body=body, type=fuzzer.dice.choice((message.type, "", "x")))
            )
        depths = letters._broker.depths
        eventually(lambda: all(depths()[phase.value].ready == 0 for phase in Phase), "all tasks are taken")
        eventually(lambda: "a report message is ignored: " in cluster.log("master-0"), "the master refuses")
        assert depths()["dead"].ready > 500
        found = letters.letters()
        assert any(letter.reason == "rejected" for letter in found)
        reasons = ("not signed", "can't be read", "not there")
        assert all(any(reason in why for reason in reasons) for why in letters.replay().values())
        letters.drop()
        eventually(lambda: depths()["dead"].ready == 0, "the dead letters are dropped")
    logs = cluster.log("worker-0") + cluster.log("worker-1")
    assert f"{record.job_id}: a control message is not signed with the job's key" in logs
    assert "lost the connection" not in logs


# ---------------------------------------------------------------- nodes


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the command."""
    return subprocess.run(
        [sys.executable, "-m", "mrq.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_nodes_that_hold_anything_are_left_alone_and_named(start: Start, tmp_path: Path) -> None:
    """Two hundred of jobs, and some of members, in every way that a good one can be damaged; and one of a megabyte."""
    cluster = start(n_masters=1, n_workers=2)
    tree, fuzzer = cluster.registry.tree, Fuzzer(6)
    with good_job(cluster, Gate(tmp_path)) as record:
        names = [f"job_{7000 + number}" for number in range(200)]
        for name in names:
            other = record.model_copy(update={"job_id": name, "state": JobState.COMPLETED})
            tree.create(f"/jobs/{name}", fuzzer.damaged(other.encode()))
        odd = {"job_²": b"x", "job_8000": b"x" * 1_000_000, "job_8001": record.encode()}
        for name, data in odd.items():
            tree.create(f"/jobs/{name}", data)
        for number in range(20):
            tree.create(
                f"/workers/odd-{number}", fuzzer.damaged(b'{"v":1,"hostname":"h","pid":1,"python":"3"}')
            )
        why = f"the znode of job_8001 holds the record of {record.job_id}"
        eventually(lambda: f"job_8001 is left alone: {why}" in cluster.log("master-0"), "the master says so")
        with pytest.raises(BadMessage, match=why):
            cluster.client.attach("job_8001")
        status = ask("status", "--json")
        assert (status.returncode, json.loads(status.stdout)["missing"]) == (0, {}), status.stderr
        doctor = ask("doctor", "--json")
        assert "job_8001" in doctor.stdout
        assert "Traceback" not in doctor.stderr
        explained = ask("explain", record.job_id)
        assert (explained.returncode, explained.stdout.split(":")[0]) == (0, record.job_id), explained.stderr
    cluster.client.clear(force=True)  # what was not damaged enough is a job, without files
    for name in (*names, *odd):
        tree.delete(f"/jobs/{name}")
    for number in range(20):
        tree.delete(f"/workers/odd-{number}")
    assert cluster.log("master-0").count("job_8001 is left alone") == 1
