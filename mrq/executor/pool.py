"""The worker's side: which child runs what, and what became of it.

A child serves one job, for it knows that job's key. It is kept for the job's next task while few are idle; a
task of another job takes the spare, a child that is forked ahead and belongs to nobody yet.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from mrq.errors import BadMessage
from mrq.executor import verdict
from mrq.executor.channel import CHUNK, Notice, frame
from mrq.executor.children import Child, OnOutcome, Run
from mrq.executor.helper import Zygote
from mrq.executor.loop import Loop
from mrq.executor.output import Keeper, Output
from mrq.wire import Assignment, Outcome, TaskMessage, decode

log = logging.getLogger(__name__)

_PRELOAD = ("mrq.store.folder",)
_KILL_SECONDS = 5.0
"""How long the end of a killed child is waited for before its task is reported regardless."""
_EOF_SECONDS = 1.0
"""How long a child that closed its channel may take to end by itself, so that we learn how."""
_FORK_SECONDS = 1.0
"""How long a task is held back when no child can be forked, so that it does not come back at once."""
_RESTART_SECONDS = (0.25, 30.0)
"""The first and the longest wait before a zygote that could not even start is started again."""


class Executor:
    """Runs tasks in child processes.

    Args:
        warm: how many idle children are kept for their jobs' next tasks.
        name: of the worker, for the list of processes and threads.
        preload: modules to import before the children are forked, as in ``("mrq.store.hdfs",)``.
    """

    def __init__(self, *, warm: int, name: str, preload: Sequence[str] = ()) -> None:
        self._warm = warm
        self._name = name
        self._preload = tuple(dict.fromkeys((*_PRELOAD, *preload)))
        self._numbers = itertools.count()
        self._children: dict[int, Child] = {}
        self._idle: list[Child] = []  # the one that is idle longest first
        self._spare: Child | None = None
        self._restart_seconds = 0.0
        self._lock = threading.Lock()
        self._running: dict[Run, TaskMessage] = {}
        self._closed = False
        self._keeper = Keeper(name)
        self._loop = Loop(f"mrq-executor-{name}")
        self._zygote = self._new_zygote()
        self._loop.post(self._start_zygote)

    def start(self, assignment: Assignment, timeout: float | None, on_outcome: OnOutcome) -> None:
        """Run a task. Thread-safe.

        Args:
            assignment: the task and all that it needs.
            timeout: after how many seconds its child is killed.
            on_outcome: called once, on a thread of the executor's, when the attempt has ended and what it printed is
                in the store. It must only enqueue.

        Raises:
            RuntimeError: the executor is closed.
        """
        run = Run(assignment, timeout, on_outcome)
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor is closed")
            self._running[run] = assignment.task
            self._loop.post(partial(self._begin, run))

    def kill(self, job_id: str) -> None:
        """Kill all children of a job, with their process groups; their outcome is ``killed``. Thread-safe."""
        self._loop.post(partial(self._kill, job_id))

    def kill_task(self, task_id: str) -> None:
        """Kill the child that runs this task; its outcome is ``killed``. Thread-safe."""
        self._loop.post(partial(self._kill_task, task_id))

    def running(self) -> list[TaskMessage]:
        """Return the tasks whose outcome has not been told yet. Thread-safe."""
        with self._lock:
            return list(self._running.values())

    def close(self) -> None:
        """End every child and the zygote; what was running is ``killed``. Thread-safe, idempotent."""
        with self._lock:
            self._closed = True
            self._loop.post(self._end)
        self._loop.join()
        self._keeper.close()

    # ------------------------------------------------------------ tasks, on the I/O thread

    def _begin(self, run: Run) -> None:
        job_id = run.assignment.task.job_id
        child = next((idle for idle in self._idle if idle.job_id == job_id), None)
        if child:
            self._idle.remove(child)
        else:
            child, self._spare = self._spare or self._fork(), None
            child.job_id = job_id
        child.run = run
        child.output.begin(run.assignment.task)
        try:
            child.channel.sendall(frame(run.assignment.encode()))
        except OSError:
            log.debug("child %s is ending", child.pid)  # then its exit is on the way
        self._arm(child)
        if self._spare is None:
            self._spare = self._fork()

    def _arm(self, child: Child) -> None:
        """Start the clock of a task, when it runs and its child is there."""
        if child.pid and child.run and child.run.timeout is not None and not child.condemned:
            outcome = verdict.timed_out(child.run.timeout)
            self._loop.later(child, child.run.timeout, partial(self._condemn, child, outcome))

    def _kill(self, job_id: str) -> None:
        for child in [child for child in self._children.values() if child.job_id == job_id]:
            self._condemn(child, verdict.killed("the job was cancelled"))

    def _kill_task(self, task_id: str) -> None:
        for child in list(self._children.values()):
            if child.run and child.run.assignment.task.task_id == task_id:
                self._condemn(child, verdict.killed("another attempt has committed it"))

    def _condemn(self, child: Child, outcome: Outcome | None = None) -> None:
        """Order a child's end; the outcome is told when it has come."""
        child.verdict = outcome
        if child.condemned:
            return
        child.condemned = True
        if child in self._idle:
            self._idle.remove(child)
        self._zygote.kill(child.number)
        self._loop.later(child, _KILL_SECONDS, partial(self._drop, child))

    def _drop(self, child: Child, otherwise: Outcome | None = None) -> None:
        """Forget about a child that has ended; tell its run's outcome: the verdict, if there is one."""
        self._loop.forget(child)
        self._loop.unwatch(child.channel)
        child.channel.close()
        self._children.pop(child.number, None)
        if child in self._idle:
            self._idle.remove(child)
        if child is self._spare:
            self._spare = None
        if outcome := child.verdict or otherwise:
            self._finish(child, outcome)
        self._loop.unwatch(child.output.pipe)
        child.output.pipe.close()

    def _finish(self, child: Child, outcome: Outcome) -> None:
        run, child.run = child.run, None
        if run is None:
            return
        output = child.output.end()
        tell = partial(self._tell, run, outcome)
        if output and outcome.kind != "killed":  # a job that was cancelled may be cleared this moment
            self._keeper.keep(run.assignment, output, tell)
        else:
            tell()

    def _tell(self, run: Run, outcome: Outcome) -> None:
        with self._lock:
            del self._running[run]
        run.on_outcome(run.assignment, outcome)

    # ------------------------------------------------------------ what children say

    def _on_data(self, child: Child) -> None:
        try:
            data = child.channel.recv(CHUNK)
            outcomes = [decode(Outcome, body) for body in child.inbox.feed(data)]
            if outcomes and (len(outcomes) > 1 or child.run is None):
                raise BadMessage("an outcome that nobody asked for")
        except BlockingIOError:
            return
        except BadMessage as error:
            log.warning("child %s of %s is killed: %s", child.pid, child.job_id, error)
            self._loop.unwatch(child.channel)
            self._condemn(child, verdict.misused(error))
            return
        except OSError:
            data, outcomes = b"", []
        if outcomes:
            self._on_child_outcome(child, outcomes[0])
        if not data:
            self._on_eof(child)

    def _on_output(self, child: Child) -> None:
        if child.output.read() == b"":
            self._loop.unwatch(child.output.pipe)  # nobody has the other end any more

    def _on_eof(self, child: Child) -> None:
        # Most likely it is ending, and the zygote will say how; else its function closed what is not its own.
        self._loop.unwatch(child.channel)
        if not child.condemned:
            outcome = verdict.misused(EOFError("it is closed"))
            self._loop.later(child, _EOF_SECONDS, partial(self._condemn, child, outcome))

    def _on_child_outcome(self, child: Child, outcome: Outcome) -> None:
        if child.condemned:
            # What is committed is committed, in time or not; but of a cancelled job nobody wants to know.
            if child.verdict and child.verdict.kind == "timeout" and outcome.kind == "done":
                child.verdict = outcome
            return
        self._loop.forget(child)
        if (
            outcome.kind == "crashed" or outcome.type == "TaskMemoryError"
        ):  # out of memory: no state to go on with
            self._finish(child, outcome)
            self._condemn(child)
            return
        self._idle.append(child)
        self._finish(child, outcome)
        for surplus in self._idle[: max(0, len(self._idle) - self._warm)]:
            self._condemn(surplus)

    # ------------------------------------------------------------ what the zygote says

    def _on_notice(self, notice: Notice) -> None:
        child = self._children.get(notice.child)
        if notice.op == "ready":
            self._restart_seconds = 0.0
        elif child is None:
            return
        elif notice.op == "forked":
            child.pid = notice.pid
            self._arm(child)
        elif notice.op == "failed":
            outcome = verdict.killed(f"no process can be forked at this worker: {notice.message}")
            child.condemned = True
            self._loop.later(child, _FORK_SECONDS, partial(self._drop, child, outcome))
        else:
            self._on_exit(child, notice.status)

    def _on_exit(self, child: Child, status: int) -> None:
        with suppress(OSError):
            self._on_data(child)  # its last words may still be unread
        self._drop(child, verdict.ended(status))

    def _new_zygote(self) -> Zygote:
        return Zygote(self._loop, self._name, self._preload, self._on_notice, self._on_zygote_end)

    def _start_zygote(self) -> None:
        self._spare = self._spare or self._fork()
        self._zygote.start()

    def _on_zygote_end(self) -> None:
        children, self._children = list(self._children.values()), {}
        log.error(
            "the helper of %s that forks child processes has ended; %d end with it", self._name, len(children)
        )
        first, longest = _RESTART_SECONDS
        wait = self._restart_seconds
        self._restart_seconds = min(longest, max(first, 2 * wait))
        self._zygote = self._new_zygote()
        self._loop.later("zygote", wait, self._start_zygote)
        for child in children:
            if child.pid:  # it died with the zygote this moment, what it started did not
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
            self._drop(child, verdict.killed("the worker's helper, which forks its processes, has ended"))

    def _fork(self) -> Child:
        number = next(self._numbers)
        channel, pipe = self._zygote.fork(number)
        child = Child(number, channel, Output(pipe))
        self._children[number] = child
        self._loop.watch(pipe, partial(self._on_output, child))
        self._loop.watch(child.channel, partial(self._on_data, child))
        return child

    def _end(self) -> None:
        self._loop.forget("zygote")
        self._zygote.close()
        for child in list(self._children.values()):
            self._drop(child, verdict.killed("the worker is ending"))
        self._loop.stop()
