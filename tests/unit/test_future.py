"""`JobFuture` is a `concurrent.futures.Future`, to the letter; and a job that runs can be cancelled too."""

from __future__ import annotations

import asyncio
import concurrent.futures as futures
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from mrq.core.model import JobState, Phase
from mrq.future import JobFuture, Progress, Result
from mrq.records import PhaseProgress

PATIENCE = 20.0
RESULT: Result = [("a", 1), ("b", 2)]


class Job:
    """What a future asks its client for.

    Attributes:
        consents: what the client answers to a request to cancel.
        asked: how often it was asked.
        meanwhile: called while the client is asked.
    """

    def __init__(self) -> None:
        self.consents = True
        self.asked = 0
        self.meanwhile: Callable[[], object] = bool
        self.future = JobFuture("job_7", self.cancel, self.progress)

    def cancel(self) -> bool:
        self.asked += 1
        self.meanwhile()
        return self.consents

    def progress(self) -> Progress:
        return Progress("job_7", JobState.MAP, {Phase.MAP: PhaseProgress(done=1, total=4)})


def pending() -> Job:
    """A job that no master has."""
    return Job()


def running() -> Job:
    """A job that a master has."""
    job = Job()
    job.future.begin()
    return job


def finished(result: Result | BaseException = RESULT) -> Job:
    """A job that has ended."""
    job = running()
    job.future.end(result)
    return job


def cancelled() -> Job:
    """A job that was cancelled."""
    job = running()
    assert job.future.cancel()
    return job


def states(future: JobFuture) -> tuple[bool, bool, bool]:
    return future.running(), future.done(), future.cancelled()


# ---------------------------------------------------------------- states and results


def test_a_future_is_one_of_the_standard_library_s() -> None:
    """isinstance holds."""
    assert isinstance(pending().future, futures.Future)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (pending, (False, False, False)),
        (running, (True, False, False)),
        (finished, (False, True, False)),
        (cancelled, (False, True, True)),
    ],
)
def test_each_state_shows_as_the_standard_library_says(
    make: Callable[[], Job], expected: tuple[bool, bool, bool]
) -> None:
    """running(), done(), cancelled()."""
    assert states(make().future) == expected


def test_a_result_is_returned_and_there_is_no_exception() -> None:
    """Again and again."""
    future = finished().future
    assert future.result() == future.result(timeout=0) == RESULT
    assert future.exception() is None


def test_an_exception_is_raised_as_it_is_and_can_be_asked_for() -> None:
    """The very object, with its cause."""
    error = ValueError("no")
    error.__cause__ = RuntimeError("remote")
    future = finished(error).future
    with pytest.raises(ValueError, match="no") as caught:
        future.result()
    assert caught.value is future.exception() is error
    assert caught.value.__cause__ is error.__cause__


@pytest.mark.parametrize("make", [pending, running])
def test_waiting_has_an_end(make: Callable[[], Job]) -> None:
    """The built-in TimeoutError, which is that of concurrent.futures; the future is unhurt."""
    job = make()
    before = states(job.future)
    for wait in (job.future.result, job.future.exception):
        with pytest.raises(TimeoutError):
            wait(timeout=0.01)
    assert states(job.future) == before
    job.future.end(RESULT)
    assert job.future.result() == RESULT


def test_a_cancelled_future_s_result_is_a_cancellation() -> None:
    """Its exception too."""
    future = cancelled().future
    for ask in (future.result, future.exception):
        with pytest.raises(futures.CancelledError):
            ask(timeout=0)


def test_a_result_set_on_another_thread_wakes_those_that_wait() -> None:
    """All of them."""
    job = running()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(job.future.result, PATIENCE) for _ in range(3)]
        pool.submit(job.future.end, RESULT)
        assert [wait.result(PATIENCE) for wait in waiting] == [RESULT] * 3


def test_a_cancellation_on_another_thread_wakes_those_that_wait() -> None:
    """With CancelledError."""
    job = running()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(job.future.exception, PATIENCE) for _ in range(3)]
        assert job.future.cancel()
        for wait in waiting:
            with pytest.raises(futures.CancelledError):
                wait.result(PATIENCE)


def test_what_ends_first_stays() -> None:
    """A second end is not heard, and raises nothing."""
    job = finished()
    job.future.end(ValueError("late"))
    job.future.begin()
    assert job.future.result() == RESULT
    assert job.future.end_cancelled() is False
    gone = cancelled()
    gone.future.begin()
    gone.future.end(RESULT)
    assert states(gone.future) == (False, True, True)


# ---------------------------------------------------------------- cancel


@pytest.mark.parametrize("make", [pending, running])
def test_a_job_that_has_not_ended_is_cancelled(make: Callable[[], Job]) -> None:
    """Unlike a thread's call, also while it runs."""
    job = make()
    assert job.future.cancel() is True
    assert states(job.future) == (False, True, True)


def test_a_job_that_has_ended_is_not_cancelled() -> None:
    """Nor is the cluster asked."""
    for job in (finished(), finished(ValueError("no"))):
        assert job.future.cancel() is False
        assert (job.future.cancelled(), job.asked) == (False, 0)


def test_a_job_that_is_cancelled_can_be_cancelled_again() -> None:
    """True, as in the standard library, and the cluster is asked once."""
    job = cancelled()
    assert job.future.cancel() is True
    assert job.asked == 1


def test_a_cluster_that_could_not_be_told_leaves_the_future_as_it_was() -> None:
    """And cancel() may be tried again."""
    job = running()
    job.consents = False
    assert job.future.cancel() is False
    assert states(job.future) == (True, False, False)
    job.consents = True
    assert job.future.cancel() is True


def test_a_job_that_ends_while_the_cluster_is_asked_is_not_cancelled() -> None:
    """The result was there first."""
    job = running()
    job.meanwhile = lambda: job.future.end(RESULT)
    assert job.future.cancel() is False
    assert job.future.result() == RESULT


def test_a_job_whose_record_says_so_first_is_cancelled_all_the_same() -> None:
    """The client's thread reads the record before cancel() returns."""
    job = running()
    job.meanwhile = job.future.end_cancelled
    assert job.future.cancel() is True
    assert states(job.future) == (False, True, True)


def test_begin_cancel_and_end_may_meet_from_any_threads() -> None:
    """Whichever comes first: one end, callbacks called once, nothing raised."""
    for _ in range(100):
        job = pending()
        calls: list[JobFuture] = []
        job.future.add_done_callback(calls.append)  # type: ignore[arg-type]  # a JobFuture is passed
        together = threading.Barrier(4)
        acts: list[Callable[[], object]] = [
            job.future.begin,
            job.future.cancel,
            job.future.end_cancelled,
            lambda future=job.future: future.end(RESULT),  # type: ignore[misc]  # a default's type
        ]

        def act(call: Callable[[], object], together: threading.Barrier = together) -> object:
            together.wait(PATIENCE)
            return call()

        with ThreadPoolExecutor(4) as pool:
            outcomes = [pool.submit(act, call) for call in acts]
            assert [outcome.exception(PATIENCE) for outcome in outcomes] == [None] * 4
        assert job.future.done()
        assert calls == [job.future]
        assert outcomes[1].result() is outcomes[2].result() is job.future.cancelled()


# ---------------------------------------------------------------- callbacks


@pytest.mark.parametrize("end", [lambda job: job.future.end(RESULT), lambda job: job.future.cancel()])
def test_callbacks_are_called_once_each_in_their_order(end: Callable[[Job], object]) -> None:
    """With the future, once it is done."""
    job, calls = running(), []
    for number in range(3):
        job.future.add_done_callback(lambda f, n=number: calls.append((n, f, f.done())))  # type: ignore[misc]
    assert calls == []
    end(job)
    assert calls == [(number, job.future, True) for number in range(3)]


@pytest.mark.parametrize("make", [finished, cancelled])
def test_a_callback_that_comes_late_is_called_at_once(make: Callable[[], Job]) -> None:
    """On the thread that adds it."""
    job, calls = make(), []
    job.future.add_done_callback(lambda _future: calls.append(threading.current_thread()))
    assert calls == [threading.current_thread()]


@pytest.mark.parametrize("end", [lambda job: job.future.end(RESULT), lambda job: job.future.cancel()])
def test_a_callback_that_raises_is_logged_and_hurts_no_other(
    end: Callable[[Job], object], caplog: pytest.LogCaptureFixture
) -> None:
    """As the standard library does it."""
    job = running()
    calls: list[object] = []
    job.future.add_done_callback(lambda _future: 1 / 0)
    job.future.add_done_callback(calls.append)
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        end(job)
    assert calls == [job.future]
    assert "exception calling callback" in caplog.text


def test_a_callback_may_ask_and_cancel_the_future_itself() -> None:
    """No lock is held while it is called; on this thread, or on one that it waits for."""
    job, calls = running(), []

    def callback(future: futures.Future[Result]) -> None:
        calls.append(future.cancel())
        with ThreadPoolExecutor(1) as pool:
            calls.append(pool.submit(future.cancel).result(PATIENCE))
            calls.append(pool.submit(future.done).result(PATIENCE))

    job.future.add_done_callback(callback)
    assert job.future.cancel()
    assert calls == [True, True, True]


# ---------------------------------------------------------------- wait and as_completed


@pytest.mark.parametrize(
    ("condition", "done_by"),
    [(futures.FIRST_COMPLETED, {0}), (futures.FIRST_EXCEPTION, {0, 1}), (futures.ALL_COMPLETED, {0, 1, 2})],
)
def test_wait_returns_when_it_should(condition: str, done_by: set[int]) -> None:
    """After the first, after the first exception, after all: with a cancelled one among them."""
    jobs = [running() for _ in range(3)]
    ends: list[Callable[[], object]] = [
        lambda: jobs[0].future.cancel(),
        lambda: jobs[1].future.end(ValueError("no")),
        lambda: jobs[2].future.end(RESULT),
    ]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(futures.wait, [job.future for job in jobs], PATIENCE, condition)
        for number in sorted(done_by):
            ends[number]()
        done, not_done = waiting.result(PATIENCE)
    assert {jobs[number].future for number in done_by} >= done
    assert done
    assert done | not_done == {job.future for job in jobs}
    if condition == futures.ALL_COMPLETED:
        assert not not_done


def test_wait_knows_of_those_that_have_ended_before() -> None:
    """Cancelled ones too: they are done."""
    jobs = [finished(), cancelled(), finished(ValueError("no"))]
    done, not_done = futures.wait([job.future for job in jobs], timeout=0)
    assert done == {job.future for job in jobs}
    assert not not_done


def test_wait_has_an_end() -> None:
    """What is not done is told apart."""
    jobs = [running(), cancelled()]
    done, not_done = futures.wait([job.future for job in jobs], timeout=0.01)
    assert (done, not_done) == ({jobs[1].future}, {jobs[0].future})


def test_as_completed_yields_each_when_it_ends_also_those_that_are_cancelled_meanwhile() -> None:
    """In the order in which they end."""
    jobs = [running() for _ in range(3)]
    completed = futures.as_completed([job.future for job in jobs], timeout=PATIENCE)
    jobs[2].future.cancel()
    assert next(completed) is jobs[2].future
    jobs[0].future.end(RESULT)
    assert next(completed) is jobs[0].future
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, completed)
        jobs[1].future.cancel()
        assert following.result(PATIENCE) is jobs[1].future
    assert list(completed) == []


def test_as_completed_has_an_end() -> None:
    """And says how many are missing."""
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        list(futures.as_completed([running().future, finished().future], timeout=0.01))


# ---------------------------------------------------------------- asyncio


def test_a_coroutine_can_await_a_job() -> None:
    """That ends on another thread."""

    async def main(job: Job) -> Result:
        asyncio.get_running_loop().run_in_executor(None, job.future.end, RESULT)
        return await asyncio.wait_for(asyncio.wrap_future(job.future), PATIENCE)

    assert asyncio.run(main(running())) == RESULT


def test_a_coroutine_gets_the_exception_of_a_job() -> None:
    """As its own."""

    async def main(job: Job) -> Result:
        asyncio.get_running_loop().run_in_executor(None, job.future.end, ValueError("no"))
        return await asyncio.wait_for(asyncio.wrap_future(job.future), PATIENCE)

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main(running()))


def test_cancelling_what_awaits_a_job_cancels_the_job() -> None:
    """asyncio passes it on."""

    async def main(job: Job) -> None:
        task = asyncio.ensure_future(asyncio.wait_for(asyncio.wrap_future(job.future), PATIENCE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    job = running()
    asyncio.run(main(job))
    assert (job.future.cancelled(), job.asked) == (True, 1)


def test_cancelling_a_job_cancels_what_awaits_it() -> None:
    """From another thread."""

    async def main(job: Job) -> None:
        wrapped = asyncio.wrap_future(job.future)
        asyncio.get_running_loop().run_in_executor(None, job.future.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(wrapped, PATIENCE)

    asyncio.run(main(running()))


# ---------------------------------------------------------------- for people


@pytest.mark.parametrize(
    ("make", "state", "html"),
    [
        (pending, "state=pending", "pending"),
        (running, "state=running", "running"),
        (finished, "state=finished returned list", "finished"),
        (lambda: finished(ValueError()), "state=finished raised ValueError", "finished"),
        (cancelled, "state=cancelled", "cancelled"),
    ],
)
def test_a_future_s_text_names_the_job_and_its_state(make: Callable[[], Job], state: str, html: str) -> None:
    """In a console, and in a notebook."""
    future = make().future
    assert repr(future).startswith("<JobFuture job_7 at 0x")
    assert state in repr(future)
    assert future._repr_html_() == f"<code>job_7</code>: {html}"


def test_progress_is_what_the_client_reads() -> None:
    """One task of four."""
    progress = running().future.progress()
    assert progress.fraction == 0.25
    assert str(progress) == "job_7 map: map 1/4"


def test_a_job_s_fraction_is_between_nothing_and_all() -> None:
    """Without any news nothing, and all once it is completed."""
    assert Progress("job_7", JobState.SUBMITTED, {}).fraction == 0.0
    assert str(Progress("job_7", JobState.SUBMITTED, {})) == "job_7 submitted: not begun"
    assert Progress("job_7", JobState.COMPLETED, {}).fraction == 1.0
    assert Progress("job_7", JobState.REDUCE, {Phase.MAP: PhaseProgress()}).fraction == 0.0
