"""What befalls masters and members: a storm of events, death in the act of committing, reports that never come."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from mrq import layout
from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.core.model import JobState, Phase
from mrq.registry import Registry
from tests.integration.cluster import Cluster, eventually
from tests.jobs import Gate, add_up, count_characters, plain, random_strings

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

Start = Callable[..., Cluster]
DATA = random_strings(100)
EXPECTED = plain(DATA, count_characters, add_up)


@contextmanager
def storm(settings: Settings) -> Iterator[list[int]]:
    """Make and remove nodes beside the jobs, and members, as fast as ZooKeeper takes it; gives how many so far."""
    tree, over, made = ZooKeeperCoordination(settings), threading.Event(), [0]
    registry = Registry(tree)
    worker = next(iter(registry.members("workers").values()))

    def blow() -> None:
        for number in cycle(range(10)):
            if over.is_set():
                return
            tree.create(f"/jobs/job_{9000 + number}", b"", ephemeral=True)
            registry.register("workers", f"storm-{number}", worker)
            tree.delete(f"/jobs/job_{9000 + number}")
            tree.delete(f"/workers/storm-{number}")
            made[0] += 4

    thread = threading.Thread(target=blow)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        thread.join()
        tree.close()


def test_a_storm_of_events_during_a_takeover_holds_nobody_up(start: Start, tmp_path: Path) -> None:
    """Ten jobs change hands while jobs and members come and go by the hundred; all end exactly."""
    cluster, gate = start(n_masters=1, n_workers=2), Gate(tmp_path)

    def map_func(strings: list[str]) -> Any:
        gate.wait("map")
        return count_characters(strings)

    futures = [cluster.client.mapreduce(DATA, map_func, add_up, 2, n_reducers=1) for _ in range(10)]
    owners = lambda: {cluster.registry.owner(future.job_id) for future in futures}  # noqa: E731  # read again and again
    eventually(lambda: owners() == {"master-0"}, "one master owns all")
    cluster.start(n_masters=1, n_workers=0)
    with storm(cluster.settings) as made:
        eventually(lambda: made[0] > 100, "there is a storm")
        cluster.kill("master-0")
        eventually(lambda: owners() == {"master-1"}, "the other master owns all")
        assert made[0] > 500
        gate.open("map")
        assert futures[0].result(60) == EXPECTED
    assert all(future.result(120) == EXPECTED for future in futures)


def test_members_whose_sessions_expired_are_back_within_5_seconds(start: Start) -> None:
    """Stopped until ZooKeeper has given them up; each registers anew, in a new session, and takes jobs again."""
    cluster = start(n_masters=1, n_workers=2)

    def members() -> set[str]:
        return {*cluster.registry.members("masters"), *cluster.registry.members("workers")}

    for name in cluster.processes:
        cluster.kill(name, signal.SIGSTOP)
    eventually(lambda: not members(), "all sessions have expired")
    for name in cluster.processes:
        cluster.kill(name, signal.SIGCONT)
    eventually(lambda: members() == set(cluster.processes), "all are back", 5)
    assert cluster.client.mapreduce(DATA, count_characters, add_up, 2).result(60) == EXPECTED


DIES_IN_COMMIT = """
import os, signal, sys
from mrq.cli import main
from mrq.store.hdfs import HdfsStore

rename = HdfsStore.rename

def rename_and_die(store, source, target):
    dies = target.endswith("/manifest")
    if dies and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    won = rename(store, source, target)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return won

HdfsStore.rename = rename_and_die
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_master_that_dies_as_it_commits_a_job_is_succeeded(start: Start, before: bool) -> None:
    """Killed right before, or right after, the manifest is in its place: no result until another master says so."""
    cluster = start(n_masters=0, n_workers=2, MRQ_INLINE_BYTES="0")
    doomed = cluster.start_one("master", "doomed", ("-c", DIES_IN_COMMIT.format(before=before)))
    cluster.wait_registered()
    client, store = cluster.client, cluster.client._store
    future = client.mapreduce(DATA, count_characters, add_up, 3, n_reducers=2)
    eventually(lambda: cluster.processes[doomed].poll() == -signal.SIGKILL, "it died")
    assert len(store.list(layout.results(future.job_id, Phase.REDUCE))) == 2
    assert (store.status(layout.manifest(future.job_id)) is None) == before
    assert cluster.registry.require(future.job_id).record.state is JobState.REDUCE
    assert not future.done()
    cluster.start(n_masters=1, n_workers=0)
    assert future.result(60) == EXPECTED
    assert store.list(layout.attempts(future.job_id)) == []


SAYS_NOTHING = """
import dataclasses, sys
from mrq import envelope
from mrq.cli import main

report = envelope.report
envelope.report = lambda *of: dataclasses.replace(report(*of), routing_key="nobody")
sys.exit(main(sys.argv[1:]))
"""


def test_a_job_ends_although_no_report_ever_comes(start: Start) -> None:
    """What is committed is found in the store, phase by phase."""
    cluster = start(n_masters=1, n_workers=0, MRQ_RECONCILE_AFTER="3")
    for _ in range(2):
        cluster.start_one("worker", program=("-c", SAYS_NOTHING))
    cluster.wait_registered()
    future = cluster.client.mapreduce(DATA, count_characters, add_up, 4, n_reducers=2)
    assert future.result(120) == EXPECTED
    assert all(
        row.worker == "" for page in cluster.registry.pages(future.job_id, Phase.MAP) for row in page.rows
    )
