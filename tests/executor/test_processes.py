"""Children, and what becomes of them: timeouts, kills, deaths of the zygote and of the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mrq.executor import pool
from mrq.executor.pool import Executor

from .conftest import DEADLINE, Bench, processes_with, until


def _leave_children(xs: list[int], file: Path, *, new_session: bool = False) -> Any:
    """Start a process, write both numbers down, and never return."""
    import subprocess
    import time

    child = subprocess.Popen(["sleep", "1000"], start_new_session=new_session)
    file.with_suffix(".part").write_text(f"{os.getpid()} {child.pid}")
    file.with_suffix(".part").rename(file)
    time.sleep(1000)


def _numbers(file: Path) -> list[int]:
    until(file.exists, "the function's start")
    return [int(number) for number in file.read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("new_session", [False, True], ids=["same group", "own session"])
def test_a_task_that_takes_too_long_is_killed_with_all_that_it_started(
    bench: Bench, tmp_path: Path, new_session: bool
) -> None:
    """The outcome comes soon after the deadline; neither child nor grandchild is left."""
    file = tmp_path / "numbers"
    begun = time.monotonic()
    outcome = bench.run(lambda xs: _leave_children(xs, file, new_session=new_session), timeout=0.5)
    assert outcome.kind == "timeout"
    assert "0.5 s" in outcome.message
    assert 0.5 <= time.monotonic() - begun < 5
    for pid in _numbers(file):
        until(lambda pid=pid: not _alive(pid), "the end of what the task started")


def test_a_child_that_ends_takes_with_it_what_it_started(bench: Bench, tmp_path: Path) -> None:
    """A crash leaves no grandchild in the child's process group."""

    def leaves(xs: list[int]) -> Any:
        import subprocess

        (tmp_path / "number").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
        os._exit(1)

    assert bench.run(leaves).kind == "crashed"
    until(lambda: not _alive(int((tmp_path / "number").read_text())), "the grandchild's end")


def test_killing_a_job_leaves_its_sibling_unhurt(bench: Bench, tmp_path: Path) -> None:
    """Both tasks of one job die at once; the other job's goes on."""
    file, go_on = tmp_path / "numbers", tmp_path / "go-on"

    def waits(xs: list[int]) -> Any:
        while not go_on.exists():
            time.sleep(0.01)
        return []

    doomed, sibling = "job_1", "job_2"
    bench.job(lambda xs: _leave_children(xs, file), doomed)
    bench.job(waits, sibling)
    for job_id in (doomed, sibling, doomed):
        bench.start(job_id)
    assert [task.job_id for task in bench.executor.running()] == [doomed, sibling, doomed]
    numbers = _numbers(file)
    bench.executor.kill(doomed)
    killed = [bench.outcome(), bench.outcome()]
    assert [(job_id, outcome.kind) for job_id, outcome in killed] == [(doomed, "killed")] * 2
    for pid in numbers:
        until(lambda pid=pid: not _alive(pid), "the end of the killed job's processes")
    go_on.touch()
    assert bench.outcome()[1].kind == "done"
    assert bench.executor.running() == []


def test_a_job_keeps_its_child_and_no_job_gets_anothers(bench: Bench, tmp_path: Path) -> None:
    """A second task of a job runs in the same process, a task of another job in another."""

    def tells(xs: list[int]) -> Any:
        with open(tmp_path / "pids", "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return []

    for job_id in ("job_1", "job_2"):
        bench.run(tells, job_id)
    bench.start("job_1", attempt=1)
    assert bench.outcome()[1].kind == "done"
    first, other, again = (tmp_path / "pids").read_text().split()
    assert first == again != other


def test_few_idle_children_are_kept(bench: Bench, marker: str) -> None:
    """After many jobs there are the zygote, the spare, and as many idle children as are to be kept warm."""
    for number in range(6):
        bench.run(lambda xs: [], f"job_{number}")
    until(lambda: len(processes_with(marker)) == 1 + 1 + 2, "the end of surplus children")


def test_the_end_of_the_zygote_does_not_count_against_tasks(bench: Bench) -> None:
    """What ran is killed, to be tried again, and a new zygote runs the next task."""
    outcome = bench.run(lambda xs: os.kill(os.getppid(), signal.SIGKILL) or time.sleep(1000))
    assert (outcome.kind, outcome.type) == ("killed", "")
    assert "helper" in outcome.message
    assert bench.run(lambda xs: [], "job_2").kind == "done"


def test_a_zygote_that_can_not_start_holds_tasks_back_and_recovers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A Python that is gone makes tasks ``killed``, one by one and not in a storm; once it is back, they run."""
    bench.run(lambda xs: [])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        outcome = bench.run(lambda xs: os.kill(os.getppid(), signal.SIGKILL) or time.sleep(1000), "job_2")
        assert outcome.kind == "killed"
        bench.start("job_1", attempt=1)
        assert bench.outcome()[1].kind == "killed"
    for attempt in range(2, 20):
        bench.start("job_1", attempt=attempt)
        if bench.outcome()[1].kind == "done":
            break
    else:
        pytest.fail("it never recovered")
    assert "can't be started" in caplog.text


def test_a_fork_that_fails_does_not_count_against_the_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's refusal is told as killed, after a while."""
    bench.run(lambda xs: [])
    notice = pool.Notice(op="failed", child=bench.executor._spare.number, message="no memory")
    monkeypatch.setattr(pool, "_FORK_SECONDS", 0.1)
    bench.executor._loop.post(lambda: bench.executor._on_notice(notice))
    outcome = bench.run(lambda xs: [], "job_2")
    assert (outcome.kind, outcome.message) == ("killed", "no process can be forked at this worker: no memory")


def test_children_see_no_setting_of_mrqs_and_no_socket_but_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str
) -> None:
    """Credentials stay with the worker, in the environment as in open connections."""
    monkeypatch.setenv("MRQ_PASSWORD", "a secret")
    bench = Bench(tmp_path / "store")

    def looks(xs: list[int]) -> Any:
        numbers = [n for n in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{n}")]
        names = [os.readlink(f"/proc/self/fd/{n}") for n in numbers if int(n) > 2]
        secrets = [name for name in os.environ if name.startswith("MRQ_")]
        raise LookupError(names, secrets, os.environ["PYTHONHASHSEED"], sys.path)

    try:
        names, secrets, seed, path = bench.error(bench.run(looks)).args
    finally:
        bench.executor.close()
    assert [name for name in names if name.startswith("socket:")] == [names[-1]]
    assert len(names) == 3  # its channel, the pipe of its output, and the worker's log
    assert (secrets, seed) == ([], "0")
    assert "" not in path


def test_the_order_of_sets_is_the_same_in_all_children(bench: Bench) -> None:
    """So that a second attempt gives the same bytes, whatever the parent's hash seed is."""

    def orders(xs: list[int]) -> Any:
        raise LookupError(list({"spam", "eggs", "ham", "bacon", "sausage", "beans"}))

    orders_seen = {
        str(bench.error(bench.run(orders, job_id), job_id)) for job_id in ("job_1", "job_2", "job_3")
    }
    assert len(orders_seen) == 1


def test_closing_leaves_no_process_no_thread_and_no_file_descriptor(tmp_path: Path, marker: str) -> None:
    """What was running is told as killed, and a second close does nothing."""

    def open_numbers() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    threads = set(threading.enumerate())
    before = len(open_numbers())
    bench = Bench(tmp_path / "store")
    file = tmp_path / "numbers"
    bench.start(bench.job(lambda xs: _leave_children(xs, file)))
    _numbers(file)
    bench.executor.close()
    assert bench.outcome()[1].kind == "killed"
    bench.executor.close()
    assert processes_with(marker) == []
    assert set(threading.enumerate()) <= threads
    assert len(open_numbers()) == before
    with pytest.raises(RuntimeError, match="closed"):
        bench.start()


def test_closing_at_once_leaves_nothing_either(marker: str) -> None:
    """An executor may be closed before its zygote has begun."""
    Executor(warm=1, name="short").close()
    assert processes_with(marker) == []


WORKER = """
import os, sys, time
from pathlib import Path

sys.path.insert(0, {root!r})
from tests.executor.conftest import Bench

folder = Path({folder!r})
bench = Bench(folder / "store")

def leaves(xs):
    import subprocess
    subprocess.Popen(["sleep", "1000"])
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    (folder / "started").touch()
    time.sleep(1000)

bench.start(bench.job(leaves))
while not (folder / "started").exists():
    time.sleep(0.01)
fork = os.fork()  # holds copies of all of the worker's sockets
if fork:
    (folder / "fork.part").write_text(str(fork))
    (folder / "fork.part").rename(folder / "fork")
time.sleep(1000)
"""


def test_a_worker_that_is_killed_takes_all_its_processes_along(tmp_path: Path, marker: str) -> None:
    """Zygote, children and grandchildren are gone soon, although a fork of the worker holds its sockets open."""
    script = WORKER.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        until((tmp_path / "fork").exists, "the task's start")
        fork = int((tmp_path / "fork").read_text())
        assert len(processes_with(marker)) >= 6  # worker, fork, zygote, child, and the two that it started
        worker.kill()
        worker.wait(DEADLINE)
        until(lambda: processes_with(marker) == [fork], "the end of the worker's processes")
    finally:
        for pid in processes_with(marker):
            os.kill(pid, signal.SIGKILL)
        worker.wait(DEADLINE)
