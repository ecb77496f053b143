"""What else user code does wrong, on a whole cluster: a clear error by the future, and siblings unhurt."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mrq
from mrq.errors import NotShippable, RemoteError, RemoteTraceback
from tests.jobs import add_up, count_characters, plain


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    """A cluster that the tests of this module share."""
    with mrq.EmbeddedCluster(n_workers=2) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def sibling(cluster: mrq.EmbeddedCluster) -> Iterator[None]:
    """Beside each test, a job that must end well."""
    future = cluster.mapreduce(["ab", "b"], count_characters, add_up, 2)
    yield
    assert future.result(60) == plain(["ab", "b"], count_characters, add_up)


# ---------------------------------------------------------------- exceptions


class HoldsALock(Exception):
    """Does not pickle."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class ReduceRaises(Exception):
    """Its pickling raises."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class ReduceExits(Exception):
    """Its pickling would end the process."""

    def __reduce__(self) -> Any:
        raise SystemExit(1)


class ComesBackAsAnother(Exception):
    """Its pickle is of something else."""

    def __reduce__(self) -> Any:
        return (dict, ())


class Unprintable(Exception):
    """Holds a lock, and neither str nor repr work."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class TakesTwo(Exception):
    """Its constructor takes other arguments than it hands on; pickle alone can't make it again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.one = one


def raiser(make: Callable[[], BaseException]) -> Any:
    """Return a map function that raises what is made."""

    def map_func(strings: list[str]) -> Any:
        raise make()

    return map_func


@pytest.mark.parametrize("cls", [ReduceRaises, ReduceExits, ComesBackAsAnother])
def test_an_exception_that_pickles_badly_comes_back_by_its_arguments(
    cluster: mrq.EmbeddedCluster, cls: type[Exception]
) -> None:
    """As its own type all the same, for its arguments and attributes travel."""
    with pytest.raises(cls) as raised:
        cluster.mapreduce(["a"], raiser(lambda: cls("an argument")), add_up).result(60)
    assert raised.value.args == ("an argument",)


@pytest.mark.parametrize("cls", [HoldsALock, Unprintable])
def test_an_exception_that_does_not_travel_is_told_by_a_remote_error(
    cluster: mrq.EmbeddedCluster, cls: type[Exception]
) -> None:
    """It names job, task and class; the traceback is its cause."""
    future = cluster.mapreduce(["a"], raiser(cls), add_up)
    with pytest.raises(RemoteError, match=cls.__name__) as raised:
        future.result(60)
    error = raised.value
    assert (error.job_id, error.task, error.attempts) == (future.job_id, "map 0", 1)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "map_func" in str(error.__cause__)


def test_an_exception_with_a_constructor_of_its_own_comes_back_as_itself(
    cluster: mrq.EmbeddedCluster,
) -> None:
    """With its attributes, as the user's own type."""
    with pytest.raises(TakesTwo, match="1 and 2") as raised:
        cluster.mapreduce(["a"], raiser(lambda: TakesTwo(1, 2)), add_up).result(60)
    assert raised.value.one == 1


def test_an_exception_group_comes_back_whole(cluster: mrq.EmbeddedCluster) -> None:
    """So do notes, and the cause's text."""

    def map_func(strings: list[str]) -> Any:
        error = ExceptionGroup("two", [ValueError("one"), TypeError("other")])
        error.add_note("a note of the user's")
        raise error from KeyError("the reason")

    with pytest.raises(ExceptionGroup, match="two") as raised:
        cluster.mapreduce(["a"], map_func, add_up).result(60)
    assert [type(each) for each in raised.value.exceptions] == [ValueError, TypeError]
    assert raised.value.__notes__ == ["a note of the user's"]
    assert "the reason" in str(raised.value.__cause__)


@pytest.mark.parametrize("make", [lambda: ValueError("x" * 2**25), lambda: ValueError(bytes(2**25))])
def test_a_huge_exception_is_cut_to_what_a_person_reads(cluster: mrq.EmbeddedCluster, make: Any) -> None:
    """32 MiB in its arguments: a RemoteError, a traceback and a record of readable length."""
    future = cluster.mapreduce(["a"], raiser(make), add_up)
    with pytest.raises(RemoteError, match="ValueError") as raised:
        future.result(60)
    assert len(str(raised.value)) < 3000
    assert len(str(raised.value.__cause__)) < 100_000
    errors = cluster._store.list(f"jobs/{future.job_id}/errors")
    assert sum(file.length for file in errors) < 200_000


@pytest.mark.parametrize("cls", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_a_process_does_not_end_the_clients(cluster: mrq.EmbeddedCluster, cls: Any) -> None:
    """They come as a RemoteError, from map as from reduce."""
    with pytest.raises(RemoteError, match=cls.__name__):
        cluster.mapreduce(["a"], raiser(cls), add_up).result(60)
    with pytest.raises(RemoteError, match=cls.__name__):
        cluster.mapreduce(["a"], count_characters, raiser(cls)).result(60)


# ---------------------------------------------------------------- what is returned


class ReducesToAnError:
    """A value whose pickling raises."""

    def __reduce__(self) -> Any:
        raise RuntimeError("not this one")


class Unloadable:
    """A value that pickles and does not unpickle."""

    def __reduce__(self) -> Any:
        return (__import__, ("a_module_that_nobody_has",))


UNPICKLABLE = [threading.Lock, lambda: (x for x in "ab"), lambda: sys.stdout, ReducesToAnError]


@pytest.mark.parametrize("make", UNPICKLABLE, ids=["lock", "generator", "file", "reduce"])
def test_output_that_does_not_pickle_is_named(cluster: mrq.EmbeddedCluster, make: Any) -> None:
    """As a value of map's and as a result of reduce's: which record, and of what type."""
    with pytest.raises(NotShippable, match=r"record 0: a value of type .* can't be pickled"):
        cluster.mapreduce(["a"], lambda xs: [(1, make())], add_up).result(60)
    with pytest.raises(NotShippable, match=r"record 0: a value of type .* can't be pickled"):
        cluster.mapreduce(["a"], count_characters, lambda values: make()).result(60)


def test_a_value_that_does_not_unpickle_is_the_next_tasks_error(cluster: mrq.EmbeddedCluster) -> None:
    """From map, in the task that reads it; from reduce, at the client."""
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        cluster.mapreduce(["a"], lambda xs: [(1, Unloadable())], add_up).result(60)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        cluster.mapreduce(["a"], count_characters, lambda values: Unloadable()).result(60)


def test_a_generator_that_raises_midway_leaves_no_half_result(
    cluster: mrq.EmbeddedCluster, tmp_path: Any
) -> None:
    """The error is its own; tried again and raising no more, the result is exact."""
    mark = tmp_path / "tried"

    def map_func(strings: list[str]) -> Any:
        yield from count_characters(strings)
        if not mark.exists():
            mark.touch()
            raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        cluster.mapreduce(["ab"], map_func, add_up).result(60)
    mark.unlink()
    assert cluster.mapreduce(["ab"], map_func, add_up, retries=1).result(60) == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "NoneType"),
        (7, "int"),
        ("ab", "str"),
        (["ab"], r"item 0 is 'ab' \(str\)"),
        ({"a": 1}, "items"),
        ([("a", 1), ("b",)], "item 1"),
        ([("a", 1, 2)], "item 0"),
        ([None], "item 0 is None"),
    ],
)
def test_a_map_function_that_returns_no_pairs_is_told_what_it_returned(
    cluster: mrq.EmbeddedCluster, returned: Any, said: str
) -> None:
    """The first item that is no pair, by number; a str of two characters is none."""
    with pytest.raises(TypeError, match=f"map_func must return an iterable of .* pairs.*{said}"):
        cluster.mapreduce(["a"], lambda xs: returned, add_up).result(60)


def test_a_generator_without_an_end_is_ended_by_its_limits(cluster: mrq.EmbeddedCluster) -> None:
    """By memory, if there is a limit, else by time."""
    with pytest.raises(mrq.errors.TaskMemoryError):
        cluster.mapreduce(
            ["a"], lambda xs: ((n, 1) for n in itertools.count()), add_up, memory_limit=2**25
        ).result(60)
    with pytest.raises(mrq.errors.TaskTimeoutError):
        cluster.mapreduce(
            ["a"], lambda xs: ((0, 1) for n in itertools.count() if n < 0), add_up, task_timeout=0.5
        ).result(60)


# ---------------------------------------------------------------- processes and threads


def test_threads_that_never_end_do_not_keep_a_task(cluster: mrq.EmbeddedCluster) -> None:
    """Daemons or not: the result is there, and the next job has its workers."""

    def map_func(strings: list[str]) -> Any:
        for daemon in (True, False):
            threading.Thread(target=time.sleep, args=(1000,), daemon=daemon).start()
        return count_characters(strings)

    assert cluster.mapreduce(list("abcd"), map_func, add_up, 4).result(60) == [(c, 1) for c in "abcd"]


def test_a_fork_that_comes_back_from_the_function_ends_there(cluster: mrq.EmbeddedCluster) -> None:
    """By returning or by raising, from map and from reduce: the copy writes nothing, and the result is exact."""

    def map_func(strings: list[str]) -> Any:
        if not os.fork() and strings == ["b"]:
            raise ValueError("in the copy")
        return count_characters(strings)

    def reduce_func(values: list[int]) -> int:
        os.fork()
        return sum(values)

    future = cluster.mapreduce(list("abc"), map_func, reduce_func, 3)
    assert future.result(60) == [(c, 1) for c in "abc"]
    assert cluster._store.list(f"jobs/{future.job_id}/errors") == []


def test_a_pool_of_processes_may_be_used_in_a_function(cluster: mrq.EmbeddedCluster) -> None:
    """Multiprocessing by fork works in a child."""

    def map_func(strings: list[str]) -> Any:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return list(zip(strings, pool.map(len, strings), strict=True))

    assert cluster.mapreduce(["a", "bb"], map_func, add_up, 1).result(60) == [("a", 1), ("bb", 2)]


def test_a_fault_of_native_code_is_a_crash(cluster: mrq.EmbeddedCluster) -> None:
    """A segmentation fault is told by its name."""
    import ctypes

    with pytest.raises(mrq.errors.PoisonTaskError, match="SIGSEGV"):
        cluster.mapreduce(["a"], lambda xs: ctypes.string_at(0), add_up).result(60)
