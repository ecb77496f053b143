"""The notebooks as they are kept: without outputs, which the executed ones of tests/compose show and check."""

from __future__ import annotations

import pytest

from tests.examples.notebook import EXAMPLES, NAMES, cells


def test_every_notebook_is_known_to_the_tests() -> None:
    """A notebook that nobody executes would go stale."""
    assert sorted(path.name for path in EXAMPLES.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs(name: str) -> None:
    """Outputs of another day, and the diffs they make, are kept out."""
    for cell in cells(name):
        assert cell["outputs"] == [], cell["id"]
        assert cell["execution_count"] is None, cell["id"]


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_of_a_notebook_has_a_name_of_its_own(name: str) -> None:
    """Tests look outputs up by the names, and failures are told by them."""
    names = [cell["id"] for kind in ("code", "markdown") for cell in cells(name, kind)]
    assert len(set(names)) == len(names)
    assert not [name for name in names if len(name) < 3 or any(c.isupper() for c in name)]
