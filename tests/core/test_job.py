"""`step` by example: every row of `JOB_TABLE` and `TASK_TABLE`, a sentence each."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from mrq.core.commands import Cancel, Command, Fail, Finish, Forget, Persist, Publish
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
from mrq.core.job import JOB_TABLE, TASK_TABLE, IllegalTransition, step, task_state
from mrq.core.model import PHASES, Failure, Job, JobState, Phase, Spec, TaskState

MAP, SHUFFLE, REDUCE = PHASES
EPOCH = 5
ENDED = [state for state in JobState if state.ended]
IN_PHASE = [JobState.MAP, JobState.SHUFFLE, JobState.REDUCE]


def new(n_map: int = 2, n_reduce: int = 2, window: int = 10, **options: int) -> Job:
    """A job that nobody has claimed."""
    return Job(Spec("job_7", n_map, n_reduce, window, **options))


def run(job: Job, *events: Event) -> tuple[Job, list[Command]]:
    """Step through events; return the job and the commands of the last."""
    commands: tuple[Command, ...] = ()
    for event in events:
        job, commands = step(job, event)
    return job, list(commands)


def claim(
    epoch: int = EPOCH,
    state: JobState = JobState.SUBMITTED,
    committed: Iterable[int] = (),
    now: float = 0.0,
) -> JobClaimed:
    """A claim; what is committed is of the phase that the state says."""
    phase = MAP if state is JobState.SUBMITTED or state.ended else Phase(state.value)
    return JobClaimed(epoch, state, {phase: frozenset(committed)}, now)


def started(
    index: int, phase: Phase = MAP, epoch: int = EPOCH, attempt: int = 0, now: float = 1.0
) -> TaskStarted:
    return TaskStarted(phase, index, epoch, attempt, "ada", now)


def failed(
    index: int,
    kind: str = "raised",
    phase: Phase = MAP,
    epoch: int = EPOCH,
    attempt: int = 0,
    now: float = 1.0,
) -> TaskFailed:
    return TaskFailed(
        phase, index, epoch, attempt, kind, now, type="ValueError", message="no", path="jobs/job_7/errors/x"
    )


def lost(index: int, phase: Phase = MAP, epoch: int = EPOCH, attempt: int = 0, now: float = 1.0) -> TaskLost:
    return TaskLost(phase, index, epoch, attempt, now)


def done(index: int, phase: Phase = MAP, now: float = 1.0) -> TaskDone:
    return TaskDone(phase, index, now)


def claimed_in(state: JobState, **options: Any) -> Job:
    """A job whose master has just claimed it in that phase."""
    return run(new(**options), claim(state=state))[0]


def ended_as(state: JobState) -> Job:
    """A job at one of its three ends."""
    events: dict[JobState, list[Event]] = {
        JobState.COMPLETED: [done(0, REDUCE)],
        JobState.FAILED: [failed(0, phase=REDUCE)],
        JobState.CANCELLED: [CancelRequested(1.0)],
    }
    return run(claimed_in(JobState.REDUCE, n_reduce=1), *events[state])[0]


def sample(state: JobState) -> Job:
    """A job in that state."""
    if state is JobState.SUBMITTED:
        return new()
    return ended_as(state) if state.ended else claimed_in(state)


def events_of(phase: Phase) -> list[Event]:
    """One event of each type, as a worker or the master would tell it in that phase."""
    return [
        claim(epoch=EPOCH + 1, state=JobState(phase.value)),
        started(0, phase),
        done(0, phase),
        failed(0, phase=phase),
        lost(0, phase),
        CancelRequested(2.0),
        WindowChanged(3, 2.0),
        Tick(2.0),
    ]


# ---------------------------------------------------------------- the job's table


def test_a_claimed_job_writes_its_record_before_it_publishes_its_map_tasks() -> None:
    """Persist, then publish."""
    job, commands = run(new(n_map=2), claim())
    assert job.state is JobState.MAP
    assert commands == [Persist(JobState.MAP), Publish(MAP, 0, 0), Publish(MAP, 1, 0)]


def test_an_empty_job_is_finished_when_it_is_claimed() -> None:
    """There is nothing to do, yet its record says that it is owned before it says that it is over."""
    job, commands = run(new(n_map=0, n_reduce=0), claim())
    assert job.state is JobState.COMPLETED
    assert commands == [Persist(JobState.REDUCE), Finish(), Forget()]


def test_a_job_of_one_task_a_phase_goes_through_all_three_and_finishes() -> None:
    """Each phase begins when the one before is complete."""
    job, commands = run(new(n_map=1, n_reduce=1), claim(), done(0))
    assert commands == [Persist(JobState.SHUFFLE), Publish(SHUFFLE, 0, 0)]
    job, commands = run(job, done(0, SHUFFLE))
    assert commands == [Persist(JobState.REDUCE), Publish(REDUCE, 0, 0)]
    job, commands = run(job, done(0, REDUCE))
    assert job.state is JobState.COMPLETED
    assert commands == [Finish(), Forget()]


def test_a_phase_that_has_tasks_left_goes_on() -> None:
    """One of two results is no phase."""
    job, commands = run(claimed_in(JobState.MAP, n_map=2), done(1))
    assert job.state is JobState.MAP
    assert commands == []


def test_map_tasks_without_partitions_complete_the_job() -> None:
    """A job of map tasks alone skips the phases that have no tasks."""
    job, commands = run(new(n_map=1, n_reduce=0), claim(), done(0))
    assert job.state is JobState.COMPLETED
    assert commands == [Persist(JobState.REDUCE), Finish(), Forget()]


@pytest.mark.parametrize("state", [JobState.SUBMITTED, *IN_PHASE])
def test_a_job_can_be_cancelled_in_every_state_before_its_end(state: JobState) -> None:
    """Its record says so, then it is forgotten."""
    job, commands = run(sample(state), CancelRequested(1.0))
    assert job.state is JobState.CANCELLED
    assert commands == [Cancel(), Forget()]


@pytest.mark.parametrize("phase", PHASES)
def test_a_task_that_raised_fails_its_job_in_every_phase(phase: Phase) -> None:
    """Without retries the first exception is the last."""
    job, commands = run(claimed_in(JobState(phase.value)), failed(1, phase=phase))
    failure = Failure("raised", phase, 1, 1, "ValueError", "no", "jobs/job_7/errors/x")
    assert (job.state, job.failure) == (JobState.FAILED, failure)
    assert commands == [Fail(failure), Forget()]


@pytest.mark.parametrize("phase", PHASES)
def test_a_successor_publishes_what_is_not_committed_in_every_phase(phase: Phase) -> None:
    """Failover is no second code path: a claim, with what the record and the store say."""
    job, commands = run(new(n_map=3, n_reduce=3), claim(9, JobState(phase.value), committed=[1], now=4.0))
    assert commands == [Persist(JobState(phase.value)), Publish(phase, 0, 0), Publish(phase, 2, 0)]
    assert (job.epoch, job.n_committed) == (9, 1)


@pytest.mark.parametrize(("phase", "following"), [(MAP, SHUFFLE), (SHUFFLE, REDUCE)])
def test_a_successor_goes_on_to_the_next_phase_when_all_is_committed(phase: Phase, following: Phase) -> None:
    """The last owner died before it could say so."""
    job, commands = run(new(), claim(9, JobState(phase.value), committed=[0, 1]))
    assert job.state == JobState(following.value)
    assert commands[0] == Persist(job.state)
    assert commands[1:] == [Publish(following, 0, 0), Publish(following, 1, 0)]


def test_a_successor_finishes_a_job_whose_reduces_are_all_committed() -> None:
    """The last owner died between the last result and the manifest."""
    job, commands = run(new(), claim(9, JobState.REDUCE, committed=[0, 1]))
    assert job.state is JobState.COMPLETED
    assert commands == [Persist(JobState.REDUCE), Finish(), Forget()]


@pytest.mark.parametrize("state", ENDED)
def test_a_successor_of_a_job_that_has_ended_only_cleans_up(state: JobState) -> None:
    """The last owner died between the record and the rest."""
    job, commands = run(new(), claim(9, state))
    assert (job.state, job.epoch) == (state, 9)
    assert commands == [Forget()]


def test_a_later_claim_forgets_what_the_earlier_epoch_knew_of_its_attempts() -> None:
    """Attempts, retries and the window's content begin anew."""
    job = claimed_in(JobState.MAP, n_map=3, retries=3)
    job, _ = run(job, started(0), failed(1), done(2))
    job, commands = run(job, claim(9, JobState.MAP, committed=[2]))
    assert commands == [Persist(JobState.MAP), Publish(MAP, 0, 0), Publish(MAP, 1, 0)]
    assert (job.trouble, job.again) == ({}, {})


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH - 1, 0])
def test_a_claim_that_is_not_later_changes_nothing(epoch: int) -> None:
    """Each epoch is claimed once."""
    job = claimed_in(JobState.SHUFFLE)
    assert step(job, claim(epoch, JobState.REDUCE)) == (job, ())


def test_a_record_that_is_behind_the_job_can_not_take_it_back() -> None:
    """Phases go forward only: a new master starts from a new job, never from one that knows more."""
    job = claimed_in(JobState.SHUFFLE)
    with pytest.raises(IllegalTransition, match="in state shuffle"):
        step(job, claim(9, JobState.MAP))


@pytest.mark.parametrize("event", events_of(MAP), ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", [state for state in JobState if not state.ended])
def test_what_is_not_in_the_table_is_illegal_and_leaves_the_job_unchanged(
    state: JobState, event: Event
) -> None:
    """And what is in the table is not."""
    job = sample(state)
    before = replace(job)
    if type(event) in JOB_TABLE[state]:
        if not isinstance(event, JobClaimed) or state in (JobState.SUBMITTED, JobState.MAP):
            step(job, event)
    else:
        with pytest.raises(IllegalTransition, match=f"job_7 in state {state.value}"):
            step(job, event)
    assert job == before


@pytest.mark.parametrize("state", ENDED)
def test_a_job_that_has_ended_ignores_everything(state: JobState) -> None:
    """Late reports are the rule, not the exception."""
    job = ended_as(state)
    assert job.state is state
    for event in [event for phase in PHASES for event in events_of(phase)]:
        assert step(job, event) == (job, ())


def test_the_table_names_every_state_and_only_later_ones_follow() -> None:
    """No row is missing, and no path leads back."""
    order = list(JobState)
    assert set(JOB_TABLE) == set(order)
    for state, row in JOB_TABLE.items():
        assert all(order.index(target) > order.index(state) for targets in row.values() for target in targets)
        assert state.ended == (not row)


@pytest.mark.parametrize("state", IN_PHASE)
def test_the_window_is_another_in_every_phase(state: JobState) -> None:
    """A larger share is used at once."""
    phase = Phase(state.value)
    job, _ = run(new(n_map=4, n_reduce=4, window=1), claim(state=state))
    job, commands = run(job, WindowChanged(3, 1.0))
    assert commands == [Publish(phase, 1, 0), Publish(phase, 2, 0)]
    assert job.spec.window == 3


def test_a_smaller_window_recalls_nothing_and_publishes_no_more() -> None:
    """What is out stays out; the next ones wait until there is room."""
    job, commands = run(new(n_map=6, window=3), claim(), WindowChanged(1, 1.0))
    assert commands == []
    job, commands = run(job, done(0), done(1))
    assert commands == []
    job, commands = run(job, done(2))
    assert commands == [Publish(MAP, 3, 0)]


@pytest.mark.parametrize("state", IN_PHASE)
def test_a_tick_with_nothing_due_does_nothing(state: JobState) -> None:
    """The job is the same, too."""
    job = claimed_in(state)
    assert step(job, Tick(99.0)) == (job, ())


# ---------------------------------------------------------------- the tasks' table


def test_a_pending_task_is_published_when_there_is_room() -> None:
    """(pending, publish) -> queued."""
    job, _ = run(new(n_map=3, window=1), claim())
    assert [task_state(job, i) for i in range(3)] == [TaskState.QUEUED, TaskState.PENDING, TaskState.PENDING]
    job, commands = run(job, done(0))
    assert commands == [Publish(MAP, 1, 0)]
    assert task_state(job, 1) is TaskState.QUEUED


def test_a_pending_task_may_be_committed_already() -> None:
    """(pending, commit) -> completed: an attempt of an older epoch ends, and no other is made."""
    job, _ = run(new(n_map=3, window=1), claim(), done(1))
    assert task_state(job, 1) is TaskState.COMPLETED
    assert run(job, done(0))[1] == [Publish(MAP, 2, 0)]


def test_an_attempt_that_was_given_up_may_commit_all_the_same() -> None:
    """(pending, commit) -> completed: the committed file is the truth, whoever wrote it."""
    job, commands = run(claimed_in(JobState.MAP, retries=1), failed(0), done(0))
    assert commands == []
    assert (job.again, job.trouble) == ({}, {})
    assert run(job, Tick(99.0))[1] == []


def test_a_queued_task_runs_once_a_worker_says_so() -> None:
    """(queued, start) -> in-progress."""
    job, commands = run(claimed_in(JobState.MAP), started(0, now=3.0))
    outstanding = job.outstanding[0]
    assert commands == []
    assert (outstanding.state, outstanding.worker, outstanding.since) == (TaskState.RUNNING, "ada", 3.0)


def test_a_task_whose_start_nobody_heard_of_can_be_committed() -> None:
    """(queued, commit) -> completed."""
    job, _ = run(claimed_in(JobState.MAP), done(0))
    assert task_state(job, 0) is TaskState.COMPLETED
    assert 0 not in job.outstanding


def test_a_running_task_shows_that_it_lives_by_starting_again() -> None:
    """(in-progress, start) -> in-progress, with a newer time."""
    job, _ = run(claimed_in(JobState.MAP), started(0, now=1.0), started(0, now=9.0))
    assert job.outstanding[0].since == 9.0


def test_a_running_task_is_committed() -> None:
    """(in-progress, commit) -> completed."""
    job, _ = run(claimed_in(JobState.MAP), started(0), done(0))
    assert task_state(job, 0) is TaskState.COMPLETED


@pytest.mark.parametrize("first", [[], [started(0)]], ids=["queued", "in-progress"])
def test_a_task_that_failed_waits_and_is_tried_again(first: list[Event]) -> None:
    """(queued or in-progress, fail) -> pending; the next attempt has the next number."""
    job, commands = run(claimed_in(JobState.MAP, retries=2), *first, failed(0, now=1.0))
    assert commands == []
    assert task_state(job, 0) is TaskState.PENDING
    assert run(job, Tick(1.05))[1] == []
    job, commands = run(job, Tick(1.1))
    assert commands == [Publish(MAP, 0, 1)]


@pytest.mark.parametrize("first", [[], [started(0)]], ids=["queued", "in-progress"])
def test_a_task_that_was_lost_is_published_again_at_once(first: list[Event]) -> None:
    """(queued or in-progress, lose) -> pending -> queued: it is nobody's fault, so nothing is waited for."""
    job, commands = run(claimed_in(JobState.MAP), *first, lost(0))
    assert commands == [Publish(MAP, 0, 1)]
    assert task_state(job, 0) is TaskState.QUEUED


def test_losses_never_fail_a_job() -> None:
    """Only what the task itself did counts against it."""
    job = claimed_in(JobState.MAP)
    for attempt in range(50):
        job, commands = run(job, lost(0, attempt=attempt))
        assert commands == [Publish(MAP, 0, attempt + 1)]


@pytest.mark.parametrize("state", TaskState)
def test_the_tasks_table_has_these_rows_and_no_others(state: TaskState) -> None:
    """A completed task stays so; a task that is not out can't start, fail or be lost."""
    actions = {action for (before, action) in TASK_TABLE if before is state}
    out = {"start", "commit", "fail", "lose"}
    expected: dict[TaskState, set[str]] = {
        TaskState.PENDING: {"publish", "commit"},
        TaskState.QUEUED: out,
        TaskState.RUNNING: out | {"back up"},
        TaskState.COMPLETED: set(),
    }
    assert actions == expected[state]


# ---------------------------------------------------------------- retries and verdicts


def test_the_wait_between_attempts_doubles() -> None:
    """0.1, 0.2, 0.4 seconds."""
    job, now, waits = claimed_in(JobState.MAP, n_map=1, retries=9), 0.0, []
    for attempt in range(3):
        job, _ = run(job, failed(0, attempt=attempt, now=now))
        waits.append(job.again[0] - now)
        now = job.again[0]
        job, commands = run(job, Tick(now))
        assert commands == [Publish(MAP, 0, attempt + 1)]
    assert waits == pytest.approx([0.1, 0.2, 0.4])


def test_a_task_to_be_tried_again_comes_before_new_ones_but_keeps_no_slot_while_it_waits() -> None:
    """The window is filled with new tasks meanwhile."""
    job, _ = run(new(n_map=4, window=1, retries=1), claim())
    job, commands = run(job, failed(0, now=1.0))
    assert commands == [Publish(MAP, 1, 0)]
    job, commands = run(job, Tick(9.0))
    assert commands == []
    job, commands = run(job, done(1, now=9.0))
    assert commands == [Publish(MAP, 0, 1)]


@pytest.mark.parametrize("kind", ["raised", "timeout"])
def test_exceptions_and_timeouts_fail_the_job_once_the_retries_are_used_up(kind: str) -> None:
    """Two retries are three attempts."""
    job = claimed_in(JobState.MAP, retries=2)
    for attempt in range(2):
        job, _ = run(job, failed(0, kind, attempt=attempt, now=attempt * 10), Tick(attempt * 10 + 5))
        assert job.state is JobState.MAP
    job, commands = run(job, failed(0, kind, attempt=2, now=30.0))
    assert job.failure is not None
    assert (job.failure.kind, job.failure.attempts) == (kind, 3)
    assert commands == [Fail(job.failure), Forget()]


def test_a_task_that_keeps_ending_its_process_is_poison_at_the_crash_limit() -> None:
    """Whatever the retries, for those are a promise about exceptions."""
    job = claimed_in(JobState.MAP, retries=0, crash_limit=3)
    for attempt in range(2):
        job, _ = run(job, failed(0, "crashed", attempt=attempt, now=attempt * 10), Tick(attempt * 10 + 5))
        assert job.state is JobState.MAP
    job, _ = run(job, failed(0, "crashed", attempt=2, now=30.0))
    assert job.failure is not None
    assert (job.state, job.failure.kind, job.failure.attempts) == (JobState.FAILED, "poison", 3)


def test_crashes_use_up_no_retries() -> None:
    """A crash, then as many exceptions as are allowed, is not the end."""
    job, _ = run(claimed_in(JobState.MAP, retries=1), failed(0, "crashed"), Tick(9.0))
    job, _ = run(job, failed(0, "raised", attempt=1, now=9.0), Tick(19.0))
    assert job.state is JobState.MAP
    job, _ = run(job, failed(0, "raised", attempt=2, now=19.0))
    assert job.failure is not None
    assert (job.failure.kind, job.failure.attempts) == ("raised", 3)


def test_a_task_that_no_worker_can_run_fails_its_job_at_once() -> None:
    """No retry helps a refusal."""
    job, _ = run(claimed_in(JobState.MAP, retries=9), failed(0, "refused"))
    assert job.failure is not None
    assert (job.state, job.failure.kind) == (JobState.FAILED, "refused")


def test_one_task_s_failures_do_not_count_against_another() -> None:
    """Each has retries of its own."""
    job, _ = run(claimed_in(JobState.MAP, n_map=3, retries=1), failed(0), failed(1), failed(2))
    assert job.state is JobState.MAP


def test_a_failure_in_one_phase_does_not_count_in_the_next() -> None:
    """Task 0 of the shuffle is another task than task 0 of the map."""
    job = claimed_in(JobState.MAP, n_map=1, n_reduce=1, retries=1)
    job, commands = run(job, failed(0), done(0))
    assert commands == [Persist(JobState.SHUFFLE), Publish(SHUFFLE, 0, 0)]
    job, _ = run(job, failed(0, phase=SHUFFLE))
    assert job.state is JobState.SHUFFLE


# ---------------------------------------------------------------- the gate


STALE: list[Event] = [
    started(0, epoch=EPOCH - 1),
    failed(0, epoch=EPOCH - 1),
    failed(0, "refused", epoch=EPOCH + 1),
    lost(0, epoch=EPOCH - 1),
    started(0, attempt=7),
    failed(0, attempt=7),
    lost(0, attempt=7),
    started(0, SHUFFLE),
    failed(0, phase=REDUCE),
    lost(0, SHUFFLE),
    done(0, SHUFFLE),
    started(99),
    failed(99),
    lost(99),
    done(99),
]


@pytest.mark.parametrize("event", STALE, ids=repr)
def test_the_gate_lets_nothing_void_through(event: Event) -> None:
    """Another epoch, another attempt, another phase, or no task of this job's: nothing changes."""
    job = claimed_in(JobState.MAP)
    assert step(job, event) == (job, ())


@pytest.mark.parametrize("event", [started(0), failed(0), lost(0), done(0)], ids=lambda e: type(e).__name__)
def test_a_committed_task_takes_no_further_news(event: Event) -> None:
    """Told twice is told once."""
    job, _ = run(claimed_in(JobState.MAP), done(0))
    assert step(job, event) == (job, ())


def test_files_that_are_no_task_s_do_not_end_a_phase() -> None:
    """Someone may put a file named 17 into the folder of a job of two tasks."""
    job, _ = run(new(n_map=2), claim(committed=[1, 17, 10**9]))
    assert (job.state, job.n_committed) == (JobState.MAP, 1)
    job, _ = run(job, done(17))
    assert (job.state, job.n_committed) == (JobState.MAP, 1)


def test_step_never_touches_the_job_it_was_given() -> None:
    """Jobs are values: the one before can be kept and compared."""
    job = claimed_in(JobState.MAP, retries=1)
    before = repr(job)
    for event in events_of(MAP):
        step(job, event)
    assert repr(job) == before
    with pytest.raises(TypeError):
        job.outstanding[0] = job.outstanding[1]  # type: ignore[index]  # that is the point


# ---------------------------------------------------------------- the cost


def calls_of(job: Job, indices: Iterable[int]) -> tuple[Job, int]:
    """Tell that tasks are done; count the calls, Python's and C's, that this takes."""
    calls = 0

    def count(frame: object, what: str, argument: object) -> None:
        nonlocal calls
        calls += what in ("call", "c_call")

    events = [done(index) for index in indices]
    sys.setprofile(count)
    try:
        for event in events:
            job, _ = step(job, event)
    finally:
        sys.setprofile(None)
    return job, calls


def test_the_work_for_one_result_does_not_grow_with_the_job() -> None:
    """In a job of 20,000 tasks the last results take as many calls as the first, and as in a job of 1,000."""
    small, _ = run(new(n_map=1_000, window=8), claim())
    large, _ = run(new(n_map=20_000, window=8), claim())
    _, in_small = calls_of(small, range(500))
    large, first = calls_of(large, range(500))
    for index in range(500, 19_000):
        large, _ = step(large, done(index))
    large, last = calls_of(large, range(19_000, 19_500))
    calls = (in_small, first, last)
    assert max(calls) <= 1.01 * min(calls)  # the garbage collector may call a hook or two


def test_a_job_holds_no_more_than_its_window_whatever_its_size() -> None:
    """So nothing that a step copies grows with the job, but for one bit a task."""
    job, _ = run(new(n_map=20_000, window=8), claim())
    largest = 0
    for index in reversed(range(20_000)):  # the worst order: the last ones first
        job, commands = run(job, done(index))
        largest = max(largest, len(job.outstanding) + len(job.again) + len(job.trouble) + len(commands))
    assert largest <= 2 * 8
