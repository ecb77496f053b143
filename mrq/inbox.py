"""One thread's mailbox with timers: how masters, workers and clients do one thing at a time.

Watches, deliveries and outcomes come on other threads; those only `put` what is to be done. The owner of the inbox
runs `serve`, which does them one after another, and timers when they are due.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import time
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)

Call = Callable[[], object]


class Inbox:
    """Calls to be made on the serving thread, at once or later. `put`, `later` and `stop` may come from any thread.

    Args:
        clock: tells the time, in seconds; a simulation brings its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._calls: queue.SimpleQueue[Call | float] = queue.SimpleQueue()  # a float wakes for a new timer
        self._timers: list[tuple[float, int, Call]] = []
        self._order = itertools.count()
        self._stopped = False

    def put(self, call: Call) -> None:
        """Have a call made soon."""
        self._calls.put(call)

    def later(self, seconds: float, call: Call) -> None:
        """Have a call made after so many seconds."""
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), call))
        self._calls.put(0.0)

    def every(self, seconds: float, call: Call) -> None:
        """Have a call made again and again, ``seconds`` after its last end."""

        def again() -> None:
            try:
                call()
            finally:
                self.later(seconds, again)

        self.later(seconds, again)

    def stop(self) -> None:
        """End `serve` once it has done what it is doing."""
        self._stopped = True
        self._calls.put(0.0)

    def serve(self, *, until: Callable[[], bool] | None = None) -> None:
        """Make the calls as they come, until `stop`, or until ``until()`` is true after one of them.

        A call that raises is logged: it costs itself, never the thread.
        """
        while not self._stopped and not (until and until()):
            self._make(self._due() or self._wait())

    def turn(self) -> bool:
        """Make the calls that are due now, without waiting; return whether there was any."""
        calls = self._due()
        with suppress(queue.Empty):
            while True:
                item = self._calls.get_nowait()
                calls += [] if isinstance(item, float) else [item]
        self._make(calls)
        return bool(calls)

    def next_timer(self) -> float | None:
        """Return when the next timer is due, on the clock, or None."""
        return self._timers[0][0] if self._timers else None

    def _make(self, calls: list[Call]) -> None:
        for call in calls:
            if self._stopped:
                return
            try:
                call()
            except Exception:
                log.exception("a call in the inbox failed")

    def _due(self) -> list[Call]:
        due: list[Call] = []
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        return due

    def _wait(self) -> list[Call]:
        """Wait for a call to come, or for the next timer."""
        # Another thread may have added a timer meanwhile that is due already.
        wait = max(self._timers[0][0] - self.now(), 0.0) if self._timers else None
        try:
            item = self._calls.get(timeout=wait)
        except queue.Empty:
            return []
        return [] if isinstance(item, float) else [item]
