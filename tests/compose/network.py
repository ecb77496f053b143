"""The compose network for tests: the user's compose file under a project name and ports of the test's own."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from mrq.config import Settings

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "infra" / "docker-compose.yml"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PORTS = (
    "AMQP", "MANAGEMENT", "ZOOKEEPER_1", "ZOOKEEPER_2", "ZOOKEEPER_3", "HTTPFS_1", "HTTPFS_2", "NAMENODE_HTTP",
    "DATANODE_1_HTTP", "DATANODE_2_HTTP",
)  # fmt: skip
UP_SECONDS = 240.0
"""How long a network may take to be healthy, on a machine that does other things too."""
TAIL = 15
"""Log lines of a service that a failure quotes."""


def eventually(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Return what the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)
    return value


def docker(*words: str, check: bool = True, timeout: float = 120) -> str:
    """Run the docker command; return its standard output."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on just now."""
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class NetworkFailed(AssertionError):
    """A network did not become healthy; the message says which services, and how their logs end."""


class Network:
    """One compose project.

    Args:
        project: its name.
        variables: of infra/.env.example, beside the ports and the password.
    """

    def __init__(self, project: str, **variables: str) -> None:
        self.project = project
        self.password = secrets.token_hex(12)
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MRQ_", "COMPOSE_"))}
        self.environment = kept | {
            "COMPOSE_PROJECT_NAME": project,
            "COMPOSE_FILE": str(COMPOSE_FILE),
            "MRQ_PASSWORD": self.password,
            "MRQ_COMPOSE_PYTHON": PYTHON,
            **{f"MRQ_COMPOSE_{name}_PORT": str(port) for name, port in self.ports.items()},
            **variables,
        }

    def compose(self, *words: str, timeout: float = 120) -> str:
        """Run a command of compose; return its output."""
        done = subprocess.run(
            ["docker", "compose", "--ansi", "never", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise NetworkFailed(f"docker compose {' '.join(words)}:\n{done.stdout[-3000:]}")
        return done.stdout

    def up(self, *services: str, seconds: float = UP_SECONDS, **scale: int) -> None:
        """Start the services, by default all, and wait until they are healthy.

        Raises:
            NetworkFailed: they are not, in time.
        """
        end = time.monotonic() + seconds
        self.launch(*services, seconds=seconds, **scale)
        while set(self.health().values()) != {"healthy"}:
            if time.monotonic() > end:
                raise self._failed(seconds)
            time.sleep(0.5)

    def launch(self, *services: str, seconds: float = UP_SECONDS, **scale: int) -> None:
        """Start the services; those that others depend on are healthy then.

        Raises:
            NetworkFailed: they are not, in time.
        """
        words = [f"--scale={service}={number}" for service, number in scale.items()]
        try:
            self.compose("up", "-d", "--no-build", *words, *services, timeout=seconds)
        except (NetworkFailed, subprocess.TimeoutExpired) as error:
            raise self._failed(seconds) from error

    def _failed(self, seconds: float) -> NetworkFailed:
        return NetworkFailed(f"{self.project} is not healthy within {seconds:.0f} s\n{self.report()}")

    def down(self) -> None:
        """End it and remove its data."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")

    # ------------------------------------------------------------ looking

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """Return what Docker knows of the containers, or of those of one service."""
        label = f"label=com.docker.compose.project={self.project}"
        one = [f"--filter=label=com.docker.compose.service={service}"] if service else []
        ids = docker("ps", "-aq", f"--filter={label}", *one).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
        return found

    def container(self, service: str) -> dict[str, Any]:
        """Return what Docker knows of a service's only container."""
        (found,) = self.containers(service)
        return found

    def health(self) -> dict[str, str]:
        """Return how each container is, by its service and number."""
        return {
            f"{service_of(one)}-{one['Config']['Labels']['com.docker.compose.container-number']}": health_of(
                one
            )
            for one in self.containers()
        }

    def report(self) -> str:
        """Say which services are not healthy, and how their logs end."""
        parts = []
        for one in self.containers():
            if (health := health_of(one)) != "healthy":
                log = subprocess.run(
                    ["docker", "logs", "--tail", str(TAIL), one["Id"]],
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                ).stdout  # fmt: skip
                parts.append(f"--- {service_of(one)} is {health}; its last log lines:\n{log}")
        return "\n".join(parts) or "every container is healthy"

    def leftovers(self) -> list[str]:
        """Return containers, networks and volumes of the project."""
        label = f"--filter=label=com.docker.compose.project={self.project}"
        return [
            *docker("ps", "-aq", label).split(),
            *docker("network", "ls", "-q", label).split(),
            *docker("volume", "ls", "-q", label).split(),
        ]

    # ------------------------------------------------------------ acting

    def start(self, service: str) -> None:
        """Start a service's containers again and wait until they are healthy."""
        self.compose("start", service)
        eventually(
            lambda: all(health_of(one) == "healthy" for one in self.containers(service)),
            f"{service} is healthy",
        )

    def python(self, service: str, code: str) -> str:
        """Run Python in a container of a service, with the settings that it has; return what it prints."""
        return docker("exec", self.containers(service)[0]["Id"], "python3", "-c", code)

    # ------------------------------------------------------------ as a client of it

    def url(self, port: str) -> str:
        """Return the address on this machine of a service's HTTP port."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def settings(self, **more: Any) -> Settings:
        """Return the settings of a client on this machine."""
        ports = self.ports
        given = {
            "username": "mrq",
            "password": self.password,
            "rabbitmq_hosts": f"127.0.0.1:{ports['AMQP']}",
            "rabbitmq_vhost": "mrq",
            "rabbitmq_management_url": self.url("MANAGEMENT"),
            "zookeeper_hosts": ",".join(f"127.0.0.1:{ports[f'ZOOKEEPER_{n}']}" for n in (1, 2, 3)),
            "hdfs_urls": f"{self.url('HTTPFS_1')},{self.url('HTTPFS_2')}",
            "hdfs_user": "mrq",
        }
        return Settings.load(**given | more)

    def management(self, path: str, login: tuple[str, str] | None = None, put: Any = None) -> Any:
        """Ask RabbitMQ's management API, or put something there."""
        session = requests.Session()
        session.trust_env = False
        session.auth = login or ("mrq", self.password)
        url = f"{self.url('MANAGEMENT')}/api/{path}"
        reply = session.get(url, timeout=10) if put is None else session.put(url, json=put, timeout=10)
        reply.raise_for_status()
        return reply.json() if reply.content else None


def service_of(container: dict[str, Any]) -> str:
    """Return a container's service."""
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def health_of(container: dict[str, Any]) -> str:
    """Return how a container is: healthy, starting, unhealthy, or what it is in place of running."""
    state = container["State"]
    if state["Status"] != "running":
        return str(state["Status"])
    return str(state.get("Health", {}).get("Status", "without health check"))
