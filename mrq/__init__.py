"""MapReduce over RabbitMQ, ZooKeeper and HDFS, with plain Python functions and plain futures.

    with mrq.Client() as client:                       # or mrq.EmbeddedCluster(): no servers
        future = client.mapreduce(data, map_func, reduce_func, requested_n_workers=4)
        future.result()                                # [(key, y), ...] sorted by key

A job's journey, forward through the files:

    submit.py       cuts the data (inputs.py), packs the functions (code.py), uploads both, writes the job's record
    registry.py     keeps the record in ZooKeeper, where a master sees and claims it
    master.py       turns what happens into events for core/job.py, and its commands into acts (performer.py)
    broker/         carries the tasks to the workers, and their reports back
    worker.py       takes a task, hands it to a child process, reports, acks
    executor/       runs the user's functions in warm children (phases.py: map, shuffle, reduce)
    segment.py      is the format of every data file; store/ puts it into HDFS
    following.py    resolves the future (future.py) once results.py has read the result by its manifest
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrq.config import Settings
    from mrq.connect import Client
    from mrq.embedded import EmbeddedCluster
    from mrq.future import JobFuture, Printed, Progress, Skipped
    from mrq.local import Auth, LocalCluster
    from mrq.monitoring import LocalMonitoring

__version__ = "0.1.0"
__all__ = [
    "Auth",
    "Client",
    "EmbeddedCluster",
    "JobFuture",
    "LocalCluster",
    "LocalMonitoring",
    "Printed",
    "Progress",
    "Settings",
    "Skipped",
    "__version__",
]

_HOMES = {
    "Auth": "mrq.local",
    "Client": "mrq.connect",
    "EmbeddedCluster": "mrq.embedded",
    "JobFuture": "mrq.future",
    "LocalCluster": "mrq.local",
    "LocalMonitoring": "mrq.monitoring",
    "Printed": "mrq.future",
    "Progress": "mrq.future",
    "Settings": "mrq.config",
    "Skipped": "mrq.future",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import mrq`` costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mrq' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
