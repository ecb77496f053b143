"""The command line against the real servers, as a person at a terminal would use it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mrq.config import Settings
from mrq.core.model import Phase
from mrq.monitoring import LocalMonitoring
from tests.integration.cluster import Cluster
from tests.integration.test_failures import DATA, gated_job
from tests.jobs import Gate, add_up, count_characters

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

Start = Callable[..., Cluster]


def mrq(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "mrq.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_demo_runs_on_the_real_servers_and_leaves_nothing(settings: Settings) -> None:
    """It starts masters and workers of its own where none run, counts real text, and ends them."""
    run = mrq("demo", "--cluster", "--limit", "60", "--check")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"job_\d+: \d+ tasks, [\d,]+ records .* bytes of 60 files in [\d.]+ s", run.stdout)
    status = json.loads(mrq("status", "--json").stdout)
    assert (status["masters"], status["workers"]) == ({}, {}) or (status["masters"], status["workers"]) == (
        [],
        [],
    )


def test_status_shows_who_does_what(start: Start, tmp_path: Path) -> None:
    """Masters, workers, a running job with its owner, and the queues; as tables and as JSON."""
    cluster, gate = start(n_masters=2, n_workers=2), Gate(tmp_path)
    future = gated_job(cluster, gate, Phase.MAP)
    worker = cluster.worker_of(future.job_id, Phase.MAP)
    shown = mrq("status")
    assert shown.returncode == 0, shown.stderr
    for name in (*cluster.processes, future.job_id, "shuffle", "dead"):
        assert name in shown.stdout
    text = mrq("status", "--json").stdout
    assert future.job_id in text
    assert json.loads(text)
    tasks = mrq("zoo").stdout
    number = future.job_id.removeprefix("job_")
    assert re.search(
        rf"Task {number}_\d+ :  Task\(state='in-progress', worker_hostname='{worker}', received=True\)", tasks
    )
    gate.open("map")
    future.result(60)
    assert mrq("jobs").stdout.count("completed") == 1
    assert mrq("cancel", future.job_id).returncode == 1
    assert mrq("clear").returncode == 0
    assert future.job_id not in mrq("jobs").stdout


def test_monitoring_prints_the_tree_of_a_jobs_files(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """print_hdfs('jobs') shows what the job's folders hold, print_zoo who ran its tasks."""
    cluster = start(n_workers=2)
    future = cluster.client.mapreduce(DATA, count_characters, add_up, 3, n_reducers=2)
    future.result(60)
    with LocalMonitoring(cluster.settings) as monitoring:
        monitoring.print_hdfs("jobs")
        tree = capsys.readouterr().out
        monitoring.print_zoo()
        zoo = capsys.readouterr().out
    assert tree.startswith(f"{future.job_id}/\n")
    for line in (
        "  map_results/",
        "  shuffle_results/",
        "  reduce_results/",
        "    2",
        "  manifest",
        "  input",
        "  code",
    ):
        assert line in tree.splitlines()
    number = future.job_id.removeprefix("job_")
    done = re.findall(
        rf"Task {number}_\d+ :  Task\(state='completed', worker_hostname='(worker-\d)', received=True\)", zoo
    )
    assert len(done) == 3 + 2 + 2


def test_report_draws_where_a_jobs_time_went(start: Start, tmp_path: Path) -> None:
    """As a page with each task, and as JSON; of a job that runs there is none yet, and that is said."""
    cluster, gate = start(n_workers=2), Gate(tmp_path)
    running = gated_job(cluster, gate, Phase.MAP)
    refused = mrq("report", running.job_id, "-o", str(tmp_path / "no.html"))
    assert refused.returncode == 1
    assert f"{running.job_id} has not ended" in refused.stderr
    assert not (tmp_path / "no.html").exists()
    gate.open("map")
    running.result(60)
    future = cluster.client.mapreduce(DATA, count_characters, add_up, 3, n_reducers=2, speculative=False)
    future.result(60)
    drawn = mrq("report", future.job_id, "-o", str(tmp_path / "job.html"))
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.splitlines()[-1] == str(tmp_path / "job.html")
    assert (tmp_path / "job.html").read_text().count('class="task"') == 3 + 2 + 2
    told = json.loads(mrq("report", future.job_id, "--json").stdout)
    assert {phase: known["attempts"] for phase, known in told["phases"].items()} == {
        "map": {"done": 3}, "shuffle": {"done": 2}, "reduce": {"done": 2},
    }  # fmt: skip
    assert sum(share["path"] for share in told["shares"].values()) == pytest.approx(told["seconds"], abs=1e-3)
    assert {"read", "run", "write", "commit", "queue", "report", "manifest"} <= told["shares"].keys()
    unwritable = mrq("report", future.job_id, "-o", str(tmp_path / "no" / "job.html"))
    assert (unwritable.returncode, "the page can't be written" in unwritable.stderr) == (1, True)


def test_services_run_as_modules_too(settings: Settings) -> None:
    """python -m masters and python -m workers are the command's verbs."""
    for role in ("masters", "workers"):
        run = subprocess.run(
            [sys.executable, "-m", role, "--help"], capture_output=True, text=True, timeout=60, check=False,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert run.returncode == 0
        assert f"mrq {role[:-1]}" in run.stdout
