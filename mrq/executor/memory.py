"""A task's memory limit: how much its process may take beyond what it holds when the task begins.

The limit is RLIMIT_DATA (setrlimit(2), Linux from 4.7 on): it counts the heap and all private writable mappings, so
what Python, NumPy and native code ask for, at the moment they do. RLIMIT_AS would count libraries and mapped files too,
and Linux keeps no limit of what is resident.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrq.core.model import Phase
from mrq.errors import TaskMemoryError
from mrq.wire import Assignment

_OWN = {Phase.MAP: 16 * 2**20, Phase.SHUFFLE: 256 * 2**20, Phase.REDUCE: 16 * 2**20}
"""What mrq's own reading, merging, threads and writing may take, in bytes, on top of the limit."""


@contextmanager
def limited(assignment: Assignment) -> Iterator[None]:
    """Keep the task's limit, if it has one and this is Linux; beyond it, allocations raise MemoryError."""
    held = _held()
    if assignment.memory_limit is None or held is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = held + assignment.memory_limit + _OWN[assignment.task.phase]
    for known in (soft, hard):
        if known != resource.RLIM_INFINITY:
            most = min(most, known)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def exceeded(error: MemoryError, assignment: Assignment) -> TaskMemoryError:
    """Return what the future raises in place of a MemoryError under a limit; with the function's traceback."""
    task, limit = assignment.task, assignment.memory_limit or 0
    name = f"{task.phase.value} {task.index}"
    said = f" ({error})" if str(error) else ""
    told = TaskMemoryError(
        f"{task.job_id}: task {name} needed more memory than its limit of {limit / 2**20:.4g} MiB{said}; "
        f"{_ADVICE[task.phase]}, or raise memory_limit",
        job_id=task.job_id,
        task=name,
        attempts=task.attempt + 1,
    )
    return told.with_traceback(error.__traceback__)


_ADVICE = {
    Phase.MAP: "make splits smaller (a greater requested_n_workers)",
    Phase.SHUFFLE: "have fewer values of one key",
    Phase.REDUCE: "have fewer values of one key",
}


def _held() -> int | None:
    """Return how many bytes this process has that RLIMIT_DATA counts; None where the system can't tell."""
    if sys.platform != "linux":
        return None
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return None
