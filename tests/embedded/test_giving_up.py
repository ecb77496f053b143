"""What is refused or given up with a sentence, rather than tried for ever: other Pythons, servers that stay away."""

from __future__ import annotations

from pathlib import Path

import pytest

import mrq
from mrq.client import JobClient
from mrq.config import Settings
from mrq.coordination.embedded import EmbeddedCoordination
from mrq.errors import CoordinationUnavailable, VersionMismatch
from mrq.records import MemberInfo
from mrq.registry import Registry
from mrq.store.folder import FolderStore
from tests.jobs import Gate, add_up, count_characters, plain

DATA = ["some", "words"]


def test_workers_of_another_python_are_no_good_for_a_job() -> None:
    """Nothing is submitted; the sentence names both versions and the worker."""
    with mrq.EmbeddedCluster(n_workers=1) as cluster:
        old = MemberInfo(hostname="h", pid=1, python="2.7", mrq=mrq.__version__)
        cluster._registry.register("workers", "w-old", old)
        with pytest.raises(VersionMismatch, match=r"client runs Python 3\.\d+, but worker w-old runs 2\.7"):
            cluster.mapreduce(DATA, count_characters, add_up)
        assert cluster.jobs() == []


def test_a_worker_runs_no_functions_of_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """It came after the submission, so it tells: the job ends at once, whatever its retries."""
    monkeypatch.setattr("mrq.worker.PYTHON", "2.7")
    with mrq.EmbeddedCluster(n_workers=1) as cluster:
        future = cluster.mapreduce(DATA, count_characters, add_up, retries=5)
        with pytest.raises(
            VersionMismatch, match=rf"{future.job_id}.*Python 3\.\d+, worker worker-0 runs 2\.7"
        ):
            future.result(30)


def test_a_future_gives_up_on_servers_that_stay_away_and_the_job_goes_on(tmp_path: Path) -> None:
    """By ``give_up_after``; the sentence says how to come back to the job."""
    gate = Gate(tmp_path)
    hurried = Settings(give_up_after=0.5, poll_interval=0.05, operation_timeout=0.2)

    def map_func(strings: list[str]) -> object:
        gate.wait("map")
        return count_characters(strings)

    with mrq.EmbeddedCluster(n_workers=1) as cluster:
        tree = EmbeddedCoordination(cluster._tree, operation_timeout=hurried.operation_timeout)
        client = JobClient(Registry(tree), FolderStore(cluster._root), hurried)
        future = client.mapreduce(DATA, map_func, add_up, 1)  # type: ignore[arg-type]  # it does return pairs
        tree.suspend()
        with pytest.raises(CoordinationUnavailable, match=f"{future.job_id} is submitted.*attach"):
            future.result(20)
        gate.open("map")
        again = cluster.attach(future.job_id).result(30)
        assert again == plain(DATA, count_characters, add_up)
        tree.resume()
        client.close()
