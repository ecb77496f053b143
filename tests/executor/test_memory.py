"""Memory limits: what a function takes beyond its own ends its task, with an error that says so, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import mrq
from mrq.errors import ConfigurationError, PoisonTaskError, RemoteTraceback, TaskMemoryError
from tests.jobs import add_up, count_characters, plain

MIB = 2**20
LIMIT = 64 * MIB


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    """A cluster that the tests of this module share."""
    with mrq.EmbeddedCluster(n_workers=2) as cluster:
        yield cluster


def take(n_bytes: int) -> int:
    """Take memory, and use it."""
    return len(bytearray(n_bytes))


def take_bit_by_bit(n_bytes: int) -> int:
    """Take memory in small objects, as Python programs do."""
    held = [b"%d" % number for number in range(n_bytes // 40)]
    return len(held)


def map_that_takes(taker: Any, n_bytes: int) -> Any:
    """Return a map function that takes so much."""

    def map_func(strings: list[str]) -> list[tuple[str, int]]:
        taker(n_bytes)
        return count_characters(strings)

    return map_func


@pytest.mark.parametrize("taker", [take, take_bit_by_bit])
def test_too_much_memory_is_a_task_memory_error(cluster: mrq.EmbeddedCluster, taker: Any) -> None:
    """It names job, task, limit and what to do, and shows where; a sibling job without a limit is unhurt."""
    sibling = cluster.mapreduce(["ab"], map_that_takes(taker, 3 * LIMIT), add_up, 1)
    future = cluster.mapreduce(["ab"], map_that_takes(taker, 3 * LIMIT), add_up, 1, memory_limit=LIMIT)
    with pytest.raises(TaskMemoryError, match="64 MiB") as raised:
        future.result(60)
    error = raised.value
    assert (error.job_id, error.task, error.attempts) == (future.job_id, "map 0", 1)
    assert all(word in str(error) for word in (future.job_id, "map 0", "memory_limit", "requested_n_workers"))
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "map_func" in str(error.__cause__)
    assert sibling.result(60) == plain(["ab"], count_characters, add_up)


@pytest.mark.parametrize("taker", [take, take_bit_by_bit])
def test_a_task_within_its_limit_is_left_alone_however_often(
    cluster: mrq.EmbeddedCluster, taker: Any
) -> None:
    """Ten tasks of one job, in the same children: what one has given back does not count for the next."""
    data = ["ab"] * 10
    future = cluster.mapreduce(data, map_that_takes(taker, LIMIT // 2), add_up, 10, memory_limit=LIMIT)
    assert future.result(60) == plain(data, count_characters, add_up)


def test_mrqs_own_work_fits_beside_the_least_limit(cluster: mrq.EmbeddedCluster) -> None:
    """Reading, merging on eight threads, and writing: a job of forty splits that takes next to nothing itself."""
    data = ["ab"] * 400
    future = cluster.mapreduce(data, count_characters, add_up, 40, n_reducers=3, memory_limit=MIB)
    assert future.result(60) == plain(data, count_characters, add_up)


def test_too_much_memory_in_reduce_is_told_of_reduce(cluster: mrq.EmbeddedCluster) -> None:
    """The advice is another one there."""

    def reduce_func(values: list[int]) -> int:
        return take(3 * LIMIT)

    with pytest.raises(TaskMemoryError, match=r"reduce \d.* values of one key"):
        cluster.mapreduce(["ab"], count_characters, reduce_func, 1, memory_limit=LIMIT).result(60)


def test_a_split_that_is_too_big_to_read_is_a_task_memory_error(cluster: mrq.EmbeddedCluster) -> None:
    """Data counts as the task's own, although mrq reads it."""
    data = [bytes(4 * MIB) for _ in range(16)]
    with pytest.raises(TaskMemoryError, match="map 0"):
        cluster.mapreduce(data, lambda xs: [(len(xs), 1)], add_up, 1, memory_limit=MIB).result(60)


def test_output_that_is_too_big_to_pickle_is_a_task_memory_error(cluster: mrq.EmbeddedCluster) -> None:
    """What runs out of memory while the result is written counts as well."""
    text = "x" * (20 * MIB)
    future = cluster.mapreduce(
        [1], lambda xs: [(1, [text + str(n) for n in range(2)])], add_up, 1, memory_limit=LIMIT
    )
    with pytest.raises(TaskMemoryError, match="map 0"):
        future.result(60)


def test_retries_hold_for_memory_as_for_exceptions(cluster: mrq.EmbeddedCluster, tmp_path: Any) -> None:
    """Once too much, then enough: with a retry the job ends well, in a new process."""
    mark = tmp_path / "tried"

    def map_func(strings: list[str]) -> list[tuple[str, int]]:
        if not mark.exists():
            mark.touch()
            take(3 * LIMIT)
        return count_characters(strings)

    future = cluster.mapreduce(["ab"], map_func, add_up, 1, retries=1, memory_limit=LIMIT)
    assert future.result(60) == [("a", 1), ("b", 1)]


def test_the_end_by_a_signal_speaks_of_memory(cluster: mrq.EmbeddedCluster) -> None:
    """The kernel ends what takes too much by SIGKILL: the error names that cause among others, and the remedy."""
    import os
    import signal

    with pytest.raises(PoisonTaskError, match=r"SIGKILL.*memory.*memory_limit"):
        cluster.mapreduce(["a"], lambda xs: os.kill(os.getpid(), signal.SIGKILL), add_up, 1).result(60)


@pytest.mark.parametrize("wrong", [0, -1, 1000, 1.5e9, "1 GB"])
def test_a_limit_that_makes_no_sense_is_refused_at_once(cluster: mrq.EmbeddedCluster, wrong: Any) -> None:
    """Nothing is sent."""
    with pytest.raises(ConfigurationError, match="memory_limit"):
        cluster.mapreduce(["a"], count_characters, add_up, memory_limit=wrong)


def test_the_workers_setting_holds_for_jobs_that_set_no_limit(tmp_path: Any) -> None:
    """The operator's default; a job's own limit goes before it."""
    settings = mrq.Settings.load(task_memory_limit=LIMIT)
    with mrq.EmbeddedCluster(n_workers=1, settings=settings) as cluster:
        with pytest.raises(TaskMemoryError, match="64 MiB"):
            cluster.mapreduce(["ab"], map_that_takes(take, 3 * LIMIT), add_up, 1).result(60)
        future = cluster.mapreduce(["ab"], map_that_takes(take, 3 * LIMIT), add_up, 1, memory_limit=5 * LIMIT)
        assert future.result(60) == [("a", 1), ("b", 1)]
