"""Servers for the tests of RabbitMQ alone: the shared one, and one of our own that may be hurt."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.broker_servers import RabbitMQKind

NATIVE = Path(__file__).parents[2] / "infra" / "native"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes, for it waits on a server's own clock")


class OwnServer:
    """A RabbitMQ beside the shared one, started by infra/native, for faults that would hurt other tests."""

    def __init__(self, run: Path) -> None:
        self._environment = os.environ | {"MRQ_NATIVE_RUN": str(run), "MRQ_NATIVE_PORT_OFFSET": "auto"}
        self._run = run
        self.start()
        lines = (run / "env").read_text().splitlines()
        given = dict(line.split("=", 1) for line in lines)
        names = ("username", "password", "rabbitmq_hosts", "rabbitmq_vhost", "rabbitmq_management_url")
        self.settings = {name: given[f"MRQ_{name.upper()}"] for name in names}

    def start(self) -> None:
        subprocess.run([NATIVE / "up", "rabbitmq"], env=self._environment, check=True, timeout=120)

    def stop(self) -> None:
        subprocess.run([NATIVE / "down", "rabbitmq"], env=self._environment, check=True, timeout=60)

    def wipe(self) -> None:
        subprocess.run([NATIVE / "down", "--wipe"], env=self._environment, check=True, timeout=60)

    def control(self, *arguments: str) -> None:
        """Run rabbitmqctl with the node, the cookie and the name service of this server."""
        ports = dict(line.split() for line in (self._run / "ports").read_text().splitlines())
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._run / "rabbitmq"),
            "RABBITMQ_NODENAME": "mrq@localhost",
            "ERL_EPMD_PORT": ports["EPMD"],
        }
        command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", *arguments]
        subprocess.run(command, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    run = tmp_path_factory.mktemp("rabbitmq") / "run"
    try:
        server = OwnServer(run)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"infra/native/up can't start a RabbitMQ of our own: {error}")
    yield server
    server.wipe()


@pytest.fixture
def own(own_server: OwnServer) -> Iterator[RabbitMQKind]:
    kind = RabbitMQKind(**own_server.settings, operation_timeout=5.0)
    yield kind
    kind.close()


@pytest.fixture
def kind() -> Iterator[RabbitMQKind]:
    """The shared server, below a prefix of the test's own."""
    kind = RabbitMQKind(operation_timeout=10.0, delivery_limit=3)
    yield kind
    kind.close()
