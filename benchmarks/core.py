"""How many transitions a second the core makes alone, without servers: `python -m benchmarks.core`.

A job of map tasks, each published, started and done, with so many outstanding at once: twice the slots of the cluster.
Processor time, on one core.
"""

from __future__ import annotations

import time
from collections import deque

from mrq.core.commands import Publish
from mrq.core.events import JobClaimed, TaskDone, TaskStarted
from mrq.core.job import step
from mrq.core.model import Job, JobState, Spec

SIZES = ((10_000, 8), (100_000, 400), (100_000, 20_000), (1_000_000, 20_000))
"""Tasks, and how many are outstanding."""


def transitions_per_second(n_tasks: int, window: int) -> float:
    """Run one job's map phase through the core."""
    began, n = time.process_time(), 1
    job, commands = step(Job(Spec("job_0", n_tasks, 1, window)), JobClaimed(1, JobState.SUBMITTED, {}, 0.0))
    out = deque(command for command in commands if isinstance(command, Publish))
    while job.state is JobState.MAP:
        task = out.popleft()
        job, _ = step(job, TaskStarted(task.phase, task.index, 1, task.attempt, "worker", n))
        job, commands = step(job, TaskDone(task.phase, task.index, n, 0.1))
        out += [command for command in commands if isinstance(command, Publish)]
        n += 2
    return n / (time.process_time() - began)


def main() -> None:
    """Measure and print."""
    print(f"{'tasks':>10} {'outstanding':>12} {'transitions/s':>14}")
    for n_tasks, window in SIZES:
        print(f"{n_tasks:10,} {window:12,} {transitions_per_second(n_tasks, window):14,.0f}", flush=True)


if __name__ == "__main__":
    main()
