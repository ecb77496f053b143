"""A ZooKeeper's settings with a root of their own, and a network before it that fails when told to."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Iterator

import pytest

from mrq.config import Settings, split_address
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.errors import CoordinationUnavailable


class Proxy:
    """A TCP proxy on loopback, to one server.

    Attributes:
        address: where it listens, as ``host:port``.
        swallow: whether what the server says is thrown away: requests arrive, their replies don't.
    """

    def __init__(self, target: str) -> None:
        self._target = split_address(target)
        self._down = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.swallow = False
        self._start(self._accept)

    def cut(self) -> None:
        """End all connections; new ones are taken."""
        pairs, self._pairs = self._pairs, []
        for side in (side for pair in pairs for side in pair):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def say(self, data: bytes) -> None:
        """Put words into the server's mouth."""
        for client, _ in self._pairs:
            client.sendall(data)

    def down(self) -> None:
        """End all connections, and every new one at once."""
        self._down = True
        self.cut()

    def up(self) -> None:
        """Take connections again."""
        self._down = False

    def close(self) -> None:
        """Stop listening."""
        self.down()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._down:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._pairs.append((client, server))
                self._start(self._pump, client, server, False)
                self._start(self._pump, server, client, True)

    def _pump(self, source: socket.socket, target: socket.socket, reply: bool) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (reply and self.swallow):
                    target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def _start(self, target: object, *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()  # type: ignore[arg-type]  # a bound method


@pytest.fixture
def settings() -> Iterator[Settings]:
    """The real ZooKeeper, by ``MRQ_*``, with a root that is deleted at the end."""
    settings = Settings.load(
        zookeeper_root=f"/mrq-test-{secrets.token_hex(6)}",
        zookeeper_session_timeout=4.0,
        connect_timeout=5.0,
        operation_timeout=20.0,
    )
    try:
        cleaner = ZooKeeperCoordination(settings)
    except CoordinationUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no ZooKeeper: {error}")
    yield settings
    cleaner.delete("/")
    cleaner.close()


@pytest.fixture
def proxy(settings: Settings) -> Iterator[Proxy]:
    """A proxy to the first of the servers."""
    proxy = Proxy(settings.zookeeper_hosts[0])
    yield proxy
    proxy.close()


@pytest.fixture
def proxied(settings: Settings, proxy: Proxy) -> Iterator[ZooKeeperCoordination]:
    """A session that knows the proxy only."""
    coordination = ZooKeeperCoordination(settings.model_copy(update={"zookeeper_hosts": (proxy.address,)}))
    yield coordination
    coordination.close()


@pytest.fixture
def direct(settings: Settings) -> Iterator[ZooKeeperCoordination]:
    """A session that no test disturbs."""
    coordination = ZooKeeperCoordination(settings)
    yield coordination
    coordination.close()
