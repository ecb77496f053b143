"""Where a job's time went: the critical path, the shares and the page, of timelines made by hand and by chance."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.core.model import PHASES, JobState, Phase
from mrq.report import Report, picture
from mrq.report.bars import CHILD_KINDS, KINDS, end_of
from mrq.timeline import Act, Attempt, Timeline

MAP, SHUFFLE, REDUCE = Phase
TICK = 0.001


def timeline(**more: Any) -> Timeline:
    fields: dict[str, Any] = {
        "job_id": "job_7", "state": JobState.COMPLETED, "n_map": 1, "n_reduce": 0, "zero": 1e9, "resumed": False,
        "called": -1.0, "submitted": -0.5, "acts": [], "workers": ["ada"], "attempts": {},
    }  # fmt: skip
    return Timeline(**(fields | more))


def attempt(task: int, published: float, received: float, *, took: float = 1.0, **more: Any) -> Attempt:
    """One that is done: a tick until it begins, then half reading, half running, and a tick each to tell and hear."""
    began = received + TICK
    fields: dict[str, Any] = {
        "attempt": 0, "worker": 0, "end": "done", "spent": {"run": took / 2, "read": took / 2}, "began": began,
        "sent": began + took + TICK, "heard": began + took + 2 * TICK, "records_in": 1, "records_out": 2,
    }  # fmt: skip
    return Attempt(task=task, published=published, received=received, **(fields | more))


def names(report: Report) -> list[str]:
    """Return the tasks on the critical path, each once, in order."""
    tasks = [segment.task for segment in report.path if segment.task]
    return list(dict.fromkeys(tasks))


# ---------------------------------------------------------------- jobs as they might have gone


class Played:
    """A job on workers of one slot each, whose times are drawn: a master gives out tasks within a window."""

    def __init__(self, draw: Callable[..., Any], n_workers: int, *, skewed: bool, failing: bool) -> None:
        self.draw = draw
        self.failing = failing
        seconds = st.floats(0.001, 5.0)
        self.free = [0.0] * n_workers
        self.skew = [draw(st.floats(-3, 3)) if skewed else 0.0 for _ in range(n_workers)]
        self.window = draw(st.integers(1, 6))
        self.seconds = seconds
        self.rows: dict[Phase, list[Attempt]] = {phase: [] for phase in PHASES}
        self.acts: list[Act] = []
        self.now = 0.0

    def play(self, n_map: int, n_reduce: int) -> Timeline:
        for phase in PHASES:
            self._act("persist")
            self._phase(phase, n_map if phase is MAP else n_reduce)
        for kind in ("manifest", "clean", "persist"):
            self._act(kind)
        workers = [f"worker-{n}" for n in range(len(self.free))]
        return timeline(
            n_map=n_map, n_reduce=n_reduce, acts=self.acts, workers=workers, attempts=self.rows,
            called=-self.draw(self.seconds) - 5, submitted=-self.draw(st.floats(0, 5)),
        )  # fmt: skip

    def _act(self, kind: str) -> None:
        took = self.draw(st.floats(0.001, 0.01))
        self.acts.append(Act(kind, self.now, self.now + took))
        self.now += took

    def _phase(self, phase: Phase, n_tasks: int) -> None:
        queue: list[tuple[int, int]] = [(task, 0) for task in range(n_tasks)]
        out: list[Attempt] = []
        while queue or out:
            while queue and len(out) < self.window:
                task, number = queue.pop(0)
                out.append(self._run(task, number))
            out.sort(key=lambda row: row.heard or 0.0)
            row = out.pop(0)
            self.now = max(self.now, row.heard or 0.0)
            self.rows[phase].append(row)
            if row.end != "done":
                queue.append((row.task, row.attempt + 1))

    def _run(self, task: int, number: int) -> Attempt:
        worker = min(range(len(self.free)), key=lambda n: self.free[n])
        received = max(self.free[worker], self.now) + TICK
        fails = self.failing and number < 2 and self.draw(st.booleans())
        skew = self.skew[worker]
        row = attempt(
            task, self.now, received + skew, took=self.draw(self.seconds), worker=worker, attempt=number
        )
        assert row.heard
        assert row.sent
        self.free[worker] = row.sent - skew
        return row._replace(heard=row.heard - skew, end="raised" if fails else "done")


@st.composite
def played(draw: Callable[..., Any], n_workers: int | None = None, **more: bool) -> Timeline:
    workers = n_workers or draw(st.integers(1, 4))
    flags = {"skewed": False, "failing": False} | more
    return Played(draw, workers, **flags).play(draw(st.integers(1, 6)), draw(st.integers(1, 4)))


# ---------------------------------------------------------------- laws


def check_path(report: Report) -> None:
    """The path goes from the call to the end without a gap, and its shares are the whole of it."""
    timeline = report.timeline
    late = max(0.0, timeline.submitted)
    assert report.path[0].began == pytest.approx(timeline.called - late)
    assert report.path[-1].ended == end_of(timeline)
    for one, two in pairwise(report.path):
        assert one.ended == two.began
    assert all(segment.seconds > 0 and segment.kind in KINDS for segment in report.path)
    total = sum(share.path for share in report.shares().values())
    assert total == pytest.approx(report.seconds, abs=1e-4 * len(KINDS))


def check_bars(report: Report) -> None:
    """Each bar goes from its publishing to its report without a gap."""
    for bar in report.bars:
        if bar.segments:
            first = bar.received if bar.published is None else bar.published
            assert (bar.segments[0].began, bar.segments[-1].ended) == (first, bar.heard)
        for one, two in pairwise(bar.segments):
            assert one.ended == two.began
        assert bar.published is None or bar.published <= bar.received
        assert bar.received <= bar.ended <= bar.heard


@given(played(skewed=True, failing=True))
def test_path_and_bars_have_no_gaps(played: Timeline) -> None:
    """Whatever failed, and whatever the clocks showed."""
    report = Report(played)
    check_path(report)
    check_bars(report)


@given(played(n_workers=1, failing=True))
def test_with_one_worker_every_attempt_is_on_the_path(played: Timeline) -> None:
    """For each waits for the one before; so all that was read and run is on it."""
    shares = Report(played).shares()
    for kind in ("read", "run"):
        assert shares[kind].path == pytest.approx(shares[kind].tasks, abs=1e-4)


@given(played(failing=True))
def test_the_end_of_each_phase_is_on_the_path(played: Timeline) -> None:
    """The task that was heard of last: nothing else could have begun the next phase."""
    report = Report(played)
    for phase, rows in played.attempts.items():
        end = max(row.heard or 0.0 for row in rows)
        last = {f"{phase.value} {row.task}" for row in rows if row.heard == end}
        assert last & set(names(report))


@given(played(skewed=True))
def test_clocks_are_moved_so_that_causes_come_first(played: Timeline) -> None:
    """And no further: what a child measured is what the bar shows."""
    report = Report(played)
    for bar in report.bars:
        row = bar.attempt
        shift = report.shifts.get(bar.worker, 0.0)
        assert row.received + shift >= row.published - 1e-6  # type: ignore[operator]
        assert row.sent + shift <= row.heard + 1e-6  # type: ignore[operator]
        shown = {s.kind: s.seconds for s in bar.segments if s.kind in CHILD_KINDS}
        assert shown == pytest.approx(row.spent, abs=1e-3)


def times(*, known: bool = False) -> st.SearchStrategy[Any]:
    return st.floats(-1e4, 1e4) if known else st.none() | st.floats(-1e4, 1e4)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(PHASES),
            st.builds(
                Attempt, task=st.integers(0, 3), attempt=st.integers(0, 2), worker=st.integers(0, 1),
                end=st.sampled_from(["done", "second", "raised", "crashed", "lost"]), published=times(),
                received=times(), spent=st.dictionaries(st.sampled_from([*CHILD_KINDS, "new"]), st.floats(0, 1e4)),
                began=times(), sent=times(), heard=times(),
            ),
        ),
        max_size=8,
    ),
    times(known=True),
    times(known=True),
    st.booleans(),
)  # fmt: skip
def test_times_that_can_t_be_so_still_make_a_report(
    rows: list[tuple[Phase, Attempt]], called: float, submitted: float, resumed: bool
) -> None:
    """Clocks are set, reports are lost: something is shown, and it is whole."""
    attempts = {phase: [row for its, row in rows if its is phase] for phase in PHASES}
    acts = [Act("persist", 0.0, 1.0), Act("persist", 2.0, 3.0)]
    odd = timeline(
        attempts=attempts, workers=["ada", "bob"], called=min(called, submitted), submitted=submitted, acts=acts,
        resumed=resumed,
    )  # fmt: skip
    report = Report(odd)
    check_bars(report)
    for one, two in pairwise(report.path):
        assert one.ended == two.began
    assert report.path[-1].ended == 3.0
    ElementTree.fromstring(report.html().removeprefix("<!DOCTYPE html>"))


# ---------------------------------------------------------------- cases


def test_a_task_that_waited_for_a_busy_worker_leads_to_what_kept_it() -> None:
    """Not to the queue."""
    rows = [attempt(0, 0.0, TICK, took=5.0), attempt(1, 0.0, 5.01)]
    report = Report(timeline(n_map=2, attempts={MAP: rows}))
    assert names(report) == ["map 0", "map 1"]
    assert report.shares()["queue"].path < 0.02
    assert report.shares()["queue"].tasks > 5


def test_a_retry_leads_to_the_failure_that_it_makes_good() -> None:
    """Though another task was heard of later."""
    rows = [
        attempt(0, 0.0, TICK, took=1.0, end="raised"),
        attempt(1, 0.0, TICK, took=1.5, worker=1),
        attempt(0, 3.0, 3.0 + TICK, took=1.0, attempt=1),
    ]
    report = Report(timeline(n_map=2, workers=["ada", "bob"], attempts={MAP: rows}))
    assert names(report) == ["map 0"]
    assert report.shares()["retry"].path == pytest.approx(3.0 - (1.0 + 4 * TICK))


def test_a_worker_that_was_lost_with_a_task_is_told_as_such() -> None:
    """The time until another worker had it."""
    lost = Attempt(task=0, attempt=0, worker=0, end="lost", published=0.0, received=0.1, spent={})
    report = Report(timeline(workers=["ada", "bob"], attempts={MAP: [lost, attempt(0, 0.0, 7.1, worker=1)]}))
    assert report.shares()["lost"].path == pytest.approx(7.0)
    assert report.phases()[MAP].attempts == {"lost": 1, "done": 1}
    titles = [task[0].text or "" for task in drawn(report).iter() if task.get("class") == "task"]
    assert titles[0] == "map 0, attempt 0 at ada: lost; nothing was heard of its end"
    assert titles[1].startswith("map 0, attempt 0 at bob: done")


def test_what_was_under_another_master_is_unknown() -> None:
    """Its tasks, and the time until this master had the job."""
    rows = {MAP: [attempt(2, 0.0, 0.1)]}
    report = Report(timeline(resumed=True, n_map=3, called=-9.0, submitted=-8.0, attempts=rows))
    assert report.phases()[MAP].unknown == 2
    assert report.shares()["unknown"].path == 9.0
    assert "Another master" in report.html()


def test_a_client_whose_clock_is_ahead_takes_no_time_from_the_master() -> None:
    """Its times are moved, too."""
    report = Report(timeline(called=6.0, submitted=7.0, attempts={MAP: [attempt(0, 0.0, 0.1)]}))
    assert (report.path[0].kind, report.path[0].seconds) == ("upload", 1.0)


def test_a_job_without_tasks_has_a_report() -> None:
    """It was claimed, and was done."""
    report = Report(timeline(n_map=0, acts=[Act("persist", 0.1, 0.2)]))
    assert [segment.kind for segment in report.path] == ["upload", "claim", "master", "persist"]
    ElementTree.fromstring(report.html().removeprefix("<!DOCTYPE html>"))


# ---------------------------------------------------------------- the page


def drawn(report: Report) -> ElementTree.Element:
    return ElementTree.fromstring(report.html().removeprefix("<!DOCTYPE html>"))


@given(played(skewed=True, failing=True))
def test_the_page_is_well_formed_and_shows_each_attempt(played: Timeline) -> None:
    """With a title that tells of it; a failed one is marked; and it asks for nothing."""
    report = Report(played)
    tasks = [element for element in drawn(report).iter() if element.get("class") == "task"]
    titles = [(task[0].text or "").partition(":")[0] for task in tasks]
    assert sorted(titles) == sorted(
        f"{bar.task}, attempt {bar.attempt.attempt} at {bar.worker}" for bar in report.bars
    )
    failed = sum(bar.attempt.end != "done" for bar in report.bars)
    assert report.html().count('class="failed') == failed
    for word in ("<script", "src=", "href=", "@import", "url("):
        assert word not in report.html()


def test_names_are_not_taken_for_html() -> None:
    """A worker may be called anything."""
    odd = timeline(job_id="job_<7>", workers=["<b>&\"'"], attempts={MAP: [attempt(0, 0.0, 0.1)]})
    assert drawn(Report(odd)).find(".//b") is None
    assert "<b>" not in Report(odd)._repr_html_()


def test_ten_thousand_tasks_are_all_drawn_and_fit_a_page() -> None:
    """As a path a kind; of a few megabytes."""
    n = 10_000
    rows = [attempt(i, 0.0, i / 100 + i % 100 * TICK, worker=i % 100, took=0.9) for i in range(n)]
    rows[77] = rows[77]._replace(end="raised")
    report = Report(timeline(n_map=n, workers=[f"w-{i}" for i in range(100)], attempts={MAP: rows}))
    paths = {
        element[0].text: element.get("d", "").count("M")
        for element in ElementTree.fromstring(picture.picture(report)).iter(
            "{http://www.w3.org/2000/svg}path"
        )
        if len(element)
    }
    assert paths["run"] + paths["read"] >= n
    assert paths["failed, lost or second"] == 1
    assert len(report.html()) < 4e6
