"""The process that forks children: started clean, imports what tasks need, stays single-threaded.

It knows no credential and holds no connection, so that a fork of it holds none either. It alone forks, kills
and reaps
children: a process that it has not reaped keeps its number, so a kill never hits a stranger. When the worker
goes away, however it does, the control socket and the worker's pidfd tell, and every child dies.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import os
import resource
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mrq.errors import BadMessage
from mrq.executor import child as child_process
from mrq.executor.channel import CHUNK, Inbox, Notice, Order, frame
from mrq.executor.streams import Streams
from mrq.wire import decode

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
_LINUX = sys.platform == "linux"
_PASSED_AT_ONCE = 64
_GC_THRESHOLD = (2**20, 20, 50)
"""Map functions make millions of tuples that live: looking for cycles after every 700 took a fifth of their time."""
_HIGH = 900
"""From which number on a child's descriptors are: out of the way of functions that close low ones."""


def main(control: int, worker: int, preload: list[str]) -> None:
    """Serve until the worker is gone.

    Args:
        control: the file descriptor of the socket to the worker.
        worker: the worker's process number.
        preload: modules to import for the children.
    """
    for name in preload:
        importlib.import_module(name)
    sys.argv = ["mrq-task"]
    gc.collect()
    gc.freeze()  # the collector would write to pages that all children share
    gc.set_threshold(*_GC_THRESHOLD)
    Zygote(socket.socket(fileno=control), worker).run()


class Zygote:
    """The loop: orders from the worker, deaths of children, the worker's own death."""

    def __init__(self, control: socket.socket, worker: int) -> None:
        self._pid = os.getpid()
        self._control = control
        self._inbox = Inbox()
        self._sockets: deque[int] = deque()
        self._pids: dict[int, int] = {}  # process number by child
        self._running = True
        self._wakeup, wakeup_end = socket.socketpair()
        self._held = [self._wakeup, wakeup_end, control]  # what a child must not keep
        for end in (self._wakeup, wakeup_end):
            end.setblocking(False)
        for number in (signal.SIGINT, signal.SIGTERM):  # they are for the worker, which drains
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _do_nothing)  # with a handler, the signal writes to the wake-up socket
        signal.set_wakeup_fd(wakeup_end.fileno(), warn_on_full_buffer=False)
        if _LINUX:  # what a child's children leave behind comes to us, and ends with us
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._on_order)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_death)
        self._pidfd = self._watch(worker)

    def run(self) -> None:
        """Serve; then end every child and leave."""
        self._tell(Notice(op="ready"))
        while self._running:
            for key, _ in self._selector.select():
                key.data()
        self._end_all()
        os._exit(0)

    def _watch(self, worker: int) -> int:
        # A copy of the worker's end of the control socket may live on in a process that the worker forked.
        if not hasattr(os, "pidfd_open"):
            return -1
        try:
            pidfd = os.pidfd_open(worker)
        except OSError:  # an old kernel, or the worker is gone: then the control socket says so
            return -1
        self._selector.register(pidfd, selectors.EVENT_READ, self._stop)
        return pidfd

    def _stop(self) -> None:
        self._running = False

    def _tell(self, notice: Notice) -> None:
        try:
            self._control.sendall(frame(notice.encode()))
        except OSError:
            self._stop()

    # ------------------------------------------------------------ orders

    def _on_order(self) -> None:
        try:
            data, passed, _, _ = socket.recv_fds(self._control, CHUNK, _PASSED_AT_ONCE)
            bodies = self._inbox.feed(data)
        except (OSError, BadMessage):
            data, passed, bodies = b"", [], []
        self._sockets.extend(passed)
        if not data:
            self._stop()
        for body in bodies:
            order = decode(Order, body)
            if order.op == "fork":
                self._fork(order.child, self._sockets.popleft(), self._sockets.popleft())
            elif pid := self._pids.get(order.child):
                _kill(pid)

    def _fork(self, child: int, channel: int, output: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(Notice(op="failed", child=child, message=str(error)))
        else:
            if pid == 0:
                self._become_child(child, channel, output)
            self._pids[child] = pid
        os.close(channel)
        os.close(output)

    # ------------------------------------------------------------ deaths

    def _on_death(self) -> None:
        with suppress(BlockingIOError):
            self._wakeup.recv(CHUNK)
        numbers = {pid: child for child, pid in self._pids.items()}
        for pid, status in _ended(list(numbers)):
            if (child := numbers.get(pid)) is not None:
                del self._pids[child]
                self._tell(Notice(op="exit", child=child, pid=pid, status=status))

    def _end_all(self) -> None:
        for pid in self._pids.values():
            _kill(pid)
        with suppress(ChildProcessError):
            while True:
                for pid in _children(os.getpid()):
                    _signal(os.kill, pid)
                os.waitpid(-1, 0)

    # ------------------------------------------------------------ in the new child

    def _become_child(self, child: int, channel: int, output: int) -> None:
        """Leave everything of the zygote's behind, serve, and never return."""
        status = 1
        try:
            os.setsid()
            if _LINUX:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != self._pid:  # too late to be told
                    os._exit(1)
            # Told from here, so that the worker knows of every process group in which a function ever ran, even if
            # the zygote is killed at this moment.
            self._tell(Notice(op="forked", child=child, pid=os.getpid()))
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            _volunteer()
            self._selector.close()
            for held in self._held:
                held.close()
            output, log, channel = _only(output, 2, channel)
            child_process.serve(socket.socket(fileno=channel), Streams(output, log))
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)


def _volunteer() -> None:
    """When the system runs out of memory, let it end this process rather than the worker."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _only(*numbers: int) -> list[int]:
    """Close every file descriptor but the standard three and these; return the new numbers of these."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    high = min(_HIGH, max(3, limit - 8))
    kept = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, high) for number in numbers]
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) not in kept:
            with suppress(OSError):  # the listing's own
                os.close(int(name))
    return kept


def _ended(pids: list[int]) -> list[tuple[int, int]]:
    """Reap who has ended, and kill what is left of its process group; return numbers and exit statuses."""
    ended = []
    with suppress(ChildProcessError):
        if hasattr(os, "waitid"):
            # Kill the group while its dead leader still holds the number.
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in pids:
                    _signal(os.killpg, found.si_pid)
                ended.append(os.waitpid(found.si_pid, 0))
        else:
            while (found_pid := os.waitpid(-1, os.WNOHANG))[0]:
                if found_pid[0] in pids:
                    _signal(os.killpg, found_pid[0])
                ended.append(found_pid)
    return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in ended]


def _kill(pid: int) -> None:
    """Kill a child, its process group, and those of its descendants that made a group of their own."""
    descendants = _descendants(pid)
    _signal(os.killpg, pid)
    _signal(os.kill, pid)  # it may not have made its group yet
    for descendant in descendants:
        _signal(os.kill, descendant)


def _signal(function: Callable[[int, int], None], pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        function(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    found = _children(pid)
    for child in found:  # grows while it is walked
        found.extend(_children(child))
    return found


def _children(pid: int) -> list[int]:
    """Return the process numbers of a process's children (none where the system can't tell)."""
    found: list[int] = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            found.extend(map(int, path.read_text().split()))
    return found


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _do_nothing(*_: object) -> None:
    """Handle a signal."""
