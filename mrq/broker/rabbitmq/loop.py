"""The I/O thread: the only one that touches pika's objects. Others hand it calls."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, ParamSpec

from pika.adapters.select_connection import IOLoop
from tenacity import RetryCallState, Retrying, wait_exponential_jitter

from mrq.errors import BrokerUnavailable

log = logging.getLogger(__name__)
P = ParamSpec("P")


class Backoff:
    """Waits that double, with some chance in them, lest all clients come back at the same moment."""

    def __init__(self, first: float = 0.05, longest: float = 5.0) -> None:
        self._wait = wait_exponential_jitter(multiplier=first, max=longest, jitter=2 * first)
        self._attempts = 0

    def next(self) -> float:
        """Return how long to wait now, in seconds."""
        self._attempts += 1
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = min(self._attempts, 30)
        return self._wait(state)

    def reset(self) -> None:
        """Begin with short waits again."""
        self._attempts = 0


class IOThread:
    """Runs pika's loop on a thread of its own, for several connections, until `stop`."""

    def __init__(self, name: str) -> None:
        self.loop = IOLoop()
        self._lock = threading.Lock()
        self._inbox: list[Callable[[], None]] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Have a function called on the thread, soon and in the order of the calls. Thread-safe.

        Raises:
            BrokerUnavailable: the thread has ended.
        """
        with self._lock:
            if self._stopped:
                raise BrokerUnavailable("the connection to RabbitMQ is closed")
            self._inbox.append(function)
            if len(self._inbox) == 1:
                self.loop.add_callback_threadsafe(self._work)

    def call_if_running(self, function: Callable[[], None]) -> None:
        """`call`, without a word when the thread has ended: for acks, whose channel ended with it."""
        with contextlib.suppress(BrokerUnavailable):
            self.call(function)

    def later(self, seconds: float, function: Callable[[], None]) -> Any:
        """Have a function called after a while; returns a handle for `cancel`. On the I/O thread only."""
        return self.loop.call_later(seconds, guarded(function))

    def cancel(self, handle: Any) -> None:
        """Forget about a `later`. On the I/O thread only."""
        self.loop.remove_timeout(handle)

    def is_current(self) -> bool:
        """Whether the caller is on the I/O thread, where it must not wait for it."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the thread after what was handed to it so far. On the I/O thread only."""
        with self._lock:
            self._stopped = True
        self._work()
        self.loop.stop()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, unless the caller is that thread."""
        if not self.is_current():
            self._thread.join(seconds)
            if self._thread.is_alive():
                log.error("the I/O thread of RabbitMQ did not end within %g s", seconds)

    def _work(self) -> None:
        with self._lock:
            functions, self._inbox = self._inbox, []
        for function in functions:
            guarded(function)()

    def _run(self) -> None:
        while not self._stopped:
            try:
                self.loop.start()
            except Exception:
                # A fault in pika, for ours are guarded; connections and timers go on in the same loop.
                log.exception("a callback on the I/O thread of RabbitMQ failed")
        self.loop.close()


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Wrap a callback so that what it raises is logged instead of ending pika's loop."""

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception:
            log.exception("a callback on the I/O thread of RabbitMQ failed")

    return call
