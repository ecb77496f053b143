"""Where a job's files are in the store: one place that knows.

jobs/job_7/
code                        the two functions (sealed cloudpickle)
input                       all splits (segment, one partition a split)
attempts/map-3-<epoch>-<n>-<run>  being written; never read by others (nor are attempts/code and attempts/input)
packs/<epoch>-<n>           small results of map tasks, if the job's record names it (sealed JSON)
map_results/3               committed: a segment of n_reduce partitions
shuffle_results/0           committed: one partition of (key, [values])
reduce_results/0            committed: one partition of (key, y)
errors/map-3-<epoch>-<n>-<run>    an exception (sealed cloudpickle)
output/map-3-<epoch>-<n>-<run>    what a run printed, if it printed anything (sealed JSON)
manifest                    what the result is made of (sealed JSON)
timeline                    when what happened, for people (sealed, compressed JSON)
"""

from __future__ import annotations

from mrq.core.model import Phase
from mrq.wire import TaskMessage

JOBS = "jobs"


def folder(job_id: str) -> str:
    """The job's folder."""
    return f"{JOBS}/{job_id}"


def code(job_id: str) -> str:
    """The file of the two functions."""
    return f"{folder(job_id)}/code"


def input_file(job_id: str) -> str:
    """The file of all splits."""
    return f"{folder(job_id)}/input"


def attempts(job_id: str) -> str:
    """The folder of what is being written."""
    return f"{folder(job_id)}/attempts"


def upload(path: str) -> str:
    """Where one of a job's own files is while it is being written: beside the attempts, for it is one."""
    job, _, name = path.rpartition("/")
    return f"{job}/attempts/{name}"


def attempt(task: TaskMessage, run: str) -> str:
    """The file that one run of an attempt writes.

    A delivery that comes again runs the attempt again, perhaps while the first run still writes; under one name the
    file that is committed could be the other run's, or half of it.
    """
    return f"{attempts(task.job_id)}/{_attempt_name(task)}-{run}"


def results(job_id: str, phase: Phase) -> str:
    """The folder of a phase's committed results."""
    return f"{folder(job_id)}/{phase.results}"


def result(job_id: str, phase: Phase, index: int) -> str:
    """A task's committed result."""
    return f"{results(job_id, phase)}/{index}"


def pack(job_id: str, name: str) -> str:
    """A file of small results."""
    return f"{folder(job_id)}/packs/{name}"


def error(task: TaskMessage, run: str) -> str:
    """The exception that one run of an attempt raised."""
    return f"{folder(task.job_id)}/errors/{_attempt_name(task)}-{run}"


def outputs(job_id: str) -> str:
    """The folder of what attempts printed."""
    return f"{folder(job_id)}/output"


def output(task: TaskMessage, run: str) -> str:
    """What one run of an attempt printed."""
    return f"{outputs(task.job_id)}/{_attempt_name(task)}-{run}"


def attempt_of(name: str) -> tuple[Phase, int, int, int]:
    """Return phase, index, epoch and attempt of a file of a run's, by its name.

    Raises:
        ValueError: no run's file is called so.
    """
    phase, index, epoch, attempt, *_ = name.split("-", 4)
    return Phase(phase), int(index), int(epoch), int(attempt)


def manifest(job_id: str) -> str:
    """The list of what the result is made of."""
    return f"{folder(job_id)}/manifest"


def timeline(job_id: str) -> str:
    """When what happened of a job that has ended."""
    return f"{folder(job_id)}/timeline"


def _attempt_name(task: TaskMessage) -> str:
    return f"{task.phase.value}-{task.index}-{task.epoch}-{task.attempt}"
