"""One request to HDFS: which gateway, by when, with which body, and what its reply means.

`GatewayClient` is hdfs's `InsecureClient` with the parts replaced that a service needs otherwise: it knows
deadlines, leaves a gateway that answers 5xx, creates a file in one round trip through HttpFS, and takes paths
literally.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from hdfs import InsecureClient
from requests.adapters import HTTPAdapter

from mrq.errors import ConfigurationError, StoreError, StoreUnavailable
from mrq.store.address import HdfsAddress
from mrq.store.hdfs.replies import refusal

_CONNECTIONS = 32  # kept alive for each server; more threads than that open more, and close them
_PIECE = 2**20  # bytes handed to a socket at once, and so within one timeout
_LEAST = 1.0  # seconds that a try is given at least, while they last
_CREATED = 201
_HEADERS = {"Content-Type": "application/octet-stream"}  # HttpFS reads no body of another type


class Deadline(threading.local):
    """When this thread's operation has to be over."""

    end = 0.0

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Run an operation against the clock. One may go on within another's iterable."""
        before, self.end = self.end, time.monotonic() + seconds
        try:
            yield
        finally:
            self.end = before

    def share(self, tries: int) -> float:
        """Return how many seconds the next try may wait, so that as many others still get their turn."""
        left = max(self.end - time.monotonic(), 0.01)
        return max(left / (tries + 1), min(left, _LEAST))


class GatewayClient(InsecureClient):  # type: ignore[misc]  # hdfs has no type hints
    """Sends requests to the gateway that answered last, or to the next. Thread-safe.

    One session serves all threads: it keeps no cookies, so that nothing in it changes after the start, and
    urllib3's pools are thread-safe.
    """

    def __init__(self, address: HdfsAddress) -> None:
        self.deadline = Deadline()
        self._direct = address.direct
        # Each once, for hdfs's client loops for ever over duplicates.
        urls = dict.fromkeys(url.rstrip("/") for url in address.urls)
        super().__init__(";".join(urls), user=address.user, root=address.root, session=_session(address))

    def resolve(self, hdfs_path: str) -> str:
        """Return the absolute path, without hdfs's own ``#LATEST``: a file may be called that."""
        return f"{self.root.rstrip('/')}/{hdfs_path}".rstrip("/") or "/"

    def create(self, path: str, data: bytes | Pieces | Once) -> None:
        """Create or replace a file: in one round trip, or with ``direct`` in two, to a DataNode.

        Raises:
            ConfigurationError: a gateway redirects, so that it is none, and nothing is written.
        """
        if self._direct:
            reply = self._create(path, overwrite="true")
            self._request("PUT", reply.headers["Location"], data=data)
        elif self._create(path, data=data, overwrite="true").status_code != _CREATED:
            raise ConfigurationError(f"{self.url} is no HttpFS gateway: set hdfs_direct if it is a NameNode")

    def open(self, path: str, **range_: int) -> bytes:
        """Return a file's bytes; ``offset`` and ``length`` as in WebHDFS."""
        with self._open(path, **range_) as reply:
            content: bytes = reply.raw.read()
        return content

    def close(self) -> None:
        """Close all idle connections."""
        self._session.close()

    def _request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Send one request to one server: what all methods of hdfs's client end in.

        Raises:
            requests.exceptions.RequestException: the next gateway, or the next try, may do better.
            MrqError: HDFS refused.
        """
        params = options.get("params", {})
        if params.get("op") == "CREATE" and options.get("data") is not None:
            params["data"] = "true"
        timeout = self.deadline.share(len(self.urls))
        reply: requests.Response = self._session.request(
            method, url, timeout=timeout, headers=_HEADERS, **options
        )
        if reply.status_code < 400:
            return reply
        with reply:
            raise refusal(reply.status_code, reply.content)


class Pieces:
    """Bytes as a body that is sent piece by piece, so that a socket's timeout is about one piece."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), _PIECE):
            yield bytes(self._data[start : start + _PIECE])


class Once:
    """An iterable as a body of unknown length. What it gives is gone, so it is sent once.

    Attributes:
        length: how many bytes it gave so far.
        error: what the iterable itself raised: not a connection's failure, whatever its type.
    """

    def __init__(self, data: Iterable[bytes]) -> None:
        self._data = data
        self._begun = False
        self.length = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        if self._begun:
            raise StoreUnavailable(
                "the connection was lost halfway, and what an iterable gave can't be had again; "
                "begin anew, or hand the data over as bytes"
            )
        self._begun = True
        try:
            for piece in self._data:
                self.length += len(piece)
                yield piece
        except Exception as error:
            self.error = error
            raise


def field(reply: requests.Response, *names: str) -> Any:
    """Return what a reply's JSON has under these names.

    Raises:
        StoreError: it has no such thing.
    """
    try:
        found = reply.json()
        for name in names:
            found = found[name]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"that was no answer of HDFS: is hdfs_urls right? {reply.text[:100]}") from None
    return found


def _session(address: HdfsAddress) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxies, no .netrc
    session.verify = address.ca_file or True
    session.headers["Accept-Encoding"] = "identity"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    adapter = _Rewriting(address.rewrites()) if address.direct else HTTPAdapter(pool_maxsize=_CONNECTIONS)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Rewriting(HTTPAdapter):
    """Goes elsewhere than a redirect says: a NameNode's names for DataNodes often lead outsiders nowhere."""

    def __init__(self, rewrites: dict[str, str]) -> None:
        super().__init__(pool_maxsize=_CONNECTIONS)
        self._rewrites = rewrites

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        url = urlsplit(request.url or "")
        if there := self._rewrites.get(url.netloc):
            request.url = urlunsplit(url._replace(netloc=there))
        return super().send(request, *args, **options)
