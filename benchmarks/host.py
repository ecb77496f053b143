"""A process of its own for each system: it starts the system, runs what it is asked to, and says how long that took.

    runner -- starts main() --> host: Ready or Failed
    runner -- Workload --> host: None        the data has arrived
    runner -- Measure --> host: Measured or Failed
    runner -- None --> host ends

So no system meets another's imports, threads or heap, and one that takes too long is ended with all that it started.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.systems import load
from benchmarks.systems.system import System
from benchmarks.workloads import Pairs, Workload, check


@dataclass(frozen=True)
class Ready:
    """The system runs.

    Attributes:
        version: the system's own.
    """

    version: str


@dataclass(frozen=True)
class Failed:
    """What was asked for raised."""

    why: str


@dataclass(frozen=True)
class Measure:
    """Run the workload that was sent last."""

    warm_up: bool = False


@dataclass(frozen=True)
class Measured:
    """One run of a workload.

    Attributes:
        seconds: from plain data to plain results.
        digest: of the results.
    """

    seconds: float
    digest: str


def digest(results: list[Pairs]) -> str:
    """Return a short text that tells results apart; pairs of (text, number) all."""
    return hashlib.sha256(json.dumps(results).encode()).hexdigest()[:16]


def digest_of_no_ops(n: int) -> str:
    """Return the same for no-op tasks: how many have ended."""
    return f"{n} tasks"


def run(system: System, workload: Workload) -> Measured:
    """Run a workload once."""
    gc.collect()
    start = time.perf_counter()
    if workload.no_ops:
        told = digest_of_no_ops(system.no_ops(workload.job))
        return Measured(time.perf_counter() - start, told)
    results = system.at_once(workload.job, workload.n_jobs)
    return Measured(time.perf_counter() - start, digest(results))


def started(name: str) -> tuple[System, Ready]:
    """Start a system and see that its values come whole and in order.

    Raises:
        AssertionError: they don't.
        Exception: whatever the system raises that can't start here.
    """
    system = load(name)
    try:
        version, job = system.start(), check()
        if system.mapreduce(job) != job.expected():
            raise AssertionError(f"{name} does not keep all values of a key in the order of the data")
    except BaseException:
        with suppress(Exception):  # part of what it ends may never have begun
            system.stop()
        raise
    return system, Ready(version)


def serve(name: str, pipe: Connection) -> None:
    """Start a system, do what is asked for, stop it."""
    try:
        system, ready = started(name)
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever keeps a system from starting: the run goes on without it
        pipe.send(Failed(f"{type(error).__name__}: {error}"))
        return
    pipe.send(ready)
    workload: Workload | None = None
    while (asked := _next(pipe)) is not None:
        if isinstance(asked, Workload):
            workload = asked
            pipe.send(None)
            continue
        assert workload is not None
        try:
            pipe.send(run(system, workload.warm_up() if asked.warm_up else workload))
        except Exception as error:  # of whatever kind: it is the answer
            pipe.send(Failed(f"{type(error).__name__}: {error}"))
    system.stop()


def _next(pipe: Connection) -> Workload | Measure | None:
    """Return what is asked for; a runner that has gone asks for nothing more."""
    try:
        asked: Workload | Measure | None = pipe.recv()
    except EOFError:
        return None
    return asked


def main() -> None:
    """Serve the system that the first argument names, on the pipe that the second does."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what systems print is no result
    serve(sys.argv[1], Connection(int(sys.argv[2])))
