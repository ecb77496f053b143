"""Each thing that can be wrong with a cluster is found, with something to do about it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from mrq import envelope
from mrq.core.model import JobState, Phase
from mrq.errors import StoreUnavailable
from mrq.monitoring import LocalMonitoring
from mrq.ops.checks.management import clock_ahead
from mrq.ops.doctor import Diagnosis, Doctor, Severity
from mrq.store.folder import FolderStore
from mrq.wire import TaskMessage

if TYPE_CHECKING:
    from tests.unit_ops.conftest import Parts

NOBODY = "127.0.0.1:1"


class Web:
    """An HTTP server with the answers of RabbitMQ's management API; its clock may be wrong."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/api/queues/mrq": [], "/api/nodes": []}
        self.ahead = 0.0
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(web.answers.get(self.path)).encode()
                self.send_response(200 if self.path in web.answers else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + web.ahead)  # type: ignore[arg-type]

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.close()


@pytest.fixture
def healthy(parts: Parts) -> Parts:
    """A cluster with a master and a worker, of which nothing is wrong."""
    parts.add_member("masters", "m-1", state="idle")
    parts.add_member("workers", "w-1")
    for phase in Phase:
        parts.broker.consume(parts.topology.queue(phase), 1, lambda _: None)
    return parts


def doctor(parts: Parts, **settings: Any) -> Doctor:
    """Return one that asks nobody over HTTP but whom ``settings`` name."""
    own = parts.settings.model_copy(update={"hdfs_urls": (), "connect_timeout": 1.0} | settings)
    servers = LocalMonitoring(own, registry=parts.registry, store=parts.store, broker=parts.broker)
    return Doctor(servers, own)


def diagnose(parts: Parts, **settings: Any) -> Diagnosis:
    return doctor(parts, **settings).diagnose()


def only(diagnosis: Diagnosis) -> tuple[str, str, str]:
    """Return severity, place and sentence of the one finding; there is something to do about it."""
    (finding,) = diagnosis.findings
    assert finding.do
    return finding.severity.value, finding.where, finding.what


def test_nothing_is_wrong_with_a_cluster_that_is_well(healthy: Parts, web: Web) -> None:
    """With jobs that run and jobs that have ended."""
    healthy.add_job(0)
    healthy.registry.claim("job_0", "m-1")
    healthy.add_job(1, JobState.COMPLETED, ended_at=time.time())
    assert diagnose(healthy, rabbitmq_management_url=web.url) == Diagnosis(findings=[], unchecked={})


def test_without_the_management_api_some_is_not_looked_at(healthy: Parts) -> None:
    """That is said, but is no fault of the cluster."""
    found = diagnose(healthy)
    assert found.findings == []
    assert set(found.unchecked) == {"orphaned queues", "alarms"}
    assert all("MANAGEMENT_URL" in why for why in found.unchecked.values())


def test_nobody_to_work_is_worse_when_jobs_wait(parts: Parts) -> None:
    """A cluster without members is one that will have jobs wait."""
    assert [f.severity for f in diagnose(parts).findings] == [Severity.WARNING] * 2
    parts.add_job(0)
    found = diagnose(parts).findings
    assert [(f.severity.value, f.where, f.do) for f in found] == [
        ("error", "masters", "start one: mrq master"),
        ("error", "workers", "start one: mrq worker"),
    ]
    assert "job_0" in found[0].what


def test_versions_that_differ_are_named(healthy: Parts) -> None:
    """Python of workers and jobs, mrq of all."""
    for name in ("w-2", "w-3"):
        healthy.add_member("workers", name)
    healthy.add_member("workers", "w-4", python="2.7")
    healthy.add_member("masters", "m-2", mrq="0.0.1")
    healthy.add_job(0, python="3.99")
    healthy.registry.claim("job_0", "m-1")
    found = {f.where: f.what for f in diagnose(healthy).findings}
    assert found.keys() == {"worker w-4", "master m-2", "job_0"}
    assert "Python 2.7" in found["worker w-4"]
    assert "mrq 0.0.1" in found["master m-2"]
    assert "Python 3.99" in found["job_0"]


def test_a_job_without_an_owner_is_named_while_there_are_masters(healthy: Parts) -> None:
    """Not in its first seconds."""
    healthy.add_job(0, JobState.SUBMITTED)
    assert diagnose(healthy).findings == []
    record = healthy.registry.require("job_0").record.model_copy(update={"submitted_at": time.time() - 60})
    healthy.registry.tree.set("/jobs/job_0", record.encode())
    found = {f.what for f in diagnose(healthy).findings}
    assert any(what.startswith("no master owns it, 60 s after") for what in found)


def test_an_owner_that_is_no_master_is_named(healthy: Parts) -> None:
    """Its session may live on without its record."""
    healthy.add_job(0)
    healthy.registry.claim("job_0", "m-9")
    assert only(diagnose(healthy)) == ("warning", "job_0", "its owner m-9 is not registered as a master")


def test_a_job_of_which_nothing_comes_is_named(healthy: Parts) -> None:
    """After ten minutes, or twice its tasks' timeout."""
    healthy.add_job(0)
    healthy.add_job(1, task_timeout=1000.0)
    for job_id in ("job_0", "job_1"):
        healthy.registry.claim(job_id, "m-1")
    patient = doctor(healthy)
    patient._patient.now += 900
    assert only(patient.diagnose()) == ("warning", "job_0", "nothing has come of it for 15 min")


def test_a_record_that_cannot_be_read_is_named(healthy: Parts) -> None:
    """No master takes such a job, and no client hears of it."""
    healthy.registry.tree.create("/jobs/job_7", b"rubbish")
    severity, where, what = only(diagnose(healthy))
    assert (severity, where) == ("error", "job_7")
    assert "not a JobRecord" in what


def test_a_client_whose_clock_is_wrong_is_named(healthy: Parts) -> None:
    """ZooKeeper dates the record, the client writes its own time into it."""
    healthy.add_job(0, JobState.FAILED, submitted_at=time.time() + 300, ended_at=time.time() + 301)
    severity, where, what = only(diagnose(healthy))
    assert (severity, where) == ("warning", "client c-1")
    assert what.startswith("its clock was 5 min ahead of ZooKeeper's")


def test_files_without_a_job_are_named_and_removed_when_they_are_old(healthy: Parts) -> None:
    """A submission that goes on has files and no record, too; so has another tree's job in the same folder."""
    for _ in range(2):
        healthy.registry.next_job_id()
    for job_id in ("job_0", "job_1", "job_99", "other"):
        healthy.store.write(f"jobs/{job_id}/map_results/0", b"x")
    age(healthy, "job_0", 30 * 3600)
    age(healthy, "job_1", 2 * 3600)
    age(healthy, "job_99", 30 * 3600)
    found = {f.where: f.severity for f in diagnose(healthy).findings}
    assert found == dict.fromkeys(("job_0", "job_1", "job_99"), Severity.WARNING)
    assert doctor(healthy).fix() == ["jobs/job_0"]
    assert [entry.name for entry in healthy.store.list("jobs")] == ["job_1", "job_99", "other"]


def age(parts: Parts, job_id: str, seconds: float) -> None:
    """Have all files and folders of a job written so long ago."""
    home, at = parts.folder / "files" / "jobs" / job_id, time.time() - seconds
    for path in (home, *home.rglob("*")):
        os.utime(path, (at, at))


def test_attempts_of_a_job_that_has_ended_are_named_and_removed(healthy: Parts) -> None:
    """Those of one that runs are somebody's."""
    healthy.add_job(0, JobState.COMPLETED, ended_at=time.time() - 7200)
    healthy.add_job(1, JobState.COMPLETED, ended_at=time.time())
    healthy.add_job(2)
    healthy.registry.claim("job_2", "m-1")
    for number in range(3):
        healthy.store.write(f"jobs/job_{number}/attempts/map-0-7-0", b"x")
    found = diagnose(healthy).findings
    assert [(f.severity, f.where) for f in found] == [(Severity.INFO, "job_0"), (Severity.INFO, "job_1")]
    assert doctor(healthy).fix() == ["jobs/job_0/attempts/map-0-7-0"]
    assert healthy.store.status("jobs/job_2/attempts/map-0-7-0")


@pytest.mark.parametrize(
    ("state", "gone", "path"),
    [
        (JobState.COMPLETED, "manifest", "manifest"),
        (JobState.MAP, "input", "input"),
        (JobState.REDUCE, "", "code and"),
    ],
)
def test_a_job_whose_files_are_gone_is_named(healthy: Parts, state: JobState, gone: str, path: str) -> None:
    """It can't go on, or its result can't be read."""
    healthy.add_job(0, state, ended_at=time.time() if state.ended else 0.0)
    if not state.ended:
        healthy.registry.claim("job_0", "m-1")
    healthy.store.delete(f"jobs/job_0/{gone}".rstrip("/"))
    severity, where, what = only(diagnose(healthy))
    assert (severity, where) == ("error", "job_0")
    assert path in what


def test_a_queue_that_nobody_consumes_is_named(parts: Parts) -> None:
    """Though there are workers, or messages."""
    parts.add_member("masters", "m-1")
    parts.add_member("workers", "w-1")
    found = diagnose(parts).findings
    assert [f.where for f in found] == sorted(parts.topology.queue(phase) for phase in Phase)
    assert all(f.what.startswith("nobody consumes it, though 1 workers") for f in found)


def test_dead_letters_are_named(healthy: Parts) -> None:
    """With the command to look at them."""
    body = TaskMessage(job_id="job_0", phase=Phase.MAP, index=0, epoch=1, attempt=0)
    dead = envelope.task(healthy.topology, body, healthy.key)
    letter = type(dead)(healthy.topology.dead_letters, dead.routing_key, dead.type, dead.body)
    healthy.broker.publish([letter]).result(5)
    assert only(diagnose(healthy)) == (
        "warning", healthy.topology.queue("dead"), "1 dead letters: workers died of them, or refused them",
    )  # fmt: skip
    assert diagnose(healthy).findings[0].do == "mrq dlq list"


def test_a_broker_that_confirms_nothing_is_named(healthy: Parts) -> None:
    """A real publish is tried: one that no queue takes."""
    healthy.server.block()
    severity, where, what = only(diagnose(healthy))
    assert (severity, where) == ("error", "RabbitMQ")
    assert "alarm" in what
    healthy.server.unblock()


def test_orphaned_queues_are_named(healthy: Parts, web: Web) -> None:
    """Private ones without a consumer, and those of another version of mrq; nobody else's."""
    web.answers["/api/queues/mrq"] = [
        {"name": "mrq.v1.private.1", "consumers": 0},
        {"name": "mrq.v1.private.2", "consumers": 1},
        {"name": "mrq.v1.private.3"},
        {"name": "mrq.v1.map", "consumers": 1},
        {"name": "mrq.v0.map", "messages": 7},
        {"name": "mrq.v0.orders", "messages": 7},
        {"name": "orders", "consumers": 0},
    ]
    found = diagnose(healthy, rabbitmq_management_url=web.url).findings
    assert [(f.severity.value, f.where) for f in found] == [
        ("warning", "mrq.v1.private.1"),
        ("info", "mrq.v0.map"),
    ]
    assert found[0].do == "rabbitmqctl delete_queue --vhost mrq mrq.v1.private.1"


def test_alarms_are_named(healthy: Parts, web: Web) -> None:
    """Memory, disk, partitions, and nodes that do not run."""
    fine = {"running": True, "mem_alarm": False, "disk_free_alarm": False, "partitions": []}
    web.answers["/api/nodes"] = [
        fine | {"name": "a"}, fine | {"name": "b", "mem_alarm": True}, fine | {"name": "c", "disk_free_alarm": True},
        fine | {"name": "d", "partitions": ["a"]}, {"name": "e", "running": False},
    ]  # fmt: skip
    found = diagnose(healthy, rabbitmq_management_url=web.url).findings
    assert [f.where[-1] for f in found] == ["b", "c", "d", "e"]
    assert all(f.severity is Severity.ERROR for f in found)


@pytest.mark.parametrize(("ahead", "what"), [(300.0, "5 min ahead of"), (-7800.0, "2 h behind")])
def test_a_server_whose_clock_is_wrong_is_named(healthy: Parts, web: Web, ahead: float, what: str) -> None:
    """Servers that speak HTTP tell their time."""
    web.ahead = ahead
    severity, where, said = only(diagnose(healthy, hdfs_urls=(web.url,)))
    assert (severity, where) == ("warning", f"HDFS at {web.url}")
    assert what in said


def test_a_clock_that_is_right_is_not_ahead(web: Web, parts: Parts) -> None:
    """The header has whole seconds only, which is no skew."""
    for _ in range(5):
        assert clock_ahead(web.url, parts.settings) == 0.0
        time.sleep(0.15)


def test_a_server_that_is_away_is_named_and_the_rest_is_looked_at(healthy: Parts, web: Web) -> None:
    """What takes it is not looked at, and that is said."""

    class Away(FolderStore):
        def ping(self) -> None:
            raise StoreUnavailable("no answer")

    healthy.store = Away(healthy.folder)
    healthy.add_member("masters", "m-2", mrq="0.0.1")
    found = diagnose(healthy, rabbitmq_management_url=web.url)
    assert [(f.severity.value, f.where) for f in found.findings] == [
        ("error", "HDFS"),
        ("warning", "master m-2"),
    ]
    assert found.unchecked == dict.fromkeys(("left files", "lost files"), "that takes HDFS")


def test_when_all_is_away_all_is_named(parts: Parts) -> None:
    """And it does not take for ever."""
    own = parts.settings.model_copy(
        update={
            "hdfs_urls": (f"http://{NOBODY}",), "zookeeper_hosts": (NOBODY,), "rabbitmq_hosts": (NOBODY,),
            "rabbitmq_management_url": f"http://{NOBODY}", "connect_timeout": 1.0, "operation_timeout": 1.0,
        }
    )  # fmt: skip
    began = time.monotonic()
    with LocalMonitoring(own) as servers:
        found = Doctor(servers, own).diagnose()
    assert {f.where for f in found.findings} == {"ZooKeeper", "HDFS", "RabbitMQ", "RabbitMQ's management API"}
    assert time.monotonic() - began < 15
