"""docs/states.md is drawn from the tables, so it can't tell another story."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_diagrams_are_those_of_the_tables() -> None:
    """If not: script/draw-states > docs/states.md."""
    script = ROOT / "script" / "draw-states"
    drawn = subprocess.run(
        [sys.executable, script], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert drawn == (ROOT / "docs" / "states.md").read_text(encoding="utf-8")


def test_the_script_can_be_run_by_itself() -> None:
    """As its usage says."""
    assert os.access(ROOT / "script" / "draw-states", os.X_OK)
