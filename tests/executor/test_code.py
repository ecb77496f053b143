"""Functions, classes and exceptions on their way to another process and back."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from mrq import code, raised
from mrq.blob import Signer, new_key
from mrq.core.model import Phase
from mrq.errors import BadSignature, NotShippable, RemoteError

from .conftest import Bench

ROOT = str(Path(__file__).parents[2])


@dataclass(frozen=True)
class Point:
    """A key of a class that workers don't have."""

    x: int
    y: int


class Colour(Enum):
    """An enumeration that workers don't have."""

    RED = 1


class Adder:
    """A callable that holds a value."""

    seen = 0

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, xs: list[int]) -> Any:
        return [(x, x + self.n) for x in xs]

    def method(self, xs: list[int]) -> Any:
        """Do the same as a bound method."""
        return self(xs)


def _fresh(pickled: bytes, expression: str) -> str:
    """Evaluate an expression of ``f`` and ``g``, the unpacked functions, in a Python that has nothing of ours."""
    script = (
        "import sys; from mrq import code; f, g = code.unpack(sys.stdin.buffer.read()); print("
        + expression
        + ")"
    )
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.append({ROOT!r}); {script}"]
    done = subprocess.run(command, input=pickled, capture_output=True, check=True, cwd="/", timeout=60)
    return done.stdout.decode().strip()


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module beside the script, that imports another one."""
    (tmp_path / "bench_other.py").write_text("FACTOR = 10\ndef times(x):\n    return x * FACTOR\n")
    (tmp_path / "bench_helper.py").write_text(
        "import bench_other\nfrom bench_other import times\n"
        "def both(xs):\n    return [(times(x), bench_other.times(x)) for x in xs]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("bench_helper")
    for name in ("bench_helper", "bench_other"):
        sys.modules.pop(name, None)


def test_functions_of_every_kind_travel(helpers: ModuleType) -> None:
    """Lambdas, closures, partials, callables, bound methods, and modules beside the script that import others."""
    offset = 100

    def nested(xs: list[int], more: int = 0) -> Any:
        return [(x, x + offset + more) for x in xs]

    kinds = {
        "lambda": (lambda xs: [(x, x) for x in xs], "[(1, 1)]"),
        "closure": (nested, "[(1, 101)]"),
        "partial": (partial(nested, more=1), "[(1, 102)]"),
        "callable": (Adder(5), "[(1, 6)]"),
        "method": (Adder(6).method, "[(1, 7)]"),
        "builtin": (sorted, "[1]"),
        "beside": (helpers.both, "[(10, 10)]"),
    }
    for kind, (function, expected) in kinds.items():
        assert _fresh(code.pack(function, len), "f([1])") == expected, kind


def test_mrq_and_what_is_installed_go_by_name_and_the_registry_is_left_as_it_was(helpers: ModuleType) -> None:
    """A module that the user registered stays so; ours are gone; nothing of pytest's or mrq's is among them."""
    names = {module.__name__ for module in code.local_modules()}
    assert {"bench_helper", "bench_other", __name__} <= names
    assert not {
        name for name in names if name.partition(".")[0] in ("mrq", "pytest", "cloudpickle", "json", "os")
    }
    cloudpickle.register_pickle_by_value(helpers)
    try:
        with code.by_value(), code.by_value():
            assert "bench_other" in cloudpickle.list_registry_pickle_by_value()
        assert cloudpickle.list_registry_pickle_by_value() == {"bench_helper"}
    finally:
        cloudpickle.unregister_pickle_by_value(helpers)


def test_two_threads_may_pickle_by_value_at_once() -> None:
    """The first to be done does not take the registration from the other."""
    inside, go_on, found = threading.Event(), threading.Event(), []

    def slow() -> None:
        with code.by_value():
            inside.set()
            go_on.wait(20)
            found.append(__name__ in cloudpickle.list_registry_pickle_by_value())

    thread = threading.Thread(target=slow)
    thread.start()
    inside.wait(20)
    code.pack(len, len)
    go_on.set()
    thread.join(20)
    assert found == [True]
    assert __name__ not in cloudpickle.list_registry_pickle_by_value()


def test_what_can_not_travel_is_named() -> None:
    """The error says which function, where it is, and what it refers to."""
    lock = threading.Lock()

    def locked(xs: list[int]) -> Any:
        with lock:
            return xs

    with pytest.raises(NotShippable, match=r"reduce_func .*locked \(.*test_code.py:\d+\).*'lock' \(lock\)"):
        code.pack(len, locked)
    with pytest.raises(NotShippable, match=r"map_func .*generator"):
        code.pack(partial(map, (x for x in [])), len)


def test_a_class_that_comes_back_is_the_very_class_and_stays_as_it_is() -> None:
    """Its attributes are not written over by the pickle's older ones; its methods stay the same objects."""
    with code.by_value():
        pickled = cloudpickle.dumps([Point(1, 2), Colour.RED, Adder(3)])
    method, Adder.seen = Adder.method, 7
    try:
        point, colour, adder = code.loads(pickled)
        assert (point, type(point), colour) == (Point(1, 2), Point, Colour.RED)
        assert (type(adder), Adder.seen, Adder.method) == (Adder, 7, method)
    finally:
        Adder.seen = 0


def test_keys_of_a_local_dataclass_are_equal_across_children(bench: Bench) -> None:
    """Made by the function, or come in with the data: one class per child, so that they group."""

    def meets(xs: list[Point]) -> Any:
        assert xs[0] == Point(1, 2)
        assert isinstance(xs[1], Colour)
        assert xs[1] is Colour.RED
        raise LookupError(Point(3, 4), xs[0], xs[1])

    for job_id in ("job_1", "job_2"):
        bench.start(bench.job(meets, job_id, data=[Point(1, 2), Colour.RED]))
        _, outcome = bench.outcome()
        assert bench.error(outcome, job_id).args == (Point(3, 4), Point(1, 2), Colour.RED)


def test_an_exceptions_blob_is_bound_to_job_phase_and_task() -> None:
    """Read for another task, or with another key, it does not open; nothing is unpickled."""
    signer = Signer(new_key(), "job_1")
    blob = raised.dump_error(KeyError("x"), signer, Phase.MAP, 3, 1)
    assert repr(raised.load_error(blob, signer, Phase.MAP, 3)) == "KeyError('x')"
    for other, phase, index in (
        (signer, Phase.MAP, 4),
        (signer, Phase.REDUCE, 3),
        (Signer(new_key(), "job_1"), Phase.MAP, 3),
    ):
        with pytest.raises(BadSignature):
            raised.load_error(blob, other, phase, index)


def test_an_exception_of_a_module_that_the_client_lacks_is_told_by_its_repr(helpers: ModuleType) -> None:
    """It was pickled by name where that module is; here it becomes a RemoteError with the traceback."""
    helpers.Odd = type("Odd", (Exception,), {"__module__": "bench_helper", "__qualname__": "Odd"})
    signer = Signer(new_key(), "job_1")
    blob = raised.dump_error(helpers.Odd("strange"), signer, Phase.MAP, 0, 2)
    del sys.modules["bench_helper"]
    sys.path.pop(0)
    importlib.invalidate_caches()
    error = raised.load_error(blob, signer, Phase.MAP, 0)
    assert isinstance(error, RemoteError)
    assert (error.attempts, "Odd('strange')" in str(error)) == (2, True)


SCRIPT = """
import os, sys, time
from pathlib import Path
sys.path.append({root!r})
from tests.executor.conftest import Bench
import beside

class Mine(Exception):
    pass

def fails(xs):
    raise Mine(beside.shout(str(xs)), os.environ["PYTHONHASHSEED"])

bench = Bench(Path({folder!r}) / "store")
error = bench.error(bench.run(fails))
assert type(error) is Mine, error
bench.executor.close()
print(error.args)
"""


@pytest.mark.parametrize("how", ["script", "-c", "stdin"])
def test_a_script_without_a_main_guard_works(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes of ``__main__`` and a module beside the script travel, and nothing is run twice."""
    monkeypatch.setenv("PYTHONHASHSEED", "42")
    (tmp_path / "beside.py").write_text("def shout(text):\n    return text.upper() + '!'\n")
    script = SCRIPT.format(root=ROOT, folder=str(tmp_path))
    (tmp_path / "script.py").write_text(script)
    arguments = {"script": ["script.py"], "-c": ["-c", script], "stdin": ["-"]}[how]
    done = subprocess.run(
        [sys.executable, *arguments], input=script, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("('[1]!', '0')\n", "")


def test_the_workers_side_is_light_to_import() -> None:
    """Neither cloudpickle nor a server's library comes with it."""
    heavy = "[name for name in ('cloudpickle', 'pika', 'hdfs') if name in sys.modules]"
    script = f"import sys, mrq.executor.pool; print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
