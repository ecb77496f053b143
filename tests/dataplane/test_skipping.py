"""Bad records: found by bisection, left out of the job, kept for the user."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrq
from mrq.core.model import Phase
from mrq.errors import TooManySkipped
from mrq.executor.skipping import Skips
from tests.jobs import add_up


class Spoilt(Exception):
    """What the functions of this module raise on a bad record."""


def parse(texts: list[str]) -> list[tuple[str, int]]:
    """Count characters; a text with a question mark is bad."""
    for text in texts:
        if "?" in text:
            raise Spoilt(text)
    return [(character, 1) for text in texts for character in text]


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    """A cluster that the tests of this module share."""
    with mrq.EmbeddedCluster(n_workers=2) as cluster:
        yield cluster


@given(flags=st.lists(st.booleans(), min_size=1, max_size=40))
def test_exactly_the_bad_elements_are_left_out(flags: list[bool]) -> None:
    """Whichever are bad: the call gets the good ones, in their order, after few calls."""
    calls: list[int] = []

    def call(elements: list[tuple[int, bool]]) -> list[int]:
        calls.append(len(elements))
        if any(bad for _, bad in elements):
            raise Spoilt
        return [number for number, _ in elements]

    skips = Skips(len(flags))
    assert skips.without_bad(call, list(enumerate(flags))) == [n for n, bad in enumerate(flags) if not bad]
    assert [position for position, _, _ in skips.records] == [n for n, bad in enumerate(flags) if bad]
    assert len(calls) <= 2 + 2 * sum(flags) * (1 + math.ceil(math.log2(len(flags))))


def test_an_error_that_no_element_alone_raises_is_the_jobs(cluster: mrq.EmbeddedCluster) -> None:
    """A function that dislikes the split as a whole raises as it would without max_skipped."""

    def dislikes(texts: list[str]) -> Any:
        if len(texts) > 1:
            raise Spoilt("too many")
        return [(text, 1) for text in texts]

    with pytest.raises(Spoilt, match="too many") as raised:
        cluster.mapreduce(["a", "b"], dislikes, add_up, 1, max_skipped=5).result(60)
    assert "no single element" in raised.value.__notes__[0]


def test_bad_elements_are_skipped_and_kept(cluster: mrq.EmbeddedCluster) -> None:
    """The result is that of the good ones; split, position, element and error of the others can be read."""
    data = ["ab", "?1", "b", "c", "c", "?2", "", "d?"]
    future = cluster.mapreduce(data, parse, add_up, 2, max_skipped=3)
    assert future.result(60) == [("a", 1), ("b", 2), ("c", 2)]
    assert future.skipped() == [
        ("map 0", 1, "?1", "tests.dataplane.test_skipping.Spoilt: ?1"),
        ("map 1", 1, "?2", "tests.dataplane.test_skipping.Spoilt: ?2"),
        ("map 1", 3, "d?", "tests.dataplane.test_skipping.Spoilt: d?"),
    ]
    assert cluster.attach(future.job_id).skipped() == future.skipped()
    assert future.progress().phases[Phase.MAP].stats.records_in == len(data)


def test_keys_whose_reduce_raises_are_skipped_and_kept(cluster: mrq.EmbeddedCluster) -> None:
    """A key is a reduce task's record: the others' results are there."""

    def reduce_func(values: list[int]) -> float:
        return 1 / (len(values) - 1)

    future = cluster.mapreduce(["aab", "bcc", "d"], parse, reduce_func, 1, n_reducers=1, max_skipped=1)
    assert future.result(60) == [("a", 1.0), ("b", 1.0), ("c", 1.0)]
    assert future.skipped() == [("reduce 0", 3, "d", "ZeroDivisionError: division by zero")]


def test_a_split_of_nothing_but_bad_elements_gives_nothing(cluster: mrq.EmbeddedCluster) -> None:
    """The function is not asked about an empty split that it never had."""

    def map_func(texts: list[str]) -> list[tuple[str, int]]:
        assert texts, "called with nothing"
        return parse(texts)

    future = cluster.mapreduce(["?", "??"], map_func, add_up, 1, max_skipped=2)
    assert future.result(60) == []
    assert [skipped.record for skipped in future.skipped()] == ["?", "??"]


def test_one_bad_record_too_many_in_a_task_is_its_own_exception(cluster: mrq.EmbeddedCluster) -> None:
    """The exception is the function's; a note says what was skipped before it."""
    with pytest.raises(Spoilt, match="third") as raised:
        cluster.mapreduce(["?first", "?second", "?third"], parse, add_up, 1, max_skipped=2).result(60)
    assert "max_skipped=2" in raised.value.__notes__[0]


def test_one_bad_record_too_many_in_the_job_fails_it(cluster: mrq.EmbeddedCluster) -> None:
    """Each task is below the bound, all together are not; what they skipped can be read all the same."""
    future = cluster.mapreduce(["a?", "b?", "c?"], parse, add_up, 3, max_skipped=2)
    with pytest.raises(TooManySkipped, match="3 bad records") as raised:
        future.result(60)
    assert raised.value.job_id == future.job_id
    assert [skipped.record for skipped in future.skipped()] == ["a?", "b?", "c?"]


def test_without_max_skipped_nothing_is_skipped(cluster: mrq.EmbeddedCluster) -> None:
    """A job that asks for nothing gets its exception, and an empty list."""
    future = cluster.mapreduce(["a", "?"], parse, add_up, 1)
    with pytest.raises(Spoilt):
        future.result(60)
    assert future.skipped() == []


def test_a_rerun_gives_the_same_bytes(cluster: mrq.EmbeddedCluster) -> None:
    """Two runs of one job skip the same, and their committed files hold the same number of bytes and records."""
    data = [f"{number}?" if number % 7 == 0 else f"{number}" for number in range(100)]
    first, second = (cluster.mapreduce(data, parse, add_up, 3, max_skipped=20) for _ in range(2))
    assert first.result(60) == second.result(60)
    assert first.skipped() == second.skipped()
    assert len(first.skipped()) == 15
