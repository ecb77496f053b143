"""What the tests of the command share."""

import logging
import os
import socket
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests are not the tests'."""
    for name in [name for name in os.environ if name.startswith("MRQ_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def nobody() -> Iterator[list[str]]:
    """Options that point at ports where nothing listens: they are bound, so that nobody else gets them."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        settings = [f"rabbitmq_hosts={address}", f"zookeeper_hosts={address}", f"hdfs_urls=http://{address}"]
        settings += ["connect_timeout=0.5", "operation_timeout=0.5"]
        yield [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(autouse=True)
def same_loggers_afterwards() -> Iterator[None]:
    """The command sets up its process's logging; pytest's is to survive."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
