"""Coordination in memory: `EmbeddedTree` is the server, `EmbeddedCoordination` one session with it.

Transactions, versions, ephemeral nodes, one-shot watches and sessions behave as ZooKeeper's do. Nothing polls. One lock
guards a tree and its sessions; watches and listeners are called on their session's own thread, never under the lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from queue import SimpleQueue

from mrq.coordination.callbacks import tell
from mrq.coordination.limits import check_data, check_path, parent
from mrq.errors import (
    CoordinationUnavailable,
    NodeError,
    NodeExists,
    NodeMissing,
    SessionLost,
    VersionConflict,
)
from mrq.ports import Node, Session, Watch


class _Of(Enum):
    """What a watch waits for."""

    NODE = "node"  # created, written or deleted
    CHILDREN = "children"  # one created or deleted, or the node itself deleted


@dataclass(slots=True)
class _Entry:
    """A node as the server has it; ``owner`` is a session's number, 0 for a node that stays."""

    data: bytes
    czxid: int
    owner: int = 0
    version: int = 0
    children: set[str] = field(default_factory=set)
    times: list[float] = field(default_factory=lambda: [time.time()] * 2)  # created, modified


@dataclass(frozen=True, slots=True)
class _Pending:
    """A watch that was not called yet. The same function on the same path is kept, and called, once."""

    session: EmbeddedCoordination
    path: str
    watch: Watch


class EmbeddedTree:
    """The nodes that all sessions see. Its methods are for the sessions, which hold its lock meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self._zxid = 1
        self._sessions = 0
        self._entries = {"/": _Entry(b"", czxid=1)}
        self._watches: dict[tuple[_Of, str], dict[_Pending, None]] = {}

    def new_session(self) -> int:
        """Return the number of a new session."""
        self._zxid += 1
        self._sessions += 1
        return self._sessions

    def end_session(self, number: int) -> None:
        """Delete what a session owns."""
        for path in [path for path, entry in self._entries.items() if entry.owner == number]:
            self.delete(path)

    def find(self, path: str) -> _Entry | None:
        """Return the node at a path, or None."""
        return self._entries.get(path)

    def create(self, path: str, data: bytes, owner: int, *, parents: bool = True) -> _Entry:
        """Create a node, and the parents that it lacks if they may be."""
        if path in self._entries:
            raise NodeExists(f"the node {path} is there already")
        above = self._entries.get(parent(path))
        if above is None and not parents:
            raise NodeMissing(f"{path} can't be created: there is no {parent(path)}")
        if path != "/":
            above = above or self.create(parent(path), b"", 0)
            if above.owner:
                raise NodeError(f"{path} can't be created below {parent(path)}: that is ephemeral")
            above.children.add(path)
        self._zxid += 1
        entry = self._entries[path] = _Entry(data, self._zxid, owner)
        self._fire(_Of.NODE, path)
        self._fire(_Of.CHILDREN, parent(path))
        return entry

    def write(self, path: str, data: bytes, version: int) -> int:
        """Replace a node's bytes if it has that version; return the new one."""
        entry = self._entries.get(path)
        if entry is None:
            raise NodeMissing(f"the node {path} is not there to be written")
        if version not in (-1, entry.version):
            raise VersionConflict(f"the node {path} has version {entry.version}, not {version}")
        self._zxid += 1
        entry.data = data
        entry.version += 1
        entry.times[1] = time.time()
        self._fire(_Of.NODE, path)
        return entry.version

    def delete(self, path: str) -> bool:
        """Remove a node and all below it, from the leaves up; return whether it was there."""
        entry = self._entries.get(path)
        if entry is None:
            return False
        for below in sorted(entry.children):
            self.delete(below)
        self._zxid += 1
        del self._entries[path]
        if above := self._entries.get(parent(path)):
            above.children.discard(path)
        self._fire(_Of.NODE, path)
        self._fire(_Of.CHILDREN, path)
        self._fire(_Of.CHILDREN, parent(path))
        return True

    def watch(self, of: _Of, pending: _Pending) -> None:
        """Have a watch called at the next change; a node that is not there can only be created."""
        of = of if pending.path in self._entries else _Of.NODE
        self._watches.setdefault((of, pending.path), {})[pending] = None

    def drop_watches(self, session: EmbeddedCoordination) -> list[_Pending]:
        """Forget a session's watches, and return them."""
        dropped = []
        for key in list(self._watches):
            table = self._watches[key]
            dropped += [pending for pending in table if pending.session is session]
            self._watches[key] = {pending: None for pending in table if pending.session is not session}
        self._watches = {key: table for key, table in self._watches.items() if table}
        return dropped

    def _fire(self, of: _Of, path: str) -> None:
        for pending in self._watches.pop((of, path), ()):
            pending.session.later(partial(tell, pending.watch, path))


class EmbeddedCoordination:
    """A session with an `EmbeddedTree`: the `Coordination` of tests and of the embedded cluster.

    `expire`, `suspend` and `resume` do to it what a real server and a real network do to a session.
    """

    def __init__(self, tree: EmbeddedTree, operation_timeout: float = 30.0) -> None:
        """Open a session.

        Args:
            tree: the server.
            operation_timeout: seconds that an operation waits for `resume` while the session is suspended.
        """
        self._tree = tree
        self._timeout = operation_timeout
        self._listeners: list[Callable[[Session], None]] = []
        self._missed: list[_Pending] = []
        self._suspended = self._expired = self._closed = False
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        with tree.lock:
            self._number = tree.new_session()
        self._dispatcher = threading.Thread(target=self._dispatch, name="embedded-coordination", daemon=True)
        self._dispatcher.start()

    def create(self, path: str, data: bytes, *, ephemeral: bool = False, parents: bool = True) -> Node:
        """Create a node; see `Coordination.create`."""
        check_path(path)
        check_data(path, data)
        with self._tree.lock:
            self._admit(path)
            owner = self._number if ephemeral else 0
            return self._node(self._tree.create(path, bytes(data), owner, parents=parents))

    def get(self, path: str, watch: Watch | None = None) -> Node | None:
        """Read a node; see `Coordination.get`."""
        check_path(path)
        with self._tree.lock:
            self._admit(path)
            entry = self._find(_Of.NODE, path, watch)
            return self._node(entry) if entry else None

    def set(self, path: str, data: bytes, version: int = -1) -> int:
        """Write a node; see `Coordination.set`."""
        check_path(path)
        check_data(path, data)
        with self._tree.lock:
            self._admit(path)
            return self._tree.write(path, bytes(data), version)

    def delete(self, path: str) -> bool:
        """Remove a node and all below it; see `Coordination.delete`."""
        check_path(path)
        with self._tree.lock:
            self._admit(path)
            return self._tree.delete(path)

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        """List a node's children; see `Coordination.children`."""
        check_path(path)
        with self._tree.lock:
            self._admit(path)
            entry = self._find(_Of.CHILDREN, path, watch)
            return sorted(below.rpartition("/")[2] for below in entry.children) if entry else []

    def sync(self) -> None:
        """Nothing is ever behind here; see `Coordination.sync`."""
        with self._tree.lock:
            self._admit("/")

    def add_listener(self, listener: Callable[[Session], None]) -> None:
        """Have changes of the session's state told; see `Coordination.add_listener`."""
        with self._tree.lock:
            self._listeners.append(listener)

    def close(self) -> None:
        """End the session; see `Coordination.close`."""
        with self._tree.lock:
            if not self._closed:
                self._closed = True
                self._tree.drop_watches(self)
                self._tree.end_session(self._number)
                self._calls.put(None)
                self._tree.lock.notify_all()
        if threading.current_thread() is not self._dispatcher:
            self._dispatcher.join(timeout=1)

    def expire(self) -> None:
        """End the session as the server would; a new one follows, at once or, when suspended, at `resume`."""
        with self._tree.lock:
            self._tree.drop_watches(self)
            self._missed.clear()
            self._tree.end_session(self._number)
            self._expired = True
            if not self._suspended:
                self._reconnect()

    def suspend(self) -> None:
        """Take the connection away: operations wait, and watches are not called before `resume`."""
        with self._tree.lock:
            if not self._suspended:
                self._suspended = True
                self._missed += self._tree.drop_watches(self)
                self._say(Session.SUSPENDED)

    def resume(self) -> None:
        """Give the connection back. Every watch is called: what changed in between went by unseen."""
        with self._tree.lock:
            if self._suspended:
                self._suspended = False
                self._reconnect()

    def later(self, call: Callable[[], None]) -> None:
        """Have something called on the session's own thread."""
        self._calls.put(call)

    def _reconnect(self) -> None:
        if self._expired:
            self._expired = False
            self._number = self._tree.new_session()
            self._say(Session.LOST)
        self._say(Session.CONNECTED)
        for pending in self._missed:
            self.later(partial(tell, pending.watch, pending.path))
        self._missed.clear()
        self._tree.lock.notify_all()

    def _admit(self, path: str) -> None:
        """Wait until the session may ask the tree."""
        number, deadline = self._number, time.monotonic() + self._timeout
        while self._suspended and not self._closed:
            if not self._tree.lock.wait(deadline - time.monotonic()):
                break
        if self._closed:
            raise CoordinationUnavailable(f"the session is closed: {path} can't be looked at")
        if self._suspended:
            raise CoordinationUnavailable(f"no answer about {path} within {self._timeout:g} s: no connection")
        if self._number != number:
            raise SessionLost(f"the session expired before an answer about {path} came")

    def _find(self, of: _Of, path: str, watch: Watch | None) -> _Entry | None:
        if watch is not None:
            self._tree.watch(of, _Pending(self, path, watch))
        return self._tree.find(path)

    def _node(self, entry: _Entry) -> Node:
        return Node(entry.data, entry.version, entry.czxid, entry.owner == self._number, *entry.times)

    def _say(self, session: Session) -> None:
        for listener in self._listeners:
            self.later(partial(tell, listener, session))

    def _dispatch(self) -> None:
        while call := self._calls.get():
            if not self._closed:
                call()
