"""`Auth`: a login that the servers vouch for, and what an admin may do with users."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from mrq.auth import credentials, policy
from mrq.auth.admin import administer, checked_name, connected, generated, require_user
from mrq.auth.credentials import Login
from mrq.auth.management import Management
from mrq.auth.policy import SERVICES, Role, Service
from mrq.auth.tree import GuardedTree
from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.broker.rabbitmq.login import check_login
from mrq.config import Settings
from mrq.coordination.zookeeper.acl import digest
from mrq.errors import AuthenticationFailed, ConfigurationError


class Auth:
    """One login for RabbitMQ and ZooKeeper.

    Nothing is sent before something is asked, and nothing stays connected. What an admin does takes effect at
    once, without a restart; when it failed in the middle, do it again and it is completed.

    Args:
        username: the name.
        password: the password; it appears in no repr, log or exception.
        settings: where the servers are; by default from file and environment (`Settings.load`).
    """

    def __init__(self, username: str, password: str, settings: Settings | None = None) -> None:
        self._settings = _as(settings or Settings.load(), username, password)

    def __repr__(self) -> str:
        return f"Auth({self.username!r})"

    @property
    def username(self) -> str:
        """The name."""
        return self._settings.username

    @property
    def settings(self) -> Settings:
        """The settings with this login, for `Client` and `LocalMonitoring`."""
        return self._settings

    # ------------------------------------------------------------ who am I

    def is_authenticated(self) -> bool:
        """Ask RabbitMQ and ZooKeeper; return whether both know this login.

        Raises:
            Unavailable: one of them does not answer.
        """
        try:
            self._ask_role()
        except AuthenticationFailed:
            return False
        return True

    @property
    def role(self) -> Role:
        """``"admin"``, ``"master"``, ``"worker"``, ``"monitor"`` or ``"person"``, as the servers say.

        Where nobody has called `initialize`, one login does everything: it is the admin's.

        Raises:
            AuthenticationFailed: the login is wrong.
            Unavailable: a server does not answer.
        """
        return self._ask_role()

    def _ask_role(self) -> Role:
        check_login(self._settings)  # first: ZooKeeper knows no wrong password where there is no tree yet
        with connected(self._settings) as tree:
            directory = GuardedTree(tree).roles()
        return directory.role(self.username) if directory else "admin"

    # ------------------------------------------------------------ for an admin

    def initialize(
        self,
        file: str | Path | None = None,
        *,
        names: Mapping[Service, str] | None = None,
        passwords: Mapping[Service, str] | None = None,
    ) -> dict[Service, Login]:
        """Guard the tree and RabbitMQ's vhost, and create a user for each kind of service.

        Call it as often as you like: users who are there keep their passwords unless new ones are given, and
        all rights are put right. A tree that was used with one login for everything is taken over.

        Args:
            file: where to keep the services' logins, readable by you only; those in it are used again.
            names: by role, the services' user names; by default ``master``, ``worker`` and ``monitor``.
            passwords: by role, the services' passwords; by default what the file says, or generated.

        Returns:
            The logins whose passwords are known: given, from the file, or generated just now.

        Raises:
            AuthenticationFailed: this is not the admin's login.
            ConfigurationError: a name or password can't be, or the management API is not known.
            Unavailable: a server does not answer.
        """
        named = {role: checked_name((names or {}).get(role, role)) for role in SERVICES}
        known = credentials.read(file) if file else {}
        known |= {role: Login(named[role], SecretStr(text)) for role, text in (passwords or {}).items()}
        known = {role: login for role, login in known.items() if login.username == named[role]}
        rabbit = Management(self._settings)
        rabbit.require_admin()
        rabbit.make_vhost()
        rabbit.permit(self.username, policy.permissions("admin", self._settings.rabbitmq_prefix))
        rabbit.close_default_user()
        with administer(self._settings) as admin:
            directory = admin.named(named)
            for role in SERVICES:
                directory = admin.settle(directory, role, known)
            if file:
                credentials.write(file, known)
            admin.finish(directory)
        RabbitMQBroker(self._settings).close()  # it declares what workers may not
        return known

    def create_user(self, name: str, password: str | None = None) -> str:
        """Let a person in: to submit jobs, read their own results and look at RabbitMQ's pages.

        Returns:
            The password: the one given, or one that was generated.

        Raises:
            AuthenticationFailed: this is not the admin's login.
            ConfigurationError: there is such a user, or the name or password can't be.
            Unavailable: a server does not answer.
        """
        login = Login(checked_name(name), SecretStr(password if password is not None else generated()))
        with administer(self._settings) as admin:
            directory = admin.directory()
            if name in directory.ids:
                raise ConfigurationError(f"there is a user {name!r} already: use change_password")
            tags = admin.rabbit.tags(name)
            if tags is not None and tags != [policy.tags("person")]:
                raise ConfigurationError(
                    f"RabbitMQ has a user {name!r} that is somebody else's: choose another name"
                )
            admin.finish(admin.put(directory, login, "person"))
        return login.password.get_secret_value()

    def delete_user(self, name: str) -> None:
        """Lock a person out, everywhere and at once. The person's jobs go on, and stay for the admin to clear.

        Raises:
            AuthenticationFailed: this is not the admin's login.
            ConfigurationError: there is no such user, or it is the admin or a service.
            Unavailable: a server does not answer.
        """
        with administer(self._settings) as admin:
            directory = admin.directory()
            require_user(directory, name)
            if directory.role(name) != "person":
                raise ConfigurationError(
                    f"{name!r} is the {directory.role(name)}'s login and can't be deleted"
                )
            admin.rabbit.delete_user(name)
            without = directory.with_user(name)
            admin.guard.apply(without)
            admin.guard.write(without)

    def change_password(self, name: str, password: str) -> None:
        """Give a user another password; the old one is refused at once.

        Services go on under the new one when they are started with it.

        Raises:
            AuthenticationFailed: this is not the admin's login.
            ConfigurationError: there is no such user, or the password can't be.
            Unavailable: a server does not answer.
        """
        login = Login(name, SecretStr(password))
        with administer(self._settings) as admin:
            directory = admin.directory()
            require_user(directory, name)
            role = directory.role(name)
            if (
                name == self.username
            ):  # until RabbitMQ has the new one both are good: a failure locks nobody out
                admin.tree.add_login(name, password)
                ids = dict.fromkeys((*directory.ids[name], digest(name, password)))
                admin.finish(directory.with_user(name, *ids))
            directory = admin.put(directory, login, role)
            if name == self.username:
                self._settings = _as(self._settings, name, password)
            admin.finish(directory)

    def users(self) -> dict[str, Role]:
        """Return everybody's role by name.

        Raises:
            AuthenticationFailed: this is not the admin's login.
            Unavailable: a server does not answer.
        """
        with administer(self._settings) as admin:
            directory = admin.directory()
        return {name: directory.role(name) for name in sorted(directory.ids)}


def _as(settings: Settings, username: str, password: str) -> Settings:
    return settings.model_copy(update={"username": username, "password": SecretStr(password)})
