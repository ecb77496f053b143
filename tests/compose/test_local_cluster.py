"""`LocalCluster` in real containers: small clusters under names of their own, that are gone afterwards."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mrq import Auth, LocalCluster
from mrq.errors import AuthenticationFailed, JobError, Unavailable
from mrq.future import JobFuture
from mrq.local import Network
from mrq.local.engine import Engine, hostname
from mrq.local.login import ELSEWHERE
from mrq.local.state import StateFile, project
from tests.compose.network import ROOT, eventually
from tests.jobs import WORDS, add_up, count_characters, plain

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

LOGIN = ("admin", "admin")
NOTHING = {"containers": 0, "networks": 0, "volumes": 0}
RUNS = "runs"
"""A folder in HDFS, where every run of a map function leaves a file."""


@pytest.fixture(scope="module")
def home(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A state folder of the tests' own, no other servers named, and masters that are succeeded soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("MRQ_ZOOKEEPER_SESSION_TIMEOUT", "4")
        patch.setenv("MRQ_RECONCILE_AFTER", "6")
        for name in ("MRQ_USERNAME", "MRQ_PASSWORD", *ELSEWHERE):  # the native servers' are not meant
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(home: None, pytestconfig: pytest.Config) -> Iterator[LocalCluster]:
    """One master and two workers; the tests leave it with them."""
    name = f"test-{secrets.token_hex(3)}"
    began = time.monotonic()
    try:
        cluster = LocalCluster(Auth(*LOGIN), n_workers=2, n_masters=1, name=name)
        said = f"LocalCluster: up in {time.monotonic() - began:.1f} s"
        cluster.mapreduce(WORDS, count_characters, add_up, 2).result(120)
        print(f"{said}, first result after {time.monotonic() - began:.1f} s")
        yield cluster
        cluster.shutdown_cluster(cleanup=True)
    finally:
        remove(name)


@pytest.fixture
def small(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The cluster, afterwards as small again, and without jobs."""
    yield cluster
    cluster.clear(force=True)
    cluster.scale(n_masters=1, n_workers=2)


def remove(name: str) -> None:
    """End a cluster, whatever a test that failed has left of it."""
    if StateFile(name).read() is not None:
        with Network(name) as network:
            network.down(cleanup=True)
    engine = Engine(project(name))
    left = engine.leftovers()
    engine.close()
    assert left == NOTHING


def slow(run: str, seconds: float) -> Callable[[list[int]], list[tuple[str, int]]]:
    """A map function that takes its time for each element, and notes in HDFS that it ran."""

    def note_and_sleep(numbers: list[int]) -> list[tuple[str, int]]:
        import time
        import urllib.request
        import uuid

        for number in numbers:
            name = f"mrq/{RUNS}/{run}/{number}-{uuid.uuid4().hex[:8]}"
            urllib.request.urlopen(
                urllib.request.Request(
                    f"http://httpfs-1:14000/webhdfs/v1/{name}?op=CREATE&data=true&user.name=mrq",
                    data=b"x",
                    headers={"Content-Type": "application/octet-stream"},
                    method="PUT",
                ),
                timeout=30,
            ).read()
            time.sleep(seconds)
        return [("odd" if number % 2 else "even", number) for number in numbers]

    return note_and_sleep


def runs(cluster: LocalCluster, run: str) -> Counter[str]:
    """Return how often each element was mapped, whatever became of it."""
    return Counter(entry.name.partition("-")[0] for entry in cluster._store.list(f"{RUNS}/{run}"))


def submit_slow(cluster: LocalCluster, n: int, seconds: float) -> tuple[str, JobFuture]:
    """Submit a job of ``n`` map tasks that take so long each."""
    run = secrets.token_hex(3)
    return run, cluster.mapreduce(list(range(n)), slow(run, seconds), add_up, n, n_reducers=2)


def expected(n: int) -> list[tuple[str, int]]:
    return [("even", sum(range(0, n, 2))), ("odd", sum(range(1, n, 2)))]


def ids(cluster: LocalCluster) -> set[str]:
    return {container.id for container in cluster._network.engine.containers()}


def test_the_notebooks_first_job_gives_its_result(cluster: LocalCluster) -> None:
    future = cluster.mapreduce(
        data=WORDS, map_func=count_characters, reduce_func=add_up, requested_n_workers=4
    )
    assert future.result(120) == plain(WORDS, count_characters, add_up)
    assert len(cluster.local_monitoring.print_zoo().workers) == 2
    assert cluster.local_monitoring.hdfs("jobs")


def test_it_shows_itself(cluster: LocalCluster) -> None:
    assert cluster.name in repr(cluster)
    assert "<td>rabbitmq</td><td>1/1</td><td>ready</td>" in cluster._repr_html_()
    assert "is ready" in cluster.logs("master", tail=50)


def test_another_process_finds_the_cluster_and_the_job_by_name(small: LocalCluster) -> None:
    future = small.mapreduce(WORDS, count_characters, add_up, 2)
    program = (
        "import sys, mrq\n"
        "with mrq.LocalCluster.attach(sys.argv[1]) as cluster:\n"
        "    print(cluster.attach(sys.argv[2]).result(60))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, small.name, future.job_id],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr(plain(WORDS, count_characters, add_up))
    assert small.mapreduce(WORDS, count_characters, add_up, 2).result(60), "leaving the block did not end it"


def test_a_wrong_login_is_refused_before_anything_is_touched(cluster: LocalCluster) -> None:
    before = ids(cluster)
    for auth in (Auth("admin", "wrong"), Auth("nobody", "admin")):
        with pytest.raises(AuthenticationFailed, match=auth.username):
            LocalCluster(auth, n_workers=1, name=cluster.name)
        with pytest.raises(AuthenticationFailed, match=auth.username):
            LocalCluster.attach(cluster.name, auth)
    assert ids(cluster) == before


def test_a_person_who_was_let_in_may_attach(small: LocalCluster) -> None:
    admin = Auth(*LOGIN, settings=small.settings)
    password = admin.create_user("ann")
    try:
        with LocalCluster.attach(small.name, Auth("ann", password)) as anns:
            result = anns.mapreduce(WORDS, count_characters, add_up, 2).result(60)
        assert result == plain(WORDS, count_characters, add_up)
    finally:
        admin.delete_user("ann")
    with pytest.raises(AuthenticationFailed):
        LocalCluster.attach(small.name, Auth("ann", password))


def test_the_admin_changes_the_password_while_all_runs(cluster: LocalCluster) -> None:
    admin = Auth(*LOGIN, settings=cluster.settings)
    moved = Auth(*LOGIN)
    moved.belongs_to(cluster.name)
    moved.change_password("admin", "another")
    try:
        assert moved.is_authenticated()
        assert not admin.is_authenticated()
        LocalCluster(moved, n_workers=2, name=cluster.name).close()
        with LocalCluster.attach(cluster.name) as by_file:
            assert by_file.mapreduce(WORDS, count_characters, add_up, 2).result(60)
        with pytest.raises(AuthenticationFailed):
            LocalCluster.attach(cluster.name, Auth(*LOGIN))
    finally:
        moved.change_password("admin", LOGIN[1])


def test_clear_refuses_while_a_job_runs_unless_forced(small: LocalCluster) -> None:
    ended = small.mapreduce(WORDS, count_characters, add_up, 2)
    ended.result(60)
    _, future = submit_slow(small, 2, seconds=60)
    with pytest.raises(JobError, match=future.job_id):
        small.clear()
    assert {record.job_id for record in small.jobs()} >= {ended.job_id, future.job_id}
    assert set(small.clear(force=True)) >= {ended.job_id, future.job_id}
    assert small.jobs() == []


def test_eight_workers_become_two_under_load_and_no_task_is_run_twice(small: LocalCluster) -> None:
    small.scale(n_workers=8)
    run, future = submit_slow(small, 24, seconds=3)
    eventually(lambda: len(runs(small, run)) >= 8, "eight tasks run")
    began = time.monotonic()
    small.scale(n_workers=2)
    print(f"8 -> 2 workers in {time.monotonic() - began:.1f} s")
    assert not future.done()
    assert len(small.local_monitoring.workers()) == 2
    assert future.result(240) == expected(24)
    assert runs(small, run) == Counter(map(str, range(24)))


def test_the_idle_leave_and_the_busy_are_left_alone(small: LocalCluster) -> None:
    small.scale(n_workers=3)
    _, future = submit_slow(small, 1, seconds=12)
    busy = eventually(
        lambda: [name for name, info in small.local_monitoring.workers().items() if info.state == "busy"],
        "a worker is busy",
    )
    began = time.monotonic()
    small.scale(n_workers=1)
    assert time.monotonic() - began < 11, "the busy worker was waited for"
    assert list(small.local_monitoring.workers()) == busy
    assert future.result(60) == [("even", 0)]


def test_all_workers_and_the_owning_master_are_killed_in_mid_map(small: LocalCluster) -> None:
    small.scale(n_masters=2, n_workers=2)
    run, future = submit_slow(small, 8, seconds=2)
    eventually(lambda: len(runs(small, run)) >= 3, "three tasks have begun")
    for worker in small.local_monitoring.workers():
        small.kill(worker)
    owner = small._registry.owner(future.job_id)
    assert owner
    assert small.kill(owner) == owner
    began = time.monotonic()
    small.scale(n_masters=2, n_workers=10)
    print(f"2 masters and 10 workers again after {time.monotonic() - began:.1f} s")
    assert future.result(180) == expected(8)
    running = {hostname(one) for role in ("master", "worker") for one in small._network.engine.running(role)}
    assert len(running) == 12
    assert owner not in running


def test_a_datanode_is_killed_in_mid_job_and_the_job_ends_right(small: LocalCluster) -> None:
    run, future = submit_slow(small, 6, seconds=2)
    eventually(lambda: len(runs(small, run)) >= 2, "two tasks have begun")
    (datanode,) = small._network.engine.containers("datanode-2")
    datanode.kill()
    try:
        assert future.result(180) == expected(6)
        assert small.mapreduce(WORDS, count_characters, add_up, 2).result(120) == plain(
            WORDS, count_characters, add_up
        )
    finally:
        datanode.start()


@pytest.mark.parametrize("service", ["namenode", "zookeeper-2", "rabbitmq"])
def test_a_server_is_restarted_in_mid_job_and_the_job_ends_right(small: LocalCluster, service: str) -> None:
    run, future = submit_slow(small, 6, seconds=2)
    eventually(lambda: len(runs(small, run)) >= 2, "two tasks have begun")
    (container,) = small._network.engine.containers(service)
    container.restart()
    assert future.result(240) == expected(6)


def test_the_command_does_the_same(small: LocalCluster) -> None:
    def mrq(*words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "mrq.cli", *words, "--name", small.name],
            capture_output=True,
            text=True,
            timeout=180,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    scaled = json.loads(mrq("scale", "--workers", "3", "--json"))
    assert (len(scaled["masters"]), len(scaled["workers"])) == (1, 3)
    rows = json.loads(mrq("ps", "--json"))
    assert sum(row["service"] == "worker" for row in rows) == 3
    assert {row["health"] for row in rows if row["service"] != "worker"} == {"ready"}
    assert "rabbitmq" in mrq("ps")
    assert "is ready" in mrq("logs", "worker", "--tail", "50")
    upped = json.loads(mrq("up", "--workers", "2", "--json"))
    assert len(upped["workers"]) == 2
    program = f"{mrq('env')}\n{sys.executable} -m mrq.cli status --json"
    status = subprocess.run(["sh", "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert len(json.loads(status.stdout)["workers"]) == 2, status.stderr


def test_two_clusters_run_side_by_side_and_one_leaves_nothing(cluster: LocalCluster) -> None:
    name = f"test-{secrets.token_hex(3)}"
    try:
        with pytest.raises(Unavailable, match=f"there is no cluster {name}"):
            LocalCluster.attach(name)
        with pytest.raises(Unavailable, match=r"(?s)of the cluster .* after 0 s; its last log lines"):
            LocalCluster(n_workers=1, name=name, start_timeout=0.1)
        with LocalCluster(n_workers=1, name=name) as other:
            first = other.mapreduce(WORDS, count_characters, add_up, 2)
            here = cluster.mapreduce(WORDS, count_characters, add_up, 2)
            assert first.result(120) == here.result(120) == plain(WORDS, count_characters, add_up)
            assert not ids(other) & ids(cluster)
            assert not set(other.local_monitoring.workers()) & set(cluster.local_monitoring.workers())
            other._started = True  # it was, by the attempt above
        with pytest.raises(Unavailable, match="not up"):
            LocalCluster.attach(name)
        with pytest.raises(AuthenticationFailed):
            LocalCluster(Auth(*LOGIN), name=name)
        again = LocalCluster(n_workers=1, name=name)
        assert again.attach(first.job_id).result(60) == plain(WORDS, count_characters, add_up)
        folder = Path(StateFile(name).folder)
        again.shutdown_cluster(cleanup=True)
        assert not folder.exists()
        engine = Engine(project(name))
        assert engine.leftovers() == NOTHING
        engine.close()
        assert cluster.mapreduce(WORDS, count_characters, add_up, 2).result(60)
    finally:
        remove(name)
