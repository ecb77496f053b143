"""The views as rich tables, for `mrq status` and `mrq jobs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.table import Table

from mrq.core.model import PHASES
from mrq.monitoring.views import Job, MasterInfo, PhaseView, Queue, Status, WorkerInfo


def render(status: Status) -> list[Table]:
    """Return a table for each kind of thing whose server answered."""
    tables = []
    if "ZooKeeper" not in status.missing:
        tables += [masters(status.masters), workers(status.workers), jobs(status.jobs)]
    if "RabbitMQ" not in status.missing:
        tables.append(queues(status.queues))
    return tables


def masters(found: Mapping[str, MasterInfo]) -> Table:
    """Return a table of masters."""
    table = _table("Masters", "name", "state", "jobs", "host", "pid", "python", "mrq")
    for name, m in found.items():
        table.add_row(name, m.state, str(m.jobs), m.hostname, str(m.pid), m.python, m.mrq)
    return table


def workers(found: Mapping[str, WorkerInfo]) -> Table:
    """Return a table of workers."""
    table = _table("Workers", "name", "state", "jobs", "slots", "host", "pid", "python", "mrq")
    for name, w in found.items():
        table.add_row(name, w.state, str(w.jobs), str(w.slots), w.hostname, str(w.pid), w.python, w.mrq)
    return table


def jobs(found: Iterable[Job]) -> Table:
    """Return a table of jobs."""
    phases = [phase.value for phase in PHASES]
    table = _table("Jobs", "job", "state", "owner", *phases, "age", "took", "client", "failure")
    for job in found:
        counts = [_share(job.phases.get(phase)) for phase in phases]
        took = _duration(job.seconds)
        table.add_row(
            job.job_id, job.state, job.owner or "", *counts, _duration(job.age), took, job.client, job.failure
        )
    return table


def queues(found: Mapping[str, Queue]) -> Table:
    """Return a table of queues."""
    table = _table("Queues", "queue", "ready", "unacked", "consumers")
    for name, queue in found.items():
        table.add_row(name, *(_count(n) for n in (queue.ready, queue.unacked, queue.consumers)))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _share(phase: PhaseView | None) -> str:
    return f"{phase.done}/{phase.total}" if phase else ""


def _count(number: int) -> str:
    return "?" if number < 0 else str(number)


def _duration(seconds: float) -> str:
    """Return ``3.2 s``, ``5 min 20 s`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
