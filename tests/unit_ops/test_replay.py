"""One task again, in this process: same bytes, or the same exception, and nothing written."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import mrq
from mrq.client import JobClient
from mrq.config import Settings
from mrq.errors import BadSignature, ConfigurationError, StoreError, UnknownJob, VersionMismatch
from mrq.ops import replay
from mrq.ops.overlay import Overlay
from mrq.store.folder import FolderStore
from tests.jobs import add_up, count_characters

DATA = ["abba", "cab", "dada", "ab"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    with mrq.EmbeddedCluster(n_workers=2) as cluster:
        yield cluster


def again(client: JobClient, job_id: str, task: str, **more: Any) -> replay.Replayed:
    return replay.run(
        job_id, task, settings=client._settings, registry=client._registry, store=client._store, **more
    )


def files(cluster: mrq.EmbeddedCluster) -> dict[str, tuple[bytes, int]]:
    """Return what jobs left in the store but for timelines, with the times of writing, once attempts are cleared."""
    deadline = time.monotonic() + 30
    while list(cluster._root.glob("files/jobs/*/attempts")):
        assert time.monotonic() < deadline, "attempts are left"
        time.sleep(0.01)
    found = [path for path in cluster._root.rglob("*") if path.is_file() and path.name != "timeline"]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize(
    ("text", "task"), [("map 3", ("map", 3)), ("reduce/0", ("reduce", 0)), (" map-12", ("map", 12))]
)
def test_a_task_is_written_as_people_write_it(text: str, task: tuple[str, int]) -> None:
    """With a blank, a slash or a dash."""
    assert replay.parse_task(text) == task


@pytest.mark.parametrize("text", ["", "map", "3", "sort 3", "map -1", "map 3 4"])
def test_what_names_no_task_is_refused(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(ConfigurationError, match="map/3"):
        replay.parse_task(text)


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("map 0", [("a", [1, 1]), ("b", [1, 1])]),
        ("shuffle 0", [("a", [1] * 6), ("b", [1] * 4), ("c", [1]), ("d", [1, 1])]),
        ("reduce 0", [("a", 6), ("b", 4), ("c", 1), ("d", 2)]),
    ],
)
def test_each_phase_comes_to_the_same_bytes(cluster: mrq.EmbeddedCluster, task: str, rows: list[Any]) -> None:
    """As the workers committed, of which nothing is touched."""
    future = cluster.mapreduce(DATA, count_characters, add_up, 4, n_reducers=1)
    future.result(60)
    before = files(cluster)
    replayed = again(cluster, future.job_id, task)
    assert replayed.error is None
    assert (replayed.rows, replayed.committed) == (rows, "same")
    assert replayed.partitions == [len(rows)]
    assert replayed.stats.records_out == len(rows)
    assert files(cluster) == before


def test_what_a_function_raised_is_raised_again(cluster: mrq.EmbeddedCluster) -> None:
    """With the line of the function first in its traceback, and the debugger where it happened."""

    def divide(values: list[int]) -> float:
        wrong = len(values)
        return 1 / (wrong - 4)

    future = cluster.mapreduce(DATA, count_characters, divide, 2, n_reducers=1)
    assert isinstance(future.exception(60), ZeroDivisionError)
    before = files(cluster)
    replayed = again(cluster, future.job_id, "reduce 0")
    assert isinstance(replayed.error, ZeroDivisionError)
    lines = replayed.traceback.splitlines()
    assert lines[1].endswith("in divide")
    assert "phases.py" not in replayed.traceback
    assert files(cluster) == before


def test_pdb_opens_where_the_function_raised(
    cluster: mrq.EmbeddedCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its local variables are there."""
    seen: list[TracebackType] = []
    monkeypatch.setattr("pdb.post_mortem", seen.append)

    def explode(strings: list[str]) -> list[tuple[str, int]]:
        first = strings[0]
        raise KeyError(first)

    future = cluster.mapreduce(DATA, explode, add_up, 4)
    assert isinstance(future.exception(60), KeyError)
    again(cluster, future.job_id, "map/2", pdb=True)
    (last,) = (frame for frame, _ in list(traceback.walk_tb(seen[0]))[-1:])
    assert (last.f_code.co_name, last.f_locals["first"]) == ("explode", "dada")
    assert "KeyError" in capsys.readouterr().out


def test_a_function_that_exits_does_not_end_this_process(cluster: mrq.EmbeddedCluster) -> None:
    """It is shown like any other exception."""

    def leave(strings: list[str]) -> Any:
        raise SystemExit(3)

    future = cluster.mapreduce(DATA, leave, add_up, 1)
    future.exception(60)
    assert isinstance(again(cluster, future.job_id, "map 0").error, SystemExit)


def test_a_job_that_never_ran_can_be_replayed(tmp_path: Path) -> None:
    """The map tasks of one without masters; its shuffle tasks have nothing to read yet."""
    from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
    from mrq.registry import Registry

    client = JobClient(Registry(EmbeddedCoordination(EmbeddedTree())), FolderStore(tmp_path), Settings())
    try:
        job_id = client.mapreduce(DATA, count_characters, add_up, 4).job_id
        replayed = again(client, job_id, "map 3")
        assert (replayed.error, replayed.committed, sum(replayed.partitions)) == (None, "none", 2)
        with pytest.raises(StoreError, match="needs the results of 4 map tasks"):
            again(client, job_id, "shuffle 0")
        with pytest.raises(ConfigurationError, match="4 map tasks"):
            again(client, job_id, "map 4")
        with pytest.raises(UnknownJob):
            again(client, "job_99", "map 0")
    finally:
        client.close()


def test_nothing_is_unpickled_that_the_job_has_not_signed(
    cluster: mrq.EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of another job, or by nobody."""
    monkeypatch.setattr(cluster._submitter, "_settings", Settings(inline_bytes=0))
    mine, other = (cluster.mapreduce(DATA, count_characters, add_up, 1) for _ in range(2))
    mine.result(60)
    cluster._store.write(f"jobs/{mine.job_id}/code", cluster._store.read(f"jobs/{other.job_id}/code"))
    with pytest.raises(BadSignature):
        again(cluster, mine.job_id, "map 0")


def test_another_python_is_refused_before_anything_is_read(cluster: mrq.EmbeddedCluster) -> None:
    """Its pickled functions would crash, or worse."""
    job_id = cluster.mapreduce(DATA, count_characters, add_up, 1).job_id
    cluster.attach(job_id).result(60)
    record = cluster._registry.require(job_id).record.model_copy(update={"python": "2.7"})
    cluster._registry.tree.set(f"/jobs/{job_id}", record.encode())
    with pytest.raises(VersionMismatch, match=r"Python 2\.7"):
        again(cluster, job_id, "map 0")


def test_an_overlay_writes_above_and_reads_through(tmp_path: Path) -> None:
    """What is hidden below shows again when what hides it is deleted."""
    lower, upper = FolderStore(tmp_path / "lower"), FolderStore(tmp_path / "upper")
    lower.write("a/one", b"1")
    lower.write("a/two", b"2")
    both = Overlay(lower, upper)
    both.write("a/three", b"3")
    assert both.rename("a/three", "a/two")
    assert (both.read("a/two"), both.read("a/one"), lower.read("a/two")) == (b"3", b"1", b"2")
    assert [entry.name for entry in both.list("a")] == ["one", "two"]
    assert both.delete("a/two")
    assert not both.delete("a/one")
    assert both.read("a/two") == b"2"
    both.make_dirs("b")
    assert both.status("b")
    assert lower.status("b") is None
    both.ping()
    both.close()
