"""The recipes without any server: the notebook's code as a script, on an `EmbeddedCluster`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.examples.notebook import script

RECIPES = "2-recipes.ipynb"


def test_every_recipe_gives_what_plain_python_gives(tmp_path: Path) -> None:
    """Each recipe's check cell compares its result with one that was computed without mrq."""
    code = tmp_path / "recipes.py"
    code.write_text(script(RECIPES), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MRQ_")}
    ran = subprocess.run(
        [sys.executable, code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "life     Macbeth, The Tempest" in ran.stdout
    assert ran.stderr == ""
