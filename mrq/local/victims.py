"""Whom scaling down removes: a pure function of what ZooKeeper and Docker say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A container of a role.

    Attributes:
        id: the container's.
        created: orders containers by age.
        running: whether Docker says that it runs.
        state: what the member has said of itself, or None where none is registered for the container.
        jobs: how many jobs the member has to do with.
    """

    id: str
    created: str
    running: bool = True
    state: str | None = None
    jobs: int = 0

    @property
    def idle(self) -> bool:
        """Whether its end interrupts nothing, as far as is known."""
        return not self.running or self.state in (None, "idle")


def choose_victims(candidates: Iterable[Candidate], keep: int) -> list[Candidate]:
    """Return those that have to go until ``keep`` running ones are left, the first to go first.

    What does not run goes in any case; then those that leave already, those that never registered, the idle, the
    busy with few jobs before the busy with many; the young before the old.
    """
    dead = [candidate for candidate in candidates if not candidate.running]
    alive = [candidate for candidate in candidates if candidate.running]
    alive.sort(key=lambda candidate: candidate.created, reverse=True)
    alive.sort(key=_reluctance)
    return dead + alive[: max(len(alive) - keep, 0)]


def _reluctance(candidate: Candidate) -> tuple[int, int]:
    if candidate.state == "draining":
        return 0, 0
    if candidate.state is None:
        return 1, 0
    return (2 if candidate.idle else 3), candidate.jobs
