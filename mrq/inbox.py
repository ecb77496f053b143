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

log = logging.getLogger(__name__)

Call = Callable[[], None]


class Inbox:
    """Calls to be made on the serving thread, at once or later. `put`, `later` and `stop` may come from any thread."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call | float] = queue.SimpleQueue()  # a float wakes for a new timer
        self._timers: list[tuple[float, int, Call]] = []
        self._order = itertools.count()
        self._stopped = False

    def put(self, call: Call) -> None:
        """Have a call made soon."""
        self._calls.put(call)

    def later(self, seconds: float, call: Call) -> None:
        """Have a call made after so many seconds."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), call))
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
            for call in self._next():
                try:
                    call()
                except Exception:
                    log.exception("a call in the inbox failed")
                if self._stopped:
                    return

    def _next(self) -> list[Call]:
        due: list[Call] = []
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        if due:
            return due
        # Another thread may have added a timer meanwhile that is due already.
        wait = max(self._timers[0][0] - now, 0.0) if self._timers else None
        try:
            item = self._calls.get(timeout=wait)
        except queue.Empty:
            return []
        return [] if isinstance(item, float) else [item]
