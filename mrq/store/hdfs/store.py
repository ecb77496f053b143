"""The store over HDFS, through HttpFS gateways or directly.

Every operation is tried again, at the next gateway and later, until its deadline: when a connection is
refused or lost, a server is silent or answers 5xx, a NameNode is in standby or in safe mode. All operations
bear that, because repeating any of them does no harm: a rename looks first (see `HdfsStore.rename`), a
write replaces the file. Only an iterable of which a part was sent can't be sent again.

``operation_timeout`` is about waiting: a transfer that goes on may take longer, a silence in it may not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from typing import Any, TypeVar

import tenacity
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from mrq.errors import AuthenticationFailed, MrqError, StoreError, StoreNotFound, StoreUnavailable
from mrq.ports import FileStatus
from mrq.store.address import HdfsAddress
from mrq.store.hdfs.client import GatewayClient, Once, Pieces, field
from mrq.store.hdfs.replies import PastTheEnd, TryAgain
from mrq.store.paths import checked, parent
from mrq.store.paths import name as last_name

_T = TypeVar("_T")
_FAILURES = (RequestException, HTTPError)
_PAUSE = tenacity.wait_random_exponential(
    multiplier=0.05, max=2.0
)  # seconds between tries, at random from 0 up
_ONE_SEND = 2**20  # bytes up to which a body is sent as it is


class HdfsStore:
    """A `mrq.ports.Store` over HDFS. Thread-safe; nothing is sent before the first operation.

    Args:
        address: where HDFS is, who we are, and how long we wait.
    """

    def __init__(self, address: HdfsAddress) -> None:
        self.address = address
        self._client = GatewayClient(address)
        self._closed = threading.Event()

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """See `mrq.ports.Store.write`. An iterable is sent as it comes, never held as a whole.

        It must not pause for a minute: HttpFS then drops the connection (``hadoop.http.idle_timeout.ms``).

        Raises:
            StoreUnavailable: also when the connection was lost after a part of an iterable was sent.
        """
        checked(path)
        if not isinstance(data, bytes):
            return self._write_once(path, Once(data))
        body = data if len(data) <= _ONE_SEND else Pieces(data)
        self._do("write", path, lambda: self._client.create(path, body))
        return len(data)

    def _write_once(self, path: str, body: Once) -> int:
        try:
            self._do("write", path, lambda: self._client.create(path, body))
        except MrqError:
            if body.error:
                raise body.error from None
            raise
        return body.length

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `mrq.ports.Store.read`."""
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"offset {offset} and length {length} can't be negative")
        checked(path)
        return self._do("read", path, lambda: self._read(path, offset, length))

    def _read(self, path: str, offset: int, length: int | None) -> bytes:
        """Read once, and see that nothing is missing.

        When HttpFS loses the DataNodes of a block it answers 200 all the same, with what it has so far, or nothing
        (``InputStreamEntity.write`` closes the reply on its way out); so an answer that is short is looked into.
        """
        range_ = {"offset": offset} | ({} if length is None else {"length": length})
        try:
            data = self._client.open(path, **range_)
        except PastTheEnd:
            return b""
        if length is None or len(data) < length:
            whole = max(0, field(self._client._get_file_status(path), "FileStatus", "length") - offset)
            wanted = whole if length is None else min(length, whole)
            if len(data) < wanted:
                raise TryAgain(f"HDFS gave {len(data)} of {wanted} bytes: no DataNode serves the rest")
        return data

    def rename(self, source: str, target: str) -> bool:
        """See `mrq.ports.Store.rename`; for files only.

        HDFS moves *into* a folder that has the target's name, so the target is looked at first. That also
        settles a try whose reply was lost: the source gone and the target there means that it is ours.
        """
        checked(source), checked(target)
        return self._do("rename", f"{source} to {target}", lambda: self._rename(source, target))

    def _rename(self, source: str, target: str) -> bool:
        there = self._status(target)
        if not there:
            if self._move(source, target):
                return True
            there = self._status(target)
        if there and there.is_dir:
            raise StoreError("a folder is there")
        if there:
            return source != target and not self._status(source)
        if not self._status(source):
            raise StoreNotFound("neither is there")
        self._client._mkdirs(parent(target))
        if self._move(source, target):
            return True
        raise TryAgain("HDFS did not move it, though the source is there and the target is free")

    def _move(self, source: str, target: str) -> bool:
        return bool(field(self._client._rename(source, destination=self._client.resolve(target)), "boolean"))

    def status(self, path: str) -> FileStatus | None:
        """See `mrq.ports.Store.status`; the root's path is ``""``."""
        checked(path, root=True)
        return self._do("look at", path, lambda: self._status(path))

    def _status(self, path: str) -> FileStatus | None:
        try:
            return _entry(last_name(path), field(self._client._get_file_status(path), "FileStatus"))
        except StoreNotFound:
            return None

    def list(self, path: str) -> list[FileStatus]:
        """See `mrq.ports.Store.list`."""
        checked(path, root=True)
        return sorted(self._do("list", path, lambda: self._entries(path)), key=lambda entry: entry.name)

    def _entries(self, path: str) -> Iterable[FileStatus]:
        try:
            found = field(self._client._list_status(path), "FileStatuses", "FileStatus")
        except StoreNotFound:
            return ()
        if len(found) == 1 and not found[0]["pathSuffix"]:
            raise StoreError("it is a file")
        return [_entry(each["pathSuffix"], each) for each in found]

    def make_dirs(self, path: str) -> None:
        """See `mrq.ports.Store.make_dirs`."""
        checked(path, root=True)
        self._do("make the folder", path, lambda: self._client._mkdirs(path))

    def delete(self, path: str) -> bool:
        """See `mrq.ports.Store.delete`; ``""`` removes the store's root."""
        checked(path, root=True)
        return self._do("delete", path, lambda: self._delete(path))

    def _delete(self, path: str) -> bool:
        try:
            return bool(field(self._client._delete(path, recursive="true"), "boolean"))
        except StoreNotFound:
            return False

    def ping(self) -> None:
        """Make the store's root, to find out by ``connect_timeout`` whether HDFS answers and lets us in.

        Raises:
            StoreUnavailable: it does not answer, or still is in safe mode.
            AuthenticationFailed: it does not let this user in.
        """
        root, seconds = self.address.root, self.address.connect_timeout
        self._do("make the folder", root, lambda: self._client._mkdirs(""), seconds)

    def close(self) -> None:
        """See `mrq.ports.Store.close`; who waits for a reply notices when it comes."""
        self._closed.set()
        self._client.close()

    def _do(self, action: str, path: str, operation: Callable[[], _T], seconds: float | None = None) -> _T:
        """Try an operation until it succeeds, is refused, or has no time left."""
        seconds = seconds or self.address.operation_timeout
        failures: list[Exception] = []
        retrying = tenacity.Retrying(
            sleep=self._pause,
            stop=tenacity.stop_before_delay(seconds),
            wait=_PAUSE,
            retry=tenacity.retry_if_exception_type(_FAILURES),
        )
        what = f"can't {action} {path!r} in HDFS"
        with self._client.deadline.within(seconds):
            try:
                answer: _T = retrying(self._once, operation, failures)
            except tenacity.RetryError:
                raise self._given_up(what, seconds, failures) from failures[-1]
            except (StoreError, StoreUnavailable, AuthenticationFailed) as error:
                raise type(error)(f"{what}: {error}") from error
        return answer

    def _once(self, operation: Callable[[], _T], failures: MutableSequence[Exception]) -> _T:
        if self._closed.is_set():
            raise StoreUnavailable("the store was closed: open a new one")
        try:
            return operation()
        except _FAILURES as error:
            failures.append(error)
            raise

    def _pause(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def _given_up(self, what: str, seconds: float, failures: Sequence[Exception]) -> MrqError:
        """Say why: the last try has little time, so what a server said just before it tells more than a timeout."""
        said = [error for error in failures[-2:] if isinstance(error, TryAgain)]
        kind = said[-1].last if said else StoreUnavailable
        why, asked = (said or failures)[-1], ", ".join(self.address.urls)
        return kind(f"{what} within {seconds:g} s: {why} (asked {asked}; tries: {len(failures)})")


def _entry(name: str, found: dict[str, Any]) -> FileStatus:
    is_dir = found["type"] == "DIRECTORY"
    return FileStatus(name, 0 if is_dir else found["length"], is_dir, found.get("modificationTime", 0) / 1000)
