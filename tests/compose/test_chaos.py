"""A campaign on the compose network: containers are killed, paused, restarted and cut off while jobs run."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.chaos.campaign import Campaign
from tests.chaos.containers import CONTAINERS, ComposeStage
from tests.chaos.table import draw_table
from tests.chaos.traffic import Traffic
from tests.compose.network import Network

FAULTS = len(CONTAINERS)
SEED = 1


@pytest.fixture
def stage(images: None) -> Iterator[ComposeStage]:
    """A network of its own, whose dead masters are succeeded soon."""
    soon = {"MRQ_ZOOKEEPER_SESSION_TIMEOUT": "4", "MRQ_RECONCILE_AFTER": "6"}
    network = Network(f"mrq-chaos-{secrets.token_hex(4)}", **soon)
    try:
        network.up(master=2, worker=3)
        stage = ComposeStage(network)
        yield stage
        stage.close()
    finally:
        network.down()
    assert network.leftovers() == []


@pytest.mark.timeout(1800)
def test_every_job_ends_right_whatever_happens_to_containers(stage: ComposeStage, figures: list[str]) -> None:
    traffic = Traffic(stage.client, stage, SEED)
    campaign = Campaign(stage, CONTAINERS, traffic, SEED, print)
    traffic.begin()
    try:
        campaign.run(FAULTS)
    finally:
        traffic.end()
    verdicts = Counter(run.verdict for run in traffic.runs)
    figures += [
        f"chaos: {FAULTS} faults, {len(traffic.runs)} jobs: {dict(verdicts)}", *draw_table(campaign.rows)
    ]  # fmt: skip
    assert [run.story for run in traffic.runs if run.verdict != "right"] == []
    assert campaign.unrecovered == []
    assert all(row.times for row in campaign.rows.values())
