"""What user functions do wrong, on the real servers: a clear error, nothing left over, siblings unhurt."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mrq.core.model import PHASES
from mrq.errors import (
    NotShippable,
    PoisonTaskError,
    RemoteError,
    TaskMemoryError,
    TaskTimeoutError,
    TooManySkipped,
)
from tests.integration.cluster import Cluster
from tests.jobs import add_up, count_characters, plain, random_strings

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

Start = Callable[..., Cluster]
DATA = random_strings(100)
MIB = 2**20


def parse(texts: list[str]) -> list[tuple[str, int]]:
    """Count characters; a text with a question mark is bad."""
    for text in texts:
        if "?" in text:
            raise ValueError(f"can't parse {text}")
    return count_characters(texts)


def test_a_task_that_takes_too_much_memory_says_so_and_hurts_nobody(start: Start) -> None:
    """By the job's own limit, and by the workers' setting; the same job with more is well."""
    client = start(n_workers=2, MRQ_TASK_MEMORY_LIMIT=str(64 * MIB)).client

    def takes_200_mib(strings: list[str]) -> Any:
        held = [bytes(MIB) for _ in range(200)]
        return count_characters(strings) if held else []

    sibling = client.mapreduce(DATA, count_characters, add_up, 2)
    own = client.mapreduce(DATA, takes_200_mib, add_up, 1, memory_limit=100 * MIB)
    with pytest.raises(TaskMemoryError, match=f"{own.job_id}: task map 0 .* 100 MiB.*raise memory_limit"):
        own.result(60)
    with pytest.raises(TaskMemoryError, match="64 MiB"):
        client.mapreduce(DATA, takes_200_mib, add_up, 1).result(60)
    enough = client.mapreduce(DATA, takes_200_mib, add_up, 1, memory_limit=400 * MIB)
    assert enough.result(60) == sibling.result(60) == plain(DATA, count_characters, add_up)
    modest = client.mapreduce(DATA, count_characters, add_up, 20, n_reducers=2, memory_limit=MIB)
    assert modest.result(60) == plain(DATA, count_characters, add_up), "mrq's own work does not count"


def test_bad_records_are_skipped_up_to_the_bound_and_kept(start: Start) -> None:
    """In map and in reduce; one more in the whole job fails it, and a job without the option has its exception."""
    client = start(n_workers=2).client
    data = ["ab", "?1", "b", "c", "?2", "d"]

    def reduce_func(values: list[int]) -> float:
        return 1 / (len(values) - 1)

    future = client.mapreduce(data, parse, reduce_func, 2, n_reducers=1, max_skipped=5)
    assert future.result(60) == [("b", 1.0)]
    assert [(skipped.task, skipped.position, skipped.record) for skipped in future.skipped()] == [
        ("map 0", 1, "?1"),
        ("map 1", 1, "?2"),
        ("reduce 0", 0, "a"),
        ("reduce 0", 2, "c"),
        ("reduce 0", 3, "d"),
    ]
    assert future.skipped()[0].error == "ValueError: can't parse ?1"
    assert client.attach(future.job_id).skipped() == future.skipped()
    failed = client.mapreduce(data, parse, add_up, 2, max_skipped=1)
    with pytest.raises(TooManySkipped, match=failed.job_id):
        failed.result(60)
    assert [skipped.record for skipped in failed.skipped()] == ["?1", "?2"]
    with pytest.raises(ValueError, match="can't parse"):
        client.mapreduce(data, parse, add_up, 2).result(60)


def test_what_is_skipped_is_known_to_the_next_master_too(start: Start, tmp_path: Any) -> None:
    """The first one dies after the map phase has reported: its successor reads the results' ends."""
    from tests.jobs import Gate

    cluster, gate = start(n_masters=2, n_workers=2), Gate(tmp_path)

    def reduce_func(values: list[int]) -> int:
        gate.wait("reduce")
        return sum(values)

    future = cluster.client.mapreduce(
        ["a", "?", "b", "??"], parse, reduce_func, 2, n_reducers=1, max_skipped=2
    )
    cluster.worker_of(future.job_id, PHASES[2])
    cluster.kill(cluster.owner(future.job_id))
    gate.open("reduce")
    assert future.result(120) == [("a", 1), ("b", 1)]
    assert [skipped.record for skipped in future.skipped()] == ["?", "??"]


def test_output_comes_to_the_client_and_to_the_workers_log(start: Start) -> None:
    """With job, task and attempt; the last lines are a note of the exception; a job that prints nothing has no file."""
    cluster = start(n_workers=1)
    client = cluster.client

    def map_func(strings: list[str]) -> Any:
        print("printed", len(strings))
        logging.getLogger("mine").info("logged")
        os.write(2, b"written\n")
        return count_characters(strings)

    future = client.mapreduce(DATA, map_func, add_up, 2)
    assert future.result(60) == plain(DATA, count_characters, add_up)
    lines = ["printed 50", "INFO mine: logged", "written"]
    assert future.output() == [
        (future.job_id, f"map {index}", 0, line) for index in range(2) for line in lines
    ]
    log = cluster.log("worker-0")
    assert f'printed 50 job={future.job_id} task="map 1" attempt=0' in log

    def fails(strings: list[str]) -> Any:
        print("on the way down")
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad") as raised:
        client.mapreduce(DATA, fails, add_up, 1, retries=1).result(60)
    assert "(attempt 1):\n  on the way down" in raised.value.__notes__[0]
    silent = client.mapreduce(DATA, count_characters, add_up, 2)
    silent.result(60)
    assert silent.output() == []
    assert "output" not in {file.name for file in client._store.list(f"jobs/{silent.job_id}")}


@pytest.mark.parametrize("how", ["crash", "timeout"])
def test_last_words_are_kept_however_the_process_ends(start: Start, how: str) -> None:
    """A SIGKILL and a timeout leave what was printed before, for the future's exception as for its output."""
    client = start(n_workers=2).client

    def map_func(strings: list[str]) -> Any:
        print("last words")
        if how == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)

    future = client.mapreduce(DATA, map_func, add_up, 1, task_timeout=2)
    with pytest.raises(PoisonTaskError if how == "crash" else TaskTimeoutError) as raised:
        future.result(60)
    assert "last words" in raised.value.__notes__[0]
    assert {printed.line for printed in future.output()} == {"last words"}


def test_misbehaviour_of_all_sorts_is_told_and_hurts_nobody(start: Start) -> None:
    """Exceptions that are too big or do not pickle, output that does not, generators, streams, threads, forks."""
    client = start(n_workers=2).client

    def raises_something_huge(strings: list[str]) -> Any:
        raise ValueError("x" * 2**24)

    def raises_what_exits(strings: list[str]) -> Any:
        class Exits(Exception):
            def __reduce__(self) -> Any:
                raise SystemExit(1)

        error = Exits()
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    def raises_midway(strings: list[str]) -> Any:
        yield "a", 1
        raise KeyError("midway")

    def returns_a_lock(values: list[int]) -> Any:
        return threading.Lock()

    def meddles(strings: list[str]) -> Any:
        threading.Thread(target=time.sleep, args=(600,)).start()
        os.fork()
        sys.stdout.close()
        os.close(1)
        os.close(2)
        os.chdir("/")
        return count_characters(strings)

    sibling = client.mapreduce(DATA, count_characters, add_up, 2)
    for map_func, reduce_func, error, said in (
        (raises_something_huge, add_up, RemoteError, "too big"),
        (raises_what_exits, add_up, RemoteError, "Exits"),
        (raises_midway, add_up, KeyError, "midway"),
        (count_characters, returns_a_lock, NotShippable, "lock"),
        (lambda strings: {"a": 1}, add_up, TypeError, "items"),
        (lambda strings: None, add_up, TypeError, "NoneType"),
    ):
        with pytest.raises(error, match=said):
            client.mapreduce(DATA, map_func, reduce_func, 1).result(60)
    meddled = client.mapreduce(DATA, meddles, add_up, 6)
    assert meddled.result(60) == sibling.result(60) == plain(DATA, count_characters, add_up)
