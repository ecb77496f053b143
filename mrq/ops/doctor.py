"""What is wrong with a cluster: each finding says what, where, and what to do.

The doctor only looks, but for `Doctor.fix`, which removes files that nobody can need any more. What can't be looked at,
because a server is away or the login may not, is named, and the rest is looked at all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from mrq.config import Settings
from mrq.errors import MrqError
from mrq.monitoring import LocalMonitoring
from mrq.ops.checks import files, jobs, members, queues, servers
from mrq.ops.checks.finding import Finding, Patient, Severity
from mrq.ops.checks.management import Pages

__all__ = ["Diagnosis", "Doctor", "Finding", "Severity"]

Check = Callable[[Patient], Iterable[Finding]]

ZOOKEEPER, HDFS, RABBITMQ, PAGES = servers.ZOOKEEPER, servers.HDFS, servers.RABBITMQ, servers.PAGES

CHECKS: Sequence[tuple[str, Check, tuple[str, ...]]] = (
    ("members", members.missing, (ZOOKEEPER,)),
    ("versions", members.versions, (ZOOKEEPER,)),
    ("jobs", jobs.unreadable, (ZOOKEEPER,)),
    ("jobs' owners", jobs.orphans, (ZOOKEEPER,)),
    ("jobs' progress", jobs.stuck, (ZOOKEEPER,)),
    ("clients' clocks", jobs.clocks, (ZOOKEEPER,)),
    ("left files", files.leftovers, (ZOOKEEPER, HDFS)),
    ("lost files", files.lost, (ZOOKEEPER, HDFS)),
    ("queues", queues.depths, (ZOOKEEPER, RABBITMQ)),
    ("dead letters", queues.dead_letters, (RABBITMQ,)),
    ("orphaned queues", queues.orphans, (PAGES,)),
    ("alarms", queues.alarms, (PAGES,)),
    ("publishing", queues.blocked, (RABBITMQ,)),
    ("servers' clocks", servers.clocks, ()),
)
"""By name, each check and the servers that it asks."""


class Diagnosis(BaseModel):
    """What the doctor found.

    Attributes:
        findings: the worst first.
        unchecked: what could not be looked at, and why.
    """

    model_config = ConfigDict(frozen=True)

    findings: list[Finding]
    unchecked: dict[str, str]


class Doctor:
    """Looks a cluster over.

    Args:
        servers: how to reach its servers.
        settings: where they are.
        now: the local time, in seconds since the epoch.
    """

    def __init__(
        self, servers: LocalMonitoring, settings: Settings, now: Callable[[], float] = time.time
    ) -> None:
        pages = Pages(settings) if settings.rabbitmq_management_url else None
        self._patient = Patient(servers, settings, pages, now())

    def diagnose(self) -> Diagnosis:
        """Look at all there is."""
        findings, unchecked = list(servers.unreachable(self._patient)), {}
        away = {finding.where for finding in findings}
        for name, check, needs in CHECKS:
            if lacks := away.intersection(needs):
                unchecked[name] = f"that takes {' and '.join(sorted(lacks))}"
                continue
            try:
                findings.extend(check(self._patient))
            except MrqError as error:
                unchecked[name] = str(error)
        return Diagnosis(
            findings=sorted(findings, key=lambda f: (f.severity.rank, f.where)), unchecked=unchecked
        )

    def fix(self) -> list[str]:
        """Remove files that nobody can need any more; return their paths.

        These are folders of jobs without a record that nothing was written to for a day, and attempts of jobs that
        ended over an hour ago.
        """
        return files.remove(self._patient)
