"""How the services of a cluster are, in words: what the display shows, and what the errors quote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """Of a container or a service; the worst of a service's containers counts."""

    READY = "ready"
    STARTING = "starting"
    UNHEALTHY = "unhealthy"
    ENDED = "ended"
    ABSENT = "absent"


_ORDER = list(Health)


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """A service as Docker sees it.

    Attributes:
        service: its name in the compose file.
        health: of its worst container.
        ready: how many containers are ready.
        total: how many there are.
    """

    service: str
    health: Health
    ready: int
    total: int

    def __str__(self) -> str:
        count = f" {self.ready}/{self.total}" if self.total > 1 else ""
        return f"{self.service}{count} {self.health.value}"


def health_of(status: str, health: str | None) -> Health:
    """Translate Docker's state of a container and of its health check.

    Args:
        status: ``created``, ``running``, ``restarting``, ``paused``, ``exited``, ``dead`` or ``removing``.
        health: ``starting``, ``healthy``, ``unhealthy``, or None without a health check.
    """
    if status in ("exited", "dead", "removing"):
        return Health.ENDED
    if status != "running":
        return Health.STARTING
    match health:
        case None | "" | "none" | "healthy":
            return Health.READY
        case "unhealthy":
            return Health.UNHEALTHY
        case _:
            return Health.STARTING


def summarize(service: str, containers: Iterable[Health]) -> ServiceHealth:
    """Put the containers of one service together."""
    seen = list(containers)
    worst = max(seen, key=_ORDER.index, default=Health.ABSENT)
    return ServiceHealth(service, worst, seen.count(Health.READY), len(seen))


def line(services: Iterable[ServiceHealth]) -> str:
    """Say how far a start is, in one line, as in ``3/5 ready; waiting for namenode (starting)``."""
    seen = list(services)
    missing = [service for service in seen if service.health is not Health.READY]
    ready = f"{len(seen) - len(missing)}/{len(seen)} services ready"
    if not missing:
        return ready
    return f"{ready}; waiting for " + ", ".join(f"{one.service} ({one.health.value})" for one in missing)


def blamed(services: Iterable[ServiceHealth]) -> ServiceHealth | None:
    """Return the service that a start fails for: the worst, and of the equally bad the first."""
    seen = [service for service in services if service.health is not Health.READY]
    rank = [Health.STARTING, Health.ABSENT, Health.UNHEALTHY, Health.ENDED]
    return max(seen, key=lambda service: rank.index(service.health), default=None)
