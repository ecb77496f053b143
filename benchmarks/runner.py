"""Starts each system in its host, warms all up, measures them in turns, and checks what they return."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from benchmarks.host import Failed, Measure, Measured, Ready, digest, digest_of_no_ops
from benchmarks.workloads import Workload
from tests.integration.cluster import marked

ROOT = Path(__file__).parents[1]
MARK = "MRQ_BENCH_MARK"
START_WITHIN = 180.0
STOP_WITHIN = 60.0
SEND_WITHIN = 60.0

Say = Callable[[str], None]


@dataclass
class Row:
    """What one system has shown in one workload.

    Attributes:
        seconds: of each measurement.
        over: the deadline that it did not keep, or None.
        failed: what it raised, or None.
    """

    seconds: list[float] = field(default_factory=list)
    over: float | None = None
    failed: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it is worth asking again."""
        return self.over is None and self.failed is None


class Host:
    """A system's process, as the runner sees it.

    Args:
        name: of the system.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = ""
        self.mark = uuid.uuid4().hex
        self.pipe, theirs = Pipe()
        environment = os.environ | {MARK: self.mark, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from benchmarks.host import main; main()", name, str(theirs.fileno())],
            env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
        )  # fmt: skip
        theirs.close()

    def answer(self, deadline: float) -> Any:
        """Return what the host says, or None if it says nothing in time; a host that died has failed."""
        try:
            return self.pipe.recv() if self.pipe.poll(deadline) else None
        except EOFError:
            return Failed(f"its process ended with exit code {self.process.wait()}")

    def why_not(self) -> str | None:
        """Wait until the system runs; return why it does not, if so."""
        ready = self.answer(START_WITHIN)
        if isinstance(ready, Ready):
            self.version = ready.version
            return None
        return ready.why if isinstance(ready, Failed) else f"it did not start within {START_WITHIN:.0f} s"

    def prepare(self, workload: Workload) -> None:
        """Send the data."""
        with suppress(BrokenPipeError):  # the first measurement will tell
            self.pipe.send(workload)
            self.answer(SEND_WITHIN)

    def measure(self, workload: Workload, row: Row, expected: str, *, warm_up: bool = False) -> None:
        """Run the workload that was sent once, and note what comes of it."""
        with suppress(BrokenPipeError):
            self.pipe.send(Measure(warm_up))
        told = self.answer(workload.deadline)
        if told is None:
            row.over = workload.deadline
        elif isinstance(told, Failed):
            row.failed = told.why
        elif not isinstance(told, Measured) or told.digest != expected:
            row.failed = "a result that differs from plain Python's"
        elif not warm_up:
            row.seconds.append(told.seconds)

    def stop(self, *, at_once: bool = False) -> None:
        """Have the system end itself; then end whatever is left of the processes that carry this host's mark."""
        if not at_once:
            with suppress(BrokenPipeError, subprocess.TimeoutExpired):
                self.pipe.send(None)
                self.process.wait(STOP_WITHIN)
        self.pipe.close()
        for pid in marked(MARK, self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


class Runner:
    """The hosts of all systems that run here.

    Args:
        names: of the systems.
        say: tells the person who waits what goes on.

    Attributes:
        left_out: the systems that can't run here, and why.
    """

    def __init__(self, names: Sequence[str], say: Say) -> None:
        self.left_out: dict[str, str] = {}
        self.hosts: dict[str, Host] = {}
        self._names = names
        self._say = say

    def start(self) -> None:
        """Start all, one after the other."""
        for name in self._names:
            self._start(name)

    def _start(self, name: str) -> None:
        self._say(f"starting {name}")
        self.hosts[name] = host = Host(name)
        if why := host.why_not():
            self.left_out[name] = why
            self._say(f"{name} is left out: {why}")
            self.hosts.pop(name).stop()

    def run(self, workload: Workload, repeat: int) -> dict[str, Row]:
        """Measure a workload on all systems, in turns, each turn beginning with another one."""
        self._say(f"{workload.name}: {workload.what}")
        rows = {name: Row() for name in self.hosts}
        expected = expected_of(workload)
        warm = expected_of(workload.warm_up())
        for name, host in self.hosts.items():
            host.prepare(workload)
            host.measure(workload, rows[name], warm, warm_up=True)
        names = deque(rows)
        for turn in range(repeat):
            for name in names:
                for _ in range(workload.times):
                    if rows[name].goes_on:
                        self.hosts[name].measure(workload, rows[name], expected)
            names.rotate(-1)
            self._say(f"  {turn + 1}/{repeat}: " + ", ".join(f"{n} {_last(row)}" for n, row in rows.items()))
        for name, row in rows.items():
            if not row.goes_on:
                self.hosts.pop(name).stop(at_once=True)
                self._start(name)
        return rows

    def stop(self) -> None:
        """End all."""
        for host in self.hosts.values():
            host.stop()
        self.hosts.clear()


def expected_of(workload: Workload) -> str:
    """Return the digest of what plain Python makes of a workload."""
    if workload.no_ops:
        return digest_of_no_ops(len(workload.job.data))
    return digest([workload.job.expected()] * workload.n_jobs)


def _last(row: Row) -> str:
    if row.goes_on:
        return f"{row.seconds[-1]:.3f} s"
    return f"more than {row.over:.0f} s" if row.over else f"failed: {row.failed}"


@contextmanager
def running(names: Sequence[str], say: Say) -> Iterator[Runner]:
    """Run the systems that can run here."""
    runner = Runner(names, say)
    try:
        runner.start()
        yield runner
    finally:
        runner.stop()
