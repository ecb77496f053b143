"""`LocalMonitoring` over embedded parts with records made by hand."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrq import LocalMonitoring, Settings
from mrq.broker.embedded import EmbeddedBroker, EmbeddedBrokerServer
from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.core.model import JobState, Phase, TaskState
from mrq.errors import BrokerUnavailable, CoordinationUnavailable, JobError, StoreUnavailable, UnknownJob
from mrq.monitoring import Status, Zoo
from mrq.monitoring.tables import render
from mrq.records import FailureRecord, JobRecord, MemberInfo, PhaseProgress, ProgressRecord, TaskPage, TaskRow
from mrq.registry import Registry
from mrq.store.folder import FolderStore
from mrq.wire import Stats

KEY = "5ec2e75e" * 8


def _record(job_id: str, **changes: object) -> JobRecord:
    record = JobRecord(
        job_id=job_id,
        key=KEY,
        n_map=2,
        n_reduce=1,
        python="3.11",
        mrq="0.1.0",
        submitted_at=1000.0,
        client="c-1",
    )
    return record.model_copy(update=changes)


def _member(state: str, slots: int = 0) -> MemberInfo:
    return MemberInfo(hostname="h", pid=7, python="3.11", mrq="0.1.0", slots=slots, state=state, jobs=1)


def _page(phase: Phase, *rows: TaskRow) -> TaskPage:
    return TaskPage(phase=phase, rows=list(rows))


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A tree with a master, a worker, a job half done, a failed one and a new one."""
    registry = Registry(EmbeddedCoordination(EmbeddedTree()))
    registry.register("masters", "m-1", _member("working"))
    registry.register("workers", "w-1", _member("busy", slots=2))
    registry.submit(_record("job_0", state=JobState.SHUFFLE, epoch=3))
    registry.claim("job_0", "m-1")
    mapped = PhaseProgress(
        done=2, total=2, stats=Stats(records_in=10, records_out=20, bytes_in=5, bytes_out=6, seconds=1.5)
    )
    registry.write_progress(
        "job_0", ProgressRecord(phases={Phase.MAP: mapped, Phase.SHUFFLE: PhaseProgress(total=1)})
    )
    done = {"state": TaskState.COMPLETED, "received": True}
    registry.write_page(
        "job_0",
        0,
        _page(Phase.MAP, TaskRow(index=0, worker="w-1", **done), TaskRow(index=1, worker="w-2", **done)),
    )
    running = TaskRow(index=0, state=TaskState.RUNNING, worker="w-2", received=True)
    registry.write_page("job_0", 0, _page(Phase.SHUFFLE, running))
    failure = FailureRecord(
        kind="raised", phase=Phase.MAP, index=1, attempts=1, type="ValueError", message="odd"
    )
    registry.submit(_record("job_2", state=JobState.FAILED, ended_at=1012.5, failure=failure))
    registry.submit(_record("job_10"))
    yield registry
    registry.tree.close()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path)
    for name in ("code", "input", "map_results/0", "map_results/2", "map_results/10", "manifest"):
        store.write(f"jobs/job_0/{name}", name.encode())
    store.make_dirs("jobs/job_0/attempts")
    store.write("jobs/job_10/code", b"")
    store.write("jobs/job_2/code", b"")
    return store


@pytest.fixture
def monitoring(registry: Registry, store: FolderStore) -> Iterator[LocalMonitoring]:
    settings = Settings()
    broker = EmbeddedBroker(EmbeddedBrokerServer(settings))
    with LocalMonitoring(settings, registry=registry, store=store, broker=broker) as monitoring:
        yield monitoring
    broker.close()


def test_print_zoo_prints_each_section_in_the_known_layout(
    monitoring: LocalMonitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    monitoring.print_zoo()
    lines = capsys.readouterr().out.splitlines()
    titles = [line.strip("- ") for line in lines if line.startswith("---")]
    assert titles == [
        "Zoo Masters",
        "Zoo Workers",
        "Zoo Map Tasks",
        "Zoo Shuffle Tasks",
        "Zoo Reduce Tasks",
        "Zoo Jobs",
        "Dead Worker Tasks",
    ]
    assert lines[:2] == ["", "----------------- Zoo Masters -----------------"]
    assert lines[2].startswith("Master m-1 :  MasterInfo(state='working', ")
    assert any(line.startswith("Worker w-1 :  WorkerInfo(state='busy', ") for line in lines)
    assert "Task 0_1 :  Task(state='completed', worker_hostname='w-2', received=True)" in lines
    assert "Task 0_0 :  Task(state='in-progress', worker_hostname='w-2', received=True)" in lines
    assert [line.split()[1] for line in lines if line.startswith("Job ")] == ["0", "2", "10"]


def test_tasks_in_progress_at_a_worker_that_is_gone_are_dead_worker_tasks(
    monitoring: LocalMonitoring, registry: Registry
) -> None:
    assert list(monitoring.zoo().dead_worker_tasks) == ["shuffle 0_0"]
    registry.register("workers", "w-2", _member("busy", slots=1))
    assert monitoring.zoo().dead_worker_tasks == {}


def test_the_last_tasks_of_a_job_that_just_completed_are_waited_for(
    monitoring: LocalMonitoring, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is out before its master has told all of the job's tasks."""
    registry.submit(_record("job_11", state=JobState.COMPLETED, ended_at=time.time()))

    def meanwhile(_seconds: float) -> None:
        for phase, total in {Phase.MAP: 2, Phase.SHUFFLE: 1, Phase.REDUCE: 1}.items():
            rows = (TaskRow(index=i, state=TaskState.COMPLETED, worker="w-1") for i in range(total))
            registry.write_page("job_11", 0, _page(phase, *rows))
        done = {phase: PhaseProgress(done=n, total=n) for phase, n in zip(Phase, (2, 1, 1), strict=True)}
        registry.write_progress("job_11", ProgressRecord(phases=done))

    monkeypatch.setattr("mrq.monitoring.local.time.sleep", meanwhile)
    zoo = monitoring.zoo()
    assert zoo.jobs["11"].done == 4
    assert {"11_0", "11_1"} <= zoo.map_tasks.keys()
    assert zoo.reduce_tasks["11_0"].worker_hostname == "w-1"


def test_print_zoo_returns_what_it_prints_and_no_key(monitoring: LocalMonitoring) -> None:
    text = monitoring.print_zoo().model_dump_json()
    assert Zoo.model_validate_json(text).jobs["2"].failure == "map 1: ValueError: odd"
    assert KEY not in text


def test_print_hdfs_prints_the_tree_with_numbers_in_order(
    monitoring: LocalMonitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = monitoring.print_hdfs("jobs")
    assert capsys.readouterr().out.splitlines() == [
        "job_0/",
        "  attempts/",
        "  code",
        "  input",
        "  manifest",
        "  map_results/",
        "    0",
        "    2",
        "    10",
        "job_2/",
        "  code",
        "job_10/",
        "  code",
    ]
    assert tree["job_0/"]["attempts/"] == {}
    assert tree["job_0/"]["map_results/"] == {"0": 13, "2": 13, "10": 14}


def test_print_hdfs_of_the_root_or_of_nothing(
    monitoring: LocalMonitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(monitoring.hdfs("")) == ["jobs/"]
    assert monitoring.print_hdfs("jobs/job_7") == {}
    assert capsys.readouterr().out == ""


def test_status_tells_members_jobs_and_queues_at_a_glance(monitoring: LocalMonitoring) -> None:
    status = monitoring.status()
    assert status.missing == {}
    assert (list(status.masters), status.workers["w-1"].slots) == (["m-1"], 2)
    half, failed, new = status.jobs
    assert (half.job_id, half.state, half.owner, half.done, half.total) == ("job_0", "shuffle", "m-1", 2, 4)
    assert half.phases["map"].records_out == 20
    assert (failed.state, failed.seconds, failed.owner) == ("failed", 12.5, None)
    assert (new.state, new.done, new.age > 0) == ("submitted", 0, True)
    assert set(status.queues) == {"map", "shuffle", "reduce", "dead"}
    assert Status.model_validate_json(status.model_dump_json()) == status


def test_status_is_drawn_as_a_table_for_each_kind(
    monitoring: LocalMonitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    Console(width=160).print(*render(monitoring.status()))
    text = capsys.readouterr().out
    assert all(title in text for title in ("Masters", "Workers", "Jobs", "Queues"))
    assert "map 1: ValueError: odd" in text
    assert "2/2" in text


def test_print_queues_prints_each_depth(
    monitoring: LocalMonitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    monitoring.print_queues()
    assert "Queue dead :  Queue(ready=0, " in capsys.readouterr().out


class _Away:
    """Any port, and nobody behind it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> object:
        def fail(*_: object, **__: object) -> None:
            raise self._error

        return fail


@pytest.mark.parametrize("away", ["ZooKeeper", "HDFS", "RabbitMQ"])
def test_what_is_away_is_named_and_the_rest_is_shown(
    away: str, registry: Registry, store: FolderStore
) -> None:
    settings = Settings()
    broker = EmbeddedBroker(EmbeddedBrokerServer(settings))
    parts = {"registry": registry, "store": store, "broker": broker}
    port, error = {
        "ZooKeeper": ("registry", CoordinationUnavailable("no answer")),
        "HDFS": ("store", StoreUnavailable("no answer")),
        "RabbitMQ": ("broker", BrokerUnavailable("no answer")),
    }[away]
    status = LocalMonitoring(settings, **(parts | {port: _Away(error)})).status()
    broker.close()
    assert {name: m.error for name, m in status.missing.items()} == {away: type(error).__name__}
    assert bool(status.jobs) == bool(status.masters) == (away != "ZooKeeper")
    assert bool(status.queues) == (away != "RabbitMQ")
    titles = [table.title for table in render(status)]
    assert ("Jobs" in titles, "Queues" in titles) == (away != "ZooKeeper", away != "RabbitMQ")


def test_cancel_asks_for_the_end_of_a_job_that_has_not_ended(
    monitoring: LocalMonitoring, registry: Registry
) -> None:
    monitoring.cancel("job_0")
    assert registry.require("job_0").record.cancel_requested
    monitoring.cancel("job_10")
    assert registry.require("job_10").record.state is JobState.CANCELLED
    with pytest.raises(JobError, match="job_2 can't be cancelled any more: it has failed"):
        monitoring.cancel("job_2")
    with pytest.raises(UnknownJob, match="job_99"):
        monitoring.cancel("job_99")


def test_the_command_prints_the_same(
    monitoring: LocalMonitoring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mrq.cli import main

    monkeypatch.setattr("mrq.logs.set_up", lambda *_: None)
    monkeypatch.setattr("mrq.cli.verbs._monitoring", lambda _args: monitoring)
    assert main(["status", "--json"]) == 0
    assert Status.model_validate_json(capsys.readouterr().out).workers.keys() == {"w-1"}
    assert main(["zoo", "--json"]) == 0
    assert Zoo.model_validate_json(capsys.readouterr().out).map_tasks.keys() == {"0_0", "0_1"}
    assert main(["hdfs", "jobs/job_0", "--json"]) == 0
    assert "map_results/" in json.loads(capsys.readouterr().out)
    assert main(["jobs", "--json"]) == 0
    assert [job["job_id"] for job in json.loads(capsys.readouterr().out)] == ["job_0", "job_2", "job_10"]
    assert main(["cancel", "job_2", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "JobError"
    assert main(["cancel", "job_10"]) == 0
    assert capsys.readouterr().out == "job_10 is cancelled\n"
