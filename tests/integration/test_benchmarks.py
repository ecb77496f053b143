"""The benchmark on the real servers: a small run of it, whose times say nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.store.address import describe, open_store
from tests.integration.cluster import marked, own_place, private_queues

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


def test_a_small_run_agrees_with_plain_python_and_leaves_nothing(servers: Settings, tmp_path: Path) -> None:
    """With a master and workers of its own, in a place of their own at the servers."""
    file, mark = tmp_path / "results.json", str(tmp_path)
    command = ["-m", "benchmarks", "--quick", "--systems", "mrq,multiprocessing", "--json", str(file)]
    run = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=os.environ | {"MRQ_BENCHMARK_TEST": mark},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    printed, _ = run.communicate(timeout=280)
    assert run.returncode == 0, printed
    results = json.loads(file.read_text())
    assert results["left_out"] == {}, printed
    for found in results["workloads"].values():
        assert found["ratios"]["mrq"]["multiprocessing"] > 0
        assert found["systems"].keys() == {"mrq", "multiprocessing"}
    assert marked("MRQ_BENCHMARK_TEST", mark) == {}
    check_place_is_empty(Settings.load().model_copy(update=place_of(run.pid)))


def place_of(pid: int) -> dict[str, str]:
    """The settings that a run changes for itself, by their names."""
    changed = own_place(f"bench-{pid}")
    return {name.removeprefix("MRQ_").lower(): value for name, value in changed.items()}


def check_place_is_empty(settings: Settings) -> None:
    """Fail unless the run's nodes, files and queues are gone."""
    tree, store = ZooKeeperCoordination(settings), open_store(describe(settings))
    assert tree.children("/") == []
    assert store.list("jobs") == []
    tree.close()
    store.close()
    assert private_queues(settings) == []
