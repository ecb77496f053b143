"""Jobs: without an owner, without progress, with a record that can't be read, with another clock."""

from __future__ import annotations

from collections.abc import Iterator

from mrq.ops.checks.finding import Finding, Patient, ago, error, warning
from mrq.ops.checks.servers import SKEW

STILL = 600.0
"""Seconds without a change after which a job is named."""


def unreadable(patient: Patient) -> Iterator[Finding]:
    """Name jobs whose record is none."""
    for job_id, why in patient.unreadable.items():
        yield error(
            job_id,
            f"{why}: no master takes it",
            f"find out who wrote /jobs/{job_id} below {patient.settings.zookeeper_root}; delete that znode",
        )


def orphans(patient: Patient) -> Iterator[Finding]:
    """Name jobs that no master owns although there are masters."""
    registry = patient.servers.registry
    masters = registry.members("masters")
    patience = max(patient.settings.zookeeper_session_timeout, 3 * patient.settings.poll_interval)
    for record in patient.running:
        owner = registry.owner(record.job_id)
        if masters and owner is None and patient.now - record.submitted_at > patience:
            yield error(
                record.job_id,
                f"no master owns it, {ago(patient.now - record.submitted_at)} after it was submitted",
                f"look for {record.job_id} in the masters' logs; restart a master if it names no reason",
            )
        elif owner is not None and owner not in masters:
            yield warning(
                record.job_id,
                f"its owner {owner} is not registered as a master",
                f"see whether {owner} still runs; its claim ends with its session",
            )


def stuck(patient: Patient) -> Iterator[Finding]:
    """Name jobs of which nothing was written for long."""
    for record in patient.running:
        still = max(STILL, 2 * (record.task_timeout or 0.0))
        nodes = patient.servers.registry.nodes(record.job_id).values()
        last = max((node.modified for node in nodes), default=0.0) or record.submitted_at
        if patient.now - last > still:
            yield warning(
                record.job_id,
                f"nothing has come of it for {ago(patient.now - last)}",
                f"a task may take that long; see which: mrq explain {record.job_id}",
            )


def clocks(patient: Patient) -> Iterator[Finding]:
    """Compare the clocks of those who submitted jobs with ZooKeeper's, which dated the record."""
    for record in patient.records:
        node = patient.servers.registry.nodes(record.job_id).get("")
        if node is None or not node.created:
            continue
        ahead = record.submitted_at - node.created
        if abs(ahead) > SKEW:
            yield warning(
                f"client {record.client}",
                f"its clock was {ago(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} ZooKeeper's "
                f"when it submitted {record.job_id}",
                "run an NTP client on both machines",
            )
