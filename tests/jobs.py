"""Jobs that tests submit, and what plain Python says of them."""

from __future__ import annotations

import os
import random
import string
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mrq.core.keys import order_key

WORDS = ["dasdsagf", "mike", "george", "gertretr123", "dsadsajortriojtiow"]


def count_characters(strings: list[str]) -> list[tuple[str, int]]:
    """The notebook's map function."""
    return [(character, 1) for text in strings for character in text]


def add_up(values: list[int]) -> int:
    """The notebook's reduce function."""
    return sum(values)


def random_strings(n: int, length: int = 20, seed: int = 7) -> list[str]:
    """The notebook's heavy data, the same each time."""
    draw = random.Random(seed)
    return ["".join(draw.choices(string.ascii_lowercase, k=length)) for _ in range(n)]


def plain(
    data: Iterable[Any], map_func: Callable[[list[Any]], Any], reduce_func: Callable[[list[Any]], Any]
) -> list[tuple[Any, Any]]:
    """Evaluate a job in plain Python, for hashable keys."""
    groups: dict[Any, list[Any]] = {}
    for key, value in map_func(list(data)):
        groups.setdefault(key, []).append(value)
    return sorted(((k, reduce_func(vs)) for k, vs in groups.items()), key=lambda pair: order_key(pair[0]))


class Gate:
    """A door in the file system: functions wait at it in whatever process they run, until the test opens it.

    Args:
        folder: of the test.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def wait(self, where: str, seconds: float = 90) -> None:
        """Say that ``where`` was reached, and wait until the gate is open."""
        Path(self.folder, f"reached-{where}-{os.getpid()}").touch()
        end = time.monotonic() + seconds
        while not Path(self.folder, f"open-{where}").exists():
            if time.monotonic() > end:
                raise TimeoutError(f"nobody opened {where}")
            time.sleep(0.02)

    def open(self, where: str) -> None:
        """Let all pass."""
        Path(self.folder, f"open-{where}").touch()

    def reached(self, where: str) -> list[int]:
        """Return the processes that came to the gate."""
        return [int(path.name.rpartition("-")[2]) for path in Path(self.folder).glob(f"reached-{where}-*")]


class GatedKey:
    """A key whose unpickling waits at the gate: so a shuffle task, which runs no function, can be held."""

    def __init__(self, text: str, gate: Gate) -> None:
        self.text = text
        self.gate = gate

    def __reduce__(self) -> Any:
        return (_unpickle, (self.text, self.gate))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GatedKey) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __lt__(self, other: GatedKey) -> bool:
        return self.text < other.text


def _unpickle(text: str, gate: Gate) -> GatedKey:
    gate.wait("shuffle")
    return GatedKey(text, gate)
