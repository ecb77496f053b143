"""The executor's I/O thread: waits for sockets, deadlines and calls from other threads, all at once."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from io import FileIO

log = logging.getLogger(__name__)

Callback = Callable[[], None]

_LONGEST_WAIT = 3600.0
"""Seconds that a selector is asked to wait: it raises OverflowError beyond some weeks."""


class Loop:
    """One thread with a selector; it sleeps until something happens or is due.

    All methods but `post` and `join` are for callbacks, on the thread itself.
    """

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._calls: list[Callback] = []
        self._deadlines: dict[Hashable, tuple[float, Callback]] = {}
        self._running = True
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waker = socket.socketpair()
        for end in (self._wakeup, self._waker):
            end.setblocking(False)
        self.watch(self._wakeup, self._work)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, call: Callback) -> bool:
        """Have a function called on the thread, in the order of the posts; False when it has ended."""
        with self._lock:
            if not self._running:
                return False
            self._calls.append(call)
            with suppress(BlockingIOError):  # full of wake-ups that are not read yet
                self._waker.send(b"\0")
            return True

    def join(self) -> None:
        """Wait for the thread's end, unless the caller is that thread."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def watch(
        self, sock: socket.socket | FileIO, on_readable: Callback, on_writable: Callback | None = None
    ) -> None:
        """Call back while a socket or pipe is readable, or writable; replaces what was watched of it before."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if on_writable else 0)
        if sock in self._selector.get_map():
            self._selector.modify(sock, events, (on_readable, on_writable))
        else:
            self._selector.register(sock, events, (on_readable, on_writable))

    def unwatch(self, sock: socket.socket | FileIO) -> None:
        """Stop watching a socket or pipe, if it is watched."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def later(self, key: Hashable, seconds: float, call: Callback) -> None:
        """Call back in so many seconds, once; replaces an earlier deadline of that key."""
        self._deadlines[key] = (time.monotonic() + seconds, call)

    def forget(self, key: Hashable) -> None:
        """Drop a deadline, if there is one."""
        self._deadlines.pop(key, None)

    def stop(self) -> None:
        """End the thread after the current callback."""
        with self._lock:
            self._running = False

    def _run(self) -> None:
        while self._running:
            for key, events in self._selector.select(self._patience()):
                if self._selector.get_map().get(key.fd) is key:  # else an earlier callback let go of it
                    on_readable, on_writable = key.data
                    if events & selectors.EVENT_WRITE and on_writable:
                        self._guarded(on_writable)
                    if events & selectors.EVENT_READ:
                        self._guarded(on_readable)
            self._keep_deadlines()
        self._selector.close()
        self._wakeup.close()
        self._waker.close()

    def _patience(self) -> float | None:
        if not self._deadlines:
            return None
        wait = min(when for when, _ in self._deadlines.values()) - time.monotonic()
        return min(max(0.0, wait), _LONGEST_WAIT)

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        for key, (when, call) in list(self._deadlines.items()):
            if when <= now and self._deadlines.get(key) == (when, call):
                del self._deadlines[key]
                self._guarded(call)

    def _work(self) -> None:
        with suppress(BlockingIOError):
            self._wakeup.recv(4096)
        with self._lock:
            calls, self._calls = self._calls, []
        for call in calls:
            self._guarded(call)

    def _guarded(self, call: Callback) -> None:
        try:
            call()
        except Exception:
            # One callback's fault must not end the thread that all tasks depend on.
            log.exception("a callback on the executor's I/O thread failed")
