"""Options of a campaign, its servers, and its table at the end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.chaos.stage import DISK_BYTES, FULL_DISK, PATIENT, Stage
from tests.chaos.table import TABLE
from tests.native.servers import NATIVE, Instance

SECONDS_A_FAULT = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--faults", type=int, default=60, help="how many faults happen")
    group.addoption("--seed", type=int, default=1, help="which, and to whom")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A campaign's own patience ends it; this is for the day on which it does not."""
    for item in items:
        if "test_campaign" in item.nodeid:
            item.add_marker(pytest.mark.timeout(1800 + SECONDS_A_FAULT * config.getoption("--faults")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[TABLE]:
        terminalreporter.write_line(line)


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    """Native servers of the campaign's own, named by the environment; one DataNode has a small disk."""
    if not (NATIVE / "jars" / ".pom-digest").exists() and not os.environ.get("CI"):
        pytest.skip("the servers are not installed: script/setup")
    instance = Instance(tmp_path / "servers")
    instance.environment["MRQ_NATIVE_DEADLINE"] = "300"  # a busy machine is no fault
    with ExitStack() as stack:
        stack.callback(instance.down, "--wipe")
        stack.enter_context(small_disk(instance))
        instance.up()
        for name, value in (instance.settings() | PATIENT).items():
            monkeypatch.setenv(name, value)
        yield instance


@contextmanager
def small_disk(instance: Instance) -> Iterator[None]:
    """Mount a disk that can be filled below one DataNode, where this machine lets us; in CI it must."""
    place = instance.folder / FULL_DISK / "data"
    place.mkdir(parents=True)
    (instance.folder / ".mrq-native").touch()  # what `up` asks of a folder that holds something
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    mounted = subprocess.run(mount, check=bool(os.environ.get("CI")), capture_output=True).returncode == 0
    try:
        yield
    finally:
        instance.down()
        if mounted:
            subprocess.run(["umount", place], check=True)


@pytest.fixture
def stage(servers: Instance, tmp_path: Path) -> Iterator[Stage]:
    """Masters, workers and a client on them."""
    stage = Stage(servers, tmp_path)
    try:
        stage.begin()
        yield stage
    finally:
        stage.close()
