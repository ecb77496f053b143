"""What came of a campaign, as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import pytest

from tests.chaos.traffic import Run

TABLE = pytest.StashKey[list[str]]()
"""Where a test run keeps what is printed at its end."""


@dataclass
class Row:
    """What came of one fault.

    Attributes:
        recovered: for each time that jobs were in flight, the seconds until every one of them had gone on.
        reruns: runs of map tasks beyond the first, while it lasted and until then.
        struck: the jobs that were in flight.
    """

    times: int = 0
    recovered: list[float] = field(default_factory=list)
    reruns: int = 0
    struck: list[Run] = field(default_factory=list)

    def note(self, flying: list[Run], seconds: float | None, reruns: int) -> None:
        """It happened once more."""
        self.times += 1
        self.reruns += reruns
        self.struck += flying
        if flying and seconds is not None:
            self.recovered.append(seconds)

    def count(self, verdict: str) -> int:
        """Return how many of the jobs came to that."""
        return sum(run.verdict == verdict for run in self.struck)


def draw_table(rows: dict[str, Row]) -> list[str]:
    """Return the table as lines of Markdown."""
    lines = ["| fault | times | recovered in, median (s) | max (s) | reruns | lost | hung |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    return lines + [_line(name, row) for name, row in rows.items()]


def _line(name: str, row: Row) -> str:
    middle, most = (
        (f"{median(row.recovered):.1f}", f"{max(row.recovered):.1f}") if row.recovered else ("", "")
    )
    return f"| {name} | {row.times} | {middle} | {most} | {row.reruns} | {row.count('lost')} | {row.count('hung')} |"
