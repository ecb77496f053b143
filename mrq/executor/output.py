"""The worker's side of what functions print: read from a pipe, logged with job, task and attempt, kept for the user.

The worker reads, not the child, so that what a process wrote before it crashed is there too, and a function that holds
the interpreter can fill the pipe without waiting for itself.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import FileIO

from mrq import sidecar
from mrq.blob import Signer
from mrq.errors import MrqError
from mrq.executor.channel import CHUNK
from mrq.ports import Store
from mrq.records import TaskOutput
from mrq.store.address import open_store
from mrq.wire import Assignment, TaskMessage

log = logging.getLogger("mrq.output")

KEPT_BYTES = 64 * 1024
"""How much is kept of one attempt's output: its end."""
ECHOED_BYTES = 64 * 1024
"""How much of it goes to the worker's log: its beginning."""
LINE_BYTES = 8 * 1024
"""A line is cut where it is longer."""
_DRAIN = 64
"""How many chunks are read at the end of an attempt; a pipe holds one."""


class Output:
    """One child's pipe, and what its present task has written into it.

    Args:
        pipe: the end to read, non-blocking.
    """

    def __init__(self, pipe: FileIO) -> None:
        self.pipe = pipe
        self._task: TaskMessage | None = None
        self._begin()

    def _begin(self) -> None:
        self._rest = b""
        self._lines: deque[str] = deque()
        self._kept = self._echoed = self._left_out = 0

    def begin(self, task: TaskMessage) -> None:
        """What is read from now on is of this task."""
        self.drain()
        self._end_line()
        self._task = task
        self._begin()

    def end(self) -> TaskOutput | None:
        """Read the rest of what the task wrote; return what is kept of it, or None when it wrote nothing."""
        self.drain()
        self._end_line()
        kept = TaskOutput(lines=list(self._lines), left_out=self._left_out) if self._lines else None
        self._task = None
        self._begin()
        return kept

    def read(self) -> bytes | None:
        """Read what is there, a chunk at most; return it: None when there is nothing now, empty when never again."""
        try:
            data = self.pipe.read(CHUNK)
        except (OSError, ValueError):  # a ValueError: it is closed
            return b""
        *lines, self._rest = (self._rest + (data or b"")).split(b"\n")
        for line in lines:
            self._add(line)
        while len(self._rest) > LINE_BYTES:
            self._add(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]
        return data

    def drain(self) -> None:
        """Read all that was written until now."""
        for _ in range(_DRAIN):
            if not self.read():
                break

    def _end_line(self) -> None:
        if self._rest:
            self._add(self._rest)
            self._rest = b""

    def _add(self, raw: bytes) -> None:
        line = raw.removesuffix(b"\r").decode(errors="replace")
        self._echo(line)
        self._lines.append(line)
        self._kept += len(line) + 1
        while self._kept > KEPT_BYTES and len(self._lines) > 1:
            self._kept -= len(self._lines.popleft()) + 1
            self._left_out += 1

    def _echo(self, line: str) -> None:
        before, self._echoed = self._echoed, self._echoed + len(line) + 1
        if self._echoed <= ECHOED_BYTES:
            log.info("%s", line, extra=_fields(self._task))
        elif before <= ECHOED_BYTES:
            log.info("[it printed more, which is not logged]", extra=_fields(self._task))


def _fields(task: TaskMessage | None) -> dict[str, object]:
    if task is None:
        return {}
    return {"job": task.job_id, "task": f"{task.phase.value} {task.index}", "attempt": task.attempt}


class Keeper:
    """Writes what attempts printed into the store, on a thread that lives while it is needed.

    Args:
        name: of the worker, for the list of threads.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"mrq-output-{name}")
        self._store: Store | None = None
        self._closed = False

    def keep(self, assignment: Assignment, output: TaskOutput, then: Callable[[], None]) -> None:
        """Write it, or say why not; call ``then`` in any case, on the keeper's thread."""
        self._pool.submit(partial(self._keep, assignment, output, then))

    def close(self) -> None:
        """End the thread; what is not written yet is not written any more."""
        self._closed = True
        self._pool.shutdown(wait=True)
        if self._store is not None:
            self._store.close()

    def _keep(self, assignment: Assignment, output: TaskOutput, then: Callable[[], None]) -> None:
        task = assignment.task
        try:
            if not self._closed:
                # A worker has one store; its address comes with each assignment.
                self._store = self._store or open_store(assignment.store)
                signer = Signer(bytes.fromhex(assignment.key), task.job_id)
                sidecar.write_output(self._store, signer, task, assignment.run, output)
        except (MrqError, OSError) as error:
            log.warning("what %s printed is not kept: %s", task.task_id, error, extra=_fields(task))
        finally:
            then()
