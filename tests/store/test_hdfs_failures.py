"""What the HDFS store makes of a server's refusals, failures and silence; no server of Hadoop's is needed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mrq.errors import (
    AuthenticationFailed,
    ConfigurationError,
    MrqError,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnavailable,
)
from mrq.store.hdfs import HdfsAddress, HdfsStore

Open = Callable[..., HdfsStore]
DELETED = (200, b'{"boolean": true}')


def remote(exception: str, message: str) -> bytes:
    """An error as HDFS words it."""
    return json.dumps({"RemoteException": {"exception": exception, "message": message}}).encode()


NO_PLACE = (
    "File /f could only be written to 0 of the 1 minReplication nodes. There are %d datanode(s) running."
)


@pytest.mark.parametrize(
    ("code", "body", "error", "says"),
    [
        (403, remote("DSQuotaExceededException", "DiskSpace quota exceeded"), StoreFull, "raise the quota"),
        (500, remote("NSQuotaExceededException", "NameSpace quota exceeded"), StoreFull, "delete old"),
        (500, remote("RemoteException", "IOException: No space left on device"), StoreFull, "delete old"),
        (500, remote("RemoteException", NO_PLACE % 1), StoreFull, "delete old .* start them"),
        (500, remote("RemoteException", NO_PLACE % 0), StoreUnavailable, "no DataNode is there"),
        (500, remote("SafeModeException", "Name node is in safe mode."), StoreUnavailable, "safe mode"),
        (403, remote("RetriableException", "SafeModeException: wait"), StoreUnavailable, "safe mode"),
        (403, remote("StandbyException", "not in state standby"), StoreUnavailable, "Standby"),
        (500, remote("ConnectException", "Connection refused"), StoreUnavailable, "Connection refused"),
        (500, remote("IOException", "what?"), StoreUnavailable, "what"),
        (403, remote("IOException", "what?"), StoreError, "what"),
        (403, remote("AccessControlException", "Permission denied"), AuthenticationFailed, "hdfs_user"),
        (500, remote("AccessControlException", "Permission denied"), AuthenticationFailed, "hdfs_user"),
        (401, b"", AuthenticationFailed, "401"),
        (403, b"<html><title>Forbidden</title></html>", AuthenticationFailed, "Forbidden"),
        (404, b"<html><title>Not Found</title></html>", StoreError, "Not Found.*hdfs_urls"),
        (503, b"", StoreUnavailable, "503"),
        (500, remote("FileAlreadyExistsException", "exists as a directory"), StoreError, "as a directory"),
        (500, b'{"RemoteException": null}', StoreUnavailable, "null"),
        (200, b"<html>hello</html>", StoreError, "hdfs_urls right.*hello"),
        (200, b"{}", StoreError, "hdfs_urls right"),
    ],
)
def test_a_refusal_becomes_an_error_of_ours(
    fake_hdfs: Callable[..., Any], opened: Open, code: int, body: bytes, error: type[MrqError], says: str
) -> None:
    """HDFS's exceptions are told apart by name, whatever the status, and each says what to do."""
    store = opened(fake_hdfs((code, body)).url, operation_timeout=0.5)
    with pytest.raises(error, match=says) as raised:
        store.rename("f", "g")
    assert type(raised.value) is error
    assert "rename 'f to g'" in str(raised.value)


def test_only_the_first_line_of_a_refusal_is_passed_on(fake_hdfs: Callable[..., Any], opened: Open) -> None:
    """A Java stack trace is no use to anybody here."""
    trace = remote("FileNotFoundException", "File does not exist: /f\n\tat x.java")
    store = opened(fake_hdfs((404, trace)).url)
    with pytest.raises(StoreNotFound, match=r"not exist: /f$"):
        store.read("f")


@pytest.mark.parametrize("code", [403, 500])
def test_safe_mode_is_waited_for(fake_hdfs: Callable[..., Any], opened: Open, code: int) -> None:
    """A NameNode that leaves safe mode before the deadline is as good as one that never was in it."""
    safe = (code, remote("SafeModeException", "Cannot delete. Name node is in safe mode."))
    fake = fake_hdfs(safe, safe, DELETED)
    assert opened(fake.url).delete("f")
    assert len(fake.asked) == 3


@pytest.mark.parametrize("bad", [(503, b""), (403, remote("StandbyException", "standby"))], ids=str)
def test_a_gateway_that_fails_is_left_and_the_good_one_remembered(
    fake_hdfs: Callable[..., Any], opened: Open, bad: tuple[int, bytes]
) -> None:
    """The next gateway is asked at once, and stays the one to ask."""
    first, second = fake_hdfs(bad), fake_hdfs(DELETED)
    store = opened(first.url, first.url, second.url)
    assert all(store.delete("f") for _ in range(3))
    assert (len(first.asked), len(second.asked)) == (1, 3)


def test_when_nothing_listens_the_store_is_unavailable_by_the_deadline(
    nowhere: Callable[[], str], opened: Open
) -> None:
    """The error names the operation, the path and every gateway, for an unsent iterable too."""
    one, other = nowhere(), nowhere()
    store = opened(one, other, operation_timeout=1, connect_timeout=0.3)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"write 'f/g'.*{one}, {other}"):
        store.write("f/g", iter([b"data"]))
    assert time.monotonic() - began < 1.5
    with pytest.raises(StoreUnavailable, match="make the folder '/mrq'"):
        store.ping()


def test_a_server_that_never_answers_is_given_up_by_the_deadline(silent: str, opened: Open) -> None:
    """Silence counts as no answer, however often it is met."""
    store = opened(silent, operation_timeout=1)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"read 'f' .* within 1 s"):
        store.read("f")
    assert time.monotonic() - began < 2


def test_a_silent_gateway_is_left_for_the_next(
    silent: str, fake_hdfs: Callable[..., Any], opened: Open
) -> None:
    """A gateway that hangs takes a part of the time, not all of it."""
    assert opened(silent, fake_hdfs(DELETED).url).delete("f")


def test_a_stream_cut_halfway_is_not_begun_again(silent: str, opened: Open) -> None:
    """What an iterable gave is gone: the error says what to do instead."""
    store = opened(silent, operation_timeout=2.5)
    with pytest.raises(StoreUnavailable, match=r"halfway.*as bytes"):
        store.write("f", iter([b"data"]))


def test_a_reply_that_breaks_off_is_not_taken_for_the_file(
    fake_hdfs: Callable[..., Any], opened: Open
) -> None:
    """A part of the bytes is no answer: the read is done again."""
    fake = fake_hdfs((200, b"data"))
    fake.cuts = 2
    assert opened(fake.url).read("f", 0, 4) == b"data"
    assert len(fake.asked) == 3


@pytest.mark.parametrize(("short", "range_"), [(b"", ()), (b"da", ()), (b"d", (1, 3)), (b"", (1, 9))])
def test_an_answer_that_is_short_though_it_says_200_is_not_taken_for_the_file(
    fake_hdfs: Callable[..., Any], opened: Open, short: bytes, range_: tuple[int, ...]
) -> None:
    """HttpFS answers so when no DataNode serves a block: the read is done again."""
    status = 200, json.dumps({"FileStatus": {"length": 4}}).encode()
    full = (200, b"data"[range_[0] :] if range_ else b"data")
    fake = fake_hdfs((200, short), status, (200, short), status, full, status)
    assert opened(fake.url).read("f", *range_) == full[1]
    assert len([line for line in fake.asked if "op=OPEN" in line]) == 3


def test_a_range_beyond_the_end_is_as_short_as_the_file(fake_hdfs: Callable[..., Any], opened: Open) -> None:
    """What is not in the file is not missing."""
    status = 200, json.dumps({"FileStatus": {"length": 4}}).encode()
    assert opened(fake_hdfs((200, b"a"), status).url).read("f", 3, 100) == b"a"
    assert opened(fake_hdfs((200, b""), status).url).read("f", 7) == b""


def test_a_namenode_is_not_taken_for_a_gateway(fake_hdfs: Callable[..., Any], opened: Open) -> None:
    """A redirect means that nothing was written, and that a setting is wrong."""
    with pytest.raises(ConfigurationError, match="hdfs_direct"):
        opened(fake_hdfs((307, b"")).url).write("f", b"data")


def test_a_waiting_call_ends_when_the_store_is_closed(fake_hdfs: Callable[..., Any], opened: Open) -> None:
    """Closing ends other threads' pauses, and they say so."""
    fake = fake_hdfs((503, b""))
    store = opened(fake.url, operation_timeout=60)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            store.delete("f")
        except StoreUnavailable as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    _until(lambda: len(fake.asked) >= 2)
    store.close()
    thread.join(5)
    assert not thread.is_alive()
    assert "closed" in str(errors)


def test_proxies_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, nowhere: Callable[[], str], fake_hdfs: Callable[..., Any], opened: Open
) -> None:
    """No variable sends our data elsewhere."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, nowhere())
    assert opened(fake_hdfs(DELETED).url).delete("f")


@pytest.mark.parametrize(
    "wrong",
    [
        {"urls": ()},
        {"urls": ("127.0.0.1:14000",)},
        {"urls": ("http://one:14000",), "tls": True},
        {"urls": ("http://one:14000",), "root": "relative"},
        {"urls": ("http://one:14000",), "rewrite": "one:9864"},
        {"urls": ("http://one:14000",), "rewrite": "one=two:9864"},
    ],
    ids=str,
)
def test_a_wrong_address_is_a_wrong_setting(wrong: dict[str, Any]) -> None:
    """Nothing is sent to an address that can't be meant so."""
    with pytest.raises(ConfigurationError, match="hdfs"):
        HdfsAddress(**wrong)


def _until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
