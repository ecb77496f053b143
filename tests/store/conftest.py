"""Servers that refuse, hang, lose replies or answer with errors, for the HDFS store to meet."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

from mrq.store.hdfs import HdfsAddress, HdfsStore


class FakeHdfs(ThreadingHTTPServer):
    """Answers by a script: each reply but the last is given once."""

    daemon_threads = True

    def __init__(self, *replies: tuple[int, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.replies = list(replies)
        self.asked: list[str] = []
        self.cuts = 0  # so many replies end before their length is reached

    def next_reply(self, line: str) -> tuple[int, bytes]:
        """Note the request; return what the script says."""
        self.asked.append(line)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        assert isinstance(self.server, FakeHdfs)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        code, body = self.server.next_reply(self.requestline)
        cut = self.server.cuts > 0
        self.server.cuts -= 1
        self.close_connection = cut
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) + cut))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = do_PUT

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


class Proxy(FakeHdfs):
    """Hands requests on to a real server; `loses` says of which the reply is dropped, with the connection."""

    def __init__(self, upstream: str, loses: Callable[[str], bool] = lambda line: False) -> None:
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), _Forward)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.upstream, self.loses = upstream, loses
        self.asked = []


class _Forward(_Answer):
    def do_PUT(self) -> None:
        server = self.server
        assert isinstance(server, Proxy)
        server.asked.append(self.requestline)
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = {"Content-Type": "application/octet-stream"}
        with closing(HTTPConnection(server.upstream.removeprefix("http://"), timeout=20)) as connection:
            connection.request(self.command, self.path, data or None, kind)
            reply = connection.getresponse()
            body = reply.read()
        if server.loses(self.requestline):
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = do_PUT


@pytest.fixture
def opened() -> Iterator[Callable[..., HdfsStore]]:
    """Open stores at some URLs, with little patience."""
    with ExitStack() as stack:

        def opened(*urls: str, **fields: Any) -> HdfsStore:
            patience: dict[str, Any] = {"operation_timeout": 2.0, "connect_timeout": 1.0}
            return stack.enter_context(closing(HdfsStore(HdfsAddress(urls, **(patience | fields)))))

        yield opened


@pytest.fixture
def fake_hdfs() -> Iterator[Callable[..., FakeHdfs]]:
    """Start servers that give scripted replies."""
    with ExitStack() as stack:
        yield lambda *replies: stack.enter_context(FakeHdfs(*replies))


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    """Start proxies that may lose replies."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(Proxy(*arguments))


@pytest.fixture
def nowhere() -> Iterator[Callable[[], str]]:
    """Give URLs at which nothing listens."""
    with ExitStack() as stack:

        def nowhere() -> str:
            kept = stack.enter_context(socket.socket())
            kept.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{kept.getsockname()[1]}"

        yield nowhere


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
