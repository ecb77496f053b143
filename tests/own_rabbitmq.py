"""A RabbitMQ of the tests' own beside the shared one, for faults that would hurt other tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[1] / "infra" / "native"


class OwnServer:
    """Started by infra/native, in a folder of its own.

    Attributes:
        settings: where it is and its login, by the names of mrq's settings.
    """

    def __init__(self, run: Path) -> None:
        self._environment = os.environ | {"MRQ_NATIVE_RUN": str(run), "MRQ_NATIVE_PORT_OFFSET": "auto"}
        self._run = run
        self.start()
        del self._environment["MRQ_NATIVE_PORT_OFFSET"]  # whenever it starts again, on the same ports
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


@contextmanager
def own_rabbitmq(run: Path) -> Iterator[OwnServer]:
    """Run one in a folder, or skip; in CI one that does not start fails the run."""
    try:
        server = OwnServer(run)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"infra/native/up can't start a RabbitMQ of our own: {error}")
    try:
        yield server
    finally:
        server.wipe()
