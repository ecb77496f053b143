"""Docker for the tests of this folder: a skip where a person has none, a failure in CI; the images; a network."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator

import pytest

from mrq.connect import Client
from tests.compose.network import PYTHON, ROOT, Network, docker
from tests.jobs import WORDS, add_up, count_characters, plain

FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for figure in config.stash.get(FIGURES, []):
        terminalreporter.write_line(figure)


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines to be printed at the end of the run."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine and the compose plugin."""
    for words in (["docker", "version"], ["docker", "compose", "version"]):
        try:
            subprocess.run(words, capture_output=True, check=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            said = f"`{' '.join(words)}` fails: script/docker-engine up starts Docker, or says how to get it"
            if os.environ.get("CI"):
                pytest.fail(f"{said} ({error})")
            pytest.skip(said)


@pytest.fixture(scope="session")
def images(engine: None, pytestconfig: pytest.Config) -> None:
    """The images, built from this checkout for the Python that runs the tests."""
    began = time.monotonic()
    subprocess.run(
        [ROOT / "script" / "base-image"], env=os.environ | {"MRQ_COMPOSE_PYTHON": PYTHON}, check=True
    )
    Network("mrq-build").compose("build", timeout=1200)
    pytestconfig.stash[FIGURES].append(f"images built in {time.monotonic() - began:.1f} s")


@pytest.fixture(scope="session")
def network(images: None, pytestconfig: pytest.Config) -> Iterator[Network]:
    """A network with one master and two workers that has run a first job; who breaks something in it mends it."""
    network = Network(f"mrq-test-{secrets.token_hex(4)}")
    began = time.monotonic()
    try:
        network.launch(master=1, worker=2)
        started = time.monotonic()
        with Client(network.settings()) as client:
            result = client.mapreduce(WORDS, count_characters, add_up, requested_n_workers=2).result(120)
        seconds = time.monotonic() - began
        assert result == plain(WORDS, count_characters, add_up)
        pytestconfig.stash[FIGURES].append(
            f"time from up to the first result: {seconds:.1f} s (the servers are up after {started - began:.1f} s)"
        )
        network.up(master=1, worker=2)
        yield network
    finally:
        network.down()
        assert network.leftovers() == []
        assert docker("ps", "-aq", f"--filter=name={network.project}") == ""
