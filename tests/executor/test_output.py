"""What functions print and log comes to the user, with job, task and attempt, and to the worker's log."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import FileIO
from typing import Any

import pytest

import mrq
from mrq.core.model import Phase
from mrq.errors import PoisonTaskError, TaskTimeoutError
from mrq.executor import output
from mrq.executor.output import Output
from mrq.wire import TaskMessage
from tests.jobs import add_up, count_characters

TASK = TaskMessage(job_id="job_1", phase=Phase.MAP, index=3, epoch=1, attempt=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    """A cluster that the tests of this module share."""
    with mrq.EmbeddedCluster(n_workers=2) as cluster:
        yield cluster


def lines(future: mrq.JobFuture, task: str = "map 0") -> list[str]:
    """Return a task's lines."""
    return [printed.line for printed in future.output() if printed.task == task]


def folder_of(cluster: mrq.EmbeddedCluster, future: mrq.JobFuture) -> set[str]:
    """Return the names in the job's folder."""
    return {file.name for file in cluster._store.list(f"jobs/{future.job_id}")}


# ---------------------------------------------------------------- a whole cluster


def test_what_is_printed_comes_with_job_task_and_attempt(cluster: mrq.EmbeddedCluster) -> None:
    """From map and from reduce, in the order of the tasks, as soon as the job has ended."""

    def map_func(strings: list[str]) -> Any:
        print("mapping", *strings)
        return count_characters(strings)

    def reduce_func(values: list[int]) -> int:
        print("reducing", len(values))
        return sum(values)

    # A backup task would print, too.
    future = cluster.mapreduce(["a", "b"], map_func, reduce_func, 2, n_reducers=1, speculative=False)
    future.result(60)
    job_id = future.job_id
    assert future.output() == [
        (job_id, "map 0", 0, "mapping a"),
        (job_id, "map 1", 0, "mapping b"),
        (job_id, "reduce 0", 0, "reducing 1"),
        (job_id, "reduce 0", 0, "reducing 1"),
    ]
    assert str(future.output()[0]) == f"{job_id} map 0 attempt 0: mapping a"
    assert cluster.attach(job_id).output() == future.output()


def test_all_ways_to_write_are_heard(cluster: mrq.EmbeddedCluster) -> None:
    """Both streams, the descriptors themselves, other processes, and logging without any setting up."""

    def map_func(strings: list[str]) -> Any:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.write(1, b"to descriptor 1\n")
        subprocess.run(["sh", "-c", "echo from a shell; echo and its errors >&2"], check=True)
        logging.getLogger("users.own").info("a record of level %s", "info")
        logging.getLogger("users.own").debug("not this one")
        print("no end of line", end="")
        return []

    future = cluster.mapreduce(["a"], map_func, add_up)
    future.result(60)
    assert lines(future) == [
        "to stdout",
        "to stderr",
        "to descriptor 1",
        "from a shell",
        "and its errors",
        "INFO users.own: a record of level info",
        "no end of line",
    ]


def test_a_function_may_set_its_logging_up_itself(cluster: mrq.EmbeddedCluster) -> None:
    """Its own level and format hold."""

    def map_func(strings: list[str]) -> Any:
        logging.basicConfig(level=logging.DEBUG, format="mine: %(message)s", force=True)
        logging.debug("debugging")
        return []

    future = cluster.mapreduce(["a"], map_func, add_up)
    future.result(60)
    assert lines(future) == ["mine: debugging"]


def test_a_job_that_prints_nothing_leaves_no_file(cluster: mrq.EmbeddedCluster) -> None:
    """Nor an empty folder."""
    future = cluster.mapreduce(["a"], count_characters, add_up)
    future.result(60)
    assert future.output() == []
    assert folder_of(cluster, future) - {"attempts", "timeline"} == {"manifest"}


def test_the_last_lines_are_a_note_of_the_exception(cluster: mrq.EmbeddedCluster) -> None:
    """Of the attempt that counted, so that a traceback in a notebook shows them."""

    def map_func(strings: list[str]) -> Any:
        for number in range(100):
            print("line", number)
        raise ValueError("bad")

    future = cluster.mapreduce(["a"], map_func, add_up, retries=1)
    with pytest.raises(ValueError, match="bad") as raised:
        future.result(60)
    (note,) = raised.value.__notes__
    assert note.splitlines()[0] == f"{future.job_id}: map 0 printed last (attempt 1):"
    assert note.splitlines()[1:] == [f"  line {number}" for number in range(80, 100)]
    assert [printed.attempt for printed in future.output()] == [0] * 100 + [1] * 100


@pytest.mark.parametrize("how", ["crash", "timeout"])
def test_last_words_are_kept_however_a_process_ends(cluster: mrq.EmbeddedCluster, how: str) -> None:
    """A crash and a kill leave what was written before."""

    def map_func(strings: list[str]) -> Any:
        print("last words")
        if how == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1000)

    future = cluster.mapreduce(["a"], map_func, add_up, task_timeout=1)
    with pytest.raises(PoisonTaskError if how == "crash" else TaskTimeoutError) as raised:
        future.result(60)
    assert "last words" in raised.value.__notes__[0]
    assert set(lines(future)) == {"last words"}


def test_endless_output_neither_blocks_nor_fills_anything(cluster: mrq.EmbeddedCluster) -> None:
    """The last 64 KiB are kept, and it is said how many lines are not."""

    def map_func(strings: list[str]) -> Any:
        for number in range(200_000):
            print("line", number)
        return count_characters(strings)

    future = cluster.mapreduce(["a"], map_func, add_up)
    assert future.result(60) == [("a", 1)]
    first, *rest = lines(future)
    assert rest[-1] == "line 199999"
    assert sum(len(line) + 1 for line in rest) <= output.KEPT_BYTES
    assert first == f"[{200_000 - len(rest)} earlier lines are left out]"


def test_a_function_that_closes_or_replaces_its_streams_does_no_harm(cluster: mrq.EmbeddedCluster) -> None:
    """Ten tasks, one after the other in the same processes: each is heard up to that point."""

    def map_func(strings: list[str]) -> Any:
        print("before", *strings)
        sys.stdout.flush()
        if strings[0] in "abc":
            sys.stdout.close()
            sys.stderr = None
        elif strings[0] in "def":
            os.close(1)
            os.close(2)
        else:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return count_characters(strings)

    future = cluster.mapreduce(list("abcdefghij"), map_func, add_up, 10)
    assert len(future.result(60)) == 10
    assert [printed.line for printed in future.output()] == [f"before {letter}" for letter in "abcdefghij"]


def test_threads_and_forks_of_a_function_print_too(cluster: mrq.EmbeddedCluster) -> None:
    """What a thread and a forked process write before the function returns is the task's."""

    def map_func(strings: list[str]) -> Any:
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
        pid = os.fork()
        if not pid:
            print("from a fork")
            os._exit(0)
        os.waitpid(pid, 0)
        return []

    future = cluster.mapreduce(["a"], map_func, add_up)
    future.result(60)
    assert lines(future) == ["from a thread", "from a fork"]


def test_the_workers_log_has_each_line_with_job_task_and_attempt(
    cluster: mrq.EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """As a record of the logger mrq.output."""

    def map_func(strings: list[str]) -> Any:
        print("for the log")
        return []

    with caplog.at_level(logging.INFO, logger="mrq.output"):
        future = cluster.mapreduce(["a"], map_func, add_up)
        future.result(60)
    (record,) = [record for record in caplog.records if record.name == "mrq.output"]
    assert (record.getMessage(), vars(record)["job"]) == ("for the log", future.job_id)
    assert (vars(record)["task"], vars(record)["attempt"]) == ("map 0", 0)


def test_a_store_that_refuses_the_output_does_not_fail_the_task(
    cluster: mrq.EmbeddedCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The job ends well; the worker says that the lines are not kept."""

    def refuse(*_: Any) -> None:
        raise mrq.errors.StoreFull("no space")

    monkeypatch.setattr("mrq.sidecar.write_output", refuse)

    def map_func(strings: list[str]) -> Any:
        print("lost")
        return count_characters(strings)

    future = cluster.mapreduce(["a"], map_func, add_up)
    assert future.result(60) == [("a", 1)]
    assert future.output() == []
    assert "is not kept: no space" in caplog.text


# ---------------------------------------------------------------- one pipe


@pytest.fixture
def pipe() -> Iterator[tuple[Output, int]]:
    """What the worker has of a child's output, and the child's end."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    with FileIO(reads) as file:
        yield Output(file), writes
    os.close(writes)


def test_output_that_is_no_text_is_shown_all_the_same(pipe: tuple[Output, int]) -> None:
    """Bytes that are no UTF-8, Windows' line ends, a line that never ends."""
    ours, theirs = pipe
    ours.begin(TASK)
    os.write(theirs, b"\xff\xfe\r\n" + b"x" * 20_000)
    kept = ours.end()
    assert kept
    assert kept.lines[0] == "\ufffd\ufffd"
    assert [len(line) for line in kept.lines[1:]] == [8192, 8192, 20_000 - 2 * 8192]


def test_each_task_has_its_own_lines(pipe: tuple[Output, int]) -> None:
    """What is written between two tasks is nobody's; nothing written is None."""
    ours, theirs = pipe
    ours.begin(TASK)
    os.write(theirs, b"first")
    kept = ours.end()
    assert kept
    assert kept.lines == ["first"]
    os.write(theirs, b"between\n")
    ours.begin(TASK.model_copy(update={"attempt": 3}))
    assert ours.end() is None


def test_the_log_gets_the_beginning_and_the_file_the_end(
    pipe: tuple[Output, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither more than its bound."""
    ours, theirs = pipe
    ours.begin(TASK)
    with caplog.at_level(logging.INFO, logger="mrq.output"):
        for start in range(0, 20_000, 1000):
            os.write(theirs, b"".join(b"%09d\n" % number for number in range(start, start + 1000)))
            ours.drain()
        kept = ours.end()
    assert kept
    assert kept.lines[-1] == "000019999"
    assert len(kept.lines) == output.KEPT_BYTES // 10
    assert kept.left_out == 20_000 - len(kept.lines)
    logged = [record.getMessage() for record in caplog.records]
    assert logged[0] == "000000000"
    assert len(logged) == output.ECHOED_BYTES // 10 + 1
    assert "not logged" in logged[-1]
