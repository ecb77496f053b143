"""What only the tree in memory can do: lose a session's connection at will. And that it is a tree at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.errors import (
    CoordinationUnavailable,
    NodeError,
    NodeExists,
    NodeMissing,
    SessionLost,
    VersionConflict,
)
from mrq.ports import Session

PATIENCE = 10.0


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


def test_operations_of_a_suspended_session_wait_for_its_connection() -> None:
    """They are answered once it is resumed."""
    session = EmbeddedCoordination(EmbeddedTree())
    session.suspend()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(session.create, "/node", b"")
        assert not asked.done()
        session.resume()
        asked.result(PATIENCE)
    session.close()


def test_operations_of_a_suspended_session_fail_by_the_deadline() -> None:
    """Without a connection there is no answer."""
    session = EmbeddedCoordination(EmbeddedTree(), operation_timeout=0.05)
    session.suspend()
    start = time.monotonic()
    with pytest.raises(CoordinationUnavailable, match=r"within 0\.05 s"):
        session.get("/node")
    assert time.monotonic() - start >= 0.05
    session.close()


def test_operations_under_way_fail_when_their_session_expires() -> None:
    """Whoever waits for a lost session is told so; what comes after is the next session's."""
    tree = EmbeddedTree()
    session, other = EmbeddedCoordination(tree), EmbeddedCoordination(tree)
    states: SimpleQueue[Session] = SimpleQueue()
    session.add_listener(states.put)
    session.create("/owner", b"", ephemeral=True)
    session.suspend()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(session.get, "/owner")
        # Only an operation that has begun to wait can lose its session: look at the lock's waiters.
        eventually(lambda: tree.lock._waiters)  # type: ignore[attr-defined]  # private to threading.Condition
        session.expire()
        assert other.get("/owner") is None
        session.resume()
        with pytest.raises(SessionLost, match="expired"):
            asked.result(PATIENCE)
    expected = [Session.SUSPENDED, Session.LOST, Session.CONNECTED]
    assert [states.get(timeout=PATIENCE) for _ in expected] == expected
    assert session.create("/owner", b"", ephemeral=True).mine
    for opened in (session, other):
        opened.close()


def test_a_suspended_session_hears_of_changes_when_it_is_resumed() -> None:
    """As over a network, a change meanwhile is told afterwards, and so is what may have changed."""
    tree = EmbeddedTree()
    session, other = EmbeddedCoordination(tree), EmbeddedCoordination(tree)
    told: SimpleQueue[str] = SimpleQueue()
    session.get("/changed", told.put)
    session.get("/unchanged", told.put)
    session.suspend()
    other.create("/changed", b"")
    with pytest.raises(Empty):
        told.get_nowait()
    session.resume()
    assert {told.get(timeout=PATIENCE), told.get(timeout=PATIENCE)} == {"/changed", "/unchanged"}
    for opened in (session, other):
        opened.close()


def test_closing_ends_the_waiting_and_the_thread() -> None:
    """Nothing hangs on a closed session, and nothing is left of it."""
    before = threading.active_count()
    session = EmbeddedCoordination(EmbeddedTree())
    session.suspend()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(session.get, "/node")
        session.close()
        with pytest.raises(CoordinationUnavailable, match="closed"):
            asked.result(PATIENCE)
    assert threading.active_count() == before


def test_a_session_can_be_closed_by_its_own_watch() -> None:
    """Closing from the dispatcher's thread does not wait for itself."""
    session = EmbeddedCoordination(EmbeddedTree())
    closed = threading.Event()

    def close(path: str) -> None:
        session.close()
        closed.set()

    session.get("/node", close)
    session.create("/node", b"")
    assert closed.wait(PATIENCE)


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))


class Model(RuleBasedStateMachine):
    """The tree beside a dictionary of path to (data, version, session that owns it)."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = EmbeddedTree()
        self.sessions = [EmbeddedCoordination(self.tree), EmbeddedCoordination(self.tree)]
        self.nodes: dict[str, tuple[bytes, int, int | None]] = {}
        self.newest = 0

    def teardown(self) -> None:
        for session in self.sessions:
            session.close()

    def below(self, path: str) -> list[str]:
        return [other for other in self.nodes if other == path or other.startswith(path + "/")]

    def above(self, path: str) -> list[str]:
        """The path's ancestors, from the top."""
        parts = path.split("/")[1:-1]
        return ["/" + "/".join(parts[: i + 1]) for i in range(len(parts))]

    @rule(path=PATHS, data=st.binary(max_size=2), who=st.integers(0, 1), ephemeral=st.booleans())
    def create(self, path: str, data: bytes, who: int, ephemeral: bool) -> None:
        session = self.sessions[who]
        if path in self.nodes:
            with pytest.raises(NodeExists):
                session.create(path, data, ephemeral=ephemeral)
        elif any(self.nodes.get(node, (b"", 0, None))[2] is not None for node in self.above(path)):
            with pytest.raises(NodeError):
                session.create(path, data, ephemeral=ephemeral)
        else:
            for node in self.above(path):
                self.nodes.setdefault(node, (b"", 0, None))
            self.nodes[path] = (data, 0, who if ephemeral else None)
            czxid = session.create(path, data, ephemeral=ephemeral).czxid
            assert czxid > self.newest
            self.newest = czxid

    @rule(path=PATHS, data=st.binary(max_size=2), version=st.integers(-1, 2))
    def set(self, path: str, data: bytes, version: int) -> None:
        session = self.sessions[0]
        if path not in self.nodes:
            with pytest.raises(NodeMissing):
                session.set(path, data, version)
        elif version not in (-1, self.nodes[path][1]):
            with pytest.raises(VersionConflict):
                session.set(path, data, version)
        else:
            _, old, owner = self.nodes[path]
            assert session.set(path, data, version) == old + 1
            self.nodes[path] = (data, old + 1, owner)

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        gone = self.below(path)
        assert self.sessions[1].delete(path) is bool(gone)
        for node in gone:
            del self.nodes[node]

    @rule(who=st.integers(0, 1))
    def expire(self, who: int) -> None:
        self.sessions[who].expire()
        self.nodes = {path: node for path, node in self.nodes.items() if node[2] != who}

    @invariant()
    def both_sessions_see_the_model(self) -> None:
        for who, session in enumerate(self.sessions):
            for path, (data, version, owner) in self.nodes.items():
                node = session.get(path)
                assert node is not None
                assert (node.data, node.version, node.mine) == (data, version, owner == who)
            tops = sorted({path.split("/")[1] for path in self.nodes})
            assert session.children("/") == tops
            names = sorted(path[3:] for path in self.nodes if path.startswith("/a/") and path.count("/") == 2)
            assert session.children("/a") == names


TestTheTreeBehavesAsItsModel = Model.TestCase
TestTheTreeBehavesAsItsModel.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
