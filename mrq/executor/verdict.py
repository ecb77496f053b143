"""Outcomes that the worker gives for a child that can't speak for itself any more."""

from __future__ import annotations

import signal

from mrq.wire import Outcome

_HINTS = {
    "SIGKILL": " (the function did it, or the system did for want of memory; with a memory_limit it would say so)",
    "SIGABRT": " (native code gave up, perhaps for want of memory)",
    "SIGSEGV": " (a fault of native code, perhaps for want of memory or stack)",
}


def killed(message: str) -> Outcome:
    """The attempt was ended, or could not begin, through no fault of the task's."""
    return Outcome(kind="killed", message=message)


def timed_out(seconds: float) -> Outcome:
    """The task took longer than it may."""
    return Outcome(kind="timeout", type="TaskTimeoutError", message=f"it ran longer than {seconds:g} s")


def misused(error: Exception) -> Outcome:
    """The function meddled with its process's channel to the worker."""
    message = f"the function meddled with its process's channel to the worker: {error}"
    return Outcome(kind="crashed", type=type(error).__name__, message=message)


def ended(status: int) -> Outcome:
    """The child ended by itself, with this exit status (negative for a signal)."""
    if status >= 0:
        message = f"its process ended itself with exit status {status}"
        return Outcome(kind="crashed", type=f"exit {status}", message=message)
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = f"signal {-status}"
    hint = _HINTS.get(name, "")
    return Outcome(kind="crashed", type=name, message=f"its process was ended by {name}{hint}")
