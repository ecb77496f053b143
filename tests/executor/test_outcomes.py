"""What a task's end is told as, whatever the user's function does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mrq import layout
from mrq.errors import RemoteError, RemoteTraceback

from .conftest import Bench


class Refused(Exception):
    """An exception whose arguments are not what it hands on, as many are."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Locked(Exception):
    """An exception that no pickle can hold."""

    def __init__(self) -> None:
        super().__init__("it is locked")
        self.lock = threading.Lock()


def test_a_function_that_returns_is_done(bench: Bench) -> None:
    """The outcome of a good function has a committed file's digest."""
    outcome = bench.run(lambda xs: [(x, 1) for x in xs])
    assert (outcome.kind, outcome.stats.records_in) == ("done", 1)
    assert outcome.digest
    assert bench.store.status(layout.result("job_1", bench.task().phase, 0)) is not None


def test_what_a_function_raises_comes_back_as_its_own_type_with_its_traceback(bench: Bench) -> None:
    """A built-in exception keeps type and arguments; its cause shows the line, and no line of mrq's."""

    def divides(xs: list[int]) -> Any:
        return xs[0] / 0

    outcome = bench.run(divides)
    assert (outcome.kind, outcome.type, outcome.message) == (
        "raised",
        "ZeroDivisionError",
        "division by zero",
    )
    error = bench.error(outcome)
    assert type(error) is ZeroDivisionError
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "return xs[0] / 0" in str(error.__cause__)
    assert "phases.py" not in str(error.__cause__)


def test_an_exception_class_of_the_clients_comes_back_as_that_very_class(bench: Bench) -> None:
    """By value there and back, with arguments that differ from those of its initializer."""

    def refuses(xs: list[int]) -> Any:
        raise Refused(7, reason="closed") from KeyError("why")

    error = bench.error(bench.run(refuses))
    assert isinstance(error, Refused)
    assert (error.code, str(error)) == (7, "7: closed")
    assert "KeyError: 'why'" in str(error.__cause__)


def test_an_exception_that_does_not_pickle_is_told_by_its_repr(bench: Bench) -> None:
    """A lock inside makes it a RemoteError that names job, task, attempts and class."""

    def locks(xs: list[int]) -> Any:
        raise Locked

    outcome = bench.run(locks)
    error = bench.error(outcome)
    assert outcome.type == "Locked"
    assert isinstance(error, RemoteError)
    assert (error.job_id, error.task, error.attempts) == ("job_1", "map 0", 1)
    assert "it is locked" in str(error)
    assert "raise Locked" in str(error.__cause__)


@pytest.mark.parametrize(
    "raised", [SystemExit, KeyboardInterrupt, GeneratorExit], ids=lambda cls: cls.__name__
)
def test_what_would_end_a_process_is_an_error_of_the_function(
    bench: Bench, raised: type[BaseException]
) -> None:
    """`sys.exit` and its like neither end the child nor, later, the client."""

    def leaves(xs: list[int]) -> Any:
        raise raised("bye")

    outcome = bench.run(leaves)
    assert (outcome.kind, outcome.type) == ("raised", raised.__name__)
    assert isinstance(bench.error(outcome), RemoteError)


def test_endless_recursion_is_an_error_of_the_function(bench: Bench) -> None:
    """RecursionError comes back as itself, with a traceback of a readable length."""

    def recurses(xs: list[int]) -> Any:
        return recurses(xs)

    error = bench.error(bench.run(recurses))
    assert type(error) is RecursionError
    assert len(str(error.__cause__)) < 5000


def test_a_result_that_does_not_pickle_is_an_error_of_the_function(bench: Bench) -> None:
    """A generator as a value can't be written: NotShippable or what pickle says, never a hang."""
    outcome = bench.run(lambda xs: [(1, (x for x in xs))])
    assert outcome.kind == "raised"
    assert "generator" in str(bench.error(outcome))


def test_a_module_that_the_worker_lacks_is_named(bench: Bench, tmp_path: Path, monkeypatch: Any) -> None:
    """A function that imports it, in its body, fails with the very exception of the import."""

    def imports(xs: list[int]) -> Any:
        import nowhere_to_be_found

        return nowhere_to_be_found

    error = bench.error(bench.run(imports))
    assert isinstance(error, ModuleNotFoundError)
    assert error.name == "nowhere_to_be_found"


class _NeedsAbsentModule:
    """Unpickles only where that module is; so does what a C extension beside the script defines."""

    def __call__(self, xs: list[int]) -> Any:
        return xs

    def __reduce__(self) -> Any:
        return __import__, ("nowhere_to_be_found",)


def test_functions_that_do_not_unpickle_fail_the_task_with_that_exception(bench: Bench) -> None:
    """What the unpickling of the code raises is told like what the function raises."""
    outcome = bench.run(_NeedsAbsentModule())
    assert (outcome.kind, outcome.type) == ("raised", "ModuleNotFoundError")
    assert isinstance(bench.error(outcome), ModuleNotFoundError)


def test_a_function_that_exits_its_process_has_crashed(bench: Bench) -> None:
    """`os._exit` is told with its status, and the next task runs."""
    outcome = bench.run(lambda xs: os._exit(3))
    assert (outcome.kind, outcome.type) == ("crashed", "exit 3")
    assert bench.run(lambda xs: [], "job_2").kind == "done"


def test_a_function_that_kills_its_process_has_crashed(bench: Bench) -> None:
    """A signal is told by its name; a sibling that runs meanwhile is unhurt."""
    bench.job(lambda xs: time.sleep(0.3) or [], "job_2")
    bench.start("job_2")
    bench.start(bench.job(lambda xs: os.kill(os.getpid(), signal.SIGKILL), "job_3"))
    outcomes = dict([bench.outcome(), bench.outcome()])
    assert (outcomes["job_3"].kind, outcomes["job_3"].type) == ("crashed", "SIGKILL")
    assert outcomes["job_2"].kind == "done"


def test_code_that_the_key_does_not_vouch_for_is_never_unpickled(bench: Bench, tmp_path: Path) -> None:
    """A forged code file is refused before it can run anything."""
    proof = tmp_path / "it-ran"

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (proof,)

    bench.job(lambda xs: [])
    import pickle

    bench.store.write(layout.code("job_1"), bytes(32) + pickle.dumps(Trap.__reduce__(Trap())))
    bench.start()
    _, outcome = bench.outcome()
    assert (outcome.kind, outcome.type) == ("refused", "BadSignature")
    assert not proof.exists()


def test_a_file_of_the_job_that_is_gone_is_told_for_no_retry_brings_it_back(bench: Bench) -> None:
    """No code file: the attempt is refused, with the store's reason."""
    bench.store.delete(layout.code(bench.job(lambda xs: [])))
    bench.start()
    _, outcome = bench.outcome()
    assert (outcome.kind, outcome.type) == ("refused", "StoreNotFound")


def test_a_function_may_do_what_it_likes_to_its_surroundings(bench: Bench, tmp_path: Path) -> None:
    """Another folder, closed streams, threads that never end: the outcome comes, and so does the next one."""

    def meddles(xs: list[int]) -> Any:
        threading.Thread(target=time.sleep, args=(1000,)).start()
        os.chdir("/")
        os.write(1, b"")
        os.write(2, b"")
        sys.stdout.close()
        sys.stderr = None
        os.close(1)
        return []

    assert bench.run(meddles).kind == "done"
    bench.start()
    assert bench.outcome()[1].kind == "done"  # it has streams anew


def test_a_function_that_writes_into_the_channel_has_crashed(bench: Bench) -> None:
    """Garbage where an outcome belongs ends the child, not the worker."""

    def garbles(xs: list[int]) -> Any:
        for number in map(int, os.listdir("/proc/self/fd")):
            if number > 2:
                with suppress(OSError):
                    os.write(number, b"\0\0\0\5hello")
        time.sleep(1000)

    outcome = bench.run(garbles)
    assert (outcome.kind, outcome.type) == ("crashed", "BadMessage")


def test_an_endless_body_is_cut_off_by_its_announced_length(bench: Bench) -> None:
    """The worker reads no more than the limit, whatever a function announces."""

    def announces(xs: list[int]) -> Any:
        number = max(map(int, os.listdir("/proc/self/fd")))
        os.write(number, b"\xff" * 64)
        time.sleep(1000)

    assert "are allowed" in bench.run(announces).message


def test_a_function_that_closes_the_channel_has_crashed(bench: Bench) -> None:
    """Every file descriptor closed: the child is of no use any more, and the task does not hang."""
    outcome = bench.run(lambda xs: os.closerange(3, 4096) or time.sleep(1000))
    assert (outcome.kind, outcome.type) == ("crashed", "EOFError")


def test_a_fork_of_the_users_that_returns_is_not_heard(bench: Bench) -> None:
    """Both copies of the process come back from the function; one outcome is told."""
    assert bench.run(lambda xs: os.fork() and []).kind == "done"
    bench.start(attempt=1)
    assert bench.outcome()[1].kind == "done"
    assert bench.outcomes.empty()
