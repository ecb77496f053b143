"""`LocalCluster`: the client of a cluster in containers on this machine, and its controls."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, overload

from mrq.client import JobClient
from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.errors import ConfigurationError, JobError, MrqError
from mrq.future import JobFuture
from mrq.local.login import Auth
from mrq.local.network import Network
from mrq.local.scaling import Scaling
from mrq.monitoring import LocalMonitoring
from mrq.registry import Registry
from mrq.store.address import describe, open_store

log = logging.getLogger(__name__)

START_TIMEOUT = 180.0


class Logs(str):
    """Log lines, which a notebook shows as lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _Attach:
    """Of the class: find a cluster by its name. Of a cluster: find a job by its id, as every client does."""

    @overload
    def __get__(self, cluster: None, kind: type[LocalCluster]) -> Callable[..., LocalCluster]: ...
    @overload
    def __get__(self, cluster: LocalCluster, kind: type[LocalCluster]) -> Callable[[str], JobFuture]: ...
    def __get__(self, cluster: LocalCluster | None, kind: type[LocalCluster]) -> Callable[..., Any]:
        return kind.attach_cluster if cluster is None else super(LocalCluster, cluster).attach


class LocalCluster(JobClient):
    """A whole cluster in containers on this machine, as a client of itself.

    Its servers, ports and logins have a name; the second `LocalCluster` of that name, in whatever process, finds what
    the first has started. Leaving the ``with`` block of the one that started it shuts it down (its data stays);
    others let go of it.

    Args:
        auth: the login, as of `mrq.Auth`. At the first start it becomes the admin's; afterwards the servers must know
            it. By default the admin's, which is generated at the first start.
        n_workers: workers, each a container; an existing cluster is scaled to that.
        n_masters: masters, likewise.
        initialize: start what does not run. Otherwise the cluster must be up, and is taken as it is.
        verbose: show the output of compose.
        name: of the cluster; several run side by side.
        ports: on 127.0.0.1, by name (`mrq.local.variables.DEFAULT_PORTS`); those that are not given are chosen.
        start_timeout: seconds for the servers, and then for masters and workers; building images takes its own time.
        build: build the images anew, not only those that are missing.

    Attributes:
        name: the cluster's.
        local_monitoring: looks at it.

    Raises:
        AuthenticationFailed: the login is not the cluster's.
        ConfigurationError: an argument is wrong, or there is no Docker with compose.
        Unavailable: no engine answers, a port is taken, the cluster is not up, or a service did not become healthy
            in time; that message names it, with its last log lines.
        MrqError: an image could not be built.
    """

    def __init__(
        self,
        auth: Auth | None = None,
        n_workers: int = 4,
        n_masters: int = 1,
        initialize: bool = True,
        verbose: bool = False,
        *,
        name: str = "mrq",
        ports: Mapping[str, int] | None = None,
        start_timeout: float = START_TIMEOUT,
        build: bool = False,
    ) -> None:
        _check_numbers(n_workers=n_workers, n_masters=n_masters)
        login = (auth.username, auth.settings.password.get_secret_value()) if auth else None
        with ExitStack() as opened:
            network = Network(name, verbose=verbose)
            opened.callback(network.close)
            started = False
            if initialize:
                with network.state.locked():
                    started = not network.is_up()
                    network.start(login, ports or {}, start_timeout, build=build)
            else:
                network.check_up()
                if login:
                    network.check_login(login)
            if auth:
                auth.belongs_to(name)
            settings = network.settings(login)
            tree = ZooKeeperCoordination(settings, outlives_sessions=True)
            opened.callback(tree.close)
            store = open_store(describe(settings))
            opened.callback(store.close)
            super().__init__(Registry(tree), store, settings)
            opened.pop_all()
        self.name = name
        self.local_monitoring = LocalMonitoring(settings, registry=self._registry, store=store)
        self._network = network
        self._started = started
        self._start_timeout = start_timeout
        if initialize:
            try:
                self.scale(n_masters=n_masters, n_workers=n_workers)
            except BaseException:
                self.close()
                raise

    @classmethod
    def attach_cluster(cls, name: str = "mrq", auth: Auth | None = None) -> LocalCluster:
        """Return a client of a cluster that is up; `LocalCluster.attach` is this.

        Raises:
            Unavailable: it is not up.
            AuthenticationFailed: the login is not the cluster's.
        """
        return cls(auth, initialize=False, name=name)

    attach = _Attach()  # type: ignore[assignment]  # a method of clients, and more when asked of the class

    # ------------------------------------------------------------ controls

    @property
    def settings(self) -> Settings:
        """What leads other clients to this cluster."""
        return self._settings

    def scale(self, n_masters: int | None = None, n_workers: int | None = None) -> None:
        """Change how many masters and workers run; return when new ones are registered and others have ended.

        Down: those that are idle go first. Every one that goes ends the tasks it has, and takes no more.

        Args:
            n_masters: by default as many as there are.
            n_workers: likewise.

        Raises:
            ConfigurationError: a number is less than 1.
            Unavailable: a new one did not register in time; the message has its last log lines.
        """
        given = {"master": n_masters, "worker": n_workers}
        wanted = {role: number for role, number in given.items() if number is not None}
        with self._network.state.locked():
            Scaling(self._network, self._registry).scale(wanted, self._start_timeout)

    def clear(self, job_id: str | None = None, *, force: bool = False) -> list[str]:
        """Remove jobs with their files; return which.

        Args:
            job_id: that one; by default all.
            force: cancel and remove jobs that run, too.

        Raises:
            JobError: one runs, and ``force`` is False; nothing was removed.
        """
        if job_id is None and not force:
            running = [record.job_id for record in self.jobs() if record.goes_on]
            if running:
                raise JobError(
                    f"{', '.join(running)} still runs; wait for it, cancel it, or clear with force=True",
                    job_id=running[0],
                )
        return super().clear(job_id, force=force)

    def logs(self, service: str | None = None, tail: int = 100) -> Logs:
        """Return the last lines that each container has logged.

        Args:
            service: ``master``, ``worker``, ``rabbitmq``, …; by default all.
            tail: lines of each container.
        """
        return Logs(self._network.engine.logs(service, tail))

    def kill(self, hostname: str) -> str:
        """End a container at once, as a power cut would; for experiments. `scale` replaces it.

        Args:
            hostname: of a master or worker as `local_monitoring` shows it, its name, or a service that has one
                container only.

        Returns:
            The hostname.

        Raises:
            ConfigurationError: there is none, or more than one.
        """
        return self._network.engine.kill(self._network.engine.find(hostname))

    def shutdown_cluster(self, cleanup: bool = False) -> None:
        """End all containers. Running tasks may end first; jobs go on when the cluster is started again.

        Args:
            cleanup: remove the data, the jobs and the logins, too; then nothing is waited for.
        """
        self.close()
        self._started = False
        with Network(self.name) as network, network.state.locked():
            network.down(cleanup=cleanup)

    # ------------------------------------------------------------ the end

    def _disconnect(self) -> None:
        self.local_monitoring.close()
        super()._disconnect()
        self._network.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait_for_jobs=kind is None)
        if self._started:
            self.shutdown_cluster()

    # ------------------------------------------------------------ for people

    def __repr__(self) -> str:
        if self._closed:
            return f"<LocalCluster {self.name!r}, closed>"
        return f"<LocalCluster {self.name!r} at {', '.join(self._settings.zookeeper_hosts)}>"

    def _repr_html_(self) -> str:
        """Show the services as a table in notebooks."""
        try:
            seen = [] if self._closed else self._network.engine.health(self._network.services())
        except MrqError as error:
            return f"<b>{html.escape(repr(self))}</b><br>{html.escape(str(error))}"
        cells = "".join(
            f"<tr><td>{html.escape(one.service)}</td><td>{one.ready}/{one.total}</td><td>{one.health}</td></tr>"
            for one in seen
            if one.total
        )
        head = "<tr><th>service</th><th>containers</th><th>health</th></tr>"
        return f"<b>{html.escape(repr(self))}</b><table>{head}{cells}</table>"


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ConfigurationError(f"{name} must be a whole number from 1, not {number!r}")
