"""The judgements, each on its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.core import policy
from mrq.core.commands import Persist, Publish, Revoke
from mrq.core.events import JobClaimed, TaskDone, TaskFailed, TaskStarted, Tick
from mrq.core.job import step
from mrq.core.model import Job, JobState, Phase, Spec, Trouble
from mrq.core.policy import FIRST_BACKOFF, LONGEST_BACKOFF, backoff, fair_window, unheard_of, verdict, weight

counts = st.integers(0, 2000)


@given(failures=counts, crashes=counts)
def test_no_wait_is_shorter_than_the_first_or_longer_than_the_longest(failures: int, crashes: int) -> None:
    """However often a task fails."""
    assert FIRST_BACKOFF <= backoff(Trouble(0, failures, crashes)) <= LONGEST_BACKOFF


@given(failures=counts, crashes=counts)
def test_no_wait_is_shorter_than_the_one_before(failures: int, crashes: int) -> None:
    """Each failure more waits as long or longer, and twice as long as long as it is short."""
    wait, next_wait = backoff(Trouble(0, failures, crashes)), backoff(Trouble(0, failures + 1, crashes))
    assert next_wait in (wait, 2 * wait, LONGEST_BACKOFF)
    assert next_wait >= wait


@pytest.mark.parametrize("kind", ["raised", "timeout"])
@given(failures=st.integers(1, 50), crashes=st.integers(0, 50), retries=st.integers(0, 50))
def test_a_task_is_tried_again_as_often_as_the_job_allows(
    kind: str, failures: int, crashes: int, retries: int
) -> None:
    """Only its exceptions and timeouts count."""
    spec = Spec("job_7", 1, 1, 1, retries=retries)
    judged = verdict(kind, Trouble(failures + crashes, failures, crashes), spec)
    assert judged == (kind if failures > retries else None)


@given(failures=st.integers(0, 50), crashes=st.integers(1, 50), limit=st.integers(1, 50))
def test_a_task_is_poison_at_its_limit_of_crashes(failures: int, crashes: int, limit: int) -> None:
    """Only its crashes count."""
    spec = Spec("job_7", 1, 1, 1, crash_limit=limit)
    judged = verdict("crashed", Trouble(failures + crashes, failures, crashes), spec)
    assert judged == ("poison" if crashes >= limit else None)


@given(retries=counts)
def test_a_refusal_is_final(retries: int) -> None:
    """No other worker could run the task either."""
    assert verdict("refused", Trouble(1, 1, 0), Spec("job_7", 1, 1, 1, retries=retries)) == "refused"


@given(requested=st.none() | st.integers(1, 1000), slots=st.integers(0, 1000), share=st.floats(0, 1))
def test_every_job_may_always_have_a_task_out_and_none_more_than_it_asked_for(
    requested: int | None, slots: int, share: float
) -> None:
    """Also while no worker lives: a task that waits in its queue costs nothing."""
    window = fair_window(requested, slots, share)
    assert window >= 1
    assert requested is None or window <= requested


@given(slots=st.integers(1, 1000), jobs=st.integers(1, 1000))
def test_together_the_windows_keep_all_slots_busy_and_waste_little(slots: int, jobs: int) -> None:
    """Twice the slots, rounded up for each job."""
    together = jobs * fair_window(None, slots, 1 / jobs)
    assert together >= 2 * slots
    assert together <= 2 * slots + 2 * jobs


@pytest.mark.parametrize(
    ("requested", "slots", "jobs", "window"),
    [(None, 10, 1, 20), (4, 10, 1, 4), (None, 10, 10, 2), (None, 10, 3, 7), (100, 0, 1, 2), (1, 50, 1, 1)],
)
def test_a_window_is_twice_the_fair_share(requested: int | None, slots: int, jobs: int, window: int) -> None:
    """Of ten slots one job has twenty tasks out, ten jobs have two each."""
    assert fair_window(requested, slots, 1 / jobs) == window


def test_each_step_of_priority_doubles_a_jobs_share() -> None:
    """Beside one job without priority, one of priority 2 has four fifths of the slots."""
    total = weight(2) + weight(0)
    assert [fair_window(None, 10, weight(priority) / total) for priority in (2, 0)] == [16, 4]


# ---------------------------------------------------------------- who has not been heard of


def job_with_a_running_and_a_queued_task() -> Job:
    """Task 0 runs on ada since 10.0, task 1 is queued since 0.0."""
    job, _ = step(
        Job(Spec("job_7", 2, 1, 2)), JobClaimed(1, JobState.SUBMITTED, {Phase.MAP: frozenset()}, 0.0)
    )
    return step(job, TaskStarted(Phase.MAP, 0, 1, 0, "ada", 10.0))[0]


def silent(now: float, *, queue_empty: bool = True, workers: tuple[str, ...] = ("ada",)) -> list[int]:
    """The tasks given up at that time, with a patience of 15 seconds."""
    job = job_with_a_running_and_a_queued_task()
    return unheard_of(job, now, 15.0, queue_empty=queue_empty, workers=workers)


def test_no_attempt_is_given_up_within_the_patience() -> None:
    """To the second."""
    assert silent(15.0) == []


def test_a_queued_task_is_given_up_when_its_queue_is_empty() -> None:
    """No message, no worker that said it has it: it is gone."""
    assert silent(16.0) == [1]


def test_a_queued_task_is_not_given_up_while_messages_wait() -> None:
    """It may be one of them, however long it takes."""
    assert silent(1e6, queue_empty=False) == []


def test_a_running_task_is_given_up_when_its_worker_is_gone() -> None:
    """And its message did not come back."""
    assert silent(26.0, workers=()) == [0, 1]
    assert silent(26.0, workers=("bob",)) == [0, 1]


def test_a_running_task_of_a_live_worker_has_twice_the_time_to_be_heard_of() -> None:
    """The worker was asked what it runs, and did not say this one."""
    assert silent(39.0) == [1]
    assert silent(41.0) == [0, 1]


def slow_job(*, n: int = 4, done: int = 3, seconds: float = 1.0, speculative: bool = True) -> Job:
    """A job of four map tasks of one second each that runs its last one since time 0."""
    job = Job(Spec("job_0", n, 1, 4, speculative=speculative))
    job, _ = step(job, JobClaimed(1, JobState.SUBMITTED, {}, 0.0))
    for index in range(4):
        job, _ = step(job, TaskStarted(Phase.MAP, index, 1, 0, f"worker-{index}", 0.0))
    for index in range(done):
        job, _ = step(job, TaskDone(Phase.MAP, index, seconds, seconds))
    return job


def test_a_straggler_is_a_task_that_takes_far_longer_than_the_others() -> None:
    """Not before, not while less than half of the phase is done, and only when it is wanted."""
    assert policy.stragglers(slow_job(), 1.4) == []
    assert policy.stragglers(slow_job(), 1.6) == [3]
    assert policy.stragglers(slow_job(done=1), 1.6) == []
    assert policy.stragglers(slow_job(speculative=False), 1.6) == []


def test_a_short_task_is_no_straggler() -> None:
    """To publish it again would cost as much."""
    assert policy.stragglers(slow_job(seconds=0.01), policy.STRAGGLER_SECONDS - 0.01) == []
    assert policy.stragglers(slow_job(seconds=0.01), policy.STRAGGLER_SECONDS + 0.01) == [3]


def test_nothing_is_backed_up_while_tasks_wait_to_be_published() -> None:
    """Those go first: it is the end of a phase that a straggler delays."""
    job = slow_job(n=9, done=3)
    assert job.cursor < 9
    assert policy.stragglers(job, 99.0) == []


def test_a_lone_worker_gets_no_backup_of_its_own_task() -> None:
    """Nobody else could run it."""
    assert step(slow_job(), Tick(1.6, others=False)) == (slow_job(), ())
    assert step(slow_job(), Tick(1.6))[1] != ()


def test_after_a_failover_a_few_tasks_are_enough_to_tell_how_long_one_takes() -> None:
    """The successor has timed one of four, and knows that two others are done."""
    job = Job(Spec("job_0", 4, 1, 4))
    job, _ = step(job, JobClaimed(2, JobState.MAP, {Phase.MAP: frozenset({0, 1})}, 0.0))
    for index in (2, 3):
        job, _ = step(job, TaskStarted(Phase.MAP, index, 2, 0, f"worker-{index}", 0.0))
    assert policy.stragglers(job, 1.6) == []
    job, _ = step(job, TaskDone(Phase.MAP, 2, 1.0, 1.0))
    assert policy.stragglers(job, 1.6) == [3]


def test_a_straggler_gets_one_backup_task_and_whoever_commits_first_wins() -> None:
    """The backup is the attempt that counts: what the straggler says of its failure later is ignored."""
    job, commands = step(slow_job(), Tick(2.1))
    assert commands == (Publish(Phase.MAP, 3, 1, backup=True),)
    job, commands = step(job, TaskStarted(Phase.MAP, 3, 1, 1, "worker-0", 2.2))
    assert step(job, Tick(9.0)) == (job, ())
    assert step(job, TaskFailed(Phase.MAP, 3, 1, 0, "raised", 9.0)) == (job, ())
    job, commands = step(job, TaskDone(Phase.MAP, 3, 9.1, 1.0))
    assert commands[:2] == (Revoke(Phase.MAP, 3), Persist(JobState.SHUFFLE))


def test_a_sign_of_life_does_not_make_a_straggler_younger() -> None:
    """The time counts from when its worker had it first."""
    job, _ = step(slow_job(), TaskStarted(Phase.MAP, 3, 1, 0, "worker-3", 2.0))
    assert policy.stragglers(job, 2.1) == [3]
