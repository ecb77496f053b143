"""A campaign on native servers: whatever breaks, every job ends, with the right result."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign
from tests.chaos.faults import FAULTS
from tests.chaos.stage import Stage
from tests.chaos.strikes import full_disk
from tests.chaos.table import TABLE, draw_table
from tests.chaos.traffic import Traffic

LEAST_JOBS = 20


@pytest.mark.real
def test_every_job_ends_right_whatever_breaks(
    stage: Stage, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    number, seed = pytestconfig.getoption("--faults"), pytestconfig.getoption("--seed")
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")
    story = (tmp_path / "story").open("w", buffering=1)
    traffic = Traffic(stage.client, stage, seed)
    faults = [fault for fault in FAULTS if fault.strike is not full_disk or os.path.ismount(stage.disk)]

    def say(line: str) -> None:
        story.write(f"{line}\n")
        (reporter.write_line if pytestconfig.getoption("verbose") else print)(line)

    campaign = Campaign(stage, faults, traffic, seed, say)
    traffic.begin()
    try:
        campaign.run(number)
    finally:
        traffic.end()
        story.close()
    verdicts = Counter(run.verdict for run in traffic.runs)
    pytestconfig.stash[TABLE].extend(
        [f"seed {seed}: {number} faults, {len(traffic.runs)} jobs: {dict(verdicts)}; "
         f"{traffic.refused} submissions refused", *draw_table(campaign.rows)]
    )  # fmt: skip
    assert [run.story for run in traffic.runs if run.verdict != "right"] == []
    assert campaign.unrecovered == []
    assert sum(row.times for row in campaign.rows.values()) == number
    assert len(traffic.runs) >= LEAST_JOBS
    assert number < len(faults) or all(row.times for row in campaign.rows.values())
    stage.end()
