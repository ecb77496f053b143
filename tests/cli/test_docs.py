"""The documentation says what the code does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from mrq import Settings
from mrq.cli.arguments import parser

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _shown(default: object) -> str:
    """How the table of settings shows a default."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(default)
    text = "" if default is None else str(default)
    return text.strip("'")


def test_the_table_of_settings_has_each_with_its_default_and_no_other() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`)? ?\| \S", text, re.MULTILINE)
    assert rows == [(name, _shown(field.default)) for name, field in Settings.model_fields.items()]


def test_every_verb_is_explained() -> None:
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `mrq (\w+)", text, re.MULTILINE))
    verbs = re.search(r"\{([\w,]+)\}", _usage_of_verbs())
    assert verbs
    assert explained == set(verbs.group(1).split(","))


def _usage_of_verbs() -> str:
    actions = parser()._subparsers._group_actions  # type: ignore[union-attr]
    return "{" + ",".join(actions[0].choices or ()) + "}"


def test_the_readmes_program_prints_what_it_says() -> None:
    program = re.search(r"```python\n(import mrq\n.*?)```", README, re.DOTALL)
    assert program
    done = subprocess.run(
        [sys.executable, "-c", program.group(1)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = re.findall(r"^    print\(.*?\) +# (.*)$", program.group(1), re.MULTILINE)
    assert done.stdout.splitlines() == said


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_each_lesson_names_tests_and_all_are_there() -> None:
    lines = (ROOT / "docs/lessons.md").read_text(encoding="utf-8").splitlines()
    rows = [
        re.findall(r"`(tests/[\w/]+/test_\w+\.py)::(test_\w+)`", line)
        for line in lines
        if re.match(r"\| (?!elsewhere|---)", line)
    ]
    assert len(rows) >= 27
    assert all(rows), "a row has no test"
    for path, name in {test for row in rows for test in row}:
        module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in module.body if isinstance(node, ast.FunctionDef)}, (
            f"{path}::{name}"
        )
