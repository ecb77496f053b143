"""The embedded cluster: the same jobs as on the real servers, in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.config import Settings
from mrq.coordination.embedded import EmbeddedCoordination
from mrq.errors import ConfigurationError, Detached, MrqError, NotShippable, PoisonTaskError, RemoteTraceback
from tests.jobs import WORDS, Gate, add_up, count_characters, plain, random_strings

DATA = random_strings(200)


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    """A cluster that the tests of this module share."""
    with mrq.EmbeddedCluster(n_workers=3, n_masters=2) as cluster:
        yield cluster


def test_the_notebooks_jobs_are_exact() -> None:
    """The first job, and ten concurrent ones of 100,000 strings, with 3 masters and 10 workers."""
    data = random_strings(100_000)
    with mrq.EmbeddedCluster(n_workers=10, n_masters=3) as cluster:
        first = cluster.mapreduce(WORDS, count_characters, add_up, requested_n_workers=4)
        assert first.result(60) == plain(WORDS, count_characters, add_up)
        futures = [cluster.mapreduce(data, count_characters, add_up, 2) for _ in range(10)]
        assert sum(not future.done() for future in futures) > 1, "the jobs did not overlap"
        expected = plain(data, count_characters, add_up)
        assert all(future.result(120) == expected for future in futures)


def test_data_and_functions_of_any_kind(cluster: mrq.EmbeddedCluster) -> None:
    """Empty data, a generator, a closure, a bound method, a partial."""
    from functools import partial

    class Counter:
        def __init__(self, step: int) -> None:
            self.step = step

        def count(self, strings: list[str]) -> list[tuple[str, int]]:
            return [(c, self.step) for text in strings for c in text]

    assert cluster.mapreduce([], count_characters, add_up).result(30) == []
    assert cluster.mapreduce(iter(["ab"]), Counter(2).count, add_up).result(30) == [("a", 2), ("b", 2)]
    assert cluster.mapreduce(["aa"], count_characters, partial(max, default=0)).result(30) == [("a", 1)]
    factor = 3
    tripled = cluster.mapreduce(["a"], lambda xs: [(x, factor) for x in xs], lambda vs: sum(vs) * factor)
    assert tripled.result(30) == [("a", 9)]


def test_wrong_arguments_are_refused_before_anything_is_sent(cluster: mrq.EmbeddedCluster) -> None:
    """Each error is raised at the call and leaves no job behind."""
    before = len(cluster.jobs())
    with pytest.raises(ConfigurationError, match="requested_n_workers"):
        cluster.mapreduce(DATA, count_characters, add_up, 0)
    with pytest.raises(ConfigurationError, match="map_func"):
        cluster.mapreduce(DATA, "no function", add_up)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="retries"):
        cluster.mapreduce(DATA, count_characters, add_up, retries=-1)
    lock = threading.Lock()
    with pytest.raises(NotShippable, match="map_func"):
        cluster.mapreduce(DATA, lambda xs: [(lock, 1)], add_up)
    with pytest.raises(NotShippable, match="2"):
        cluster.mapreduce([1, 2, threading.Lock()], count_characters, add_up)
    assert len(cluster.jobs()) == before


def test_user_errors_come_back_and_siblings_are_unhurt(cluster: mrq.EmbeddedCluster) -> None:
    """An exception is raised with its remote traceback; a killed process is poison."""
    sibling = cluster.mapreduce(DATA, count_characters, add_up, 3)
    with pytest.raises(ZeroDivisionError) as raised:
        cluster.mapreduce(DATA, lambda xs: [(1 // 0, 1)], add_up).result(30)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    with pytest.raises(PoisonTaskError, match="map 0"):
        cluster.mapreduce(DATA, lambda xs: os._exit(1), add_up, 1).result(30)  # type: ignore[arg-type,return-value]
    with pytest.raises(PoisonTaskError, match="reduce"):
        cluster.mapreduce(DATA, count_characters, lambda vs: os.kill(os.getpid(), signal.SIGKILL), 1).result(
            30
        )
    assert sibling.result(30) == plain(DATA, count_characters, add_up)


def test_cancelling_a_running_job_ends_its_processes(cluster: mrq.EmbeddedCluster, tmp_path: Path) -> None:
    """The future is cancelled, waiters hear of it, and the next job has the workers."""
    gate = Gate(tmp_path)

    def wait_at_the_gate(strings: list[str]) -> Any:
        gate.wait("map")

    future = cluster.mapreduce(DATA, wait_at_the_gate, add_up, 3)
    while not gate.reached("map"):
        threading.Event().wait(0.01)
    assert future.cancel()
    assert wait([future], 5).done == {future}
    with pytest.raises(CancelledError):
        future.result(1)
    assert cluster.mapreduce(DATA, count_characters, add_up, 3).result(30) == plain(
        DATA, count_characters, add_up
    )
    assert future.progress().state.value == "cancelled"


def test_jobs_are_listed_attached_to_and_cleared(cluster: mrq.EmbeddedCluster) -> None:
    """A finished job is found by its id until it is cleared."""
    future = cluster.mapreduce(DATA, count_characters, add_up)
    result = future.result(30)
    assert cluster.attach(future.job_id).result(30) == result
    assert future.job_id in [record.job_id for record in cluster.jobs()]
    assert cluster.clear(future.job_id) == [future.job_id]
    with pytest.raises(MrqError, match=future.job_id):
        cluster.attach(future.job_id)


def test_a_lost_session_of_a_master_does_not_lose_its_jobs(tmp_path: Path) -> None:
    """The other master takes over, and the first one serves again in a new session."""
    gate = Gate(tmp_path)

    def map_func(strings: list[str]) -> Any:
        gate.wait("map")
        return count_characters(strings)

    with mrq.EmbeddedCluster(n_workers=2, n_masters=2) as cluster:
        future = cluster.mapreduce(DATA, map_func, add_up, 2)
        while not gate.reached("map"):
            threading.Event().wait(0.01)
        owner = cluster._registry.owner(future.job_id)
        next(m for m in cluster.masters if m.service.name == owner).tree.expire()
        gate.open("map")
        assert future.result(60) == plain(DATA, count_characters, add_up)


def test_no_watch_or_listener_asks_anything_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """While all sessions expire in mid-job, each callback only leaves word: with kazoo it would wait for itself."""
    asked: list[str] = []
    admit = EmbeddedCoordination._admit

    def note(session: EmbeddedCoordination, path: str) -> None:
        if threading.current_thread() is session._dispatcher:
            asked.append(path)
        admit(session, path)

    monkeypatch.setattr(EmbeddedCoordination, "_admit", note)
    with mrq.EmbeddedCluster(n_workers=2, n_masters=2) as cluster:
        futures = [cluster.mapreduce(DATA, count_characters, add_up, 4) for _ in range(5)]
        for member in (*cluster.masters, *cluster.workers):
            member.tree.expire()
        assert futures[0].cancel() or futures[0].done()
        assert all(f.result(60) == plain(DATA, count_characters, add_up) for f in futures[1:])
    assert asked == []


def test_a_worker_that_is_cut_off_does_not_lose_its_task(tmp_path: Path) -> None:
    """Its connection is gone without a word: the task is delivered again, and the first commit wins."""
    gate = Gate(tmp_path)

    def map_func(strings: list[str]) -> Any:
        gate.wait("map")
        return count_characters(strings)

    with mrq.EmbeddedCluster(n_workers=2) as cluster:
        future = cluster.mapreduce(DATA, map_func, add_up, 1)
        while not gate.reached("map"):
            threading.Event().wait(0.01)
        for member in cluster.workers:
            if member.service._running:  # type: ignore[union-attr]
                member.broker.abort()
        while len(gate.reached("map")) < 2:
            threading.Event().wait(0.01)
        gate.open("map")
        assert future.result(60) == plain(DATA, count_characters, add_up)


def test_leaving_the_block_by_an_exception_does_not_wait(tmp_path: Path) -> None:
    """The futures end, as cancelled, and so do all threads of the cluster."""
    gate = Gate(tmp_path)
    before = set(threading.enumerate())

    def wait_at_the_gate(strings: list[str]) -> Any:
        gate.wait("map")

    futures = []

    def leave() -> None:
        with mrq.EmbeddedCluster(n_workers=1) as cluster:
            futures.append(cluster.mapreduce(DATA, wait_at_the_gate, add_up))
            clusters.append(cluster)
            raise KeyError

    clusters: list[mrq.EmbeddedCluster] = []
    with pytest.raises(KeyError):
        leave()
    (future,), (cluster,) = futures, clusters
    assert future.cancelled()
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []
    with pytest.raises(MrqError, match="closed"):
        cluster.mapreduce(DATA, count_characters, add_up)


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """User scripts run as they are, from a file and from the command line, whatever PYTHONHASHSEED."""
    code = (
        "import mrq\n"
        "with mrq.EmbeddedCluster(n_workers=2) as cluster:\n"
        "    f = cluster.mapreduce(['ab', 'b'], lambda xs: [(c, 1) for x in xs for c in x], sum, 2)\n"
        "    print(f.result(60))\n"
    )
    (tmp_path / "script.py").write_text(code)
    for seed, command in enumerate((["script.py"], ["-c", code])):
        run = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
        )  # fmt: skip
        assert (run.returncode, run.stdout) == (0, "[('a', 1), ('b', 2)]\n"), run.stderr


def test_files_stay_where_they_were_asked_for(tmp_path: Path) -> None:
    """With a folder of the user's, the files of finished jobs outlive the cluster."""
    with mrq.EmbeddedCluster(n_workers=1, folder=tmp_path / "data", settings=Settings.load()) as cluster:
        job_id = cluster.mapreduce(["a"], count_characters, add_up).job_id
    assert [path for path in (tmp_path / "data").rglob("manifest") if job_id in str(path)]


def test_a_closed_client_detaches_its_futures(cluster: mrq.EmbeddedCluster, tmp_path: Path) -> None:
    """Closing the client is not cancelling the job: the future says how to find it again."""
    from mrq.client import JobClient
    from mrq.registry import Registry
    from mrq.store.folder import FolderStore

    gate = Gate(tmp_path)

    def map_func(strings: list[str]) -> Any:
        gate.wait("map")
        return count_characters(strings)

    registry = Registry(EmbeddedCoordination(cluster._tree))
    client = JobClient(registry, FolderStore(cluster._root), Settings.load())
    future = client.mapreduce(DATA, map_func, add_up, 1)
    client.close()
    with pytest.raises(Detached, match=future.job_id):
        future.result(5)
    gate.open("map")
    assert cluster.attach(future.job_id).result(30) == plain(DATA, count_characters, add_up)


def test_a_cancelled_job_may_be_cleared_at_once(tmp_path: Path) -> None:
    """Its record may still say that it runs: clearing waits until its master has ended it."""
    gate = Gate(tmp_path)

    def wait_at_the_gate(strings: list[str]) -> Any:
        gate.wait("map")

    with mrq.EmbeddedCluster(n_workers=1) as cluster:
        future = cluster.mapreduce(DATA, wait_at_the_gate, add_up, 1)
        while not gate.reached("map"):
            threading.Event().wait(0.01)
        assert future.cancel()
        assert cluster.clear(future.job_id) == [future.job_id]
        assert cluster.jobs() == []


def test_a_timeout_may_be_of_any_length(cluster: mrq.EmbeddedCluster) -> None:
    """Longer than a selector waits, and infinite: no worker's thread ends of it."""
    for seconds in (1e10, float("inf")):
        future = cluster.mapreduce(DATA, count_characters, add_up, 2, task_timeout=seconds)
        assert future.result(60) == plain(DATA, count_characters, add_up)
