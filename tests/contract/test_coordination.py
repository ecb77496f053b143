"""The contract of `mrq.ports.Coordination`, kept by the tree in memory and by ZooKeeper alike.

ZooKeeper is where ``MRQ_*`` in the environment says. Reads of one session may lag behind another's writes, so
whatever two sessions do is awaited, with a deadline.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import pytest
from kazoo.client import KazooClient

from mrq.config import Settings
from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.coordination.limits import MAX_DATA
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.errors import (
    ConfigurationError,
    CoordinationUnavailable,
    NodeError,
    NodeExists,
    NodeMissing,
    VersionConflict,
)
from mrq.ports import Coordination, Node, Session

PATIENCE = 20.0


class Embedded:
    """Sessions with one tree in memory."""

    def __init__(self) -> None:
        self._tree = EmbeddedTree()
        self._opened: list[EmbeddedCoordination] = []

    def open(self) -> Coordination:
        self._opened.append(EmbeddedCoordination(self._tree, operation_timeout=PATIENCE))
        return self._opened[-1]

    def expire(self, coordination: Coordination) -> None:
        assert isinstance(coordination, EmbeddedCoordination)
        coordination.expire()

    def close(self) -> None:
        for coordination in self._opened:
            coordination.close()


class Real:
    """Sessions with a ZooKeeper, below a root of their own."""

    def __init__(self) -> None:
        self._settings = Settings.load(
            zookeeper_root=f"/mrq-test-{secrets.token_hex(6)}",
            zookeeper_session_timeout=4.0,
            operation_timeout=PATIENCE,
            connect_timeout=5.0,
        )
        self._opened: list[ZooKeeperCoordination] = []

    def open(self) -> Coordination:
        self._opened.append(ZooKeeperCoordination(self._settings))
        return self._opened[-1]

    def expire(self, coordination: Coordination) -> None:
        """Take the session over with a second client, and end it."""
        assert isinstance(coordination, ZooKeeperCoordination)
        thief = KazooClient(
            hosts=",".join(self._settings.zookeeper_hosts), client_id=coordination._client.client_id
        )
        thief.start()
        thief.stop()
        thief.close()

    def close(self) -> None:
        for coordination in self._opened:
            coordination.close()
        cleaner = ZooKeeperCoordination(self._settings)
        cleaner.delete("/")
        cleaner.close()


Backend = Embedded | Real


@pytest.fixture(params=["embedded", pytest.param("zookeeper", marks=pytest.mark.real)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """What opens sessions that see each other."""
    backend: Backend = Embedded() if request.param == "embedded" else Real()
    try:
        backend.open()
    except CoordinationUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no ZooKeeper: {error}")
    yield backend
    backend.close()


@pytest.fixture
def one(backend: Backend) -> Coordination:
    """A session."""
    return backend.open()


@pytest.fixture
def two(backend: Backend) -> Coordination:
    """Another session."""
    return backend.open()


@pytest.fixture
def told() -> SimpleQueue[str]:
    """What watches were called with, as far as ``told.put`` was the watch."""
    return SimpleQueue()


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def all_told(session: Coordination, told: SimpleQueue[str]) -> list[str]:
    """Return what was told by now: events of a session come in order, so one more is made and awaited."""
    session.get("/marker", told.put)
    session.create("/marker", b"")
    session.delete("/marker")
    calls = []
    while (path := told.get(timeout=PATIENCE)) != "/marker":
        calls.append(path)
    return calls


def test_a_created_node_holds_its_data(one: Coordination) -> None:
    """What create returns is what get returns: the data, version 0, and nobody's."""
    created = one.create("/job", b"a job")
    assert created == Node(b"a job", version=0, czxid=created.czxid, mine=False)
    assert one.get("/job") == created


def test_creating_makes_the_parents(one: Coordination) -> None:
    """Missing parents are created empty."""
    one.create("/jobs/7/owner", b"")
    parent = one.get("/jobs/7")
    assert parent is not None
    assert parent.data == b""


def test_a_node_is_created_once(one: Coordination) -> None:
    """The second creator is refused, and changes nothing."""
    one.create("/job", b"first")
    with pytest.raises(NodeExists, match="/job"):
        one.create("/job", b"second")
    node = one.get("/job")
    assert node is not None
    assert node.data == b"first"


def test_of_many_creators_one_wins(backend: Backend) -> None:
    """Claiming by creating an ephemeral node gives one owner."""
    sessions = [backend.open() for _ in range(4)]
    start = threading.Barrier(len(sessions))

    def claim(session: Coordination) -> bool:
        start.wait()
        try:
            return session.create("/job/owner", b"me", ephemeral=True).mine
        except NodeExists:
            return False

    with ThreadPoolExecutor(len(sessions)) as pool:
        assert sorted(pool.map(claim, sessions)) == [False, False, False, True]


def test_a_missing_node_is_none(one: Coordination) -> None:
    """Neither reading nor listing what is not there raises."""
    assert one.get("/nowhere") is None
    assert one.children("/nowhere") == []
    assert one.delete("/nowhere") is False


def test_writing_counts_the_version_up(one: Coordination) -> None:
    """Each write returns the next version, and does not change which creation the node stems from."""
    czxid = one.create("/counter", b"0").czxid
    assert one.set("/counter", b"1") == 1
    assert one.set("/counter", b"2", version=1) == 2
    assert one.get("/counter") == Node(b"2", version=2, czxid=czxid)


def test_a_stale_write_is_refused(one: Coordination) -> None:
    """Who writes with an older version learns of the conflict, and changes nothing."""
    one.create("/record", b"a")
    one.set("/record", b"b", version=0)
    with pytest.raises(VersionConflict, match="/record"):
        one.set("/record", b"c", version=0)
    node = one.get("/record")
    assert node is not None
    assert node.data == b"b"


def test_a_missing_node_can_not_be_written(one: Coordination) -> None:
    """Writing creates nothing."""
    with pytest.raises(NodeMissing, match="/record"):
        one.set("/record", b"a")


def test_deleting_takes_all_below(one: Coordination) -> None:
    """A node goes with its descendants; its siblings and parent stay."""
    one.create("/jobs/7/tasks/1", b"")
    one.create("/jobs/7/tasks/2", b"")
    one.create("/jobs/71", b"")
    assert one.delete("/jobs/7") is True
    assert one.get("/jobs/7/tasks/1") is None
    assert one.children("/jobs") == ["71"]


def test_a_node_is_not_created_below_one_that_is_gone_when_that_is_asked_for(one: Coordination) -> None:
    """So that a late write does not bring back what was cleared away."""
    with pytest.raises(NodeMissing):
        one.create("/gone/below", b"", parents=False)
    assert one.get("/gone") is None
    one.create("/there", b"")
    assert one.create("/there/below", b"x", parents=False).data == b"x"


def test_deleting_wins_over_children_that_appear(one: Coordination, two: Coordination) -> None:
    """A folder that another session fills meanwhile is deleted without an error on either side."""
    filling = threading.Event()

    def fill() -> None:
        filling.set()
        for number in range(40):
            two.create(f"/busy/{number}/x", b"")

    with ThreadPoolExecutor(1) as pool:
        filled = pool.submit(fill)
        filling.wait(PATIENCE)
        while not filled.done():
            one.delete("/busy")
        filled.result()
    one.delete("/busy")
    eventually(lambda: two.get("/busy") is None)


def test_children_are_sorted_by_name(one: Coordination) -> None:
    """The names come without their path, in order."""
    for name in ("b", "c", "a"):
        one.create(f"/workers/{name}", b"")
    assert one.children("/workers") == ["a", "b", "c"]
    assert "workers" in one.children("/")


def test_sessions_see_each_other(one: Coordination, two: Coordination) -> None:
    """What one session writes another reads."""
    one.create("/note", b"from one")
    eventually(lambda: two.get("/note"))
    two.set("/note", b"from two")
    eventually(lambda: (node := one.get("/note")) and node.data == b"from two")


def test_an_epoch_grows_with_each_creation(one: Coordination, two: Coordination) -> None:
    """A node that is created again is younger than before, whoever creates it."""
    epochs = []
    for session in (one, two, one):
        epochs.append(session.create("/job/owner", b"", ephemeral=True).czxid)
        session.delete("/job/owner")
    assert epochs == sorted(set(epochs))


def test_an_ephemeral_node_is_its_sessions_own(one: Coordination, two: Coordination) -> None:
    """Only the session that made it calls it its own, and nobody can make it twice."""
    assert one.create("/owner", b"one", ephemeral=True).mine
    eventually(lambda: two.get("/owner"))
    mine, theirs = one.get("/owner"), two.get("/owner")
    assert mine is not None
    assert mine.mine
    assert theirs is not None
    assert not theirs.mine
    for session in (one, two):
        with pytest.raises(NodeExists):
            session.create("/owner", b"", ephemeral=True)


def test_an_ephemeral_node_goes_with_its_session(
    one: Coordination, two: Coordination, told: SimpleQueue[str]
) -> None:
    """Closing deletes what the session owned at once, and others' watches tell of it."""
    one.create("/masters/m1", b"", ephemeral=True)
    one.create("/stays", b"")
    eventually(lambda: two.get("/masters/m1", told.put))
    one.close()
    assert told.get(timeout=2) == "/masters/m1"
    assert two.children("/masters") == []
    assert two.get("/stays") is not None


def test_an_ephemeral_node_has_no_children(one: Coordination) -> None:
    """Creating below an ephemeral node is refused with a sentence."""
    one.create("/owner", b"", ephemeral=True)
    with pytest.raises(NodeError, match="/owner: that is ephemeral"):
        one.create("/owner/below", b"")


def change_by_creating(session: Coordination) -> None:
    session.create("/node", b"")


def change_by_writing(session: Coordination) -> None:
    session.set("/node", b"new")


def change_by_deleting(session: Coordination) -> None:
    session.delete("/node")


def change_by_creating_a_child(session: Coordination) -> None:
    session.create("/node/child", b"")


def change_by_deleting_a_child(session: Coordination) -> None:
    session.delete("/node/old")


@pytest.mark.parametrize(
    "change", [change_by_creating, change_by_writing, change_by_deleting], ids=lambda c: c.__name__
)
def test_a_nodes_watch_is_called_once(
    change: Callable[[Coordination], None], one: Coordination, two: Coordination, told: SimpleQueue[str]
) -> None:
    """A change by another session is told, with the node's path; the next one is not."""
    if change is not change_by_creating:
        two.create("/node", b"")
        eventually(lambda: one.get("/node"))
    one.get("/node", told.put)
    change(two)
    assert told.get(timeout=PATIENCE) == "/node"
    two.delete("/node")
    two.create("/node", b"again")
    eventually(lambda: (node := one.get("/node")) and node.data == b"again")
    assert all_told(one, told) == []


@pytest.mark.parametrize(
    "change",
    [change_by_creating, change_by_creating_a_child, change_by_deleting_a_child, change_by_deleting],
    ids=lambda c: c.__name__,
)
def test_a_childrens_watch_is_called_once(
    change: Callable[[Coordination], None], one: Coordination, two: Coordination, told: SimpleQueue[str]
) -> None:
    """Children that come and go are told, and so is the node itself; with the node's path, once."""
    if change is not change_by_creating:
        two.create("/node/old", b"")
        eventually(lambda: one.get("/node/old"))
    one.children("/node", told.put)
    change(two)
    assert told.get(timeout=PATIENCE) == "/node"
    two.create("/node/another", b"")
    eventually(lambda: one.get("/node/another"))
    assert all_told(one, told) == []


def test_a_childrens_watch_is_not_called_for_what_children_hold(
    one: Coordination, told: SimpleQueue[str]
) -> None:
    """Neither writing a child nor creating a grandchild changes the list of children."""
    one.create("/node/child", b"")
    one.children("/node", told.put)
    one.set("/node/child", b"new")
    one.create("/node/child/grandchild", b"")
    assert all_told(one, told) == []


def test_a_watch_set_again_and_again_is_called_once(one: Coordination, told: SimpleQueue[str]) -> None:
    """Who polls with a watch gets one call, and piles up nothing."""
    one.create("/node", b"")
    for _ in range(5):
        one.get("/node", told.put)
    one.set("/node", b"new")
    assert all_told(one, told) == ["/node"]


def test_every_watch_is_called_although_one_fails(one: Coordination, told: SimpleQueue[str]) -> None:
    """A watch that raises takes nothing from the others, nor from later ones."""

    def fail(path: str) -> None:
        raise ValueError(path)

    one.get("/node", fail)
    one.get("/node", told.put)
    one.create("/node", b"")
    assert all_told(one, told) == ["/node"]


def test_watches_are_called_on_another_thread(one: Coordination) -> None:
    """The one who changes a node never runs a watch in its own stack."""
    threads: SimpleQueue[int] = SimpleQueue()
    one.get("/node", lambda path: threads.put(threading.get_ident()))
    one.create("/node", b"")
    assert threads.get(timeout=PATIENCE) != threading.get_ident()


def test_a_lost_session_is_told_and_followed_by_another(
    backend: Backend, one: Coordination, two: Coordination, told: SimpleQueue[str]
) -> None:
    """What it owned is gone, its watches too; listeners hear of it, and then all goes on."""
    states: SimpleQueue[Session] = SimpleQueue()
    one.add_listener(states.put)
    one.create("/owner", b"", ephemeral=True)
    one.get("/watched", told.put)
    backend.expire(one)
    heard: list[Session] = []
    while heard[-2:] != [Session.LOST, Session.CONNECTED]:
        heard.append(states.get(timeout=PATIENCE))
    eventually(lambda: two.get("/owner") is None)
    assert one.create("/owner", b"", ephemeral=True).mine
    all_told(one, told)  # the watch too, if the connection came back for a moment before the session was lost
    one.create("/watched", b"")
    assert all_told(one, told) == []


def test_a_closed_session_answers_no_more(backend: Backend, one: Coordination) -> None:
    """Closing twice is once; what is asked afterwards fails at once, and listeners hear nothing of it."""
    states: SimpleQueue[Session] = SimpleQueue()
    one.add_listener(states.put)
    start = time.monotonic()
    one.close()
    one.close()
    for ask in (one.get, one.children, one.delete):
        with pytest.raises(CoordinationUnavailable, match="closed"):
            ask("/node")
    assert time.monotonic() - start < PATIENCE / 2
    with pytest.raises(Empty):
        states.get_nowait()


@pytest.mark.parametrize(
    "path", ["", "node", "/node/", "//node", "/a//b", "/a/../b", "/./a", "/a\x00b", "/\ue000"]
)
def test_a_bad_path_is_refused(one: Coordination, path: str) -> None:
    """What ZooKeeper would not take as a path is refused before it is sent."""
    for ask in (one.get, one.children, one.delete, lambda path: one.create(path, b"")):
        with pytest.raises(ConfigurationError, match="path"):
            ask(path)


def test_what_is_too_big_for_a_node_is_refused(one: Coordination) -> None:
    """The largest data is kept; one byte more is refused with a sentence, by create and by set."""
    one.create("/big", b"x" * MAX_DATA)
    node = one.get("/big")
    assert node is not None
    assert len(node.data) == MAX_DATA
    for write in (one.create, one.set):
        with pytest.raises(ConfigurationError, match="too many for the node /big"):
            write("/big", b"x" * (MAX_DATA + 1))


def test_no_increment_of_a_counter_is_lost(one: Coordination, two: Coordination) -> None:
    """Four threads in two sessions count up by comparing versions, as sequential ids are taken."""
    one.create("/counter", b"0")
    eventually(lambda: two.get("/counter"))

    def count(session: Coordination) -> None:
        done = 0
        while done < 25:
            node = session.get("/counter")
            assert node is not None
            try:
                session.set("/counter", b"%d" % (int(node.data) + 1), node.version)
                done += 1
            except VersionConflict:
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, [one, two, one, two]))
    node = one.get("/counter")
    assert node is not None
    assert node.version == 100
    assert node.data == b"100"


def test_a_watch_that_is_set_again_ends_at_the_newest_state(
    one: Coordination, two: Coordination, told: SimpleQueue[str]
) -> None:
    """In a storm of a thousand changes, reading with a new watch after each call misses no final state."""
    one.create("/node", b"0")
    seen: list[int] = []

    def follow() -> None:
        while not seen or seen[-1] != 1000:
            node = one.get("/node", told.put)
            assert node is not None
            seen.append(int(node.data))
            if seen[-1] != 1000:
                told.get(timeout=PATIENCE)

    eventually(lambda: two.get("/node"))
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        for number in range(1, 1001):
            two.set("/node", b"%d" % number)
        following.result(PATIENCE)
    assert seen == sorted(seen)


def test_a_session_that_syncs_has_what_others_wrote_before(one: Coordination, two: Coordination) -> None:
    """Without it a read may lag, as long as its server does; with it none does."""
    for number in range(50):
        two.create(f"/{number}", b"x")
        one.sync()
        assert one.get(f"/{number}") is not None
