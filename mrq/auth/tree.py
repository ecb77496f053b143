"""The guarded tree: its list of users, and every node's rights as the policy says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from mrq.auth import policy
from mrq.auth.policy import FOLDERS, JOBS, USERS, Directory
from mrq.coordination.limits import child
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.coordination.zookeeper.acl import GUARD, encode_rights, template_of
from mrq.errors import NodeExists, NodeMissing

PASSES = 3
"""How often at most all nodes are looked at, for those that were made meanwhile after the old rights."""


class GuardedTree:
    """The tree as its admin sees it. Each method can be called again after a failure, and completes the work.

    Args:
        tree: a session with the admin's login.
    """

    def __init__(self, tree: ZooKeeperCoordination) -> None:
        self._tree = tree

    def roles(self) -> Directory | None:
        """Return who has a role, without digests; None when the tree is not guarded. Every user may ask."""
        node = self._tree.get(GUARD)
        return Directory.read(node.data) if node else None

    def directory(self) -> Directory | None:
        """Return all users; None when the tree is not guarded."""
        node, users = self._tree.get(GUARD), self._tree.get(USERS)
        return Directory.read(node.data, users.data if users else b"") if node else None

    def write(self, directory: Directory) -> None:
        """Keep the list of users."""
        self._put(GUARD, directory.roles_node())
        self._put(USERS, directory.users_node())

    def apply(self, directory: Directory) -> None:
        """Give every node the rights that it should have under this directory."""
        self._lay_out()
        for folder in FOLDERS:
            self._put(template_of(folder), encode_rights(directory.template(folder)))
        for path, rights in directory.fixed().items():
            self._set(path, rights)
        for _ in range(PASSES):
            changed = [self._set(path, rights) for path, rights in self._others(directory)]
            if not any(changed):
                break

    def _lay_out(self) -> None:
        """Make the nodes that are always there."""
        first = {"/ids/jobs": b"-1"}  # the last number given out
        for path in (USERS, *map(template_of, FOLDERS), "/ids", "/ids/jobs", *FOLDERS):
            with suppress(NodeExists):
                self._tree.create(path, first.get(path, b"{}" if path.startswith(GUARD) else b""))

    def _others(self, directory: Directory) -> Iterator[tuple[str, dict[str, str]]]:
        """Go through jobs and members, and say what rights each node should have."""
        for folder in FOLDERS:
            for name in self._tree.children(folder):
                path = child(folder, name)
                if folder != JOBS:
                    yield path, directory.member(folder)
                    continue
                with suppress(NodeMissing):  # it was cleared meanwhile
                    rights = directory.job(policy.names_in(self._tree.rights(path)))
                    for node in self._below(path):
                        yield node, rights

    def _below(self, path: str) -> Iterator[str]:
        """Return a node's path and all below, the deepest first: a failure leaves the top as it was."""
        for name in self._tree.children(path):
            yield from self._below(child(path, name))
        yield path

    def _set(self, path: str, rights: dict[str, str]) -> bool:
        """Set a node's rights; return whether they were others."""
        with suppress(NodeMissing):
            if self._tree.rights(path) != rights:
                self._tree.set_rights(path, rights)
                return True
        return False

    def _put(self, path: str, data: bytes) -> None:
        node = self._tree.get(path)
        if node is None:
            with suppress(NodeExists):
                self._tree.create(path, data)
                return
        if node is None or node.data != data:
            self._tree.set(path, data)
