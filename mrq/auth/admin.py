"""An admin at work: the steps in which users come, change and go, at both servers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import SecretStr

from mrq.auth import policy
from mrq.auth.credentials import Login
from mrq.auth.management import DEFAULT_USER, Management
from mrq.auth.policy import Directory, Role, Service
from mrq.auth.tree import GuardedTree
from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.coordination.zookeeper.acl import digest
from mrq.errors import AuthenticationFailed, ConfigurationError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


@contextmanager
def connected(settings: Settings) -> Iterator[ZooKeeperCoordination]:
    """Open a session with ZooKeeper for a moment."""
    tree = ZooKeeperCoordination(settings)
    try:
        yield tree
    finally:
        tree.close()


@contextmanager
def administer(settings: Settings) -> Iterator[Admin]:
    """Connect as the admin.

    Raises:
        AuthenticationFailed: this is not the admin's login.
    """
    rabbit = Management(settings)
    rabbit.require_admin()  # first: ZooKeeper knows no wrong password where there is no tree yet
    with connected(settings) as tree:
        guard = GuardedTree(tree)
        roles = guard.roles()
        if roles and roles.admin != settings.username:
            raise AuthenticationFailed(
                f"{settings.username!r} may not manage users: the admin of this tree is {roles.admin!r}"
            )
        yield Admin(settings, tree, guard, rabbit)


class Admin:
    """An admin's connections, and the steps that more than one task has.

    RabbitMQ is told first and ZooKeeper's list of users last, so that a task that broke off can be done again.
    """

    def __init__(
        self, settings: Settings, tree: ZooKeeperCoordination, guard: GuardedTree, rabbit: Management
    ) -> None:
        self.tree = tree
        self.guard = guard
        self.rabbit = rabbit
        self._name = settings.username
        self._id = digest(settings.username, settings.password.get_secret_value())
        self._prefix = settings.rabbitmq_prefix

    def directory(self) -> Directory:
        """Return all users.

        Raises:
            ConfigurationError: nobody has called `Auth.initialize`.
        """
        directory = self.guard.directory()
        if directory is None:
            raise ConfigurationError("one login does everything here: call Auth.initialize() first")
        return directory

    def put(self, directory: Directory, login: Login, role: Role) -> Directory:
        """Have RabbitMQ know a login, and hang up on the old one; return the directory with it."""
        name, password = login.username, checked_password(login)
        self.rabbit.put_user(name, password, policy.tags(role))
        self.permit(name, role)
        self.rabbit.disconnect(name)
        return directory.with_user(name, digest(name, password))

    def permit(self, name: str, role: Role) -> None:
        """Give a user the role's permissions in RabbitMQ."""
        self.rabbit.permit(name, policy.permissions(role, self._prefix))

    def finish(self, directory: Directory) -> None:
        """Have ZooKeeper know the users, and all nodes follow."""
        self.guard.write(directory)
        self.guard.apply(directory)

    def named(self, names: Mapping[Service, str]) -> Directory:
        """Return the directory as it is, but with these names for the services; those of before are deleted."""
        before = self.guard.directory() or Directory(self._name)
        directory = Directory(self._name, names, before.ids).with_user(self._name, self._id)
        for name in set(before.services.values()) - set(names.values()):
            self.rabbit.delete_user(name)
            directory = directory.with_user(name)
        return directory

    def settle(self, directory: Directory, role: Service, known: dict[Service, Login]) -> Directory:
        """Have a service's user at the servers, with the known password; ``known`` gets one that is generated.

        Who is there with that password already stays connected.
        """
        name = directory.services[role]
        there = name in directory.ids and self.rabbit.tags(name) is not None
        if not there:
            known.setdefault(role, Login(name, SecretStr(generated())))
        login = known.get(role)
        if login and not (
            there and directory.ids[name] == (digest(name, login.password.get_secret_value()),)
        ):
            return self.put(directory, login, role)
        self.permit(name, role)
        return directory


def generated() -> str:
    """Return a new password."""
    return secrets.token_urlsafe(24)


def require_user(directory: Directory, name: str) -> None:
    """Refuse a name that nobody has."""
    if name not in directory.ids:
        raise ConfigurationError(f"there is no user {name!r}")


def checked_name(name: str) -> str:
    """Refuse a name that can't be."""
    if not _NAME.fullmatch(name) or name == DEFAULT_USER:
        raise ConfigurationError(
            f"{name!r} can't be a user's name: letters, digits and . _ - make one, at most 64, a letter first"
        )
    return name


def checked_password(login: Login) -> str:
    """Refuse a password that can't be; return it."""
    password = login.password.get_secret_value()
    if not (password and password.isascii() and password.isprintable()):
        # Servers differ in how they encode other characters, and a file of logins has a line each.
        raise ConfigurationError(
            f"the password for {login.username!r} must be printable ASCII, and not empty"
        )
    return password
