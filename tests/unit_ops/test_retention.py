"""Jobs that ended long ago, or before many others, are cleared; what runs never is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrq.config import Settings
from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.core.model import JobState
from mrq.errors import StoreUnavailable
from mrq.records import JobRecord
from mrq.registry import Registry
from mrq.retention import AT_ONCE, Retention, due
from mrq.store.folder import FolderStore

DAY = 86400.0


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry(EmbeddedCoordination(EmbeddedTree()))
    yield registry
    registry.tree.close()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def add(registry: Registry, store: FolderStore, number: int, state: JobState, ended_ago: float = 0.0) -> str:
    """Have a job with a file."""
    job_id, now = f"job_{number}", time.time()
    record = JobRecord(
        job_id=job_id, key="5e" * 32, n_map=1, n_reduce=1, python="3.11", mrq="0", state=state,
        submitted_at=now - 30 * DAY, ended_at=now - ended_ago if state.ended else 0.0,
    )  # fmt: skip
    registry.submit(record)
    store.write(f"jobs/{job_id}/code", b"code")
    return job_id


def sweep(registry: Registry, store: FolderStore, **settings: float) -> list[str]:
    """Sweep once; return which jobs are left."""
    Retention(registry, store, Settings(**settings)).sweep()  # type: ignore[arg-type]  # pydantic checks
    return registry.job_ids()


def test_nothing_is_due_without_limits() -> None:
    """Zero stands for no limit, of age and of number alike."""
    assert due({"job_0": 0.0}, 1e9, age=0, count=0, grace=0) == []


def test_the_first_to_have_ended_are_due_first() -> None:
    """Not the first to have been submitted."""
    ended = {"job_0": 30.0, "job_1": 10.0, "job_2": 20.0}
    assert due(ended, 1000, age=0, count=1, grace=5) == ["job_1", "job_2"]
    assert due(ended, 1000, age=975, count=0, grace=5) == ["job_1", "job_2"]
    assert due(ended, 1000, age=975, count=2, grace=5) == ["job_1", "job_2"]


def test_a_job_that_has_just_ended_is_not_due() -> None:
    """Its client may be reading the result, however many have ended since."""
    assert due({"job_0": 98.0, "job_1": 99.0, "job_2": 99.5}, 100, age=1, count=1, grace=5) == []


def test_old_jobs_go_with_their_files(registry: Registry, store: FolderStore) -> None:
    """A week is the default; one that runs stays, however old."""
    add(registry, store, 0, JobState.COMPLETED, 8 * DAY)
    add(registry, store, 1, JobState.FAILED, 6 * DAY)
    add(registry, store, 2, JobState.CANCELLED, 9 * DAY)
    add(registry, store, 3, JobState.MAP)
    add(registry, store, 4, JobState.SUBMITTED)
    assert sweep(registry, store) == ["job_1", "job_3", "job_4"]
    assert [entry.name for entry in store.list("jobs")] == ["job_1", "job_3", "job_4"]


def test_only_the_last_to_have_ended_stay(registry: Registry, store: FolderStore) -> None:
    """Jobs that run don't count."""
    for number in range(5):
        add(registry, store, number, JobState.COMPLETED, 1000 - number)
    add(registry, store, 5, JobState.REDUCE)
    assert sweep(registry, store, retention_count=2) == ["job_3", "job_4", "job_5"]


def test_a_sweep_clears_some_and_the_next_goes_on(registry: Registry, store: FolderStore) -> None:
    """A master has other things to do, too."""
    for number in range(AT_ONCE + 3):
        add(registry, store, number, JobState.COMPLETED, 8 * DAY)
    retention = Retention(registry, store, Settings())
    retention.sweep()
    assert len(registry.job_ids()) == 3
    retention.sweep()
    assert registry.job_ids() == []


def test_a_store_that_is_away_costs_nothing(registry: Registry, tmp_path: Path) -> None:
    """The record stays until the files are gone, so that they are found again."""

    class Away(FolderStore):
        def delete(self, path: str) -> bool:
            raise StoreUnavailable("away")

    store = FolderStore(tmp_path)
    add(registry, store, 0, JobState.COMPLETED, 8 * DAY)
    with pytest.raises(StoreUnavailable):
        sweep(registry, Away(tmp_path))
    assert registry.job_ids() == ["job_0"]
    assert sweep(registry, store) == []


def test_a_record_that_cannot_be_read_is_left_alone(registry: Registry, store: FolderStore) -> None:
    """Whoever wrote it may know why."""
    registry.tree.create("/jobs/job_0", b"rubbish")
    add(registry, store, 1, JobState.COMPLETED, 8 * DAY)
    assert sweep(registry, store) == ["job_0"]
