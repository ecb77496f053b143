"""The HDFS store at the real HDFS, with something between the two that refuses, loses replies or redirects."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from mrq.config import Settings
from mrq.errors import MrqError
from mrq.store.hdfs import HdfsAddress, HdfsStore

NAMENODE = os.environ.get("MRQ_TEST_NAMENODE_URL", "http://127.0.0.1:9870")
pytestmark = pytest.mark.real


@pytest.fixture
def real() -> Iterator[HdfsAddress]:
    """The address of a fresh root in the real HDFS, removed afterwards."""
    root = f"/mrq-test-{secrets.token_hex(6)}"
    address = HdfsAddress.of(Settings.load(hdfs_root=root, connect_timeout=5, operation_timeout=20))
    store = HdfsStore(address)
    try:
        store.ping()
    except MrqError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no HDFS: {error}")
    yield address
    store.delete("")
    store.close()


def losing_first(operation: str) -> Callable[[str], bool]:
    """Have a proxy lose the reply to the first request for an operation."""
    lost: list[str] = []

    def loses(line: str) -> bool:
        if lost or f"op={operation}" not in line:
            return False
        lost.append(line)
        return True

    return loses


def test_a_real_gateway_takes_over_from_one_that_refuses(
    real: HdfsAddress, nowhere: Callable[[], str], opened: Callable[..., HdfsStore]
) -> None:
    """Writes and streams go on through the second URL when the first is down."""
    store = opened(nowhere(), *real.urls, root=real.root, operation_timeout=20)
    assert store.write("streamed", iter([b"da", b"ta"])) == 4
    assert store.read("streamed") == b"data"


def test_a_rename_whose_reply_is_lost_is_won(
    real: HdfsAddress, proxy: Callable[..., Any], opened: Callable[..., HdfsStore]
) -> None:
    """The server moved the file, the reply never came: rename says True, and has asked to move it once."""
    between = proxy(real.urls[0], losing_first("RENAME"))
    store = opened(between.url, root=real.root, operation_timeout=20)
    store.write("source", b"ours")
    assert store.rename("source", "target")
    assert store.read("target") == b"ours"
    assert sum("op=RENAME" in line for line in between.asked) == 1
    store.write("other", b"theirs")
    assert not store.rename("other", "target")


def test_a_rename_that_finds_the_target_free_may_still_come_second(
    real: HdfsAddress, proxy: Callable[..., Any], opened: Callable[..., HdfsStore]
) -> None:
    """Another moves its file there between the look and the move: rename says False."""
    rival = opened(*real.urls, root=real.root, operation_timeout=20)
    rival.write("rival", b"theirs")

    def interlope(line: str) -> bool:
        if "op=GETFILESTATUS" in line and not rival.status("target"):
            assert rival.rename("rival", "target")
        return False

    store = opened(proxy(real.urls[0], interlope).url, root=real.root, operation_timeout=20)
    store.write("source", b"ours")
    assert not store.rename("source", "target")
    assert store.read("target") == b"theirs"


def test_a_write_whose_reply_is_lost_is_done_again(
    real: HdfsAddress, proxy: Callable[..., Any], opened: Callable[..., HdfsStore]
) -> None:
    """Bytes are sent once more, and are there once."""
    between = proxy(real.urls[0], losing_first("CREATE"))
    store = opened(between.url, root=real.root, operation_timeout=20)
    assert store.write("file", b"data" * 10) == 40
    assert store.read("file") == b"data" * 10
    assert sum("op=CREATE" in line for line in between.asked) == 2


def test_a_datanode_is_reached_where_the_rewrite_says(
    real: HdfsAddress, proxy: Callable[..., Any], opened: Callable[..., HdfsStore]
) -> None:
    """With redirects, reads and writes go to the address put in the DataNodes' place."""
    seen = set(_datanodes(real))
    between = proxy(f"http://{min(seen)}")
    there = urlsplit(between.url).netloc
    rewrite = ",".join(f"{name}={there}" for name in sorted(seen))
    store = opened(NAMENODE, root=real.root, direct=True, rewrite=rewrite, operation_timeout=20)
    store.write("file", b"data")
    assert store.read("file") == b"data"
    assert ["op=CREATE" in between.asked[0], "op=OPEN" in between.asked[-1]] == [True, True]


def _datanodes(real: HdfsAddress) -> Iterator[str]:
    """Give the addresses that the NameNode redirects to; it picks one at random, so that 30 are all of a few."""
    with requests.Session() as session:
        session.trust_env = False
        for number in range(30):
            url = f"{NAMENODE}/webhdfs/v1{real.root}/{number}?op=CREATE&user.name=mrq"
            reply = session.put(url, allow_redirects=False, timeout=10)
            yield urlsplit(reply.headers["Location"]).netloc
