"""What operators do, on the real servers; and what stays when clients and masters do not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.cli import main
from mrq.core.model import Phase
from tests.integration.cluster import Cluster, eventually
from tests.jobs import Gate, add_up, count_characters, plain, random_strings

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

Start = Callable[..., Cluster]
ROOT = Path(__file__).parent.parent.parent
DATA = random_strings(200)
EXPECTED = plain(DATA, count_characters, add_up)

NOTEBOOK = """
import sys, time
sys.path.insert(0, sys.argv[1])
import mrq
from pathlib import Path
from tests.jobs import Gate, add_up, count_characters, random_strings

gate = Gate(Path(sys.argv[2]))

def map_func(strings):
    gate.wait("map")
    return count_characters(strings)

client = mrq.Client()
print(client.mapreduce(random_strings(200), map_func, add_up, 3, n_reducers=2).job_id, flush=True)
time.sleep(600)
"""


def ask(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any]:
    """Run a verb with --json in this process; return its exit code and document."""
    capfd.readouterr()
    code = main([*argv, "--json"])
    return code, json.loads(capfd.readouterr().out)


def held(cluster: Cluster, gate: Gate, *more: str) -> mrq.JobFuture:
    """Submit a job that waits at the gate; with more data its input is a file."""

    def map_func(strings: list[str]) -> Any:
        gate.wait("map")
        return count_characters(strings)

    return cluster.client.mapreduce([*DATA, *more], map_func, add_up, 2, n_reducers=2)


def test_a_job_outlives_its_notebook_and_every_master(start: Start, tmp_path: Path) -> None:
    """Kill -9 of the client right after it submitted, and of all masters: another client attaches, and it is exact."""
    cluster, gate = start(n_masters=2, n_workers=2), Gate(tmp_path)
    notebook = subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK, str(ROOT), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert notebook.stdout
    with notebook.stdout:
        job_id = notebook.stdout.readline().strip()
        notebook.kill()
        assert notebook.wait() == -signal.SIGKILL
    first = cluster.owner(job_id)
    for name in [name for name in cluster.processes if name.startswith("master")]:
        cluster.kill(name)
    cluster.start(n_masters=2, n_workers=0)
    gate.open("map")
    assert cluster.client.attach(job_id).result(120) == EXPECTED
    assert first not in cluster.registry.members("masters")


def test_masters_keep_the_newest_jobs_and_all_that_run(start: Start, tmp_path: Path) -> None:
    """With a count of two: the oldest job runs, three end after it, and two of those stay."""
    gate = Gate(tmp_path)
    cluster = start(2, 3, MRQ_RETENTION_COUNT="2", MRQ_OPERATION_TIMEOUT="5", MRQ_POLL_INTERVAL="0.2")
    running = held(cluster, gate)
    ended = []
    for _ in range(4):
        future = cluster.client.mapreduce(DATA, count_characters, add_up, 1)
        assert future.result(60) == EXPECTED
        ended.append(future.job_id)
    left = {running.job_id, *ended[-2:]}
    eventually(lambda: set(cluster.registry.job_ids()) == left, "two jobs that have ended stay")
    store = cluster.client._store
    eventually(lambda: {entry.name for entry in store.list("jobs")} == left, "so do their files")
    until = time.monotonic() + 5  # longer than two sweeps
    while time.monotonic() < until:
        assert running.job_id in cluster.registry.job_ids()
        time.sleep(0.5)
    assert cluster.client.attach(ended[-1]).result(60) == EXPECTED
    gate.open("map")
    assert running.result(60) == EXPECTED


def test_dead_letters_are_looked_at_replayed_and_dropped(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    """Looked at more often than the limit of deliveries; the job ends exactly, with each task run once or twice."""
    cluster = start(n_masters=1, n_workers=0)
    future = cluster.client.mapreduce(DATA, count_characters, add_up, 2, n_reducers=1)
    broker = RabbitMQBroker(cluster.settings)
    try:
        queue = broker.topology.queue(Phase.MAP)
        for loan in eventually(lambda: broker.borrow(queue, 1), "a task is in the queue"):
            loan.reject(requeue=False)
        eventually(lambda: broker.depths()["dead"].ready == 1, "it is a dead letter")
        for _ in range(cluster.settings.delivery_limit + 2):
            (loan,) = eventually(
                lambda: broker.borrow(broker.topology.queue("dead"), 10), "the letter is there"
            )
            loan.reject(requeue=True)
        eventually(lambda: broker.depths()["dead"].ready == 1, "it is still there")
        code, (letter,) = ask(capfd, "dlq", "list")
        assert (code, letter["job_id"], letter["phase"]) == (0, future.job_id, "map")
        assert (letter["reason"], letter["queue"]) == ("rejected", queue)
        assert abs(letter["at"] - time.time()) < 300
        code, (opened,) = ask(capfd, "dlq", "show", letter["id"])
        assert (code, opened["obstacle"], opened["job"]["state"]) == (0, "", "map")
        assert ask(capfd, "dlq", "replay", letter["id"]) == (0, {"replayed": [letter["id"]], "refused": {}})
        eventually(
            lambda: broker.depths()["map"].ready == 3, "two tasks wait, and the letter that is a task again"
        )
        cluster.start(n_masters=0, n_workers=1)
        assert future.result(60) == EXPECTED

        ended = broker.publish([_message(opened, broker)])
        ended.result(30)
        eventually(lambda: broker.depths()["dead"].ready == 1, "a letter of a job that has ended")
        code, told = ask(capfd, "dlq", "replay", "--all")
        assert (code, told["refused"]) == (1, {letter["id"]: f"{future.job_id} has ended: completed"})
        eventually(lambda: broker.depths()["dead"].ready == 1, "it stays")
        assert ask(capfd, "dlq", "drop", "--all") == (0, {"dropped": [letter["id"]]})
        assert ask(capfd, "dlq", "list") == (0, [])
    finally:
        broker.close()


def _message(opened: dict[str, Any], broker: RabbitMQBroker) -> Any:
    from mrq.ports import Message

    body = json.dumps(opened["body"], separators=(",", ":")).encode()  # as it was, for its signature
    headers = {"signature": opened["headers"]["signature"]}
    return Message(broker.topology.dead_letters, opened["routing_key"], "task", body, headers=headers)


def test_a_task_is_replayed_without_a_trace(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """The same bytes as the workers', or the same exception; nothing in HDFS or at ZooKeeper is touched."""

    def explode(values: list[int]) -> float:
        return 1 / (sum(values) - sum(values))

    cluster = start(n_masters=1, n_workers=2)
    future = cluster.client.mapreduce(DATA, count_characters, explode, 3, n_reducers=2)
    assert isinstance(future.exception(60), ZeroDivisionError)
    store, monitoring = cluster.client._store, mrq.LocalMonitoring(cluster.settings)
    with monitoring:
        settled = f"jobs/{future.job_id}/attempts"
        eventually(lambda: store.status(settled) is None, "the master has tidied up")
        eventually(lambda: cluster.registry.owner(future.job_id) is None, "and let go of it")
        before = monitoring.hdfs(), cluster.registry.nodes(future.job_id)
        for task in (("map", "2"), ("shuffle/1",)):
            code, replayed = ask(capfd, "replay", future.job_id, *task, "--local")
            assert (code, replayed["outcome"], replayed["committed"]) == (0, "done", "same")
            assert replayed["rows"]
        code, replayed = ask(capfd, "replay", future.job_id, "reduce", "0", "--local")
        assert (code, replayed["error"]) == (1, "ZeroDivisionError")
        assert "in explode" in replayed["traceback"]
        assert (monitoring.hdfs(), cluster.registry.nodes(future.job_id)) == before


def test_the_doctor_finds_what_is_done_to_a_cluster(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing while all is well; then a dead worker, files of nobody and a lost input."""

    def found() -> dict[str, str]:
        return {f["where"]: f["what"] for f in ask(capfd, "doctor")[1]["findings"]}

    cluster, gate = start(n_masters=1, n_workers=1), Gate(tmp_path)
    future = held(cluster, gate, *random_strings(2000))
    cluster.worker_of(future.job_id, Phase.MAP)
    # RabbitMQ's pages lag behind: for a moment a queue may be shown without the consumer that it has, or had.
    healthy = (0, {"findings": [], "unchecked": {}})
    eventually(lambda: ask(capfd, "doctor") == healthy, "nothing is wrong")

    store = cluster.client._store
    store.write("jobs/job_99/code", b"nobody's")
    store.rename(f"jobs/{future.job_id}/input", f"jobs/{future.job_id}/elsewhere")
    cluster.kill("worker-0")
    eventually(lambda: "workers" in found(), "it is said that no worker is registered")
    gone = found()
    assert "1 jobs wait" in gone["workers"]
    assert "input is gone" in gone[future.job_id]
    assert "job_99" not in gone  # it may be an upload
    assert ask(capfd, "doctor")[0] == 1

    store.rename(f"jobs/{future.job_id}/elsewhere", f"jobs/{future.job_id}/input")
    store.delete("jobs/job_99")
    cluster.start(n_masters=0, n_workers=1)
    gate.open("map")
    assert future.exception(120) is None


def test_a_story_is_told_while_a_job_runs_and_after_it(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it waits for; then who did what, with the epochs of both masters."""
    cluster, gate = start(n_masters=2, n_workers=2), Gate(tmp_path)
    future = held(cluster, gate)
    worker = cluster.worker_of(future.job_id, Phase.MAP)
    owner = cluster.owner(future.job_id)
    _, story = ask(capfd, "explain", future.job_id)
    assert story["owner"] == owner
    assert any(f"which runs at {worker}" in reason for reason in story["waits_for"])
    assert f"claimed by {owner}" in story["events"][1]["what"]
    cluster.kill(owner)
    eventually(lambda: cluster.registry.owner(future.job_id) not in (None, owner), "the other master has it")
    gate.open("map")
    assert future.result(120) == EXPECTED
    _, story = ask(capfd, "explain", future.job_id)
    assert (story["state"], story["waits_for"], story["unknown"]) == ("completed", [], {})
    assert story["events"][0]["what"].startswith("submitted by ")
    assert story["events"][-1]["what"] == "completed"
    assert {phase: (p["done"], p["total"]) for phase, p in story["phases"].items()} == {
        "map": (2, 2), "shuffle": (2, 2), "reduce": (2, 2),
    }  # fmt: skip
    assert story["files"]["reduce_results"][0] == 2
