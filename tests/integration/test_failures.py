"""What dies while a job runs, and what user functions do wrong: the result is exact, or the error clear."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrq.core.model import Phase
from mrq.errors import PoisonTaskError, RemoteError, RemoteTraceback, TaskTimeoutError
from mrq.future import JobFuture
from tests.integration.cluster import Cluster, eventually
from tests.jobs import Gate, GatedKey, add_up, count_characters, plain, random_strings

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

Start = Callable[..., Cluster]
DATA = random_strings(300)


def gated_job(cluster: Cluster, gate: Gate, phase: Phase) -> JobFuture:
    """Submit a job that waits at the gate in one phase."""

    def map_func(strings: list[str]) -> list[tuple[Any, int]]:
        if phase is Phase.MAP:
            gate.wait("map")
        pairs = count_characters(strings)
        if phase is Phase.SHUFFLE:
            return [(GatedKey(character, gate), n) for character, n in pairs]
        return list(pairs)

    def reduce_func(values: list[int]) -> int:
        if phase is Phase.REDUCE:
            gate.wait("reduce")
        return sum(values)

    return cluster.client.mapreduce(DATA, map_func, reduce_func, 3, n_reducers=2)


def counts(result: list[tuple[Any, int]]) -> list[tuple[str, int]]:
    """Return a gated job's result with plain keys."""
    return [(key.text if isinstance(key, GatedKey) else key, count) for key, count in result]


@pytest.mark.parametrize("phase", list(Phase))
def test_a_job_ends_exactly_when_a_worker_is_killed(start: Start, tmp_path: Path, phase: Phase) -> None:
    """Kill -9 of a worker that runs a task of that phase: another runs it again."""
    cluster, gate = start(n_masters=1, n_workers=3), Gate(tmp_path)
    future = gated_job(cluster, gate, phase)
    victim = cluster.worker_of(future.job_id, phase)
    cluster.kill(victim)
    gate.open(phase.value)
    assert counts(future.result(120)) == plain(DATA, count_characters, add_up)


@pytest.mark.parametrize("phase", list(Phase))
def test_a_job_ends_exactly_when_its_master_is_killed(start: Start, tmp_path: Path, phase: Phase) -> None:
    """Kill -9 of the owning master in that phase: another claims the job and goes on."""
    cluster, gate = start(n_masters=2, n_workers=3), Gate(tmp_path)
    future = gated_job(cluster, gate, phase)
    cluster.worker_of(future.job_id, phase)
    first = cluster.owner(future.job_id)
    cluster.kill(first)
    gate.open(phase.value)
    assert counts(future.result(120)) == plain(DATA, count_characters, add_up)
    assert first not in cluster.registry.members("masters") or cluster.owner(future.job_id) != first


def test_a_task_survives_the_deaths_of_five_workers(start: Start, tmp_path: Path) -> None:
    """A machine's death is not the task's fault, however often it comes."""
    cluster, gate = start(n_masters=1, n_workers=1), Gate(tmp_path)
    future = gated_job(cluster, gate, Phase.MAP)
    for _ in range(5):
        victim = cluster.worker_of(future.job_id, Phase.MAP)
        cluster.start_one("worker")
        cluster.wait_registered()
        cluster.kill(victim)
    gate.open("map")
    assert counts(future.result(120)) == plain(DATA, count_characters, add_up)


def test_a_stale_master_changes_nothing(start: Start, tmp_path: Path) -> None:
    """A master that was stopped, succeeded, and goes on later does no harm."""
    cluster, gate = start(n_masters=2, n_workers=2), Gate(tmp_path)
    future = gated_job(cluster, gate, Phase.MAP)
    cluster.worker_of(future.job_id, Phase.MAP)
    first = cluster.owner(future.job_id)
    before = cluster.registry.require(future.job_id).record.epoch
    cluster.kill(first, signal.SIGSTOP)
    eventually(
        lambda: cluster.registry.require(future.job_id).record.epoch > before, "another master has the job"
    )
    cluster.kill(first, signal.SIGCONT)
    epoch = cluster.registry.require(future.job_id).record.epoch
    gate.open("map")
    assert counts(future.result(120)) == plain(DATA, count_characters, add_up)
    assert cluster.registry.require(future.job_id).record.epoch == epoch
    eventually(lambda: first in cluster.registry.members("masters"), "the stopped master is a member again")


class Refused(Exception):
    """An exception of the user's own, with an argument."""


class Sour:
    """A key that pickles well, so that the map task ends, and raises when the shuffle task reads it."""

    def __reduce__(self) -> Any:
        return (turn_sour, ())


def turn_sour() -> Any:
    raise OSError("sour")


def test_what_a_function_raises_comes_back_as_its_own_type(start: Start) -> None:
    """In each phase, with the remote traceback as its cause; a sibling job is unhurt."""
    client = start(n_workers=2).client

    def map_that_raises(strings: list[str]) -> Any:
        raise Refused("no", len(strings))

    def reduce_that_raises(values: list[int]) -> Any:
        return {}["missing"]

    def map_with_an_exception_that_does_not_pickle(strings: list[str]) -> Any:
        error = ValueError("holds a lock")
        error.lock = __import__("threading").Lock()  # type: ignore[attr-defined]
        raise error

    sibling = client.mapreduce(DATA, count_characters, add_up, 2)
    bad = client.mapreduce(DATA, map_that_raises, add_up, 1)
    with pytest.raises(Refused) as raised:
        bad.result(60)
    assert raised.value.args == ("no", 300)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "map_that_raises" in str(raised.value.__cause__)
    with pytest.raises(KeyError, match="missing") as raised_too:
        client.mapreduce(DATA, count_characters, reduce_that_raises).result(60)
    assert "reduce_that_raises" in str(raised_too.value.__cause__)
    with pytest.raises(OSError, match="sour") as raised_in_shuffle:
        client.mapreduce(DATA, lambda strings: [(Sour(), 1)], add_up).result(60)
    assert "turn_sour" in str(raised_in_shuffle.value.__cause__)
    with pytest.raises(RemoteError, match="holds a lock"):
        client.mapreduce(DATA, map_with_an_exception_that_does_not_pickle, add_up).result(60)
    with pytest.raises(TypeError, match="pair"):
        client.mapreduce(DATA, lambda strings: [1, 2, 3], add_up).result(60)
    assert sibling.result(60) == plain(DATA, count_characters, add_up)


class Unloadable:
    """Pickles well, and can't be unpickled on a worker."""

    def __reduce__(self) -> Any:
        return (__import__, ("a_module_that_no_worker_has",))


def test_a_function_that_does_not_load_on_the_worker_says_so(start: Start) -> None:
    """The import error of the worker is the future's exception."""
    client = start(n_workers=1).client
    needs = Unloadable()
    with pytest.raises(ModuleNotFoundError, match="a_module_that_no_worker_has"):
        client.mapreduce(DATA, lambda strings: [(needs, 1)], add_up).result(60)


@pytest.mark.parametrize("how", ["os._exit", "SIGKILL"])
def test_a_task_that_ends_its_process_is_poison(start: Start, how: str) -> None:
    """The error names job, task and attempts; a sibling job is unhurt."""
    client = start(n_workers=2).client

    def end_it_all(strings: list[str]) -> Any:
        if how == "os._exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)

    sibling = client.mapreduce(DATA, count_characters, add_up, 2)
    bad = client.mapreduce(DATA, end_it_all, add_up, 1)
    with pytest.raises(PoisonTaskError) as raised:
        bad.result(60)
    assert (raised.value.job_id, raised.value.task, raised.value.attempts) == (bad.job_id, "map 0", 3)
    assert bad.job_id in str(raised.value)
    assert sibling.result(60) == plain(DATA, count_characters, add_up)


def test_retries_and_timeouts_are_kept(start: Start, tmp_path: Path) -> None:
    """A function that raises twice ends well with two retries; one that takes too long raises TaskTimeoutError."""
    client = start(n_workers=2).client
    folder = str(tmp_path)

    def raise_twice(strings: list[str]) -> Any:
        tries = len(os.listdir(folder + "/tries"))
        Path(folder, "tries", str(tries)).touch()
        if tries < 2:
            raise OSError("try again")
        return count_characters(strings)

    (tmp_path / "tries").mkdir()
    future = client.mapreduce(DATA, raise_twice, add_up, 1, retries=2)
    assert future.result(60) == plain(DATA, count_characters, add_up)

    def sleep_long(strings: list[str]) -> Any:
        time.sleep(600)

    with pytest.raises(TaskTimeoutError, match="map 0"):
        client.mapreduce(DATA, sleep_long, add_up, 1, task_timeout=1).result(60)


def test_cancelling_ends_the_children_and_leaves_nothing_queued(start: Start, tmp_path: Path) -> None:
    """A running job's processes end within seconds, grandchildren too, and its queued tasks are dropped."""
    cluster, gate = start(n_masters=1, n_workers=1), Gate(tmp_path)

    def map_func(strings: list[str]) -> Any:
        child = subprocess.Popen(["sleep", "600"])
        Path(gate.folder, f"grandchild-{child.pid}").touch()
        gate.wait("map")

    future = cluster.client.mapreduce(DATA, map_func, add_up, 6)
    pids = eventually(lambda: gate.reached("map"), "a task runs")
    grandchildren = [int(p.name.rpartition("-")[2]) for p in tmp_path.glob("grandchild-*")]
    eventually(future.running, "the future runs")
    assert future.cancel()
    assert future.cancelled()
    eventually(lambda: not any(alive(pid) for pid in (*pids, *grandchildren)), "its processes have ended", 5)
    other = cluster.client.mapreduce(DATA, count_characters, add_up, 2)
    assert other.result(60) == plain(DATA, count_characters, add_up)
    assert gate.reached("map") == pids, "another task of the cancelled job was run"


def test_a_job_that_no_master_has_is_cancelled_at_once(start: Start) -> None:
    """A pending future cancels without a master; none runs the job afterwards."""
    cluster = start(n_masters=0, n_workers=1)
    future = cluster.client.mapreduce(DATA, count_characters, add_up)
    assert not future.running()
    assert future.cancel()
    cluster.start_one("master")
    cluster.wait_registered()
    later = cluster.client.mapreduce(DATA, count_characters, add_up)
    assert later.result(60) == plain(DATA, count_characters, add_up)
    assert cluster.registry.require(future.job_id).record.epoch == 0


def test_a_worker_drains_on_sigterm(start: Start, tmp_path: Path) -> None:
    """SIGTERM: the running task ends and is reported, none is taken any more, the exit code is 0."""
    cluster, gate = start(n_masters=1, n_workers=1, MRQ_DRAIN_TIMEOUT="60"), Gate(tmp_path)
    future = gated_job(cluster, gate, Phase.MAP)
    victim = cluster.worker_of(future.job_id, Phase.MAP)
    cluster.processes[victim].terminate()
    eventually(lambda: "drains" in cluster.log(victim), "it drains")
    cluster.start_one("worker")
    gate.open("map")
    assert cluster.processes[victim].wait(60) == 0
    assert counts(future.result(120)) == plain(DATA, count_characters, add_up)
    assert "goes back" not in cluster.log(victim)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
