"""Embedded parts with jobs made by hand, and jobs that ran embedded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.broker.embedded import EmbeddedBroker, EmbeddedBrokerServer
from mrq.config import Settings
from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.core.model import JobState
from mrq.membership import PYTHON
from mrq.records import JobRecord, MemberInfo
from mrq.registry import Registry
from mrq.store.folder import FolderStore


class Parts:
    """A registry, a store and a broker, without anybody who works.

    Args:
        folder: for the store.
    """

    key = "5ec2e75e" * 8

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(operation_timeout=2.0, rabbitmq_management_url=None)
        self.tree = EmbeddedTree()
        self.registry = Registry(EmbeddedCoordination(self.tree))
        self.store = FolderStore(folder)
        self.folder = folder
        self.server = EmbeddedBrokerServer(self.settings)
        self.broker = EmbeddedBroker(self.server)
        self.topology = self.broker.topology

    def add_job(self, number: int = 0, state: JobState = JobState.MAP, **more: Any) -> JobRecord:
        """Have a job with its files."""
        fields: dict[str, Any] = {
            "job_id": f"job_{number}", "key": self.key, "n_map": 4, "n_reduce": 2, "python": PYTHON,
            "mrq": mrq.__version__, "state": state, "epoch": 7, "submitted_at": time.time(), "client": "c-1",
        }  # fmt: skip
        record = JobRecord(**(fields | more))
        self.registry.submit(record)
        for name in ("code", "input", *(["manifest"] if state is JobState.COMPLETED else [])):
            self.store.write(f"jobs/{record.job_id}/{name}", b"x")
        return record

    def add_member(self, role: Any, name: str, **more: Any) -> None:
        """Register a master or worker; it lives as long as the registry's session."""
        fields: dict[str, Any] = {
            "hostname": "h", "pid": 1, "python": PYTHON, "mrq": mrq.__version__, "slots": 1, "state": "idle",
        }  # fmt: skip
        self.registry.register(role, name, MemberInfo(**(fields | more)))

    def close(self) -> None:
        self.broker.close()
        self.registry.tree.close()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path / "store")
    yield parts
    parts.close()


def eventually(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Return what the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return value
