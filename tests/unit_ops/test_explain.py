"""A job's story, from records made by hand and from jobs that ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import mrq
from mrq.config import Settings
from mrq.core.model import JobState, Phase, TaskState
from mrq.errors import BrokerUnavailable, StoreUnavailable, UnknownJob
from mrq.monitoring import LocalMonitoring
from mrq.ops.explain import Story, explain, lines
from mrq.records import TaskPage, TaskRow
from tests.jobs import add_up, count_characters
from tests.unit_ops.conftest import eventually

if TYPE_CHECKING:
    from tests.unit_ops.conftest import Parts


def tell(parts: Parts, job_id: str = "job_0") -> Story:
    servers = LocalMonitoring(parts.settings, registry=parts.registry, store=parts.store, broker=parts.broker)
    return explain(job_id, servers, parts.settings)


def test_a_job_that_ran_tells_who_did_what_and_when() -> None:
    """In the order of time, from submission to its end."""
    settings = Settings(inline_bytes=0)  # files have times, records have not
    with mrq.EmbeddedCluster(n_workers=2, settings=settings) as cluster:
        future = cluster.mapreduce(["ab", "bc", "cd"], count_characters, add_up, 3, n_reducers=2)
        future.result(60)

        def told() -> Story:
            return explain(future.job_id, cluster.local_monitoring, cluster._settings)

        # The future ends with the record; the master's last words for people come after it.
        eventually(lambda: sum(told().phases[Phase.REDUCE].workers.values()) == 2, "all is told")
        story = told()
    said = [event.what for event in story.events]
    assert said[0].startswith("submitted by ")
    assert "3 elements, 3 map tasks, 2 partitions" in said[0]
    assert said[1] == "map: the first of 3 results is written"
    assert said[-1] == "completed"
    assert [event.at for event in story.events] == sorted(event.at for event in story.events)
    assert {phase: (known.done, known.total) for phase, known in story.phases.items()} == {
        Phase.MAP: (3, 3), Phase.SHUFFLE: (2, 2), Phase.REDUCE: (2, 2),
    }  # fmt: skip
    assert sum(story.phases[Phase.MAP].workers.values()) == 3
    assert set(story.phases[Phase.MAP].workers) <= {"worker-0", "worker-1"}
    assert story.files["map_results"][0] == 3
    assert (len(story.epochs), story.waits_for, story.unknown) == (1, [], {})


def test_a_failure_is_told_with_its_attempts() -> None:
    """Each that raised left a file."""

    def explode(strings: list[str]) -> Any:
        raise ValueError("odd")

    with mrq.EmbeddedCluster(n_workers=1) as cluster:
        future = cluster.mapreduce(["ab"], explode, add_up, 1, retries=1)
        assert isinstance(future.exception(60), ValueError)
        story = explain(future.job_id, cluster.local_monitoring, cluster._settings)
    said = "\n".join(event.what for event in story.events)
    assert "map 0 raised on attempt 0" in said
    assert "map 0 raised on attempt 1" in said
    assert story.events[-1].what == "failed: map 0 after 2 attempts: raised: ValueError: odd"


def test_a_job_that_waits_says_for_what(parts: Parts) -> None:
    """First for those who could work, then for its tasks."""
    parts.add_job(0, JobState.SUBMITTED, epoch=0, python="3.99")
    assert tell(parts).waits_for == [
        "a master: none is registered (mrq master)",
        "workers: none is registered (mrq worker)",
    ]
    parts.add_member("masters", "m-1")
    parts.add_member("workers", "w-1")
    assert tell(parts).waits_for == ["a master to claim it", "a worker with Python 3.99: there is none"]


def test_tasks_that_run_are_told_with_their_workers(parts: Parts) -> None:
    """A worker that is gone is named as such; so is one that needed a second attempt."""
    parts.add_job(0)
    parts.add_member("masters", "m-1")
    parts.add_member("workers", "w-1")
    epoch = parts.registry.claim("job_0", "m-1")
    rows = [
        TaskRow(index=0, state=TaskState.COMPLETED, worker="w-1"),
        TaskRow(index=1, state=TaskState.RUNNING, worker="w-1", attempt=2),
        TaskRow(index=2, state=TaskState.RUNNING, worker="w-9"),
        TaskRow(index=3, state=TaskState.QUEUED),
    ]
    parts.registry.write_page("job_0", 0, TaskPage(phase=Phase.MAP, rows=rows))
    parts.store.write("jobs/job_0/attempts/map-1-5-0", b"x")
    story = tell(parts)
    assert story.waits_for == [
        "map 1, attempt 2, which runs at w-1",
        "map 2, attempt 0, which runs at w-9, which is not registered any more: another will get it",
        "map 3, attempt 0, which is in the queue",
        "queue map: 0 messages of all jobs wait, 0 consumers",
    ]
    assert story.phases[Phase.MAP].again == {1: 2}
    assert story.epochs == [5, 7]
    assert story.events[-1].what == f"claimed by m-1: epoch {epoch}"
    text = "\n".join(lines(story))
    assert "map 1 needed attempt 2" in text
    assert "epochs that left a trace: 5, 7" in text
    assert "waits    map 3, attempt 0, which is in the queue" in text


def test_what_cannot_be_asked_is_said(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZooKeeper is enough for the most of it."""

    def away(*_: Any) -> Any:
        raise StoreUnavailable("no HDFS")

    def dumb() -> Any:
        raise BrokerUnavailable("no RabbitMQ")

    parts.add_job(0)
    monkeypatch.setattr(parts.store, "list", away, raising=False)
    monkeypatch.setattr(parts.broker, "depths", dumb)
    story = tell(parts)
    assert story.unknown == {"HDFS": "no HDFS", "RabbitMQ": "no RabbitMQ"}
    assert story.events[0].what.startswith("submitted by c-1")


def test_files_with_other_names_are_no_attempts(parts: Parts) -> None:
    """Somebody put them there."""
    parts.add_job(0)
    parts.store.write("jobs/job_0/errors/notes.txt", b"x")
    assert tell(parts).epochs == [7]


def test_an_unknown_job_is_an_error(parts: Parts) -> None:
    """It was never here, or has been cleared."""
    with pytest.raises(UnknownJob):
        tell(parts, "job_5")


def test_no_story_holds_the_jobs_key(parts: Parts) -> None:
    """It may be shown to anyone."""
    record = parts.add_job(0)
    assert record.key not in tell(parts).model_dump_json()
