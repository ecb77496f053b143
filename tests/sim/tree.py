"""ZooKeeper, simulated: one log of transactions, and sessions that see a prefix of it.

A session reads from a follower that may lag behind, but never goes back, and has seen what the session itself wrote.
Watches fire when the session's view passes the change. A session that is cut off for long expires at the server first;
its owner hears of that when it is connected again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mrq.coordination.limits import parent
from mrq.errors import (
    CoordinationUnavailable,
    MrqError,
    NodeError,
    NodeExists,
    NodeMissing,
    SessionLost,
    VersionConflict,
)
from mrq.ports import Node, Session, Watch
from tests.sim.network import Network
from tests.sim.world import Process, World

if TYPE_CHECKING:
    from tests.sim.judge import Judge

T = TypeVar("T")

SESSION_TIMEOUT = 4.0
NODE, CHILDREN = "node", "children"


@dataclass(frozen=True, slots=True)
class Entry:
    """A node at one time."""

    data: bytes
    czxid: int
    owner: int
    version: int


class SimTree:
    """The servers: the tree as committed, and all of its past."""

    def __init__(self, world: World, judge: Judge) -> None:
        self.world = world
        self.judge = judge
        self.sessions: list[SimSession] = []
        self.n_sessions = 0
        self.nodes: dict[str, Entry] = {"/": Entry(b"", 0, 0, 0)}
        self.kids: dict[str, set[str]] = {"/": set()}
        self.log: list[tuple[tuple[str, str], ...]] = [()]
        self._past: dict[str, list[tuple[int, Entry | None]]] = {"/": [(0, self.nodes["/"])]}
        self._past_kids: dict[str, list[tuple[int, tuple[str, ...]]]] = {"/": [(0, ())]}

    @property
    def zxid(self) -> int:
        return len(self.log) - 1

    def create(self, path: str, data: bytes, owner: int, *, parents: bool = True) -> Entry:
        if path in self.nodes:
            raise NodeExists(f"the node {path} is there already")
        above = parent(path)
        if above not in self.nodes and not parents:
            raise NodeMissing(f"{path} can't be created: there is no {above}")
        if above not in self.nodes:
            self.create(above, b"", 0)
        if self.nodes[above].owner:
            raise NodeError(f"{path} can't be created below {above}: that is ephemeral")
        entry = Entry(data, len(self.log), owner, 0)
        self.kids[above].add(path.rpartition("/")[2])
        self.kids[path] = set()
        self._commit(path, entry, ((NODE, path), (CHILDREN, above)))
        self._note_kids(above)
        self._note_kids(path)
        self.judge.created(path, entry)
        return entry

    def write(self, path: str, data: bytes, version: int, writer: str) -> int:
        entry = self.nodes.get(path)
        if entry is None:
            raise NodeMissing(f"the node {path} is not there to be written")
        if version not in (-1, entry.version):
            raise VersionConflict(f"the node {path} has version {entry.version}, not {version}")
        new = Entry(data, entry.czxid, entry.owner, entry.version + 1)
        self.judge.written(path, entry, new, writer)
        self._commit(path, new, ((NODE, path),))
        return new.version

    def delete(self, path: str) -> bool:
        if path not in self.nodes:
            return False
        for below in sorted(self.kids[path]):
            self.delete(f"{path}/{below}")
        above = parent(path)
        del self.nodes[path], self.kids[path]
        self.kids[above].discard(path.rpartition("/")[2])
        self._commit(path, None, ((NODE, path), (CHILDREN, path), (CHILDREN, above)))
        self._note_kids(above)
        return True

    def end_session(self, number: int) -> None:
        for path in [path for path, entry in self.nodes.items() if entry.owner == number]:
            self.delete(path)

    def entry_at(self, path: str, view: int) -> Entry | None:
        for zxid, entry in reversed(self._past.get(path, ())):
            if zxid <= view:
                return entry
        return None

    def kids_at(self, path: str, view: int) -> list[str]:
        if self.entry_at(path, view) is None:
            return []
        for zxid, names in reversed(self._past_kids.get(path, ())):
            if zxid <= view:
                return list(names)
        return []

    def _commit(self, path: str, entry: Entry | None, changes: tuple[tuple[str, str], ...]) -> None:
        self.log.append(changes)
        self._past.setdefault(path, []).append((self.zxid, entry))
        if entry is not None:
            self.nodes[path] = entry
        for session in self.sessions:
            session.hear_of_it()

    def _note_kids(self, path: str) -> None:
        self._past_kids.setdefault(path, []).append((self.zxid, tuple(sorted(self.kids.get(path, ())))))


class SimSession:
    """Implements `mrq.ports.Coordination` for one process."""

    def __init__(self, tree: SimTree, network: Network, process: Process) -> None:
        self.tree = tree
        self.world = tree.world
        self.network = network
        self.process = process
        self.number = self._new_number()
        self.view = tree.zxid
        self.known: dict[str, bytes] = {}
        self._watches: dict[tuple[str, str], dict[Watch, None]] = {}
        self._listeners: list[Callable[[Session], None]] = []
        self._hears = False
        self._suspended = False
        self._expired = False
        self._ended = False
        self._closed = False
        tree.sessions.append(self)

    def _new_number(self) -> int:
        self.tree.n_sessions += 1
        return self.tree.n_sessions

    # ------------------------------------------------------------ the port

    def create(self, path: str, data: bytes, *, ephemeral: bool = False, parents: bool = True) -> Node:
        """See `mrq.ports.Coordination`; after a lost reply, what is there and new counts as created."""
        made: list[Entry] = []

        def act() -> Entry:
            made.append(self.tree.create(path, data, self.number if ephemeral else 0, parents=parents))
            return made[0]

        def again() -> Entry:
            there = self.tree.nodes.get(path)
            ours = made and there and there.czxid == made[0].czxid and (ephemeral or there.data == data)
            return there if there and ours else act()

        entry = self._ask(path, act, again, writes=True)
        return self._node(entry)

    def get(self, path: str, watch: Watch | None = None) -> Node | None:
        """See `mrq.ports.Coordination`."""

        def act() -> Entry | None:
            entry = self.tree.entry_at(path, self.view)
            self._watch(NODE, path, watch)
            return entry

        entry = self._ask(path, act)
        if entry is None:
            return None
        self.known[path] = entry.data
        return self._node(entry)

    def set(self, path: str, data: bytes, version: int = -1) -> int:
        """See `mrq.ports.Coordination`; a write done again after a lost reply conflicts with itself."""
        return self._ask(path, lambda: self.tree.write(path, data, version, self.process.name), writes=True)

    def delete(self, path: str) -> bool:
        """See `mrq.ports.Coordination`."""

        def again() -> bool:
            self.tree.delete(path)
            return True

        return self._ask(path, lambda: self.tree.delete(path), again, writes=True)

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        """See `mrq.ports.Coordination`."""

        def act() -> list[str]:
            self._watch(CHILDREN if self.tree.entry_at(path, self.view) else NODE, path, watch)
            return self.tree.kids_at(path, self.view)

        return self._ask(path, act)

    def sync(self) -> None:
        """See `mrq.ports.Coordination`."""
        self._ask("/", lambda: self._see(self.tree.zxid))

    def add_listener(self, listener: Callable[[Session], None]) -> None:
        """See `mrq.ports.Coordination`."""
        self._listeners.append(listener)

    def close(self) -> None:
        """End at once."""
        self._ended = self._closed = True
        if self in self.tree.sessions:
            self.tree.sessions.remove(self)
        self.tree.end_session(self.number)

    # ------------------------------------------------------------ what befalls it

    def abandon(self) -> None:
        """Its process died; the server learns that only by silence."""
        self._ended = True
        self.tree.sessions.remove(self)
        self.world.at(self.world.between(0.5, 1.0) * SESSION_TIMEOUT, self._expire_at_server)

    def suspend(self, seconds: float) -> None:
        """Be cut off for a while."""
        if self._ended:
            return
        if not self._suspended:
            self._suspended = True
            self._say(Session.SUSPENDED)
        if seconds > SESSION_TIMEOUT:
            self.world.at(SESSION_TIMEOUT, partial(self._expire_if_cut, self.number))
        self.world.at(seconds + 0.01, self.resume)

    def resume(self) -> None:
        """Be connected again, if nothing stands against it."""
        if (
            self._ended
            or not self._suspended
            or self.network.cut_until(self.process, "zookeeper") > self.world.now
        ):
            return
        self._suspended = False
        if self._expired:
            self._begin_anew()
        else:
            self._say(Session.CONNECTED)
            for (_, path), watches in self._watches.items():
                for watch in watches:
                    self._call(watch, path)
            self._watches.clear()

    def expire(self) -> None:
        """The server ends it although it is connected."""
        if not self._ended and not self._suspended:
            self._suspended = True
            self._expire_at_server()
            self.world.at(self.world.between(0.01, 2.0), self.resume)

    def _expire_if_cut(self, number: int) -> None:
        if self._suspended and number == self.number and not self._ended:
            self._expire_at_server()

    def _expire_at_server(self) -> None:
        if not self._expired:
            self.world.tell(self.process.name, f"  (session {self.number} expires)")
            self._expired = True
            self.tree.end_session(self.number)

    def _begin_anew(self) -> None:
        self._expired = False
        self._watches.clear()
        self.number = self._new_number()
        self.view = self.tree.zxid
        self._say(Session.LOST)
        self._say(Session.CONNECTED)

    def hear_of_it(self) -> None:
        """The server it reads from will have what was just committed, soon."""
        if not self._hears:
            self._hears = True
            lag = self.world.between(0.001, 0.004)
            if self.world.random() < self.network.weather.lag:
                lag = self.world.between(0.05, 2.0)
            self.world.at(lag, self._catch_up)

    def _catch_up(self) -> None:
        self._hears = False
        if self._suspended or self.network.cut_until(self.process, "zookeeper") > self.world.now:
            self._hears = True
            self.world.at(0.25, self._catch_up)
        elif not self._ended:
            self._see(self.tree.zxid)

    def _see(self, zxid: int) -> None:
        while self.view < zxid:
            self.view += 1
            for change in self.tree.log[self.view]:
                for watch in self._watches.pop(change, ()):
                    self._call(watch, change[1])

    # ------------------------------------------------------------ inside

    def _ask(
        self, path: str, act: Callable[[], T], again: Callable[[], T] | None = None, *, writes: bool = False
    ) -> T:
        number = self.number
        process = self.process
        process.check()
        if self._ended:
            raise CoordinationUnavailable(f"the session is closed: {path} can't be looked at")
        deadline = self.world.now + 3.0
        while self._suspended:
            process.sleep(0.1)
            if self._suspended and self.world.now > deadline:
                raise CoordinationUnavailable(f"no answer about {path}: no connection")
        self._same(number, path)
        answer = self.network.request(
            process,
            "zookeeper",
            lambda: self._served(number, path, act, writes),
            lambda: self._unanswered(number, path),
            (lambda: self._served(number, path, again, writes)) if again else None,
            writes=writes,
        )
        if self._suspended or self.number != number:
            while self._suspended and self.world.now < deadline:
                process.sleep(0.1)
            self._same(number, path)
        return answer

    def _served(self, number: int, path: str, act: Callable[[], T], writes: bool) -> T:
        self._same(number, path)
        if self._closed:  # what comes after its session was closed is refused
            raise SessionLost(f"the session was closed before {path} was asked for")
        if writes:
            try:
                return act()
            finally:
                if not self._ended:
                    self._see(self.tree.zxid)
        return act()

    def _same(self, number: int, path: str) -> None:
        if self.number != number or self._expired:
            raise SessionLost(f"the session expired before an answer about {path} came")

    def _unanswered(self, number: int, path: str) -> MrqError:
        if self.number != number or self._expired:
            return SessionLost(f"the session expired before an answer about {path} came")
        return CoordinationUnavailable(f"no answer about {path} in time")

    def _watch(self, of: str, path: str, watch: Watch | None) -> None:
        if watch is not None:
            watches = self._watches.setdefault((of, path), {})
            watches[watch] = None
            self.tree.judge.watched(self.process.name, path, len(watches))

    def _call(self, watch: Watch, path: str) -> None:
        number = self.number
        self.world.at(
            self.world.between(0.0, 0.003),
            lambda: watch(path) if self.process.lives and self.number == number else None,
        )

    def _say(self, state: Session) -> None:
        self.world.tell(self.process.name, f"  (session {self.number} {state.value})")
        for listener in self._listeners:
            self.world.at(0.001, partial(self._told, listener, state))

    def _told(self, listener: Callable[[Session], None], state: Session) -> None:
        if self.process.alive:
            listener(state)

    def _node(self, entry: Entry) -> Node:
        return Node(entry.data, entry.version, entry.czxid, mine=entry.owner == self.number)
