"""The worker's side of one zygote: starts it, orders forks and kills, hears what became of them."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

import mrq
from mrq.errors import BadMessage
from mrq.executor.channel import CHUNK, Inbox, Notice, Order, Outbox, Passed
from mrq.executor.loop import Loop
from mrq.wire import decode

log = logging.getLogger(__name__)

# The very same mrq as ours, wherever another may be installed, and without its folder's neighbours on the path.
_BOOT = """\
import sys
from importlib.util import module_from_spec, spec_from_file_location
control, worker, _, preload, file, folder, *paths = sys.argv[1:]
sys.path += [path for path in paths if path not in sys.path]
spec = spec_from_file_location("mrq", file, submodule_search_locations=[folder])
sys.modules["mrq"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["mrq"])
from mrq.executor.zygote import main
main(int(control), int(worker), preload.split())
"""
_END_SECONDS = 5.0
"""How long a zygote may take to end its children and itself."""


class Zygote:
    """One zygote process. Not thread-safe: for the I/O thread only.

    Args:
        loop: the I/O thread.
        name: of the worker, for whoever looks at the list of processes.
        preload: modules that the zygote imports for its children.
        on_notice: called with each of its notices.
        on_end: called once when it has ended by itself, or could not be started.
    """

    def __init__(
        self,
        loop: Loop,
        name: str,
        preload: Sequence[str],
        on_notice: Callable[[Notice], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._command = (name, " ".join(preload))
        self._on_notice = on_notice
        self._on_end = on_end
        self._process: subprocess.Popen[bytes] | None = None
        self._inbox = Inbox()
        self._outbox = Outbox()  # orders may come before the process does
        self._control, self._other_end = socket.socketpair()
        self._control.setblocking(False)

    def start(self) -> None:
        """Start the process; `on_notice` tells when it is ready."""
        try:
            self._process = _launch(self._other_end, *self._command)
        except OSError as error:
            log.warning("the helper that forks child processes can't be started: %s", error)
            self._lost()
            return
        finally:
            self._other_end.close()
        self._flush()

    def fork(self, child: int) -> tuple[socket.socket, FileIO]:
        """Order a child; return the socket to it, which can be written to at once, and the pipe of its output."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        output, their_output = os.pipe()
        os.set_blocking(output, False)
        self._order(Order(op="fork", child=child), (theirs, FileIO(their_output, "w")))
        return ours, FileIO(output)

    def kill(self, child: int) -> None:
        """Order a child's end, and its process group's."""
        self._order(Order(op="kill", child=child))

    def close(self) -> None:
        """End the process; it ends its children first. Does nothing the second time."""
        self._loop.unwatch(self._control)
        self._control.close()
        self._other_end.close()
        self._outbox.close()
        if self._process is None:
            return
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            log.error("the helper that forks child processes did not end within %g s", _END_SECONDS)
            self._process.kill()
            self._process.wait()

    def _order(self, order: Order, passed: tuple[Passed, ...] = ()) -> None:
        self._outbox.put(order.encode(), passed)
        if self._process is not None:
            self._flush()

    def _flush(self) -> None:
        try:
            done = self._outbox.flush(self._control)
        except OSError:
            done = True  # it is gone: what there is to read, or its end, tells
        self._loop.watch(self._control, self._read, None if done else self._flush)

    def _read(self) -> None:
        try:
            data = self._control.recv(CHUNK)
            notices = [decode(Notice, body) for body in self._inbox.feed(data)]
        except BlockingIOError:
            return
        except (OSError, BadMessage):
            data, notices = b"", []
        for notice in notices:
            self._on_notice(notice)
        if not data:
            self._lost()

    def _lost(self) -> None:
        self.close()
        self._on_end()


def _launch(other_end: socket.socket, name: str, preload: str) -> subprocess.Popen[bytes]:
    """Start a clean Python: no credentials in its environment, nothing of the user's on its path.

    ``-P`` keeps the current folder out; where the packages are that mrq needs comes last, so that nothing there
    shadows the standard library.
    """
    specs = [importlib.util.find_spec(name) for name in ("pydantic", "cloudpickle")]
    folders = dict.fromkeys(str(Path(spec.origin).parent.parent) for spec in specs if spec and spec.origin)
    number = other_end.fileno()
    command = [sys.executable, "-P", "-c", _BOOT, str(number), str(os.getpid()), name, preload]
    command += [str(mrq.__file__), *mrq.__path__, *folders]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2 if _is_open(2) else subprocess.DEVNULL,
        stderr=None if _is_open(2) else subprocess.DEVNULL,
        env=_environment(),
        pass_fds=(number,),
        start_new_session=True,  # Ctrl-C at the worker's terminal is for the worker
    )


def _environment() -> dict[str, str]:
    """Return this process's environment without mrq's settings, for there are passwords among them.

    With one hash seed, functions that iterate over sets give the same bytes each time.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MRQ_")}
    return kept | {"PYTHONHASHSEED": "0"}


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
