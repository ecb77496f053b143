"""Where a job's time went: its timeline, read after its end, as numbers and as a picture.

bars.py    the clocks of all machines put into one, and each attempt as a bar of segments (pure)
path.py    the critical path: what the end of the job waited for, back to the call (pure)
summary.py the report: shares, phases, slowest tasks
picture.py the timeline as SVG
page.py    all of it as one HTML page
"""

from __future__ import annotations

import time

from mrq import timeline
from mrq.errors import BadSignature, JobError, StoreNotFound
from mrq.ports import Store
from mrq.registry import Registry
from mrq.report.summary import Report

__all__ = ["Report", "report_of"]

PATIENCE = 3.0
"""Seconds to wait for the timeline of a job that has ended: its master writes it afterwards."""


def report_of(job_id: str, registry: Registry, store: Store) -> Report:
    """Return a job's report.

    Raises:
        UnknownJob: there is no such job.
        JobError: it has not ended, or has no timeline.
        BadSignature: the timeline is damaged.
        Unavailable: a server does not answer.
    """
    record = registry.require(job_id).record
    if not record.state.ended:
        raise JobError(
            f"{job_id} has not ended ({record.state.value}): its timeline is written when it has; until then see "
            f"mrq explain {job_id}",
            job_id=job_id,
        )
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Report(timeline.read(store, record))
        except StoreNotFound:
            if time.monotonic() > deadline:
                break
        except BadSignature:  # HDFS shows a file while it is written
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)
    raise JobError(
        f"{job_id} has ended ({record.state.value}), but no timeline of it was kept: no master had it, or its master "
        "or the store ended before it was written",
        job_id=job_id,
    )
