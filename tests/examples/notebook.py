"""The notebooks of examples/ as JSON: their cells, and their code as a script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("1-introduction.ipynb", "2-recipes.ipynb")


def cells(name: str, kind: str = "code") -> list[dict[str, Any]]:
    """Return a notebook's cells of a kind."""
    found: list[dict[str, Any]] = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def script(name: str) -> str:
    """Return all of a notebook's code, each cell under its name."""
    return "\n\n".join(f"# {cell['id']}\n{''.join(cell['source'])}" for cell in cells(name))
