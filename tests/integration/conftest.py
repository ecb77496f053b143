"""The real servers for integration tests: their settings, and a cluster of processes on them."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.errors import MrqError
from mrq.store.address import describe, open_store
from tests.integration.cluster import Cluster, running

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


def own_place() -> dict[str, str]:
    """Return the names of a tree, a folder and queues that nobody else has, as environment variables."""
    place = f"mrq-test-{uuid.uuid4().hex[:8]}"
    return {
        "MRQ_ZOOKEEPER_ROOT": f"/{place}",
        "MRQ_HDFS_ROOT": f"/{place}",
        "MRQ_RABBITMQ_PREFIX": place,
    }


def wipe(settings: Settings) -> None:
    """Remove the test's own tree, folder, queues and exchanges."""
    import requests

    tree = ZooKeeperCoordination(settings)
    for child in tree.children("/"):
        tree.delete(f"/{child}")
    tree.close()
    store = open_store(describe(settings.model_copy(update={"hdfs_root": "/"})))
    store.delete(settings.hdfs_root.strip("/"))
    store.close()
    session = requests.Session()
    session.trust_env = False
    session.auth = (settings.username, settings.password.get_secret_value())
    for kind in ("queues", "exchanges"):
        url = f"{settings.rabbitmq_management_url}/api/{kind}/{settings.rabbitmq_vhost}"
        for thing in session.get(url, timeout=10).json():
            if thing["name"].startswith(settings.rabbitmq_prefix):
                session.delete(f"{url}/{thing['name']}", timeout=10)


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
