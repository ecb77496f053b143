"""The containers of one cluster, through Docker's SDK. They are found by compose's labels, never by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from mrq.errors import ConfigurationError, MrqError, Unavailable
from mrq.local.health import Health, ServiceHealth, health_of, summarize

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"


class Engine:
    """What happens in a compose project.

    Args:
        project: the compose project.

    Raises:
        Unavailable: no Docker engine answers.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        with _translated("connect"):
            self._docker: Any = docker.from_env()

    def close(self) -> None:
        """Let go of the engine."""
        self._docker.close()

    # ------------------------------------------------------------ look

    def containers(self, service: str | None = None) -> list[Any]:
        """Return the project's containers, or a service's, running or not."""
        labels = [f"{PROJECT}={self._project}", f"{ONE_OFF}=False"]
        if service:
            labels.append(f"{SERVICE}={service}")
        with _translated("list containers"):
            # without `ignore_removed` a container that vanishes meanwhile would fail the whole listing
            found: list[Any] = self._docker.containers.list(
                all=True, filters={"label": labels}, ignore_removed=True
            )
        return found

    def running(self, service: str) -> list[Any]:
        """Return the containers of a service that run."""
        return [container for container in self.containers(service) if container.status == "running"]

    def health(self, services: Iterable[str]) -> list[ServiceHealth]:
        """Return how each of the services is."""
        seen: dict[str, list[Health]] = {service: [] for service in services}
        for container in self.containers():
            if service_of(container) in seen:
                seen[service_of(container)].append(_health(container))
        return [summarize(service, found) for service, found in seen.items()]

    def built_at(self, image: str) -> float | None:
        """Return when an image was made, in seconds since 1970, or None where it is not here."""
        with _translated("look for images"):
            try:
                created = self._docker.images.get(image).attrs["Created"]
            except NotFound:
                return None
        return datetime.fromisoformat(f"{created[:19]}+00:00").timestamp()

    def logs(self, service: str | None, tail: int) -> str:
        """Return the last lines that each container of a service has logged, each with who said it."""
        parts = []
        for container in sorted(self.containers(service), key=lambda one: (service_of(one), hostname(one))):
            with _translated("read logs"), suppress(NotFound):
                text = container.logs(tail=tail).decode(errors="replace")
                parts += [
                    f"{service_of(container)} {hostname(container)} | {line}" for line in text.splitlines()
                ]
        return "\n".join(parts)

    def rows(self) -> list[dict[str, Any]]:
        """Return what there is to say of each container, for people."""
        containers = sorted(self.containers(), key=lambda one: (service_of(one), one.attrs["Created"]))
        return [
            {
                "service": service_of(container),
                "hostname": hostname(container),
                "health": _health(container).value,
                "since": container.attrs["State"]["StartedAt"][:19] + "Z",
                "ports": _published(container),
            }
            for container in containers
        ]

    def find(self, who: str) -> Any:
        """Return the running container of a hostname, member's name, id or service's name.

        Raises:
            ConfigurationError: there is none, or a service has several.
        """
        running = [container for container in self.containers() if container.status == "running"]
        exact = [one for one in running if hostname(one) == who.rpartition("-")[0] or hostname(one) == who]
        found = exact or [one for one in running if service_of(one) == who or one.id.startswith(who)]
        if len(found) != 1:
            number = "no container runs" if not found else f"{len(found)} containers run"
            raise ConfigurationError(
                f"{number} as {who!r} in the cluster {self._project}; give a hostname of `mrq ps`"
            )
        return found[0]

    # ------------------------------------------------------------ act

    def kill(self, container: Any) -> str:
        """End a container at once; return its hostname. Docker does not start it again."""
        with _translated("kill a container"):
            container.kill()
        return hostname(container)

    def stop(self, containers: Iterable[Any], timeout: float) -> None:
        """SIGTERM to all, wait until they have ended, SIGKILL after ``timeout`` seconds; then remove them."""
        victims = list(containers)
        if not victims:
            return

        def end(container: Any) -> None:
            with _translated("stop a container"), suppress(NotFound):
                container.stop(timeout=int(timeout) + 1)
                container.remove(v=True)

        with ThreadPoolExecutor(len(victims)) as pool:
            for ending in [pool.submit(end, container) for container in victims]:
                ending.result()

    def leftovers(self) -> dict[str, int]:
        """Count what there is of the project: containers, networks, volumes."""
        filters = {"label": f"{PROJECT}={self._project}"}
        with _translated("look for leftovers"):
            return {
                "containers": len(
                    self._docker.containers.list(all=True, filters=filters, ignore_removed=True)
                ),
                "networks": len(self._docker.networks.list(filters=filters)),
                "volumes": len(self._docker.volumes.list(filters=filters)),
            }


def service_of(container: Any) -> str:
    """Return the service that a container belongs to."""
    service: str = container.labels.get(SERVICE, "")
    return service


def hostname(container: Any) -> str:
    """Return a container's own name for itself."""
    name: str = container.attrs["Config"]["Hostname"]
    return name


def _health(container: Any) -> Health:
    state = container.attrs["State"]
    return health_of(state["Status"], (state.get("Health") or {}).get("Status"))


def _published(container: Any) -> list[int]:
    bindings = container.attrs["NetworkSettings"]["Ports"] or {}
    return sorted(int(one["HostPort"]) for found in bindings.values() for one in found or ())


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except NotFound:
        raise
    except APIError as error:
        raise MrqError(f"Docker would not {what}: {error.explanation or error}") from error
    except (DockerException, OSError) as error:  # a connection that breaks is an OSError of requests'
        raise Unavailable(f"the Docker engine does not answer (could not {what}): {error}") from error
