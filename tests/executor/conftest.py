"""A bench: real child processes over a store in a folder, without master, broker or worker."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mrq import code, layout, raised
from mrq.blob import Signer, new_key
from mrq.core.model import Phase
from mrq.executor.pool import Executor
from mrq.inputs import write_input
from mrq.store.address import describe, open_store
from mrq.wire import Assignment, Outcome, TaskMessage

DEADLINE = 20.0
"""How long anything may take before its test fails, in seconds; nothing waits so long when all is well."""


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition, and return what it returned."""
    give_up = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < give_up, f"{what} did not come within {DEADLINE:g} s"
        time.sleep(0.005)
    return value


def processes_with(marker: str) -> list[int]:
    """Return the numbers of all living processes that have the marker in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended, or is not ours
    return found


class Bench:
    """Jobs of one map task over one element, and an executor to run them."""

    def __init__(self, root: Path) -> None:
        self.address = describe(root)
        self.store = open_store(self.address)
        self.key = new_key()
        self.executor = Executor(warm=2, name="bench")
        self.outcomes: queue.Queue[tuple[str, Outcome]] = queue.Queue()
        self._lengths: dict[str, int] = {}

    def job(self, map_func: Callable[..., Any], job_id: str = "job_1", data: Any = (1,)) -> str:
        """Write a job's files."""
        signer = Signer(self.key, job_id)
        sealed = signer.seal("code", "", code.pack(map_func, lambda values: values))
        self.store.write(layout.code(job_id), sealed)
        with code.by_value():
            path = layout.input_file(job_id)
            summary = write_input(self.store, path, data, 1, signer, split_bytes=2**20, frame_bytes=2**16)
        self._lengths[job_id] = summary.length
        return job_id

    def task(self, job_id: str = "job_1", attempt: int = 0) -> TaskMessage:
        """Return the job's map task."""
        return TaskMessage(job_id=job_id, phase=Phase.MAP, index=0, epoch=1, attempt=attempt)

    def start(self, job_id: str = "job_1", timeout: float | None = None, attempt: int = 0) -> None:
        """Start a task of a job that is there."""
        assignment = Assignment(
            task=self.task(job_id, attempt),
            key=self.key.hex(),
            n_map=1,
            n_reduce=1,
            input_length=self._lengths[job_id],
            frame_bytes=2**16,
            store=self.address,
        )
        put = self.outcomes.put
        self.executor.start(assignment, timeout, lambda ran, outcome: put((ran.task.job_id, outcome)))

    def outcome(self) -> tuple[str, Outcome]:
        """Wait for the next outcome; return it with its job."""
        return self.outcomes.get(timeout=DEADLINE)

    def run(
        self, map_func: Callable[..., Any], job_id: str = "job_1", timeout: float | None = None
    ) -> Outcome:
        """Write a job, run its task, return the outcome."""
        self.start(self.job(map_func, job_id), timeout)
        ran, outcome = self.outcome()
        assert ran == job_id
        return outcome

    def error(self, outcome: Outcome, job_id: str = "job_1") -> BaseException:
        """Load what a task raised, as the client does."""
        return raised.load_error(self.store.read(outcome.path), Signer(self.key, job_id), Phase.MAP, 0)


@pytest.fixture
def marker(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Something in the environment of every process that the test starts."""
    monkeypatch.setenv("BENCH_MARKER", f"{request.node.name}-{os.getpid()}-{time.monotonic_ns()}")
    return os.environ["BENCH_MARKER"]


@pytest.fixture
def bench(tmp_path: Path, marker: str) -> Iterator[Bench]:
    """A bench; every process of it is gone after the test."""
    bench = Bench(tmp_path / "store")
    yield bench
    bench.executor.close()
    assert processes_with(marker) == []
