"""Jobs as users submit them, on the real servers."""

from __future__ import annotations

import asyncio
import string
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.core.keys import order_key
from mrq.core.model import PHASES, JobState
from tests.integration.cluster import Cluster, eventually
from tests.jobs import WORDS, Gate, add_up, count_characters, plain, random_strings

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

Start = Callable[..., Cluster]


@dataclass(frozen=True)
class Point:
    """A key of the user's own."""

    x: int
    y: int


def test_the_notebooks_jobs_are_exact_with_three_masters_and_ten_workers(start: Start) -> None:
    """The first job, then ten concurrent ones of 100,000 strings: equal to plain Python, and overlapping."""
    client = start(n_masters=3, n_workers=10).client
    first = client.mapreduce(WORDS, count_characters, add_up, requested_n_workers=4)
    assert first.result(120) == plain(WORDS, count_characters, add_up)

    data = random_strings(100_000)
    futures = [client.mapreduce(data, count_characters, add_up, requested_n_workers=2) for _ in range(10)]
    at_once = sum(not future.done() for future in futures)
    results = [future.result(240) for future in futures]
    expected = plain(data, count_characters, add_up)
    assert all(result == expected for result in results)
    assert at_once > 1, "the jobs did not overlap"
    owners = {record.job_id: record.epoch for record in client.jobs()}
    assert len(set(owners.values())) == 11


def test_data_of_any_shape_is_counted_right(start: Start) -> None:
    """Empty, one element, fewer elements than workers, a generator, and a set."""
    client = start(n_workers=2).client
    for data in ([], ["a"], ["a", "b", "a"], {"x": 1, "y": 2}, {"p", "q"}, "some text"):
        assert client.mapreduce(data, count_characters, add_up, 8).result(60) == plain(
            data, count_characters, add_up
        )
    made = client.mapreduce((text for text in WORDS), count_characters, add_up, 2)
    assert made.result(60) == plain(WORDS, count_characters, add_up)


def test_a_million_small_elements_and_one_large(start: Start) -> None:
    """Neither many elements nor one of 200 MB is in the way of an exact result."""
    client = start(n_workers=2).client
    many = client.mapreduce(range(1_000_000), lambda xs: [(x % 10, x) for x in xs], add_up, 4)
    assert many.result(120) == [(d, sum(range(d, 1_000_000, 10))) for d in range(10)]
    large = b"\x07" * 200_000_000
    one = client.mapreduce([large], lambda xs: [(len(x), x[:10]) for x in xs], lambda vs: vs, 4)
    assert one.result(240) == [(200_000_000, [b"\x07" * 10])]


def test_keys_of_any_type_are_grouped_by_equality(start: Start) -> None:
    """Mixed types, numbers equal across types, and unhashable keys come out once each, in one total order."""
    client = start(n_workers=3).client
    keys: list[Any] = [
        None, 1, 1.0, True, "1", b"1", (1, "a"), frozenset({1, 2}), Point(1, 2), [1, 2], {"a": 1}, 2.5, [1, 2],
        Point(1, 2), {"a": 1.0}, frozenset({2, 1}), "z", (True, "a"), None,
    ]  # fmt: skip
    future = client.mapreduce(keys, lambda xs: [(x, 1) for x in xs], add_up, 5, n_reducers=3)
    result = future.result(60)
    counts = {repr(key): count for key, count in result}
    assert sum(counts.values()) == len(keys)
    for key in keys:
        assert [count for other, count in result if other == key and type(other) is not str] or key in (
            "1",
            "z",
        )
        assert sum(1 for other, _ in result if other == key) == 1
        assert next(count for other, count in result if other == key) == sum(1 for k in keys if k == key)
    again = client.mapreduce(keys, lambda xs: [(x, 1) for x in xs], add_up, 3, n_reducers=2)
    assert again.result(60) == result


def test_workers_with_different_hash_seeds_agree_on_keys(start: Start, tmp_path: Path) -> None:
    """Each of three workers maps the same keys, and each key comes out once."""
    cluster, gate = start(n_workers=0), Gate(tmp_path)
    for seed in ("1", "2", "3"):
        cluster.start_one("worker", PYTHONHASHSEED=seed)
    cluster.wait_registered()
    keys: list[Any] = [*WORDS, *string.ascii_letters, b"bytes", None, ("a", 1), frozenset("abc"), Point(1, 2)]

    def map_func(part: list[int]) -> Any:
        gate.wait("map")
        return [(key, 1) for key in keys]

    future = cluster.client.mapreduce(range(3), map_func, add_up, 3, n_reducers=4)
    eventually(lambda: len(gate.reached("map")) == 3, "each worker has a task")
    gate.open("map")
    assert future.result(60) == [(key, 3) for key in sorted(keys, key=order_key)]


def test_values_reach_the_reduce_function_in_the_order_of_the_data(start: Start) -> None:
    """Whatever worker ran which split, the values of a key keep the order of the data."""
    client = start(n_workers=3).client
    future = client.mapreduce(range(1000), lambda xs: [(x % 3, x) for x in xs], list, 7, n_reducers=2)
    assert future.result(60) == [(k, list(range(k, 1000, 3))) for k in range(3)]


def test_futures_work_with_the_standard_library(start: Start) -> None:
    """as_completed, callbacks and asyncio see a job as any future."""
    client = start(n_workers=2).client
    futures = [client.mapreduce([text], count_characters, add_up) for text in WORDS]
    called: list[Any] = []
    futures[0].add_done_callback(called.append)
    assert {id(future) for future in as_completed(futures, timeout=60)} == {id(future) for future in futures}
    assert called == [futures[0]]

    async def wait_for_it() -> Any:
        return await asyncio.wrap_future(client.mapreduce(WORDS, count_characters, add_up))

    assert asyncio.run(wait_for_it()) == plain(WORDS, count_characters, add_up)
    progress = futures[1].progress()
    assert progress.fraction == 1.0
    assert progress.state is JobState.COMPLETED


SCRIPT = """
import mrq, helper
client = mrq.Client()
future = client.mapreduce(["a b", "b"], helper.split, lambda vs: helper.total(vs), 2)
print(future.job_id, flush=True)
print(future.result(60))
client.close()
"""
HELPER = """
import beside
def split(texts):
    return [(beside.upper(word), 1) for text in texts for word in text.split()]
def total(values):
    return sum(values)
"""


def test_a_script_ships_the_modules_beside_it_and_another_process_attaches(
    start: Start, tmp_path: Path
) -> None:
    """No package to install on the workers, no guard in the script; the job is found again by its id."""
    cluster = start(n_workers=2)
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "beside.py").write_text("def upper(word):\n    return word.upper()\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    job_id, result = run.stdout.splitlines()
    assert result == "[('A', 1), ('B', 2)]"
    assert cluster.client.attach(job_id).result(60) == [("A", 1), ("B", 2)]


def test_a_small_job_writes_its_manifest_only(start: Start) -> None:
    """All else is inline, and people see it in its place; the results are in HDFS too, in the manifest."""
    cluster = start(n_workers=2)
    future = cluster.client.mapreduce(WORDS, count_characters, add_up, 4)
    assert future.result(60) == plain(WORDS, count_characters, add_up)
    names = {file.name for file in cluster.client._store.list(f"jobs/{future.job_id}")}
    assert names - {"attempts", "timeline"} == {"manifest"}
    with mrq.LocalMonitoring(cluster.settings) as monitoring:
        tree = monitoring.hdfs(f"jobs/{future.job_id}")
    assert tree.keys() >= {"code", "input", "manifest"}
    assert [len(tree[f"{phase.results}/"]) for phase in PHASES] == [4, 4, 4]


def test_a_job_writes_no_more_files_than_promised(start: Start) -> None:
    """M + 2R results, code, input, manifest and timeline: nothing else is left of a job that ended."""
    cluster = start(n_workers=2, MRQ_INLINE_BYTES="0")
    store = cluster.client._store
    with mrq.Client(cluster.settings.model_copy(update={"inline_bytes": 0})) as client:
        future = client.mapreduce(random_strings(500), count_characters, add_up, 6, n_reducers=4)
        future.result(60)
    folder = f"jobs/{future.job_id}"
    results = {phase: [f.name for f in store.list(f"{folder}/{phase.results}")] for phase in PHASES}
    assert [len(names) for names in results.values()] == [6, 4, 4]
    eventually(lambda: store.status(f"{folder}/timeline"), "the timeline is written")
    names = {file.name for file in store.list(folder)} - {phase.results for phase in PHASES}
    assert names - {"attempts"} == {"code", "input", "manifest", "timeline"}
    assert store.list(f"{folder}/attempts") == []
