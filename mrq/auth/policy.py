"""Who may do what: users and roles, and from them RabbitMQ's permissions and ZooKeeper's rights. Pure.

            RabbitMQ                                   ZooKeeper
admin       everything; administrator                  everything
master      declares; publishes tasks and orders       claims jobs, all below them; registers as a master
worker      consumes tasks; publishes reports          reads jobs; registers as a worker
monitor     sees depths; tag ``monitoring``            reads jobs and members
person      looks at the pages; tag ``management``     submits jobs, all with their own; sees who is there

One login is the same at both. This module knows `mrq.registry`'s tree and `mrq.broker.topology`'s names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mrq.coordination.zookeeper.acl import ALL, GUARD, template_of
from mrq.errors import BadMessage

Service = Literal["master", "worker", "monitor"]
Role = Literal["admin", "master", "worker", "monitor", "person"]
SERVICES: tuple[Service, ...] = ("master", "worker", "monitor")

USERS = f"{GUARD}/users"
"""The node with everybody's digest, for the admin only."""
JOBS, MASTERS, WORKERS = "/jobs", "/masters", "/workers"
FOLDERS = (JOBS, MASTERS, WORKERS)

NOTHING = "^$"


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may do in the vhost: regular expressions of the names of exchanges and queues."""

    configure: str = NOTHING
    write: str = NOTHING
    read: str = NOTHING


def permissions(role: Role, prefix: str) -> Permissions:
    """Return the least that a role needs in RabbitMQ (Access Control, "How Authorisation Works")."""
    private = r"private\..+"
    queues = "map|shuffle|reduce"
    match role:
        case "admin":
            return Permissions(".*", ".*", ".*")
        case "master":
            # Declaring a queue with dead letters takes reading it, and writing to the exchange for them; binding a
            # queue takes writing to it, and reading the exchange.
            return Permissions(
                _names(prefix, f"tasks|events|control|dlx|{queues}|dead|{private}"),
                _names(prefix, f"tasks|control|dlx|{queues}|dead|{private}"),
                _names(prefix, f"tasks|events|dlx|{queues}|{private}"),
            )
        case "worker":
            return Permissions(
                _names(prefix, private),
                _names(prefix, f"events|{private}"),
                _names(prefix, f"control|{queues}|{private}"),
            )
    return Permissions()


def tags(role: Role) -> str:
    """Return the tags that let a role look at the management pages."""
    return {"admin": "administrator", "monitor": "monitoring", "person": "management"}.get(role, "")


def _names(prefix: str, alternatives: str) -> str:
    return rf"^{re.escape(prefix)}\.({alternatives})$"


@dataclass(frozen=True, slots=True)
class Directory:
    """All users of a tree.

    Attributes:
        admin: the admin's name.
        services: by role, the name of the user that its services log in as.
        ids: by name, ZooKeeper's digest ids of that user: one, but two while an admin's password changes.
    """

    admin: str
    services: Mapping[Service, str] = field(default_factory=dict)
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def people(self) -> list[str]:
        """Everybody who is neither the admin nor a service."""
        return sorted(self.ids.keys() - {self.admin, *self.services.values()})

    def role(self, name: str) -> Role:
        """Return a user's role."""
        by_name: dict[str, Role] = {user: role for role, user in self.services.items()}
        return "admin" if name == self.admin else by_name.get(name, "person")

    def with_user(self, name: str, *ids: str) -> Directory:
        """Return a directory in which the user has these digest ids; none removes the user."""
        others = {user: held for user, held in self.ids.items() if user != name}
        return replace(self, ids=others | ({name: ids} if ids else {}))

    # ------------------------------------------------------------ as bytes

    def roles_node(self) -> bytes:
        """Return what the node `GUARD` holds: who has a role. Everybody may read it."""
        return json.dumps({"admin": self.admin, "services": dict(self.services)}, sort_keys=True).encode()

    def users_node(self) -> bytes:
        """Return what the node `USERS` holds."""
        return json.dumps({name: list(held) for name, held in self.ids.items()}, sort_keys=True).encode()

    @classmethod
    def read(cls, roles_node: bytes, users_node: bytes = b"{}") -> Directory:
        """Take the two nodes' bytes.

        Raises:
            BadMessage: they hold something else.
        """
        try:
            roles = json.loads(roles_node)
            users = json.loads(users_node or b"{}")
            services = {role: str(roles["services"][role]) for role in SERVICES if role in roles["services"]}
            ids = {str(name): tuple(map(str, held)) for name, held in users.items()}
            return cls(str(roles["admin"]), services, ids)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadMessage(f"the nodes {GUARD} and {USERS} can't be read: {error!r}") from None

    # ------------------------------------------------------------ ZooKeeper's rights

    def fixed(self) -> dict[str, dict[str, str]]:
        """Return the rights of the nodes that are always there, by path, parents first."""
        give = self._give
        return {
            "/": give(master="r", worker="r", monitor="r", people="r"),
            GUARD: give(master="r", worker="r", monitor="r", people="r"),
            USERS: give(),
            template_of(JOBS): give(master="r", people="r"),
            template_of(MASTERS): give(master="r"),
            template_of(WORKERS): give(worker="r"),
            "/ids": give(),
            "/ids/jobs": give(people="rw"),
            JOBS: give(master="cdr", monitor="r", people="cr"),
            MASTERS: give(master="cdr", monitor="r", people="r"),
            WORKERS: give(master="r", worker="cdr", monitor="r", people="r"),
        }

    def template(self, folder: str) -> dict[str, str]:
        """Return what others than the creator may do with a node that is created in a folder."""
        if folder == JOBS:
            return self._give(master=ALL, worker="r", monitor="r")
        return self._give(master="r", monitor="r", people="r")

    def job(self, owners: Iterable[str]) -> dict[str, str]:
        """Return the rights of a job's nodes; owners that are no people (any more) have none."""
        mine = [held for name in set(owners) & set(self.people) for held in self.ids[name]]
        return self.template(JOBS) | dict.fromkeys(mine, ALL)

    def member(self, folder: str) -> dict[str, str]:
        """Return the rights of a master's or worker's own node."""
        creator = self.services.get("master" if folder == MASTERS else "worker", "")
        return self.template(folder) | dict.fromkeys(self.ids.get(creator, ()), ALL)

    def _give(
        self, *, master: str = "", worker: str = "", monitor: str = "", people: str = ""
    ) -> dict[str, str]:
        letters = dict.fromkeys(self.people, people)
        for role, granted in zip(SERVICES, (master, worker, monitor), strict=True):
            if name := self.services.get(role):
                letters[name] = granted
        letters[self.admin] = ALL
        return {
            held: granted for name, granted in letters.items() if granted for held in self.ids.get(name, ())
        }


def names_in(rights: Mapping[str, str]) -> list[str]:
    """Return the names of the logins that may do everything with a node."""
    return [who.partition(":")[0] for who, letters in rights.items() if letters == ALL]
