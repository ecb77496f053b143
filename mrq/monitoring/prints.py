"""The sections of `print_zoo` and the tree of `print_hdfs`, as the system that mrq follows prints them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrq.monitoring.views import Queue, Zoo


def zoo(seen: Zoo) -> None:
    """Print all sections."""
    _section("----------------- Zoo Masters -----------------", "Master", seen.masters)
    _section("----------------- Zoo Workers -----------------", "Worker", seen.workers)
    _section("----------------- Zoo Map Tasks -----------------", "Task", seen.map_tasks)
    _section("----------------- Zoo Shuffle Tasks -----------------", "Task", seen.shuffle_tasks)
    _section("----------------- Zoo Reduce Tasks -----------------", "Task", seen.reduce_tasks)
    _section("----------------- Zoo Jobs ---------------------", "Job", seen.jobs)
    _section("\n------------- Dead Worker Tasks ---------------------", "Task", seen.dead_worker_tasks)


def _section(title: str, what: str, entries: Mapping[str, Any]) -> None:
    print(f"\n{title}")
    for name, entry in entries.items():
        print(f"{what} {name} :  {entry!r}")


def queues(seen: Mapping[str, Queue]) -> None:
    """Print each queue."""
    _section("----------------- Queues -----------------", "Queue", seen)


def tree(files: Mapping[str, Any], indent: str = "") -> None:
    """Print names, folders with a trailing slash and what is in them below."""
    for name, inside in files.items():
        print(f"{indent}{name}")
        if isinstance(inside, dict):
            tree(inside, indent + "  ")
