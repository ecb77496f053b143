"""What a worker remembers of revoked tasks, and whom it believes."""

from __future__ import annotations

import pytest

from mrq import envelope, known
from mrq.blob import new_key
from mrq.broker.topology import Topology
from mrq.config import Settings
from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.core.model import Phase
from mrq.inbox import Inbox
from mrq.known import KnownJobs
from mrq.registry import Registry
from mrq.wire import Control, TaskMessage

KEY = new_key().hex()
TOPOLOGY = Topology.from_settings(Settings())


@pytest.fixture
def jobs() -> KnownJobs:
    return KnownJobs(Registry(EmbeddedCoordination(EmbeddedTree())), Inbox())


def revoke(jobs: KnownJobs, index: int = 0, epoch: int = 7, key: str = KEY) -> None:
    order = Control(job_id="job_1", order="revoke", task_id=f"job_1/map/{index}", epoch=epoch)
    jobs.revoke(order, envelope.control(TOPOLOGY, order, key))


def task(index: int = 0, epoch: int = 7) -> TaskMessage:
    return TaskMessage(job_id="job_1", phase=Phase.MAP, index=index, epoch=epoch, attempt=1, backup=True)


def test_a_task_that_was_revoked_before_it_came_is_known(jobs: KnownJobs) -> None:
    revoke(jobs)
    assert jobs.is_revoked(task(), KEY)
    assert jobs.is_revoked(task(epoch=6), KEY)
    assert not jobs.is_revoked(task(index=1), KEY)


def test_a_later_owner_s_task_runs(jobs: KnownJobs) -> None:
    """It may not know of a result that was inline."""
    revoke(jobs)
    assert not jobs.is_revoked(task(epoch=8), KEY)


def test_an_order_that_is_not_the_owner_s_revokes_nothing(jobs: KnownJobs) -> None:
    revoke(jobs, epoch=2**40, key=new_key().hex())
    assert not jobs.is_revoked(task(), KEY)


def test_so_many_are_remembered_and_no_more(jobs: KnownJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "REVOKED", 2)
    for index in range(3):
        revoke(jobs, index)
    assert [jobs.is_revoked(task(index), KEY) for index in range(3)] == [False, True, True]
