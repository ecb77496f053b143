"""Whole jobs in words: golden/*.txt has what happens, and the commands that come of it.

A line that begins with ``->`` is a command; what stands above it has happened. To write the commands anew after a
change that is meant: ``MRQ_WRITE_GOLDEN=1 pytest tests/core/test_golden.py``, and read the difference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mrq.core.commands import Cancel, Command, Fail, Finish, Forget, Persist, Publish, Revoke
from mrq.core.events import (
    CancelRequested,
    Event,
    JobClaimed,
    TaskDone,
    TaskFailed,
    TaskLost,
    TaskStarted,
    Tick,
    WindowChanged,
)
from mrq.core.job import step
from mrq.core.model import Job, JobState, Phase, Spec

TRACES = sorted((Path(__file__).parent / "golden").glob("*.txt"))

TASK = r"(?P<phase>map|shuffle|reduce) (?P<index>\d+)"
ATTEMPT = r"\(epoch (?P<epoch>\d+), attempt (?P<attempt>\d+)\)"
Words = dict[str, str]


def claimed(words: Words, now: float) -> Event:
    state = JobState(words["state"])
    phase = Phase.MAP if state is JobState.SUBMITTED or state.ended else Phase(state)
    committed = frozenset(int(number) for number in re.findall(r"\d+", words["committed"]))
    return JobClaimed(int(words["epoch"]), state, {phase: committed}, now)


def attempt(words: Words) -> tuple[Phase, int, int, int]:
    return Phase(words["phase"]), int(words["index"]), int(words["epoch"]), int(words["attempt"])


EVENTS: dict[str, Callable[[Words, float], Event]] = {
    r"a master claims it under epoch (?P<epoch>\d+): the record says (?P<state>\w+), committed: "
    r"(?P<committed>none|[\d, ]+)": claimed,
    rf"worker (?P<worker>\w+) has {TASK} {ATTEMPT}": lambda w, now: TaskStarted(
        *attempt(w), w["worker"], now
    ),
    rf"{TASK} is committed(, after (?P<seconds>[\d.]+) s)?": lambda w, now: TaskDone(
        Phase(w["phase"]), int(w["index"]), now, float(w["seconds"] or 0)
    ),
    rf"{TASK} (?P<kind>raised|crashed|timeout|refused): (?P<type>\w+) {ATTEMPT}": lambda w, now: TaskFailed(
        *attempt(w), w["kind"], now, type=w["type"]
    ),
    rf"{TASK} is lost {ATTEMPT}": lambda w, now: TaskLost(*attempt(w), now),
    r"the client cancels": lambda w, now: CancelRequested(now),
    r"the window is (?P<window>\d+)": lambda w, now: WindowChanged(int(w["window"]), now),
    r"time passes": lambda w, now: Tick(now),
}


def event_of(line: str) -> Event:
    """Read a line such as ``at 0.5 map 3 is committed``."""
    head = re.match(r"at ([\d.]+) +", line)
    assert head, f"not a line of a trace: {line!r}"
    for pattern, make in EVENTS.items():
        if found := re.fullmatch(pattern, line[head.end() :]):
            return make(found.groupdict(), float(head[1]))
    raise AssertionError(f"no such event: {line!r}")


def words_of(command: Command) -> str:
    """Say what is to be done."""
    match command:
        case Persist(state):
            return f"write into the record: {state.value}"
        case Publish(phase, index, number, backup):
            return f"publish {phase.value} {index}, attempt {number}{', as a backup' if backup else ''}"
        case Revoke(phase, index):
            return f"have whoever still runs {phase.value} {index} stop"
        case Finish():
            return "write the manifest, and into the record: completed"
        case Fail(failure):
            what = f"{failure.kind}, {failure.phase.value} {failure.index} after {failure.attempts} attempts"
            return f"write into the record: failed ({what}: {failure.type})"
        case Cancel():
            return "write into the record: cancelled"
        case Forget():
            return "clean up and let go"


def job_of(line: str) -> Job:
    """Read the first line: ``a job of 2 map tasks, 1 partition, window 2, retries 0, crash limit 3``."""
    numbers = [int(number) for number in re.findall(r"\d+", line)]
    assert len(numbers) == 5, f"not a job: {line!r}"
    return Job(Spec("job_7", *numbers))


def replay(text: str) -> str:
    """Return the trace with the commands as they are now."""
    job: Job | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    ->"):
            continue
        lines.append(line)
        if not line or line.startswith("#"):
            continue
        if job is None or line.startswith("a "):
            job = job_of(line)  # in a failover, the successor's: it has no memory
            continue
        job, commands = step(job, event_of(line))
        lines += [f"    -> {words_of(command)}" for command in commands]
        if job.state.ended and commands:
            lines[-1] += f" [{job.state.value}]"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.stem)
def test_the_core_does_what_the_golden_trace_says(trace: Path) -> None:
    """Events in, commands out, word for word."""
    text = trace.read_text(encoding="utf-8")
    if os.environ.get("MRQ_WRITE_GOLDEN"):
        trace.write_text(replay(text), encoding="utf-8")
    assert replay(text) == text


def test_there_are_golden_traces() -> None:
    """An empty folder would prove nothing."""
    assert len(TRACES) >= 5
