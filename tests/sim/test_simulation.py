"""Whatever befalls it, every promise is kept; and the simulation would see if one was not."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.sim.golden import FOLDER, STORIES, story
from tests.sim.mutations import BEGIN, DOCS, END, MUTATIONS
from tests.sim.schedule import run

SCHEDULES = 10_000 if os.environ.get("CI") else 300
"""Fewer where somebody waits for the tests."""


@pytest.mark.timeout(900)
def test_no_schedule_breaks_a_promise() -> None:
    command = [sys.executable, "-m", "tests.sim", "--seeds", f"0..{SCHEDULES - 1}"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_seed_tells_the_same_story_each_time() -> None:
    one, other = run(17, telling=True)[1], run(17, telling=True)[1]
    assert one.story == other.story
    assert len(one.story) > 20


def test_telling_the_story_changes_nothing() -> None:
    _, told = run(23, telling=True)
    _, silent = run(23)
    assert (told.n_events, told.now) == (silent.n_events, silent.now)


@pytest.mark.parametrize("title", STORIES)
def test_a_story_reads_as_it_did(title: str) -> None:
    """After a change that is meant: ``python -m tests.sim.golden``, and read the difference."""
    assert story(title) == (FOLDER / f"{title}.txt").read_text(encoding="utf-8")


def documented() -> dict[str, int]:
    """Return after how many seeds each mutation is caught, as the docs say."""
    text = DOCS.read_text(encoding="utf-8")
    table = text[text.index(BEGIN) : text.index(END)]
    return {name: int(n) for name, n in re.findall(r"\(`([\w-]+)`\).*\| (\d+) \|", table)}


def test_the_docs_name_every_mutation() -> None:
    """``python -m tests.sim.mutations`` writes the table."""
    assert documented().keys() == MUTATIONS.keys()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_caught(name: str) -> None:
    """By the seed that the docs name or a later one, in a process of its own: sets are gone through as there."""
    first = documented()[name] - 1
    played = subprocess.run(
        [sys.executable, "-m", "tests.sim.mutations", name, "--first", str(first)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    assert played.returncode == 0, played.stdout + played.stderr
