"""What the worker knows of its children, and of what they run."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from mrq.executor.channel import Inbox
from mrq.executor.output import Output
from mrq.wire import Assignment, Outcome

OnOutcome = Callable[[Assignment, Outcome], None]


@dataclass(eq=False, slots=True)
class Run:
    """One call of `Executor.start`."""

    assignment: Assignment
    timeout: float | None
    on_outcome: OnOutcome


@dataclass(eq=False, slots=True)
class Child:
    """A child process as the worker sees it.

    Attributes:
        channel: the socket to it.
        output: what it prints.
        job_id: the job that it belongs to; empty for the spare.
        run: what it runs now.
        pid: its process number, once it is forked.
        verdict: what its run's outcome will be, once its end is ordered.
        condemned: whether its end is ordered.
    """

    number: int
    channel: socket.socket
    output: Output
    inbox: Inbox = field(default_factory=Inbox)
    job_id: str = ""
    run: Run | None = None
    pid: int = 0
    verdict: Outcome | None = None
    condemned: bool = False
