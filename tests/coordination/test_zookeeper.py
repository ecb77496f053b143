"""What only a real ZooKeeper, or the network before it, can do to us."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.errors import AuthenticationFailed, CoordinationUnavailable, NodeExists, SessionLost, VersionConflict
from mrq.ports import Session

if TYPE_CHECKING:
    from tests.coordination.conftest import Proxy

pytestmark = pytest.mark.real

PATIENCE = 20.0


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def with_lost_reply(
    proxy: Proxy, ask: Callable[[], Any], performed: Callable[[], object], then: Callable[[], object] = bool
) -> Future[Any]:
    """Ask, and cut the connection when the server has performed it but its reply has not come."""
    with ThreadPoolExecutor(1) as pool:
        proxy.swallow = True
        asked = pool.submit(ask)
        eventually(performed)
        then()
        proxy.cut()
        proxy.swallow = False
    return asked


def test_a_wrong_password_is_refused(settings: Settings, direct: ZooKeeperCoordination) -> None:
    """The sentence names the user and the node, and not the password."""
    wrong = settings.model_copy(update={"password": type(settings.password)("sesame-open")})
    with pytest.raises(
        AuthenticationFailed, match=rf"{settings.zookeeper_root}.*'{settings.username}'"
    ) as refusal:
        ZooKeeperCoordination(wrong)
    assert "sesame" not in str(refusal.value)


def test_an_outsider_can_not_read(settings: Settings, direct: ZooKeeperCoordination) -> None:
    """Neither a node, nor the parents that were made for it, nor their children."""
    direct.create("/jobs/7", b"the job's key")
    outsider = KazooClient(hosts=",".join(settings.zookeeper_hosts))
    outsider.start()
    try:
        for path in ("", "/jobs", "/jobs/7"):
            for ask in (outsider.get, outsider.get_children):
                with pytest.raises(NoAuthError):
                    ask(settings.zookeeper_root + path)
    finally:
        outsider.stop()
        outsider.close()


def test_nothing_listening_is_told_by_the_deadline() -> None:
    """The sentence names the hosts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(CoordinationUnavailable, match=address):
        ZooKeeperCoordination(Settings.load(zookeeper_hosts=(address,), connect_timeout=0.5))
    assert time.monotonic() - start < 5


def test_a_server_that_says_nothing_is_told_by_the_deadline() -> None:
    """A port that accepts and is silent is no reason to hang, neither at the start nor at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(CoordinationUnavailable, match=address):
            ZooKeeperCoordination(Settings.load(zookeeper_hosts=(address,), connect_timeout=0.5))
        assert time.monotonic() - start < 6


def test_operations_outlive_a_lost_connection(proxy: Proxy, proxied: ZooKeeperCoordination) -> None:
    """A connection that is cut costs time, not an error; the session and what it owns stay."""
    proxied.create("/owner", b"", ephemeral=True)
    for number in range(3):
        proxy.cut()
        proxied.create(f"/node-{number}", b"")
    node = proxied.get("/owner")
    assert node is not None
    assert node.mine


def test_operations_fail_by_the_deadline_while_there_is_no_connection(
    settings: Settings, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """They raise in time, the log stays calm, and closing is prompt."""
    caplog.set_level(logging.WARNING)
    hurried = settings.model_copy(update={"zookeeper_hosts": (proxy.address,), "operation_timeout": 1.0})
    coordination = ZooKeeperCoordination(hurried)
    proxy.down()
    start = time.monotonic()
    for ask in (coordination.get, coordination.children, coordination.delete):
        with pytest.raises(CoordinationUnavailable, match="within 1 s"):
            ask("/node")
    assert 3 <= time.monotonic() - start < 4
    start = time.monotonic()
    coordination.close()
    assert time.monotonic() - start < 2
    assert not caplog.records


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_talks_nonsense_does_not_end_us(proxy: Proxy, proxied: ZooKeeperCoordination) -> None:
    """An answer to what was never asked costs the session, and then all goes on."""
    states: SimpleQueue[Session] = SimpleQueue()
    proxied.add_listener(states.put)
    proxy.say(struct.pack(">iiqi", 16, 12345, 0, 0))
    assert states.get(timeout=PATIENCE) is Session.LOST
    assert proxied.create("/owner", b"", ephemeral=True).mine
    assert states.get(timeout=PATIENCE) is Session.CONNECTED


def test_a_silent_connection_is_given_up_by_the_deadline(settings: Settings, proxy: Proxy) -> None:
    """A server that takes requests and never answers them is the same as none."""
    hurried = settings.model_copy(update={"zookeeper_hosts": (proxy.address,), "operation_timeout": 1.0})
    coordination = ZooKeeperCoordination(hurried)
    proxy.swallow = True
    start = time.monotonic()
    with pytest.raises(CoordinationUnavailable, match="within 1 s"):
        coordination.get("/node")
    assert 1 <= time.monotonic() - start < 2
    start = time.monotonic()
    coordination.close()
    assert time.monotonic() - start < 5


def test_a_reconnect_is_told(proxy: Proxy, proxied: ZooKeeperCoordination) -> None:
    """Listeners hear that the connection is gone, and that it is back."""
    states: SimpleQueue[Session] = SimpleQueue()
    proxied.add_listener(states.put)
    proxy.down()
    assert states.get(timeout=PATIENCE) is Session.SUSPENDED
    proxy.up()
    assert states.get(timeout=PATIENCE) is Session.CONNECTED


def test_a_session_that_expired_without_a_connection_is_lost(
    proxy: Proxy, proxied: ZooKeeperCoordination, direct: ZooKeeperCoordination
) -> None:
    """A connection away for longer than the session's timeout costs what it owned; it is told when back."""
    states: SimpleQueue[Session] = SimpleQueue()
    proxied.add_listener(states.put)
    proxied.create("/owner", b"", ephemeral=True)
    eventually(lambda: direct.get("/owner"))
    proxy.down()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(proxied.get, "/owner")
        eventually(lambda: direct.get("/owner") is None)
        proxy.up()
        with pytest.raises(SessionLost, match="expired"):
            asked.result(PATIENCE)
    assert [states.get(timeout=PATIENCE) for _ in range(3)] == [
        Session.SUSPENDED,
        Session.LOST,
        Session.CONNECTED,
    ]
    assert proxied.create("/owner", b"", ephemeral=True).mine


def test_calls_of_one_whose_session_holds_nothing_go_on_in_the_next_session(
    settings: Settings, proxy: Proxy, direct: ZooKeeperCoordination
) -> None:
    """What the session's end cut off is done in the next one: a client owns nothing that it could lose."""
    through = settings.model_copy(update={"zookeeper_hosts": (proxy.address,)})
    client = ZooKeeperCoordination(through, outlives_sessions=True)
    states: SimpleQueue[Session] = SimpleQueue()
    client.add_listener(states.put)
    direct.create("/there", b"data")
    client.create("/witness", b"", ephemeral=True)
    proxy.down()
    with ThreadPoolExecutor(2) as pool:
        asked, made = pool.submit(client.get, "/there"), pool.submit(client.create, "/new", b"")
        eventually(lambda: direct.get("/witness") is None)
        proxy.up()
        found = asked.result(PATIENCE)
        assert found is not None
        assert found.data == b"data"
        assert not made.result(PATIENCE).mine
    assert direct.get("/new")
    assert Session.LOST in [states.get(timeout=PATIENCE) for _ in range(3)]
    client.close()


def test_a_change_during_a_lost_connection_is_told_after_it(
    proxy: Proxy, proxied: ZooKeeperCoordination, direct: ZooKeeperCoordination
) -> None:
    """Watches are called once the session is connected again, not before and not twice."""
    told: SimpleQueue[str] = SimpleQueue()
    proxied.create("/folder/node", b"old")
    proxied.get("/folder/node", told.put)
    proxied.children("/folder", told.put)
    proxied.get("/missing", told.put)
    proxy.down()
    eventually(lambda: direct.get("/folder/node"))
    direct.set("/folder/node", b"new")
    with pytest.raises(Empty):
        told.get_nowait()
    proxy.up()
    assert sorted(told.get(timeout=PATIENCE) for _ in range(3)) == ["/folder", "/folder/node", "/missing"]
    node = proxied.get("/folder/node", told.put)
    assert node is not None
    assert node.data == b"new"
    proxied.set("/folder/node", b"newer")
    assert told.get(timeout=PATIENCE) == "/folder/node"
    with pytest.raises(Empty):
        told.get_nowait()


@pytest.mark.parametrize("ephemeral", [False, True])
def test_a_creation_whose_reply_was_lost_is_recognized(
    proxy: Proxy, proxied: ZooKeeperCoordination, direct: ZooKeeperCoordination, ephemeral: bool
) -> None:
    """The creator gets its node, not NodeExists."""
    proxied.get("/")
    asked = with_lost_reply(
        proxy,
        lambda: proxied.create("/node", b"data", ephemeral=ephemeral),
        performed=lambda: direct.get("/node"),
    )
    node = asked.result(PATIENCE)
    assert (node.data, node.version, node.mine) == (b"data", 0, ephemeral)


@pytest.mark.parametrize("ephemeral", [False, True])
def test_a_creation_whose_reply_was_lost_does_not_take_anothers_node(
    proxy: Proxy, proxied: ZooKeeperCoordination, direct: ZooKeeperCoordination, ephemeral: bool
) -> None:
    """Somebody else's node in the same place is somebody else's."""

    def replace() -> None:
        direct.delete("/node")
        direct.create("/node", b"another's", ephemeral=ephemeral)

    asked = with_lost_reply(
        proxy,
        lambda: proxied.create("/node", b"data", ephemeral=ephemeral),
        performed=lambda: direct.get("/node"),
        then=replace,
    )
    with pytest.raises(NodeExists):
        asked.result(PATIENCE)


def test_a_write_whose_reply_was_lost_is_a_conflict(
    proxy: Proxy, proxied: ZooKeeperCoordination, direct: ZooKeeperCoordination
) -> None:
    """Who compares versions reads again, and finds its own data."""
    proxied.create("/record", b"old")
    asked = with_lost_reply(
        proxy,
        lambda: proxied.set("/record", b"new", version=0),
        performed=lambda: (node := direct.get("/record")) and node.version == 1,
    )
    with pytest.raises(VersionConflict):
        asked.result(PATIENCE)
    node = proxied.get("/record")
    assert node is not None
    assert (node.data, node.version) == (b"new", 1)


def test_a_deletion_whose_reply_was_lost_has_deleted(
    proxy: Proxy, proxied: ZooKeeperCoordination, direct: ZooKeeperCoordination
) -> None:
    """The node was there, so the answer is yes."""
    proxied.create("/node", b"")
    eventually(lambda: direct.get("/node"))
    asked = with_lost_reply(
        proxy, lambda: proxied.delete("/node"), performed=lambda: direct.get("/node") is None
    )
    assert asked.result(PATIENCE) is True
