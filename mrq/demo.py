"""The main job on real input: count the words of Python's standard library.

    corpus (files) -> map: (word, 1) -> shuffle -> reduce: sum -> the twenty most frequent

The same job runs embedded and on the servers; `Crew` starts the masters and workers that a cluster lacks.
"""

from __future__ import annotations

import re
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrq.core.model import PHASES, Phase
from mrq.errors import MrqError, Unavailable
from mrq.records import PhaseProgress

if TYPE_CHECKING:  # the workers' children import this module for its functions, and need neither
    from rich.console import Console

    from mrq.client import JobClient
    from mrq.future import JobFuture

WORD = re.compile(r"[^\W\d]\w*")
SPLITS = 16
REDUCERS = 8
TOP = 20
LOOK_EVERY = 0.1
"""Seconds between two looks at the job's progress."""
LINE_EVERY = 1.0
"""Seconds between two lines of progress, where there is no terminal to draw bars on."""
LAST_NEWS_WITHIN = 2.0
"""Seconds to wait for the last progress of a job that has ended: its master publishes it afterwards."""


def map_words(texts: list[str]) -> Iterator[tuple[str, int]]:
    """Tell a 1 for every word of the texts."""
    return ((word, 1) for text in texts for word in WORD.findall(text))


def count(ones: list[int]) -> int:
    """Add up what one word has."""
    return sum(ones)


@dataclass(frozen=True)
class Corpus:
    """The ``.py`` files of the running Python's standard library, read one by one as they are iterated over.

    Left out are ``site-packages``, which is not the library's, and ``test``, CPython's tests of itself, which
    distributions ship apart: what remains is much the same everywhere.

    Attributes:
        paths: the files, in the order of their names.
    """

    paths: tuple[Path, ...]

    @classmethod
    def find(cls, limit: int | None = None) -> Corpus:
        """Look for the files.

        Args:
            limit: take the first so many only.

        Raises:
            MrqError: this Python has its library elsewhere, as in a zip archive.
        """
        root = Path(sysconfig.get_path("stdlib"))
        elsewhere = {"site-packages", "dist-packages", "test"}
        found = sorted(p for p in root.rglob("*.py") if p.relative_to(root).parts[0] not in elsewhere)
        if not found:
            raise MrqError(f"there is no .py file in this Python's standard library, {root}")
        return cls(tuple(found[:limit]))

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(path.stat().st_size for path in self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[str]:
        for path in self.paths:
            yield path.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Outcome:
    """What the job has come to.

    Attributes:
        job_id: the job.
        files: of the corpus.
        n_bytes: of the corpus.
        tasks: that were committed.
        records: (word, 1) pairs that the map tasks made.
        distinct: words.
        seconds: from submission to result.
        top: the most frequent words and their counts.
        checked: whether the counts are those of a plain evaluation; None when that was not asked for.
    """

    job_id: str
    files: int
    n_bytes: int
    tasks: int
    records: int
    distinct: int
    seconds: float
    top: list[tuple[str, int]]
    checked: bool | None = None

    def summary(self) -> str:
        """Return the summary line."""
        rate = self.n_bytes / 1e6 / self.seconds
        line = (
            f"{self.job_id}: {self.tasks} tasks, {self.records:,} records ({self.distinct:,} distinct words), "
            f"{self.n_bytes:,} bytes of {self.files} files in {self.seconds:.1f} s ({rate:.1f} MB/s)"
        )
        verdicts = {
            None: "",
            True: "; equal to a plain evaluation",
            False: "; NOT equal to a plain evaluation",
        }
        return line + verdicts[self.checked]


def run(cluster: JobClient, corpus: Corpus, console: Console, *, check: bool = False) -> Outcome:
    """Count the corpus's words on a cluster, and show how it goes. Nothing of the job is left over.

    Args:
        cluster: embedded, or a client of the servers.
        corpus: what to count.
        console: where the progress is shown: bars on a terminal, lines elsewhere.
        check: count in this process too, and compare.

    Raises:
        MrqError: the job failed.
    """
    begun = time.monotonic()
    future = cluster.mapreduce(corpus, map_words, count, SPLITS, n_reducers=min(REDUCERS, len(corpus)))
    try:
        progress = follow(future, console)
        counts = dict(future.result())
    except BaseException:
        with suppress(MrqError):  # what raised is what counts
            future.cancel()
            cluster.clear(future.job_id, force=True)
        raise
    seconds = time.monotonic() - begun
    cluster.clear(future.job_id)
    return Outcome(
        job_id=future.job_id,
        files=len(corpus),
        n_bytes=corpus.n_bytes,
        tasks=sum(phase.done for phase in progress.values()),
        records=sum(counts.values()),
        distinct=len(counts),
        seconds=seconds,
        top=sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP],
        checked=counts == plain(corpus) if check else None,
    )


def plain(corpus: Corpus) -> Counter[str]:
    """Count without mrq."""
    counts: Counter[str] = Counter()
    for text in corpus:
        counts.update(WORD.findall(text))
    return counts


# ------------------------------------------------------------ progress

Phases = Mapping[Phase, PhaseProgress]


def follow(future: JobFuture, console: Console) -> Phases:
    """Show the job's progress until it ends; return the last that was seen."""
    seen: Phases = {}
    with _Bars(console) if console.is_terminal else _Lines(console) as view:
        while not wait([future], LOOK_EVERY).done:
            seen = _look(future, seen)
            view.show(seen)
        if future.exception() is None:
            seen = _last_news(future, seen)
            view.show(seen)
    return seen


def _look(future: JobFuture, before: Phases) -> Phases:
    try:
        return future.progress().phases or before
    except Unavailable:  # the future itself says when it lasts too long
        return before


def _last_news(future: JobFuture, seen: Phases) -> Phases:
    until = time.monotonic() + LAST_NEWS_WITHIN
    while not (seen and all(p.done == p.total for p in seen.values())) and time.monotonic() < until:
        time.sleep(LOOK_EVERY / 2)
        seen = _look(future, seen)
    return seen


class _Bars:
    """A bar for each phase."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks = {
            phase: self._progress.add_task(phase.value, total=None, start=False) for phase in PHASES
        }
        self._started: set[Phase] = set()

    def show(self, phases: Phases) -> None:
        for phase, state in phases.items():
            if phase not in self._started and self._is_on(phase, phases):
                self._progress.start_task(self._tasks[phase])
                self._started.add(phase)
            self._progress.update(self._tasks[phase], total=state.total, completed=state.done)

    @staticmethod
    def _is_on(phase: Phase, phases: Phases) -> bool:
        earlier = PHASES[: PHASES.index(phase)]
        return all(phases[p].done == phases[p].total for p in earlier if p in phases)

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class _Lines:
    """A line when a phase ends, and every second in which a task did."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[Phase, int] = {}
        self._at = 0.0

    def show(self, phases: Phases) -> None:
        due = time.monotonic() - self._at >= LINE_EVERY
        for phase in PHASES:
            state = phases.get(phase)
            if (
                state is None
                or state.done == self._shown.get(phase, 0)
                or not (due or state.done == state.total)
            ):
                continue
            self._shown[phase] = state.done
            self._at = time.monotonic()
            self._console.print(f"{phase.value:8}{state.done}/{state.total} tasks", highlight=False)

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def table(outcome: Outcome) -> Any:
    """Return the most frequent words as a rich table."""
    from rich import box
    from rich.table import Table

    drawn = Table("", "word", "count", box=box.SIMPLE_HEAD)
    for column in (0, 2):
        drawn.columns[column].justify = "right"
    for place, (word, number) in enumerate(outcome.top, 1):
        drawn.add_row(str(place), word, f"{number:,}")
    return drawn
