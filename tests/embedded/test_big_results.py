"""Results that memory should not hold: copied to the local disk, and read from there in the order of the keys."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import mrq
from mrq import results, stored
from mrq.config import Settings
from mrq.core.keys import sorted_by_key
from mrq.errors import MrqError
from tests.jobs import add_up

KEYS = [*range(300), *(f"key {n}" for n in range(300)), None, 1.5, b"bytes", ("a", 1), frozenset({2})]
EXPECTED = sorted_by_key([(key, 2) for key in KEYS])
FILES = Settings(inline_bytes=0)


def one_each(keys: list[Any]) -> list[tuple[Any, int]]:
    """Map: each key, twice."""
    return [(key, 1) for key in keys for _ in range(2)]


@pytest.mark.parametrize("memory", [0, results.MEMORY_BYTES])
def test_a_result_is_iterated_in_order_also_after_the_cluster_was_closed(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Big or small; and `result` is a list, the same each time, as of any future."""
    monkeypatch.setattr(results, "MEMORY_BYTES", memory)
    with mrq.EmbeddedCluster(n_workers=2, settings=FILES) as cluster:
        future = cluster.mapreduce(KEYS, one_each, add_up, 2, n_reducers=3)
        none = cluster.mapreduce([], one_each, add_up)
    assert list(none.iter_result()) == none.result() == []
    for _ in range(2):
        assert list(future.iter_result(timeout=0)) == EXPECTED
    assert future.result() == EXPECTED
    assert future.result() is future.result()
    assert type(future.result()) is list
    assert list(future.iter_result()) == EXPECTED


@pytest.mark.parametrize("most", [len(EXPECTED) - 1, len(EXPECTED)])
def test_many_small_pairs_are_as_big_as_few_long_ones(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed they may be short, but a pair is at least two objects in memory."""
    copies: list[str] = []
    copy = results.LocalCopy
    monkeypatch.setattr(results, "MEMORY_RECORDS", most)
    monkeypatch.setattr(results, "LocalCopy", lambda *args: copies.append(args[1]) or copy(*args))
    with mrq.EmbeddedCluster(n_workers=1, settings=FILES) as cluster:
        future = cluster.mapreduce(KEYS, one_each, add_up, 2, n_reducers=3)
        assert list(future.iter_result(60)) == EXPECTED
    assert len(copies) == (0 if most == len(EXPECTED) else 3)


def test_what_the_job_came_to_is_raised_before_iteration() -> None:
    """As `result` does."""
    with mrq.EmbeddedCluster(n_workers=1) as cluster, pytest.raises(ZeroDivisionError):
        cluster.mapreduce([1], lambda _: [(1 / 0, 1)], add_up).iter_result(60)


def test_no_room_for_the_copy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has completed all the same, and can be attached to when there is room."""

    def full(**_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with mrq.EmbeddedCluster(n_workers=1, settings=FILES) as cluster:
        with monkeypatch.context() as patch:
            patch.setattr(results, "MEMORY_BYTES", 0)
            patch.setattr(stored, "TemporaryFile", full)
            future = cluster.mapreduce(KEYS, one_each, add_up)
            with pytest.raises(MrqError, match=f"{future.job_id} has completed.*No space left.*TMPDIR"):
                future.result(60)
        assert cluster.attach(future.job_id).result(60) == EXPECTED
