"""The benchmark works: small runs of it, whose times say nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.report import tables
from benchmarks.runner import MARK, Row, Runner, expected_of, running
from benchmarks.workloads import Job, Workload, no_op_reduce, workloads
from tests.integration.cluster import eventually, marked

ROOT = Path(__file__).parents[2]
LITTLE = workloads(quick=True)[0]


def never_ends(elements: list[int]) -> list[tuple[int, int]]:
    time.sleep(600)
    return []


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """One system that is there everywhere."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    with running(["multiprocessing"], print) as runner:
        yield runner


def benchmark(
    tmp_path: Path, *options: str, **environment: str
) -> tuple[subprocess.CompletedProcess[str], Any]:
    """Run the command; return what it printed and wrote."""
    file = tmp_path / "results.json"
    mark = {"MRQ_BENCHMARK_TEST": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(file), *options],
        cwd=ROOT, env=os.environ | mark | environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    print(run.stdout, run.stderr)
    assert marked(*mark.popitem()) == {}, "processes are left over"
    return run, json.loads(file.read_text()) if file.exists() else None


def check_shape(results: Any, systems: list[str]) -> None:
    """Each workload has the times of each system, and the ratios of mrq's medians to the peers'."""
    assert list(results["versions"]) == systems
    assert results["machine"].keys() == {"cores", "memory_gib", "python", "load_before"}
    assert list(results["workloads"]) == [workload.name for workload in workloads(quick=True)]
    for workload in workloads(quick=True):
        found = results["workloads"][workload.name]
        for name in systems:
            assert len(found["systems"][name]["seconds"]) == 2 * workload.times
            assert min(found["systems"][name]["seconds"]) > 0
        for ours in systems[:-1]:
            medians = [found["systems"][name]["median"] for name in (ours, systems[-1])]
            assert found["ratios"][ours][systems[-1]] == pytest.approx(medians[0] / medians[1], rel=0.01)


def test_a_small_run_agrees_with_plain_python_and_tells_ratios(tmp_path: Path) -> None:
    run, results = benchmark(tmp_path, "--systems", "mrq embedded,multiprocessing")
    assert run.returncode == 0
    check_shape(results, ["mrq embedded", "multiprocessing"])
    assert run.stdout.startswith(tables(results) + "\n")


def test_a_system_that_can_not_start_is_named_and_left_out(tmp_path: Path) -> None:
    options = ("--systems", "mrq,multiprocessing", "--workloads", "small")
    run, results = benchmark(tmp_path, *options, MRQ_ZOOKEEPER_HOSTS="nowhere")
    assert run.returncode == 0
    assert "mrq is left out: ConfigurationError: wrong settings: zookeeper_hosts" in run.stdout
    assert list(results["left_out"]) == ["mrq"]
    assert list(results["versions"]) == ["multiprocessing"]


def test_a_wrong_name_is_answered_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--systems", "hadoop"])
    with pytest.raises(SystemExit):
        main()
    assert "there is no system 'hadoop'; there are: mrq, mrq embedded" in capsys.readouterr().err


def test_a_run_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    mark = str(tmp_path)
    run = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--systems", "mrq embedded,multiprocessing", "--workloads", "small",
         "--repeat", "100000"],
        cwd=ROOT, env=os.environ | {"MRQ_BENCHMARK_TEST": mark}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with run:
        assert run.stderr
        assert next(line for line in run.stderr if "1/100000" in line)
        run.terminate()
        run.stderr.read()
    assert run.returncode == 128 + signal.SIGTERM
    assert marked("MRQ_BENCHMARK_TEST", mark) == {}


def test_a_system_that_takes_too_long_is_noted_ended_and_started_again(runner: Runner) -> None:
    job = Job([1, 2], never_ends, no_op_reduce, 2)
    endless = Workload("endless", "two tasks that never end", job, no_ops=True, deadline=0.5)
    first = runner.hosts["multiprocessing"]
    row = runner.run(endless, 3)["multiprocessing"]
    assert (row.seconds, row.over) == ([], 0.5)
    eventually(lambda: not marked(MARK, first.mark), "the first host and its children are gone")
    assert len(runner.run(LITTLE, 1)["multiprocessing"].seconds) == LITTLE.times


def test_a_result_that_differs_from_plain_pythons_is_a_failure(runner: Runner) -> None:
    row, host = Row(), runner.hosts["multiprocessing"]
    host.prepare(LITTLE)
    host.measure(LITTLE, row, expected_of(replace(LITTLE, n_jobs=2)))
    assert (row.seconds, row.failed) == ([], "a result that differs from plain Python's")
