"""The notebooks of examples/, executed top to bottom in a Jupyter kernel against networks of containers.

An executed notebook is kept in the test's temporary folder, to be looked at.
"""

from __future__ import annotations

import ast
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.compose.network import Network, docker
from tests.examples.notebook import EXAMPLES
from tests.jobs import WORDS, add_up, count_characters, plain, random_strings

if TYPE_CHECKING:
    from nbformat import NotebookNode

pytestmark = pytest.mark.timeout(1500)

CELL_SECONDS = 600
TRACEBACK = "Traceback (most recent call last)"


@pytest.fixture(scope="module")
def jupyter() -> None:
    """What executes notebooks."""
    if not os.environ.get("CI"):
        pytest.importorskip("nbclient", reason="install it with: pip install -r requirements/notebook.lock")


def execute(name: str, file: Path, *replace: tuple[str, str], **environment: str) -> NotebookNode:
    """Run all cells of a notebook in a kernel of its own; return it with its outputs.

    Args:
        name: of the notebook.
        file: where to keep it with its outputs, whatever happens.
        replace: what to put in place of what, just once.
        environment: the kernel's, in place of all ``MRQ_*`` that there is.
    """
    import nbformat
    from nbclient import NotebookClient

    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for old, new in replace:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    notebook = nbformat.reads(text, as_version=4)
    around = {key: value for key, value in os.environ.items() if not key.startswith("MRQ_")}
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
    )
    try:
        client.execute(env=around | environment)
    finally:
        nbformat.write(notebook, file)
    return notebook


def said(notebook: NotebookNode, cell_id: str) -> str:
    """Return what a cell printed and showed, as text."""
    (cell,) = (cell for cell in notebook.cells if cell.id == cell_id)
    return "".join(text_of(output) for output in cell.outputs)


def text_of(output: Any) -> str:
    """Return one output as text."""
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return f"{TRACEBACK}\n{output.ename}: {output.evalue}"
    return str(output.data.get("text/plain", ""))


def check_tracebacks(notebook: NotebookNode) -> None:
    """See that only those cells show a traceback that are there to show one."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = {cell.id for cell in code if TRACEBACK in said(notebook, cell.id)}
    assert shown == {cell.id for cell in code if "shows-traceback" in cell.metadata.get("tags", [])}


# ------------------------------------------------------------ the introduction


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the states of clusters, away from the person's own."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def introduction(
    jupyter: None, images: None, state: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NotebookNode]:
    """The introduction, executed with a cluster of a name of its own in place of the person's ``mrq``."""
    from mrq.local import Network
    from mrq.local.state import StateFile

    name = f"notebook-{secrets.token_hex(3)}"
    file = tmp_path_factory.mktemp("notebooks") / "1-introduction.ipynb"
    renamed = ("initialize=True, verbose=False)", f"initialize=True, verbose=False, name='{name}')")
    try:
        yield execute("1-introduction.ipynb", file, renamed)
        assert docker("ps", "-aq", f"--filter=label=com.docker.compose.project=mrq-{name}") == ""
        assert StateFile(name).read() is None
    finally:
        if StateFile(name).read() is not None:
            with Network(name) as network:
                network.down(cleanup=True)


def test_the_introduction_runs_top_to_bottom(introduction: NotebookNode) -> None:
    check_tracebacks(introduction)
    for cell in introduction.cells:
        assert cell.cell_type == "markdown" or cell.execution_count, cell.id


def test_the_introduction_logs_in_and_sees_an_empty_cluster(introduction: NotebookNode) -> None:
    assert said(introduction, "auth-check") == "True"
    assert said(introduction, "auth-check-wrong") == "False"
    zoo = said(introduction, "first-zoo")
    assert len(re.findall(r"^Master \w+ : ", zoo, re.MULTILINE)) == 1
    assert len(re.findall(r"^Worker \w+ : .*state='idle'", zoo, re.MULTILINE)) == 4
    assert said(introduction, "first-hdfs") == ""


def test_the_introductions_first_job_is_exact_and_seen_behind_the_scenes(introduction: NotebookNode) -> None:
    assert re.match(
        r"<JobFuture job_\d+ at 0x\w+ state=(pending|running|finished)",
        said(introduction, "first-submission"),
    )
    expected = plain(WORDS, count_characters, add_up)
    assert ast.literal_eval(said(introduction, "first-result-out")) == expected
    zoo = said(introduction, "behind-zoo")
    assert len(re.findall(r"^Task \w+ : .*state='completed'", zoo, re.MULTILINE)) == 4 + 4 + 4
    assert len(re.findall(r"^job_\d+/$", said(introduction, "behind-hdfs"), re.MULTILINE)) == 1
    queues = said(introduction, "behind-queues-out")
    for phase in ("map", "shuffle", "reduce"):
        assert re.search(rf"^Queue {phase} : .*ready=0, unacked=(0|-1), consumers=4", queues, re.MULTILINE), (
            queues
        )


def test_the_introductions_heavy_load_is_exact_with_3_masters_and_10_workers(
    introduction: NotebookNode,
) -> None:
    data = random_strings(100_000)
    expected = sorted(Counter("".join(data)).items())
    assert said(introduction, "heavy-zoo") == "3 masters, 10 workers\n"
    assert ast.literal_eval(said(introduction, "heavy-data")) == data[:5]
    assert len(said(introduction, "heavy-futures").splitlines()) == 10
    done = said(introduction, "heavy-futures-done").splitlines()
    assert [line.partition(" state=")[2] for line in done] == ["finished returned list>"] * 10
    assert ast.literal_eval(said(introduction, "heavy-result")) == expected
    rows = [line.split() for line in said(introduction, "heavy-rows").splitlines()]
    assert rows == [[character, *[str(count)] * 10] for character, count in expected]
    assert said(introduction, "heavy-check") == "10 jobs, 1,000,000 strings: all exact\n"


def test_the_introduction_shows_what_a_function_raised_cancels_and_clears(introduction: NotebookNode) -> None:
    failed = said(introduction, "failing-job")
    assert failed.startswith("ValueError: 'gertretr123' is no word\n")
    assert "in picky_map" in failed
    assert said(introduction, "cancelling-now") == "(True, True)"
    states = [line.split()[1] for line in said(introduction, "clearing-jobs").splitlines()]
    assert Counter(states) == {"completed": 11, "failed": 1, "cancelled": 1}
    assert said(introduction, "clearing-now") == "13 jobs cleared, 0 left\n"


# ------------------------------------------------------------ the recipes


def test_the_recipes_are_exact_on_a_network_of_containers(
    jupyter: None, network: Network, tmp_path: Path
) -> None:
    settings = network.settings()
    recipes = execute(
        "2-recipes.ipynb",
        tmp_path / "2-recipes.ipynb",
        MRQ_USERNAME=settings.username,
        MRQ_PASSWORD=settings.password.get_secret_value(),
        MRQ_ZOOKEEPER_HOSTS=",".join(settings.zookeeper_hosts),
        MRQ_HDFS_URLS=",".join(settings.hdfs_urls),
        MRQ_HDFS_USER=settings.hdfs_user,
    )
    check_tracebacks(recipes)
    assert said(recipes, "cluster").startswith("<mrq.connect.Client")
    assert "life     Macbeth, The Tempest\n" in said(recipes, "inverted-index-job")
    assert said(recipes, "reverse-links-job").count("   <-") == 8
    assert "damaged                20" in said(recipes, "logs-job")
