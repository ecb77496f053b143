"""What a type checker sees of the public names: mypy reads this file, and nobody runs the functions in it.

An ``ignore`` that mypy does not need is an error, so each one below says: this mistake is found before anything runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, assert_type

import mrq
from mrq.core.model import JobState, Phase
from mrq.errors import JobError, MrqError, PoisonTaskError, TaskError
from mrq.records import JobRecord, PhaseProgress
from mrq.wire import Stats


def words(lines: list[str]) -> Iterator[tuple[str, int]]:
    """Map: a function of one split, with types of its own."""
    for line in lines:
        for word in line.split():
            yield word, 1


def as_a_list(numbers: list[int]) -> list[tuple[int, float]]:
    """Map: a list of pairs will do as well."""
    return [(number % 2, number / 2) for number in numbers]


def total(counts: list[int]) -> int:
    """Reduce: a function of all values of one key."""
    return sum(counts)


def mapreduce_takes_plain_functions(client: mrq.Client, data: Iterable[str]) -> None:
    """Of any element, key and value types; the result is a list of pairs."""
    assert_type(client.mapreduce(data, words, total), mrq.JobFuture)
    assert_type(client.mapreduce(range(10), as_a_list, sum, 4), mrq.JobFuture)
    assert_type(client.mapreduce((line for line in data), words, max, requested_n_workers=4), mrq.JobFuture)
    future = client.mapreduce(data, words, total, 4, n_reducers=2, retries=3, task_timeout=1.5)
    assert_type(future, mrq.JobFuture)
    assert_type(client.mapreduce([1], lambda xs: [(x, x) for x in xs], lambda ys: ys), mrq.JobFuture)


def mapreduce_refuses_what_is_wrong(client: mrq.Client) -> None:
    """Before anything runs."""
    client.mapreduce(7, words, total)  # type: ignore[arg-type]
    client.mapreduce([], None, total)  # type: ignore[arg-type]
    client.mapreduce([], lambda xs: 7, total)  # type: ignore[arg-type,return-value]
    client.mapreduce([], words, total, "4")  # type: ignore[arg-type]
    client.mapreduce([], words, total, 4, 2)  # type: ignore[call-arg]
    client.mapreduce([], words, total, workers=4)  # type: ignore[call-arg]
    client.mapreduce([], words)  # type: ignore[call-arg]


def a_future_is_one_of_the_standard_library_s(future: mrq.JobFuture) -> None:
    """With a result of pairs, sorted by key."""
    assert_type(future.result(), list[tuple[Any, Any]])
    assert_type(future.result(timeout=1.5), list[tuple[Any, Any]])
    assert_type(future.exception(), BaseException | None)
    assert_type(future.job_id, str)
    assert_type(future.cancel(), bool)
    standard: concurrent.futures.Future[list[tuple[Any, Any]]] = future
    done, _ = concurrent.futures.wait([future])
    assert_type(done.pop().result(), list[tuple[Any, Any]])
    for completed in concurrent.futures.as_completed([future]):
        assert_type(completed.result(), list[tuple[Any, Any]])
    standard.add_done_callback(lambda ended: print(ended.result()[0]))


async def a_future_can_be_awaited(future: mrq.JobFuture) -> None:
    """By asyncio's own means."""
    assert_type(await asyncio.wrap_future(future), list[tuple[Any, Any]])


def progress_is_a_value(future: mrq.JobFuture) -> None:
    """Of counts by phase."""
    progress = future.progress()
    assert_type(progress, mrq.Progress)
    assert_type(progress.job_id, str)
    assert_type(progress.state, JobState)
    assert_type(progress.fraction, float)
    assert_type(progress.phases, Mapping[Phase, PhaseProgress])
    phase = progress.phases[Phase.MAP]
    assert_type((phase.done, phase.total, phase.stats), tuple[int, int, Stats])
    progress.state = JobState.MAP  # type: ignore[misc]


def a_cluster_is_a_client(folder: Path, settings: mrq.Settings) -> None:
    """Of itself, with the same methods."""
    cluster = mrq.EmbeddedCluster(n_workers=4, n_masters=2)
    assert_type(cluster, mrq.EmbeddedCluster)
    assert_type(cluster.mapreduce(["a"], words, total), mrq.JobFuture)
    mrq.EmbeddedCluster()
    mrq.EmbeddedCluster(2, folder=folder, settings=settings)
    mrq.EmbeddedCluster(folder=str(folder))
    mrq.EmbeddedCluster("two")  # type: ignore[arg-type]


def a_client_connects_by_settings(settings: mrq.Settings) -> None:
    """Or by those of file, environment and arguments."""
    client = mrq.Client(settings)
    assert_type(client, mrq.Client)
    assert_type(mrq.Client(), mrq.Client)
    assert_type(mrq.Client(username="ada"), mrq.Client)
    assert_type(client.attach("job_7"), mrq.JobFuture)
    assert_type(client.jobs(), list[JobRecord])
    assert_type(client.clear(), list[str])
    assert_type(client.clear("job_7", force=True), list[str])
    client.close(wait_for_jobs=True)
    mrq.Client("127.0.0.1")  # type: ignore[arg-type]


def settings_are_loaded_and_do_not_change(file: Path) -> None:
    """Lists are tuples."""
    assert_type(mrq.Settings.load(), mrq.Settings)
    settings = mrq.Settings.load(file, slots=2)
    assert_type(settings.zookeeper_hosts, tuple[str, ...])
    assert_type(settings.operation_timeout, float)
    assert_type(settings.password.get_secret_value(), str)


def errors_say_which_job_and_task(future: mrq.JobFuture) -> None:
    """From the root of the tree to its leaves."""
    try:
        future.result()
    except PoisonTaskError as error:
        assert_type((error.job_id, error.task, error.attempts), tuple[str, str, int])
        task_error: TaskError = error
        job_error: JobError = task_error
        root: MrqError = job_error
        raise root from None
