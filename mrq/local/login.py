"""`mrq.Auth`: `mrq.auth.Auth` at the cluster on this machine, unless other servers are named."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from mrq import auth
from mrq.config import Settings
from mrq.errors import Unavailable
from mrq.local import variables
from mrq.local.state import StateFile

log = logging.getLogger(__name__)

ELSEWHERE = ("MRQ_CONFIG", "MRQ_RABBITMQ_HOSTS", "MRQ_RABBITMQ_MANAGEMENT_URL", "MRQ_ZOOKEEPER_HOSTS")
"""Any of these in the environment says where the servers are."""


class Auth(auth.Auth):
    """One login for RabbitMQ and ZooKeeper.

    Where neither the arguments nor the environment say which servers are meant, it is those of the cluster on this
    machine: the one named ``mrq``, or the `LocalCluster` that it was given to. Before that cluster's first start there
    is nobody to ask; the login will be the admin's.

    Args:
        username: the name.
        password: the password; it appears in no repr, log or exception.
        settings: where the servers are.
    """

    def __init__(self, username: str, password: str, settings: Settings | None = None) -> None:
        self._cluster: str | None = None
        if settings is None and not any(name in os.environ for name in ELSEWHERE):
            self._cluster = "mrq"
        super().__init__(username, password, settings)

    def belongs_to(self, cluster: str) -> None:
        """Ask this cluster from now on, unless it was said which servers are meant."""
        if self._cluster is not None:
            self._cluster = cluster

    @property
    def _settings(self) -> Settings:
        """Looked up each time: the cluster may have been started, or moved to other ports, since."""
        values = self._remembered()
        if not values:
            return self._held
        return variables.settings_of(values, (self._held.username, self._held.password.get_secret_value()))

    @_settings.setter
    def _settings(self, settings: Settings) -> None:
        self._held = settings

    def _remembered(self) -> dict[str, str] | None:
        return StateFile(self._cluster).read() if self._cluster else None

    def is_authenticated(self) -> bool:
        """Ask RabbitMQ and ZooKeeper; return whether both know this login.

        While the cluster on this machine is down, whether it is its admin's; before its first start, True: it will be.

        Raises:
            Unavailable: the servers that were named do not answer.
        """
        if self._cluster is None:
            return super().is_authenticated()
        values = self._remembered()
        if values is None:  # whatever listens at the usual ports is no cluster of ours
            log.info("there is no cluster %s yet; %r will be its admin", self._cluster, self.username)
            return True
        with suppress(Unavailable):
            return super().is_authenticated()
        return variables.login_of(values) == (self._held.username, self._held.password.get_secret_value())

    def change_password(self, name: str, password: str) -> None:
        """Give a user another password; the old one is refused at once.

        Raises:
            AuthenticationFailed: this is not the admin's login.
            ConfigurationError: there is no such user, or the password can't be.
            Unavailable: a server does not answer.
        """
        super().change_password(name, password)
        values = self._remembered()
        if values and name == variables.login_of(values)[0]:
            StateFile(self._cluster or "").write(values | {"MRQ_PASSWORD": password})
