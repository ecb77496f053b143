"""How far jobs are, by a way that no fault is in but those of ZooKeeper itself."""

from __future__ import annotations

from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.errors import MrqError
from mrq.registry import Registry


class Watcher:
    """Looks at what masters show of their jobs.

    Args:
        settings: of the servers.
    """

    def __init__(self, settings: Settings) -> None:
        hasty = settings.model_copy(update={"operation_timeout": 2.0})
        self._tree = ZooKeeperCoordination(hasty, outlives_sessions=True)
        self._registry = Registry(self._tree)

    def committed(self, job_id: str) -> int:
        """Return how many of a job's tasks are committed, as shown last; 0 if nobody says."""
        try:
            return sum(phase.done for phase in self._registry.progress(job_id).phases.values())
        except MrqError:
            return 0

    def members(self, role: str) -> list[str]:
        """Return the names of the masters or workers that are registered; none if nobody says."""
        try:
            return list(self._registry.members("masters" if role == "master" else "workers"))
        except MrqError:
            return []

    def close(self) -> None:
        """Look no more."""
        self._tree.close()
