"""The systems by name, each in a file of its own that is imported where it runs."""

from __future__ import annotations

from importlib import import_module

from benchmarks.systems.system import System

SYSTEMS = {
    "mrq": "mrq_real",
    "mrq embedded": "mrq_embedded",
    "multiprocessing": "pool",
    "dask": "dask",
    "ray": "ray",
    "spark": "spark",
    "celery": "celery",
}
"""Name -> module."""


def load(name: str) -> System:
    """Return a system that is not started yet.

    Raises:
        ImportError: it is not installed.
    """
    system: System = import_module(f"benchmarks.systems.{SYSTEMS[name]}").SYSTEM()
    return system
