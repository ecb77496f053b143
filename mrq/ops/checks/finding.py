"""What a check takes, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from mrq.broker.topology import Topology
from mrq.config import Settings
from mrq.errors import AuthenticationFailed, BadMessage
from mrq.monitoring import LocalMonitoring
from mrq.ops.checks.management import Pages
from mrq.records import JobRecord


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"  # jobs fail, wait or hang because of it
    WARNING = "warning"  # they may, soon
    INFO = "info"  # untidy

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


class Finding(BaseModel):
    """One thing that is wrong.

    Attributes:
        what: a sentence.
        where: the server, queue, job or member.
        do: what helps, a command where there is one.
    """

    model_config = ConfigDict(frozen=True)

    severity: Severity
    what: str
    where: str
    do: str


def error(where: str, what: str, do: str) -> Finding:
    """Return a finding of severity ``error``."""
    return Finding(severity=Severity.ERROR, what=what, where=where, do=do)


def warning(where: str, what: str, do: str) -> Finding:
    """Return a finding of severity ``warning``."""
    return Finding(severity=Severity.WARNING, what=what, where=where, do=do)


def info(where: str, what: str, do: str) -> Finding:
    """Return a finding of severity ``info``."""
    return Finding(severity=Severity.INFO, what=what, where=where, do=do)


@dataclass
class Patient:
    """A cluster that is looked over.

    Attributes:
        servers: opens a connection when it is first asked for one.
        settings: where the servers are.
        pages: RabbitMQ's management API, if the settings say where it is.
        now: the local time, in seconds since the epoch.
    """

    servers: LocalMonitoring
    settings: Settings
    pages: Pages | None
    now: float

    @property
    def topology(self) -> Topology:
        """The names of queues."""
        return Topology.from_settings(self.settings)

    @cached_property
    def job_ids(self) -> list[str]:
        """All jobs, oldest first."""
        return self.servers.registry.job_ids()

    @cached_property
    def _read(self) -> tuple[list[JobRecord], dict[str, str]]:
        records, bad = [], {}
        for job_id in self.job_ids:
            try:
                held = self.servers.registry.job(job_id)
            except BadMessage as wrong:
                bad[job_id] = str(wrong)
            except AuthenticationFailed:
                continue  # somebody else's
            else:
                if held is not None:
                    records.append(held.record)
        return records, bad

    @property
    def records(self) -> list[JobRecord]:
        """The jobs' records that can be read."""
        return self._read[0]

    @property
    def unreadable(self) -> dict[str, str]:
        """By job, what is wrong with its record."""
        return self._read[1]

    @property
    def running(self) -> list[JobRecord]:
        """The jobs that have not ended."""
        return [record for record in self.records if not record.state.ended]


def ago(seconds: float) -> str:
    """Return ``40 s``, ``5 min``, ``3 h`` or ``2 days``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
