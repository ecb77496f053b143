"""The real servers for integration tests: their settings, and a cluster of processes on them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.errors import MrqError
from mrq.store.address import describe, open_store
from tests.integration.cluster import Cluster, own_place, running, wipe

MASTERS_AND_WORKERS = {
    "MRQ_ZOOKEEPER_SESSION_TIMEOUT": "4",  # so that a killed master is succeeded soon
    "MRQ_RECONCILE_AFTER": "6",
    "MRQ_DRAIN_TIMEOUT": "10",
}


@pytest.fixture(scope="session")
def servers() -> Settings:
    """The settings of the real servers, or a skip; in CI a server that is missing fails the run."""
    try:
        settings = Settings.load(connect_timeout=10)
        ZooKeeperCoordination(settings).close()
        store = open_store(describe(settings))
        store.status("jobs")
        store.close()
    except MrqError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the real servers are not up (infra/native/up): {error}")
    return settings


@pytest.fixture
def settings(servers: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings with a tree, a folder and queues of the test's own, for this process and those it starts."""
    for name, value in (MASTERS_AND_WORKERS | own_place()).items():
        monkeypatch.setenv(name, value)
    yield Settings.load()
    wipe(Settings.load())


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """A function that starts a cluster; what it leaves over at the end fails the test."""
    before = {thread.ident for thread in threading.enumerate()}
    with ExitStack() as stack:

        def begin(n_masters: int = 1, n_workers: int = 2, **more: str) -> Cluster:
            return stack.enter_context(running(settings, tmp_path, n_masters, n_workers, **more))

        yield begin
    threads = [t for t in threading.enumerate() if t.ident not in before and t.name.startswith("mrq")]
    assert threads == []
