"""Records to bytes and back: classes that can't be imported travel by value, and stay one class."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from mrq.errors import NotShippable
from mrq.serial import dumps, dumps_by_value, loads


def local(name: str = "Local") -> type:
    """Make a class that no other process could import."""
    return type(
        name, (), {"__module__": "nowhere", "__eq__": lambda a, b: vars(a) == vars(b), "__hash__": None}
    )


@pytest.mark.parametrize("pickled", [dumps, dumps_by_value])
def test_what_goes_in_comes_out(pickled: Any) -> None:
    """Plain values, functions, and instances of classes that are nowhere to import."""
    made = local()()
    made.x = [1]
    for value in (["a", 1, None], {"k": (1.5, b"")}, [made], made):
        assert loads(pickled(value)) == value
    assert loads(pickled(lambda x: x + 1))(1) == 2


def test_a_class_that_went_by_value_comes_back_as_the_same() -> None:
    """So that keys made of it still are equal to each other."""
    kind = local()
    assert type(loads(dumps_by_value([kind()]))[0]) is kind
    assert type(loads(dumps([kind()]))[0]) is kind


_RELAY = """
import sys
from mrq.serial import dumps, loads
sys.stdout.buffer.write(dumps(loads(sys.stdin.buffer.read())))
"""


def test_a_class_survives_a_process_that_does_not_have_it() -> None:
    """Client to worker to client: the worker's plain pickle can't, so cloudpickle does."""
    made = local()()
    made.x = 7
    relayed = subprocess.run(
        [sys.executable, "-c", _RELAY], input=dumps_by_value([made]), capture_output=True, check=True
    ).stdout
    [back] = loads(relayed)
    assert type(back) is type(made)
    assert back == made


@pytest.mark.parametrize("pickled", [dumps, dumps_by_value])
def test_what_can_not_be_pickled_is_named_by_its_type(pickled: Any) -> None:
    """With the reason."""
    with pytest.raises(NotShippable, match=r"type lock can't be pickled: TypeError"):
        pickled(threading.Lock())
