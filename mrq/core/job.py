"""One job's life: ``step(job, event) -> (job, commands)``, after two literal tables.

`JOB_TABLE` says which events a job takes in which state, and where they may lead; `TASK_TABLE` says the same of a
task. What is not in a table can't happen: `step` raises `IllegalTransition` and the job is unchanged. docs/states.md
is drawn from these tables.

One gate stands against the past: what an attempt of an older epoch, or a superseded attempt, says of itself is
ignored. Only a commit counts whoever made it, for the committed file is the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from mrq.core import policy
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
from mrq.core.model import Failure, Job, JobState, Outstanding, TaskState, Trouble

Commands = tuple[Command, ...]

S, M, SH, R = JobState.SUBMITTED, JobState.MAP, JobState.SHUFFLE, JobState.REDUCE
DONE, FAILED, CANCELLED = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED

_IN_PHASE = {
    TaskStarted: (),
    TaskFailed: (FAILED,),
    TaskLost: (),
    CancelRequested: (CANCELLED,),
    WindowChanged: (),
    Tick: (),
}

JOB_TABLE: Mapping[JobState, Mapping[type, tuple[JobState, ...]]] = {
    # state: {event: the other states that it may lead to}
    S: {JobClaimed: (M, SH, R, DONE, FAILED, CANCELLED), CancelRequested: (CANCELLED,)},
    M: {JobClaimed: (SH, R, DONE, FAILED, CANCELLED), TaskDone: (SH, DONE), **_IN_PHASE},
    SH: {JobClaimed: (R, DONE, FAILED, CANCELLED), TaskDone: (R,), **_IN_PHASE},
    R: {JobClaimed: (DONE, FAILED, CANCELLED), TaskDone: (DONE,), **_IN_PHASE},
    DONE: {},
    FAILED: {},
    CANCELLED: {},
}

P, Q, RUN, C = TaskState.PENDING, TaskState.QUEUED, TaskState.RUNNING, TaskState.COMPLETED

TASK_TABLE: Mapping[tuple[TaskState, str], TaskState] = {
    (P, "publish"): Q,
    (P, "commit"): C,  # by an attempt that was given up, or of an older epoch
    (Q, "start"): RUN,
    (Q, "commit"): C,  # the report of its start was lost
    (Q, "fail"): P,
    (Q, "lose"): P,
    (RUN, "start"): RUN,  # a sign of life
    (RUN, "back up"): Q,  # the backup task is the attempt that counts now; the straggler may still commit
    (RUN, "commit"): C,
    (RUN, "fail"): P,
    (RUN, "lose"): P,
}


class IllegalTransition(Exception):
    """An event that can't happen in this state: a bug of the caller's, so not an `MrqError`."""

    def __init__(self, job: Job, event: object) -> None:
        super().__init__(
            f"{job.spec.job_id} in state {job.state.value} (epoch {job.epoch}) can't take {event!r}"
        )


def step(job: Job, event: Event) -> tuple[Job, Commands]:
    """Return the job after the event, and what is to be done, in order.

    A job that has ended takes any event and stays as it is.

    Raises:
        IllegalTransition: the tables have no such transition.
    """
    if job.state.ended:
        return job, ()
    targets = JOB_TABLE[job.state].get(type(event))
    if targets is None:
        raise IllegalTransition(job, event)
    after, commands = _HANDLERS[type(event)](job, event)
    if after.state is not job.state and after.state not in targets:
        raise IllegalTransition(job, event)
    return after, commands


def task_state(job: Job, index: int) -> TaskState:
    """Return the state of a task of the current phase."""
    if job.committed >> index & 1:
        return C
    outstanding = job.outstanding.get(index)
    return outstanding.state if outstanding else P


def _claimed(job: Job, event: JobClaimed) -> tuple[Job, Commands]:
    """Begin, or go on where the last owner was: all that an epoch knew of its attempts is void."""
    if event.epoch <= job.epoch:
        return job, ()
    if event.state.ended:
        return replace(job, state=event.state, epoch=event.epoch), (Forget(),)
    state = M if event.state is S else event.state
    fresh = Job(spec=job.spec, epoch=event.epoch, state=state)
    done = event.committed.get(fresh.phase, frozenset())
    fresh = replace(fresh, committed=_bits(done, fresh.spec.n_tasks(fresh.phase)))
    return _advance(fresh, event.now, persist=True)


def _started(job: Job, event: TaskStarted) -> tuple[Job, Commands]:
    if not _is_current(job, event):
        return job, ()
    state, before = _move(job, event.index, "start"), job.outstanding[event.index]
    started = before.started if before.state is RUN and before.worker == event.worker else event.now
    running = Outstanding(event.attempt, state, event.worker, event.now, started)
    return replace(job, outstanding=job.outstanding.put([(event.index, running)])), ()


def _done(job: Job, event: TaskDone) -> tuple[Job, Commands]:
    if event.phase is not job.phase or job.committed >> event.index & 1:
        return job, ()  # told twice, or of a phase that is over
    if event.index >= job.spec.n_tasks(job.phase):
        return job, ()  # a file that happens to have a number for its name
    _move(job, event.index, "commit")
    trouble = job.trouble.get(event.index, Trouble())
    # More attempts were given out than have ended: another may run still, and need not.
    revokes = (
        (Revoke(job.phase, event.index),) if trouble.attempts > trouble.failures + trouble.crashes else ()
    )
    job = replace(
        job,
        committed=job.committed | 1 << event.index,
        outstanding=job.outstanding.without([event.index]),
        again=job.again.without([event.index]),
        trouble=job.trouble.without([event.index]),
        timed=job.timed + (event.seconds > 0),
        seconds=job.seconds + event.seconds,
    )
    job, commands = _advance(job, event.now)
    return job, (*revokes, *commands)


def _failed(job: Job, event: TaskFailed) -> tuple[Job, Commands]:
    if not _is_current(job, event):
        return job, ()
    _move(job, event.index, "fail")
    before = job.trouble.get(event.index, Trouble())
    crashed = event.kind == "crashed"
    after = Trouble(before.attempts + 1, before.failures + (not crashed), before.crashes + crashed)
    verdict = policy.verdict(event.kind, after, job.spec)
    if verdict is not None:
        failure = Failure(
            kind=verdict,
            phase=event.phase,
            index=event.index,
            attempts=after.attempts,
            type=event.type,
            message=event.message,
            path=event.path,
        )
        return replace(job, state=FAILED, failure=failure), (Fail(failure), Forget())
    return _retry(job, event.index, after, event.now, event.now + policy.backoff(after))


def _lost(job: Job, event: TaskLost) -> tuple[Job, Commands]:
    if not _is_current(job, event):
        return job, ()
    _move(job, event.index, "lose")
    before = job.trouble.get(event.index, Trouble())
    after = replace(before, attempts=before.attempts + 1)
    return _retry(job, event.index, after, event.now, event.now)


def _cancelled(job: Job, _event: CancelRequested) -> tuple[Job, Commands]:
    return replace(job, state=CANCELLED), (Cancel(), Forget())


def _window(job: Job, event: WindowChanged) -> tuple[Job, Commands]:
    return _fill(replace(job, spec=replace(job.spec, window=event.window)), event.now)


def _tick(job: Job, event: Tick) -> tuple[Job, Commands]:
    job, publishes = _fill(job, event.now)
    job, backups = _back_up(job, event.now) if event.others else (job, ())
    return job, (*publishes, *backups)


# Each handler takes the one event type that stands beside it; the dispatch by type can't be said more exactly.
_HANDLERS: Mapping[type, Callable[[Job, Any], tuple[Job, Commands]]] = {
    JobClaimed: _claimed,
    TaskStarted: _started,
    TaskDone: _done,
    TaskFailed: _failed,
    TaskLost: _lost,
    CancelRequested: _cancelled,
    WindowChanged: _window,
    Tick: _tick,
}


def _advance(job: Job, now: float, *, persist: bool = False) -> tuple[Job, Commands]:
    """Go through every phase that is complete; persist before anything is published."""
    while job.n_committed == job.spec.n_tasks(job.phase):
        if job.state is R:
            return replace(job, state=DONE), (*((Persist(R),) if persist else ()), Finish(), Forget())
        job = Job(spec=job.spec, epoch=job.epoch, state=SH if job.state is M else R)
        persist = True
    job, publishes = _fill(job, now)
    return job, (*((Persist(job.state),) if persist else ()), *publishes)


def _fill(job: Job, now: float) -> tuple[Job, Commands]:
    """Publish as many tasks as the window has room for: those to be tried again first."""
    room = job.spec.window - len(job.outstanding)
    chosen = sorted(i for i, at in job.again.items() if at <= now)[: max(room, 0)]
    cursor, n_tasks = job.cursor, job.spec.n_tasks(job.phase)
    new: list[int] = []
    while len(chosen) + len(new) < room and cursor < n_tasks:
        if not job.committed >> cursor & 1:
            new.append(cursor)
        cursor += 1
    if not chosen and not new and cursor == job.cursor:
        return job, ()
    out: list[tuple[int, Outstanding]] = []
    commands: list[Command] = []
    for index in (*chosen, *new):
        attempt = job.trouble[index].attempts if index in job.trouble else 0
        out.append((index, Outstanding(attempt, _move(job, index, "publish"), "", now)))
        commands.append(Publish(job.phase, index, attempt))
    outstanding, again = job.outstanding.put(out), job.again.without(chosen)
    return replace(job, outstanding=outstanding, again=again, cursor=cursor), tuple(commands)


def _back_up(job: Job, now: float) -> tuple[Job, Commands]:
    """Publish stragglers once more; each keeps its place in the window."""
    commands: list[Command] = []
    for index in policy.stragglers(job, now):
        trouble = job.trouble.get(index, Trouble())
        trouble = replace(trouble, attempts=trouble.attempts + 1)
        backup = Outstanding(trouble.attempts, _move(job, index, "back up"), "", now)
        job = replace(
            job,
            outstanding=job.outstanding.put([(index, backup)]),
            trouble=job.trouble.put([(index, trouble)]),
            backups=job.backups | 1 << index,
        )
        commands.append(Publish(job.phase, index, trouble.attempts, backup=True))
    return job, tuple(commands)


def _retry(job: Job, index: int, trouble: Trouble, now: float, at: float) -> tuple[Job, Commands]:
    job = replace(
        job,
        outstanding=job.outstanding.without([index]),
        again=job.again.put([(index, at)]),
        trouble=job.trouble.put([(index, trouble)]),
    )
    return _fill(job, now)


def _is_current(job: Job, event: TaskStarted | TaskFailed | TaskLost) -> bool:
    """The gate: this phase, this epoch, and the attempt that is out."""
    if event.phase is not job.phase or event.epoch != job.epoch:
        return False
    outstanding = job.outstanding.get(event.index)
    return outstanding is not None and outstanding.attempt == event.attempt


def _bits(indices: Collection[int], n_tasks: int) -> int:
    """Return the bit set of those below ``n_tasks``, in time proportional to it."""
    bits = bytearray(n_tasks // 8 + 1)
    for index in indices:
        if index < n_tasks:
            bits[index // 8] |= 1 << index % 8
    return int.from_bytes(bits, "little")


def _move(job: Job, index: int, action: str) -> TaskState:
    try:
        return TASK_TABLE[task_state(job, index), action]
    except KeyError:
        raise IllegalTransition(job, f"{action} of task {index}") from None
