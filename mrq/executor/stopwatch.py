"""Where a task's time goes: seconds by kind, of which one at a time is under way."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mrq.spool import Writable

T = TypeVar("T")

REST = "pack"
"""What is under way when nothing else is: grouping, merging, pickling, compressing, signing."""


class Stopwatch:
    """Counts for one kind at a time; what is inside of another counts for the inner one only. For one thread."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._kind = REST
        self._since = time.perf_counter()

    def turn(self, kind: str) -> str:
        """Count for another kind from now on; return the one before."""
        now, before = time.perf_counter(), self._kind
        self._seconds[before] = self._seconds.get(before, 0.0) + now - self._since
        self._kind, self._since = kind, now
        return before

    @contextmanager
    def on(self, kind: str) -> Iterator[None]:
        """Count for a kind inside the block."""
        before = self.turn(kind)
        try:
            yield
        finally:
            self.turn(before)

    def each(self, kind: str, items: Iterable[T]) -> Iterator[T]:
        """Count for a kind while an iterator works."""
        iterator = iter(items)
        while True:
            with self.on(kind):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def spent(self) -> dict[str, float]:
        """Return the seconds of each kind that took any."""
        self.turn(self._kind)
        return {kind: round(seconds, 6) for kind, seconds in self._seconds.items() if seconds}


class TimedWrites:
    """As much of a store as writing takes; its time counts as ``write``."""

    def __init__(self, store: Writable, watch: Stopwatch) -> None:
        self._store = store
        self._watch = watch

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """See `mrq.ports.Store`."""
        with self._watch.on("write"):
            return self._store.write(path, data)
