"""The board: who has which task, and how far the job is."""

from __future__ import annotations

import pytest

from mrq.board import PAGE_SIZE, Board
from mrq.core.events import CancelRequested, Event, JobClaimed, TaskDone, TaskFailed, TaskStarted
from mrq.core.job import step
from mrq.core.model import Job, JobState, Phase, Spec, TaskState
from mrq.records import ManifestEntry, PhaseProgress, TaskRow
from mrq.wire import Outcome, Report, Stats

MAP, SHUFFLE, REDUCE = Phase
STATS = Stats(records_in=1, records_out=2, bytes_in=3, bytes_out=4, seconds=0.5)
TWICE = Stats(records_in=2, records_out=4, bytes_in=6, bytes_out=8, seconds=1.0)
DONE = Outcome(kind="done", length=70, digest="ab", stats=STATS)


def report(phase: Phase, index: int, outcome: Outcome | None = None, attempt: int = 0) -> Report:
    return Report(
        job_id="job_7", phase=phase, index=index, epoch=1, attempt=attempt, worker="ada", outcome=outcome
    )


def job_after(*events: Event, n_map: int = 3, n_reduce: int = 2) -> Job:
    """A job in which that has happened since its claim."""
    job, _ = step(Job(Spec("job_7", n_map, n_reduce, 10)), JobClaimed(1, JobState.SUBMITTED, {}, 0.0))
    for event in events:
        job, _ = step(job, event)
    return job


def done(phase: Phase, *indices: int) -> list[Event]:
    return [TaskDone(phase, index, 1.0) for index in indices]


def rows(board: Board, job: Job) -> list[TaskRow]:
    """The rows of the one page that has changed."""
    [(_, page)] = board.changed_pages(job)
    return page.rows


def test_a_task_is_shown_with_its_worker_once_that_has_received_it() -> None:
    """The others are queued, and nobody's."""
    board = Board(3, 2)
    board.note(report(MAP, 1, attempt=2))
    job = job_after(TaskStarted(MAP, 1, 1, 0, "ada", 1.0))
    assert rows(board, job) == [
        TaskRow(index=0, state=TaskState.QUEUED),
        TaskRow(index=1, state=TaskState.RUNNING, worker="ada", received=True, attempt=2),
        TaskRow(index=2, state=TaskState.QUEUED),
    ]


def test_a_page_is_shown_again_only_when_there_is_news() -> None:
    """What was shown is not shown twice."""
    board, job = Board(3, 2), job_after()
    assert board.changed_pages(job) == []
    board.note(report(MAP, 0))
    assert len(board.changed_pages(job)) == 1
    assert board.changed_pages(job) == []


def test_a_large_phase_has_pages_and_only_those_with_news_are_shown() -> None:
    """Each with its number, the last one shorter."""
    n_map = 2 * PAGE_SIZE + 5
    board = Board(n_map, 1)
    board.note(report(MAP, 2 * PAGE_SIZE + 1))
    board.note(report(MAP, 3))
    shown = board.changed_pages(job_after(n_map=n_map))
    assert [(number, page.rows[0].index, len(page.rows)) for number, page in shown] == [
        (0, 0, PAGE_SIZE),
        (2, 2 * PAGE_SIZE, 5),
    ]


def test_what_the_committed_tasks_handled_is_added_up_by_phase() -> None:
    """Records, bytes and seconds."""
    board = Board(3, 2)
    for index in (0, 2):
        board.note(report(MAP, index, DONE))
    progress = board.progress(job_after(*done(MAP, 0, 2)))
    assert progress.phases == {
        MAP: PhaseProgress(done=2, total=3, stats=TWICE),
        SHUFFLE: PhaseProgress(done=0, total=2),
        REDUCE: PhaseProgress(done=0, total=2),
    }


def test_a_report_that_is_told_twice_counts_once() -> None:
    """Nor does a later attempt's start undo the end."""
    board = Board(3, 2)
    for outcome in (DONE, DONE, None, Outcome(kind="raised")):
        board.note(report(MAP, 0, outcome))
    assert board.progress(job_after(*done(MAP, 0))).phases[MAP] == PhaseProgress(done=1, total=3, stats=STATS)


@pytest.mark.parametrize("kind", ["raised", "timeout", "crashed", "refused", "killed"])
def test_an_attempt_without_a_result_counts_for_nothing(kind: str) -> None:
    """The next one may."""
    board = Board(3, 2)
    board.note(report(MAP, 0, Outcome.model_validate({"kind": kind, "stats": STATS})))
    board.note(report(MAP, 0, DONE, attempt=1))
    assert board.progress(job_after(*done(MAP, 0))).phases[MAP].stats == STATS


def test_a_phase_that_is_over_is_shown_complete_also_where_reports_were_lost() -> None:
    """The core knows better than the board."""
    board = Board(3, 2)
    board.note(report(MAP, 0, DONE))
    job = job_after(*done(MAP, 0, 1, 2))
    assert [row.state for row in rows(board, job)] == [TaskState.COMPLETED] * 3
    assert board.progress(job).phases[MAP].done == 3


def test_a_phase_that_is_to_come_is_shown_pending() -> None:
    """A report of an older epoch's shuffle may come before its time."""
    board, job = Board(3, 2), job_after()
    board.note(report(SHUFFLE, 0))
    assert [row.state for row in rows(board, job)] == [TaskState.PENDING] * 2
    assert board.progress(job).phases[SHUFFLE].done == 0


def test_a_completed_job_is_shown_complete() -> None:
    """In every phase."""
    board = Board(3, 2)
    job = job_after(*done(MAP, 0, 1, 2), *done(SHUFFLE, 0, 1), *done(REDUCE, 0, 1))
    assert job.state is JobState.COMPLETED
    assert all(phase.done == phase.total for phase in board.progress(job).phases.values())


@pytest.mark.parametrize(
    "end",
    [CancelRequested(2.0), TaskFailed(MAP, 1, 1, 0, "raised", 2.0)],
    ids=["cancelled", "failed"],
)
def test_a_job_that_came_to_a_bad_end_still_shows_what_it_had_done(end: Event) -> None:
    """Its committed tasks are not pending again."""
    board = Board(3, 2)
    board.note(report(MAP, 0, DONE))
    job = job_after(*done(MAP, 0), end)
    assert [row.state for row in rows(board, job)] == [
        TaskState.COMPLETED,
        TaskState.PENDING,
        TaskState.PENDING,
    ]
    assert board.progress(job).phases[MAP].done == 1


def test_the_manifest_s_entries_are_those_of_the_reduce_tasks() -> None:
    """Length, digest, and how many keys."""
    board = Board(3, 2)
    board.note(report(MAP, 0, DONE))
    board.note(report(REDUCE, 1, DONE))
    assert board.results == {1: ManifestEntry(length=70, digest="ab", records=2)}


def test_a_job_without_tasks_has_no_pages() -> None:
    """And nothing to do."""
    board = Board(0, 0)
    job = job_after(n_map=0, n_reduce=0)
    assert board.changed_pages(job) == []
    assert all(phase == PhaseProgress() for phase in board.progress(job).phases.values())
