"""`Network`: one cluster's compose network, from its first start to its end. It submits no jobs.

prepare -> build -> start the servers -> guard them with logins ... scale (`mrq.local.scaling`) ... down
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from types import TracebackType

from mrq.config import Settings
from mrq.errors import AuthenticationFailed, MrqError, Unavailable
from mrq.local import definition, guard, variables
from mrq.local.compose import Compose, check_docker
from mrq.local.display import Display
from mrq.local.engine import Engine, service_of
from mrq.local.health import Health, ServiceHealth, blamed
from mrq.local.hostports import choose_ports
from mrq.local.state import StateFile, names, project

ROLES = ("master", "worker")
OWN_IMAGES = "mrq/"
"""What the names of images begin with that are built here, and found nowhere else."""
LOOK_EVERY = 0.5
LOG_TAIL = 15
"""Log lines of a service that the error quotes which names it."""

Login = tuple[str, str]


class Network:
    """The containers of one cluster, and what is remembered of it.

    Args:
        name: of the cluster.
        verbose: whether the output of compose is shown.

    Raises:
        ConfigurationError: it can't be a name, or there is no Docker with compose.
        Unavailable: no Docker engine answers.
    """

    def __init__(self, name: str, *, verbose: bool = False) -> None:
        self.name = name
        self.state = StateFile(name)
        check_docker()
        self.engine = Engine(project(name))
        self.display = Display(f"cluster {name}")
        self._verbose = verbose

    @property
    def values(self) -> dict[str, str]:
        """The variables of the definition.

        Raises:
            Unavailable: there is no such cluster.
        """
        values = self.state.read()
        if values is None:
            known = ", ".join(names()) or "none"
            raise Unavailable(
                f"there is no cluster {self.name} (there is: {known}); start it with `mrq up --name {self.name}` or "
                "LocalCluster(initialize=True)"
            )
        return values

    def settings(self, login: Login | None = None) -> Settings:
        """Return the settings of a client, by default with the admin's login."""
        return variables.settings_of(self.values, login)

    def is_up(self) -> bool:
        """Whether its servers run; they may be starting."""
        return any(container.status == "running" for container in self.engine.containers("rabbitmq"))

    def check_up(self) -> None:
        """See that there is such a cluster, and that it runs.

        Raises:
            Unavailable: it does not.
        """
        _ = self.values
        if not self.is_up():
            raise Unavailable(
                f"the cluster {self.name} is not up; start it with `mrq up --name {self.name}` or "
                "LocalCluster(initialize=True)"
            )

    def check_login(self, login: Login) -> None:
        """Refuse a login that is none of the cluster's.

        Raises:
            AuthenticationFailed: the servers refuse it; or they are down, and it is not the admin's.
        """
        values = self.values
        admin = variables.login_of(values)
        if login == admin:
            return
        if not (self.is_up() and guard.is_authenticated(self.settings(login))):
            raise AuthenticationFailed(
                f"the cluster {self.name} was started before, with another login: it refuses {login[0]!r}. "
                f"Its admin's is in {self.state.path}"
            )
        if login[0] == admin[0]:  # the password was changed at the servers
            self.state.write(values | {"MRQ_PASSWORD": login[1]})

    # ------------------------------------------------------------ start

    def start(
        self, login: Login | None, ports: Mapping[str, int], timeout: float, *, build: bool = False
    ) -> None:
        """Have the servers run, guarded by logins; masters and workers are `Scaling`'s.

        Args:
            login: the admin's, if the cluster is a new one; else anybody's.
            ports: on 127.0.0.1, by name; others are chosen.
            timeout: seconds that the servers have, once the images are there.
            build: build the images anew.

        Raises:
            AuthenticationFailed: the login is not the cluster's; nothing was touched.
            MrqError: an image could not be built, or a container not be started.
            Unavailable: a port is taken, or a service did not become healthy in time; the message has its logs.
        """
        known = self.state.read()
        if known is not None and login:
            self.check_login(login)
        if known is None or not self.is_up():
            values = known or variables.first(login, os.environ)
            chosen = choose_ports(variables.ports_of(values), ports)
            self.state.write(variables.with_ports(values, chosen))
        compose = self.compose()
        config = compose.config()["services"]
        self._provide_images(compose, config, build=build)
        servers = [name for name in config if name not in ROLES and not config[name].get("profiles")]
        compose.run("up", "-d", "--no-build", "--no-recreate", *servers, what="start the servers")
        self.wait_healthy(servers, timeout)
        self.state.write(guard.initialize(self.values))

    def compose(self) -> Compose:
        """Return the compose CLI for this cluster."""
        root = definition.find(self.state.folder / "definition")
        return Compose(root, project(self.name), self.values, self.display.say if self._verbose else None)

    def _provide_images(self, compose: Compose, config: Mapping[str, dict[str, str]], *, build: bool) -> None:
        """Build what is missing of ours, or older than the sources; pull what is missing of others'."""
        active = {name: service["image"] for name, service in config.items() if not service.get("profiles")}
        built = {image: self.engine.built_at(_tagged(image)) for image in set(active.values())}
        changed = definition.changed_at(compose.root)
        missing = {image: name for name, image in active.items() if build or built[image] is None}
        stale = {active[role]: role for role in ROLES if (built[active[role]] or 0.0) < changed}
        ours = {image: name for image, name in (missing | stale).items() if image.startswith(OWN_IMAGES)}
        others = sorted(missing[image] for image in missing if not image.startswith(OWN_IMAGES))
        if others:
            self.display.say(f"cluster {self.name}: pulling the images of {', '.join(others)}")
            compose.run("pull", *others, what="pull images")
        if ours:
            took = "minutes, the first time" if missing else "seconds: the sources have changed"
            self.display.say(f"cluster {self.name}: building {', '.join(sorted(ours))} ({took})")
            began = time.monotonic()
            self._build(compose, sorted(ours.values()))
            self.display.say(f"cluster {self.name}: images built in {time.monotonic() - began:.0f} s")

    def _build(self, compose: Compose, services: list[str]) -> None:
        try:
            compose.run("build", *services, what="build the images")
        except MrqError as error:
            hint = "The images are built from debian:*-slim and python:X.Y-slim; where no image registry is reachable, "
            raise MrqError(f"{error}\n{hint}script/docker-engine up makes them on Debian") from error

    def wait_healthy(self, services: list[str], timeout: float) -> None:
        """Show how the services come up, until all are ready.

        Raises:
            Unavailable: one ended, or was not ready in time; the message names it, with its last log lines.
        """
        deadline = time.monotonic() + timeout
        with self.display as display:
            while True:
                seen = self.engine.health(services)
                display.show(seen)
                bad = blamed(seen)
                if bad is None:
                    return
                if bad.health is Health.ENDED or time.monotonic() > deadline:
                    raise self.unhealthy(bad, timeout)
                time.sleep(LOOK_EVERY)

    def unhealthy(self, bad: ServiceHealth, timeout: float) -> Unavailable:
        """Return the error for a service that does not come up."""
        logs = self.engine.logs(bad.service, LOG_TAIL).splitlines()[-LOG_TAIL:]
        said = "\n  ".join(logs) or "it logged nothing"
        what = "ended" if bad.health is Health.ENDED else f"is {bad.health.value} after {timeout:.0f} s"
        return Unavailable(f"{bad.service} of the cluster {self.name} {what}; its last log lines:\n  {said}")

    # ------------------------------------------------------------ end

    def down(self, *, cleanup: bool) -> None:
        """End all containers and the network; with ``cleanup`` the data and the logins, too."""
        words = ["--profile", "*", "down", "--remove-orphans"]
        # what is drained would be thrown away
        words += ["--volumes", "--timeout", "1"] if cleanup else []
        self.compose().run(*words, what="end the network")
        if cleanup:
            self.state.remove()

    def services(self) -> list[str]:
        """Return the services that have containers."""
        return sorted({service_of(container) for container in self.engine.containers()})

    def close(self) -> None:
        """Let go of the Docker engine."""
        self.engine.close()

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tagged(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
