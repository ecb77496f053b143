"""The timelines that masters leave of jobs which have ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq import layout, timeline
from mrq.core.model import JobState, Phase
from mrq.errors import BadSignature, JobError, MrqError, StoreUnavailable
from mrq.records import JobRecord
from mrq.report import report_of
from mrq.timeline import Archive, Recorder, Timeline
from mrq.wire import Outcome, Report, Stats
from tests.jobs import Gate, add_up, count_characters


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    """A cluster that the tests of this module share."""
    with mrq.EmbeddedCluster(n_workers=2) as cluster:
        yield cluster


def read(cluster: mrq.EmbeddedCluster, job_id: str) -> Timeline:
    """Return a job's timeline once it is there."""
    end = time.monotonic() + 30
    while cluster._store.status(layout.timeline(job_id)) is None:
        assert time.monotonic() < end, f"{job_id} has no timeline"
        time.sleep(0.01)
    return timeline.read(cluster._store, cluster._registry.require(job_id).record)


def test_a_job_that_ran_has_the_times_of_each_task(cluster: mrq.EmbeddedCluster) -> None:
    """In the order in which they must have been, with what the child did between."""
    future = cluster.mapreduce(
        ["ab", "bc", "cd"], count_characters, add_up, 3, n_reducers=2, speculative=False
    )
    future.result(60)
    seen = read(cluster, future.job_id)
    assert (seen.state, seen.resumed) == (JobState.COMPLETED, False)
    assert seen.called <= seen.submitted <= 0.0  # of the claim
    assert [act.kind for act in seen.acts] == [
        "persist",
        "persist",
        "persist",
        "manifest",
        "clean",
        "persist",
    ]
    assert {phase: len(rows) for phase, rows in seen.attempts.items()} == {
        Phase.MAP: 3, Phase.SHUFFLE: 2, Phase.REDUCE: 2,
    }  # fmt: skip
    for phase, rows in seen.attempts.items():
        assert sorted(row.task for row in rows) == list(range(len(rows)))
        for row in rows:
            assert (row.end, row.attempt) == ("done", 0)
            moments = [0.0, row.published, row.received, row.began, row.sent, row.heard, seen.acts[-1].ended]
            assert None not in moments
            assert moments == sorted(moments, key=float)  # type: ignore[arg-type]
            needed = {"load", "read", "pack", "write", "commit"}
            needed |= {"run"} if phase is not Phase.SHUFFLE else set()
            assert row.spent.keys() >= needed
            assert sum(row.spent.values()) <= row.sent - row.began + 0.001  # type: ignore[operator]
            assert seen.workers[row.worker] in ("worker-0", "worker-1")
    assert sum(row.records_in for row in seen.attempts[Phase.MAP]) == 3


def test_attempts_that_failed_are_told_with_how_they_ended(cluster: mrq.EmbeddedCluster) -> None:
    """Also of a job that failed by them."""

    def explode(strings: list[str]) -> Any:
        raise ValueError("odd")

    future = cluster.mapreduce(["ab"], explode, add_up, 1, retries=1)
    assert isinstance(future.exception(60), ValueError)
    seen = read(cluster, future.job_id)
    assert seen.state is JobState.FAILED
    assert [(row.task, row.attempt, row.end) for row in seen.attempts[Phase.MAP]] == [
        (0, 0, "raised"),
        (0, 1, "raised"),
    ]
    assert all(row.spent["run"] > 0 for row in seen.attempts[Phase.MAP])


def test_a_successor_tells_what_it_saw(tmp_path: Path) -> None:
    """That there was an owner before it, and what was heard since."""
    gate = Gate(tmp_path)

    def map_func(strings: list[str]) -> Any:
        gate.wait("map")
        return count_characters(strings)

    with mrq.EmbeddedCluster(n_workers=2, n_masters=2) as cluster:
        future = cluster.mapreduce(["a"], map_func, add_up, 1, speculative=False)
        while not gate.reached("map"):
            threading.Event().wait(0.01)
        epoch = cluster._registry.require(future.job_id).record.epoch
        owner = cluster._registry.owner(future.job_id)
        next(m for m in cluster.masters if m.service.name == owner).tree.expire()
        while cluster._registry.require(future.job_id).record.epoch == epoch:
            threading.Event().wait(0.01)
        gate.open("map")
        future.result(60)
        seen = read(cluster, future.job_id)
    assert seen.resumed
    assert "done" in [row.end for row in seen.attempts[Phase.MAP]]


def test_a_future_reports_where_its_jobs_time_went(cluster: mrq.EmbeddedCluster) -> None:
    """As soon as the result is there: all of the time, and each task once."""
    future = cluster.mapreduce(["ab", "bc"], count_characters, add_up, 2, speculative=False)
    future.result(60)
    report = future.report()
    assert sum(share.path for share in report.shares().values()) == pytest.approx(report.seconds, abs=1e-3)
    assert report.shares()["run"].path > 0
    assert report._repr_html_().count('class="task"') == 2 + 2 + 2


def test_a_job_that_runs_has_no_report_yet(cluster: mrq.EmbeddedCluster, tmp_path: Path) -> None:
    """The message says when it will, and where to look meanwhile."""
    gate = Gate(tmp_path)

    def map_func(strings: list[str]) -> Any:
        gate.wait("map")
        return count_characters(strings)

    future = cluster.mapreduce(["a"], map_func, add_up)
    with pytest.raises(JobError, match=f"{future.job_id} has not ended .* mrq explain {future.job_id}"):
        future.report()
    gate.open("map")
    future.result(60)


def test_a_job_without_a_timeline_is_said_to_have_none(
    cluster: mrq.EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some patience; and a timeline that is there in part only gets the same."""
    monkeypatch.setattr("mrq.report.PATIENCE", 0.2)
    lone = record(job_id="job_997")
    cluster._registry.submit(lone)
    with pytest.raises(JobError, match="no timeline of it was kept"):
        report_of(lone.job_id, cluster._registry, cluster._store)
    cluster._store.write(layout.timeline(lone.job_id), b"half of")
    with pytest.raises(BadSignature):
        report_of(lone.job_id, cluster._registry, cluster._store)

    def complete() -> None:
        timeline.write(cluster._store, lone, Recorder(7).timeline(lone, resumed=False))

    monkeypatch.setattr("mrq.report.PATIENCE", 60.0)
    threading.Timer(0.2, complete).start()
    assert report_of(lone.job_id, cluster._registry, cluster._store).timeline.job_id == lone.job_id
    cluster.clear(lone.job_id)


# ---------------------------------------------------------------- notes made by hand


def report(
    sent: float, end: Any = "done", task: int = 0, attempt: int = 0, epoch: int = 7, **more: Any
) -> Report:
    outcome = (
        Outcome(kind=end, stats=Stats(records_in=2), began=sent - 1, spent={"run": 0.5}) if end else None
    )
    fields = {"job_id": "job_0", "phase": Phase.MAP, "index": task, "epoch": epoch, "attempt": attempt}
    return Report(**fields, worker="w-1", received=sent - 2, sent=sent, outcome=outcome, **more)


def record(**more: Any) -> JobRecord:
    fields: dict[str, Any] = {
        "job_id": "job_0",
        "key": "5e" * 32,
        "n_map": 2,
        "n_reduce": 1,
        "python": "3",
        "mrq": "0",
    }
    return JobRecord(**(fields | {"state": JobState.COMPLETED} | more))


def test_what_is_told_twice_is_noted_once() -> None:
    """And a second attempt that was done is not the one that counted."""
    recorder = Recorder(7)
    now = time.time()
    recorder.publishes(Phase.MAP, 0, 0)
    for told in (report(now), report(now), report(now + 1, attempt=1)):
        recorder.hears(told)
    rows = recorder.timeline(record(), resumed=False).attempts[Phase.MAP]
    assert [(row.attempt, row.end) for row in rows] == [(0, "done"), (1, "second")]
    assert rows[0].published is not None
    assert rows[1].published is None


def test_what_an_older_epoch_published_was_not_published_by_us() -> None:
    """Its attempts have the same numbers."""
    recorder = Recorder(7)
    recorder.publishes(Phase.MAP, 0, 0)
    recorder.hears(report(time.time(), epoch=3))
    (row,) = recorder.timeline(record(), resumed=True).attempts[Phase.MAP]
    assert (row.end, row.published) == ("done", None)


def test_an_attempt_of_which_no_end_was_heard_is_lost() -> None:
    """It was received, and that is all."""
    recorder = Recorder(7)
    recorder.publishes(Phase.MAP, 1, 0)
    recorder.hears(report(time.time(), None, task=1))
    recorder.hears(report(time.time(), None))
    recorder.hears(report(time.time()))
    rows = recorder.timeline(record(), resumed=False).attempts[Phase.MAP]
    assert [(row.task, row.end, row.sent) for row in rows[1:]] == [(1, "lost", None)]


def test_a_straggler_that_was_stopped_for_its_backup_came_second() -> None:
    """It reports nothing any more; another attempt is done."""
    recorder = Recorder(7)
    recorder.hears(report(time.time(), None))
    recorder.hears(report(time.time(), attempt=1))
    rows = recorder.timeline(record(), resumed=False).attempts[Phase.MAP]
    assert [(row.attempt, row.end) for row in rows] == [(1, "done"), (0, "second")]


@pytest.fixture
def archive(cluster: mrq.EmbeddedCluster) -> Iterator[Archive]:
    archive = Archive(cluster._registry, cluster._store)
    yield archive
    archive.close()


def test_a_job_that_was_cleared_does_not_come_back(
    cluster: mrq.EmbeddedCluster, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when it was cleared before, nor while its timeline is written."""
    gone = record(job_id="job_999")
    archive.keep(gone, Recorder(7), resumed=False)
    here = record(job_id="job_998")
    cluster._registry.submit(here)
    write = cluster._store.write

    def late(path: str, data: Any) -> int:
        cluster.clear(here.job_id)
        return write(path, data)

    monkeypatch.setattr(cluster._store, "write", late)
    archive.keep(here, Recorder(7), resumed=False)
    archive._pool.shutdown(wait=True)
    assert cluster._store.status(layout.folder(gone.job_id)) is None
    assert cluster._store.status(layout.folder(here.job_id)) is None
    assert cluster._registry.job(here.job_id) is None


def test_a_store_that_refuses_the_timeline_fails_no_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for it, and it is no error."""
    tried = threading.Event()

    def refuse(*_: Any) -> None:
        tried.set()
        raise StoreUnavailable("away")

    monkeypatch.setattr(timeline, "write", refuse)
    with caplog.at_level("INFO", logger="mrq.timeline"), mrq.EmbeddedCluster(n_workers=1) as cluster:
        for _ in range(2):
            assert cluster.mapreduce(["a"], count_characters, add_up).result(60) == [("a", 1)]
        assert tried.wait(30)
    assert {record.levelname for record in caplog.records if record.name == "mrq.timeline"} == {"INFO"}


def test_a_forged_timeline_is_refused(cluster: mrq.EmbeddedCluster) -> None:
    """It is signed as all files are."""
    future = cluster.mapreduce(["a"], count_characters, add_up, 1)
    future.result(60)
    read(cluster, future.job_id)
    (path,) = [path for path in cluster._root.rglob("timeline") if path.parent.name == future.job_id]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(MrqError, match="not signed"):
        read(cluster, future.job_id)
