"""RabbitMQ's pages during a job, in a headless browser: the login, the queues and their consumers, a task message.

MRQ_TEST_SCREENSHOTS=docs/images makes the pictures of docs/management-ui.md anew; elsewhere they go nowhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mrq.auth import Auth
from mrq.connect import Client
from mrq.future import JobFuture
from tests.compose.network import ROOT, Network, docker
from tests.jobs import WORDS, Gate, add_up, count_characters, plain

if TYPE_CHECKING:
    from tests.compose.browser import ManagementPages

pytestmark = pytest.mark.timeout(600)

PREFIX = "mrq.v1"
GATE = Gate(Path("/tmp"))
"""In the workers' containers."""


def wait_and_count(strings: list[str]) -> list[tuple[str, int]]:
    """Count the characters once the gate is open."""
    GATE.wait("ui", seconds=500)
    return count_characters(strings)


@pytest.fixture
def pages(network: Network, tmp_path: Path) -> Iterator[ManagementPages]:
    """The network's management pages in a browser."""
    if not os.environ.get("CI"):
        pytest.importorskip("selenium", reason="install it with: pip install -r requirements/notebook.lock")
    from tests.compose.browser import ManagementPages, browser, missing

    if lacking := missing():
        said = f"there is no {' and no '.join(lacking)}: script/setup-browser installs them or says how to"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    with browser(tmp_path / "profile") as chrome:
        yield ManagementPages(chrome, network.url("MANAGEMENT"), "mrq")


@pytest.fixture
def job(network: Network) -> Iterator[JobFuture]:
    """A job in whose map phase two tasks wait at the gate and others in the queue; it ends well when the gate opens."""
    workers = [one["Id"] for one in network.containers("worker")]
    with Client(network.settings()) as client:
        future = client.mapreduce(WORDS * 4, wait_and_count, add_up, requested_n_workers=8)
        try:
            yield future
        finally:
            for worker in workers:
                docker("exec", worker, "touch", "/tmp/open-ui")
        assert future.result(120) == plain(WORDS * 4, count_characters, add_up)
    for worker in workers:
        docker("exec", worker, "rm", "/tmp/open-ui")


def keep(pages: ManagementPages, name: str, *element: str) -> None:
    """Take a picture of an element, where pictures are wanted."""
    if folder := os.environ.get("MRQ_TEST_SCREENSHOTS"):
        pages.picture(ROOT / folder / f"{name}.png", *element)


def test_a_wrong_password_opens_no_page(network: Network, pages: ManagementPages) -> None:
    settings = network.settings()
    assert not Auth(settings.username, "not the password", settings).is_authenticated()
    assert "Login failed" in pages.log_in(settings.username, "not the password")
    assert not pages.all("#tabs")


def test_the_pages_show_a_jobs_queues_their_consumers_and_a_task_message(
    network: Network, pages: ManagementPages, job: JobFuture
) -> None:
    settings = network.settings()
    login = settings.username, settings.password.get_secret_value()
    assert Auth(*login, settings).is_authenticated()
    said = pages.log_in(*login)
    assert said == f"User {settings.username}"

    def shown(seconds: float) -> dict[str, dict[str, str]]:
        """Open the page and watch it renew itself; a browser that lost a load would show it as it was for ever."""
        pages.open_queues(PREFIX)
        return pages.wait(lambda: under_way(pages.queues()), "two tasks in hand and others queued", seconds)

    seen = pages.persist(shown)
    assert {name: row["Consumers"] for name, row in seen.items()} == {
        f"{PREFIX}.map": "2",
        f"{PREFIX}.shuffle": "2",
        f"{PREFIX}.reduce": "2",
        f"{PREFIX}.dead": "0",
    }
    assert {row["Type"] for row in seen.values()} == {"quorum"}
    keep(pages, "management-queues", "body")

    message = pages.get_message(f"{PREFIX}.map")
    body = json.loads(message["Payload"])
    assert body["job_id"] == job.job_id
    assert body["phase"] == "map"
    assert body["index"] in range(8)
    assert message["Exchange"] == f"{PREFIX}.tasks"
    assert message["Routing Key"] == f"map.{job.job_id}"
    properties = dict(line.split(": ", 1) for line in message["Properties"].splitlines() if ": " in line)
    assert properties["message_id"] == f"{job.job_id}/map/{body['index']}"
    assert (properties["epoch"], properties["attempt"]) == (str(body["epoch"]), str(body["attempt"]))
    keep(pages, "management-message", pages.MESSAGES, "xpath")


def under_way(queues: dict[str, dict[str, str]]) -> dict[str, dict[str, str]] | None:
    """Return the queues if the map tasks are seen where they are, and every consumer is."""
    tasks = queues.get(f"{PREFIX}.map")
    everybody = [row["Consumers"] for row in queues.values()].count("2") == 3
    return (
        queues
        if tasks and everybody and tasks["Unacked"] == "2" and tasks["Ready"] not in ("0", "")
        else None
    )
