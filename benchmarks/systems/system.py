"""`System`: what a system must do to be measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

from benchmarks.workloads import Job, Pairs

N_WORKERS = 2
"""Each system gets the machine's two cores: so many workers of one task at a time."""


class System(ABC):
    """A system on this machine, with `N_WORKERS` workers; it listens on loopback only."""

    @abstractmethod
    def start(self) -> str:
        """Start it, and return its version; whatever is raised says why it can't be measured here."""

    @abstractmethod
    def mapreduce(self, job: Job) -> Pairs:
        """Run one job, from plain data to a plain result, sorted by key."""

    @abstractmethod
    def no_ops(self, job: Job) -> int:
        """Run the job's ``map_func`` on each element in a task of its own; return how many tasks have ended."""

    @abstractmethod
    def stop(self) -> None:
        """End all that `start` began."""

    def at_once(self, job: Job, n: int) -> list[Pairs]:
        """Run a job n times at once."""
        with ThreadPoolExecutor(n) as threads:
            return list(threads.map(self.mapreduce, [job] * n))
