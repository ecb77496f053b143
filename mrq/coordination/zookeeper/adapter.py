"""`Coordination`'s operations as ZooKeeper's requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kazoo.exceptions import NodeExistsError, NoNodeError, NotEmptyError
from kazoo.protocol.states import ZnodeStat
from kazoo.security import CREATOR_ALL_ACL

from mrq.config import Settings
from mrq.coordination.limits import check_data, check_path, child, parent
from mrq.coordination.zookeeper.acl import GUARD, Rights, decode_rights, from_acl, template_of, to_acl
from mrq.coordination.zookeeper.session import Call, ZooKeeperSession
from mrq.ports import Node, Session, Watch


class ZooKeeperCoordination:
    """One ZooKeeper session: the `Coordination` of a deployed mrq. Thread-safe, except in its own callbacks.

    Nodes are for the login that created them only, unless the tree is guarded: see `acl`. Reads may lag by
    milliseconds behind what another session has just written, as ZooKeeper's do; they never lag behind a watch that
    was called.
    """

    def __init__(self, settings: Settings, *, outlives_sessions: bool = False) -> None:
        """Connect, and make or read the root.

        Args:
            settings: where the servers are, who we are, and how long we wait.
            outlives_sessions: whether calls go on in the next session when theirs expires, in place of raising
                `SessionLost`: for those who create nothing ephemeral, as clients.

        Raises:
            CoordinationUnavailable: no server answered within ``connect_timeout``.
            AuthenticationFailed: the root belongs to another login.
        """
        check_path(settings.zookeeper_root)
        self._root = settings.zookeeper_root.rstrip("/")
        self._session = ZooKeeperSession(settings, outlives=outlives_sessions)
        self._client = self._session.client
        self._guarded = False  # once True, each new node's rights are looked up
        self._session.add_listener(self._on_session)
        try:
            self._session.run(self._root or "/", self._open, settings.connect_timeout)
        except BaseException:
            self.close()
            raise

    def create(self, path: str, data: bytes, *, ephemeral: bool = False, parents: bool = True) -> Node:
        """See `Coordination.create`.

        When a reply was lost and the node then is there, it counts as created by this call if it is younger
        than the call and, when ephemeral, owned by this session; else, if it holds the same data. Then two
        creators of equal data at the same moment can't be told apart: make it unique where that matters.
        """
        full = self._full(path)
        check_data(path, data)
        unsure = False

        def make(call: Call) -> Node:
            nonlocal unsure
            while True:
                try:
                    acl = self._new_acl(call, full)
                    request = self._client.create_async(
                        full, bytes(data), acl, ephemeral=ephemeral, include_data=True
                    )
                    return self._node(data, call.answer(request)[1])
                except self._session.unanswered:
                    unsure = True
                    raise
                except NoNodeError:
                    if not parents:
                        raise
                    self._make_folder(call, parent(full))
                except NodeExistsError:
                    if not unsure:
                        raise
                    if node := self._recognize(call, full, data, ephemeral):
                        return node

        return self._session.run(path, make)

    def get(self, path: str, watch: Watch | None = None) -> Node | None:
        """Read a node; see `Coordination.get`."""
        found = self._read(path, watch, self._client.get_async)
        return found and self._node(*found)

    def set(self, path: str, data: bytes, version: int = -1) -> int:
        """Write a node; see `Coordination.set`."""
        full = self._full(path)
        check_data(path, data)
        stat = self._session.run(
            path, lambda call: call.answer(self._client.set_async(full, bytes(data), version))
        )
        return int(stat.version)

    def delete(self, path: str) -> bool:
        """See `Coordination.delete`; a node that is gone after a lost reply counts as deleted by it."""
        full = self._full(path)
        unsure = False

        def remove(call: Call) -> bool:
            nonlocal unsure
            try:
                return self._delete(call, full) or unsure
            except self._session.unanswered:
                unsure = True
                raise

        return self._session.run(path, remove)

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        """List a node's children; see `Coordination.children`."""
        return sorted(self._read(path, watch, self._client.get_children_async) or ())

    def sync(self) -> None:
        """Wait for this session's server to have caught up with the leader; see `Coordination.sync`."""
        root = self._full("/")
        self._session.run("/", lambda call: call.answer(self._client.sync_async(root)))

    def add_listener(self, listener: Callable[[Session], None]) -> None:
        """Have changes of the session's state told; see `Coordination.add_listener`."""
        self._session.add_listener(listener)

    def close(self) -> None:
        """End the session; see `Coordination.close`."""
        self._session.close()

    # ------------------------------------------------------------ rights

    def rights(self, path: str) -> dict[str, str]:
        """Return what logins may do with a node; `mrq.coordination.zookeeper.acl` has the letters."""
        full = self._full(path)
        return self._session.run(
            path, lambda call: from_acl(call.answer(self._client.get_acls_async(full))[0])
        )

    def set_rights(self, path: str, rights: Rights) -> None:
        """Have exactly these logins do exactly this with a node."""
        full, acl = self._full(path), to_acl(rights)
        self._session.run(path, lambda call: call.answer(self._client.set_acls_async(full, acl)))

    def add_login(self, username: str, password: str) -> None:
        """Be this login too, for as long as this adapter lives."""
        login = f"{username}:{password}"
        self._session.run("/", lambda call: call.answer(self._client.add_auth_async("digest", login)))

    def _new_acl(self, call: Call, full: str) -> list[Any]:
        """Return the ACL of a node that is about to be made."""
        above = parent(full)
        if not self._guarded or above == (self._root or "/") or not above.startswith(self._root):
            return list(CREATOR_ALL_ACL)
        template = self._client.get_async(self._root + template_of(above.removeprefix(self._root)))
        inherited = self._client.get_acls_async(above)
        try:
            rights = decode_rights(call.answer(template)[0])
        except NoNodeError:
            rights = from_acl(call.answer(inherited)[0])
        return [*CREATOR_ALL_ACL, *to_acl(rights)]

    def _on_session(self, state: Session) -> None:
        if state is Session.LOST:
            self._guarded = True  # perhaps: the watch that would have told ended with the session

    def _on_guard(self, _path: str) -> None:
        self._guarded = True

    # ------------------------------------------------------------ steps

    def _open(self, call: Call) -> None:
        root = self._full("/")
        try:
            call.answer(self._client.get_async(root))
        except NoNodeError:
            self._make_folder(call, root)
        watcher = self._session.watcher(call, GUARD, self._on_guard)
        if call.answer(self._client.exists_async(self._full(GUARD), watch=watcher)):
            self._guarded = True

    def _read(self, path: str, watch: Watch | None, ask: Callable[..., Any]) -> Any:
        """Ask for a node's content or children; None when it is not there, its creation being watched."""
        full = self._full(path)

        def read(call: Call) -> Any:
            watcher = self._session.watcher(call, path, watch)
            while True:
                try:
                    return call.answer(ask(full, watch=watcher))
                except NoNodeError:
                    if not watcher or not call.answer(self._client.exists_async(full, watch=watcher)):
                        return None

        return self._session.run(path, read)

    def _recognize(self, call: Call, full: str, data: bytes, ephemeral: bool) -> Node | None:
        """Return the node if this call's lost attempt made it, None if it has gone; else raise."""
        try:
            held, stat = call.answer(self._client.get_async(full))
        except NoNodeError:
            return None
        ours = (
            stat.ephemeralOwner == self._session.id if ephemeral else not stat.ephemeralOwner and held == data
        )
        if stat.czxid <= call.zxid or not ours:
            raise NodeExistsError
        return self._node(held, stat)

    def _make_folder(self, call: Call, full: str) -> None:
        try:
            call.answer(self._client.create_async(full, b"", self._new_acl(call, full)))
        except NodeExistsError:
            pass
        except NoNodeError:
            self._make_folder(call, parent(full))
            self._make_folder(call, full)

    def _delete(self, call: Call, full: str) -> bool:
        """Delete a node, and once more what appears below it meanwhile."""
        there = False
        while True:
            try:
                call.answer(self._client.delete_async(full))
                return True
            except NoNodeError:
                return there
            except NotEmptyError:
                there = True
                self._delete_children(call, full)

    def _delete_children(self, call: Call, full: str) -> None:
        """Delete what is below a node; all leaves in one round trip."""
        try:
            paths = [child(full, name) for name in call.answer(self._client.get_children_async(full))]
        except NoNodeError:
            return
        requests = [self._client.delete_async(path) for path in paths]
        for path, request in zip(paths, requests, strict=True):
            try:
                call.answer(request)
            except NoNodeError:
                pass
            except NotEmptyError:
                self._delete(call, path)

    def _node(self, data: bytes, stat: ZnodeStat) -> Node:
        mine = stat.ephemeralOwner == self._session.id
        return Node(data, stat.version, stat.czxid, mine, stat.ctime / 1000, stat.mtime / 1000)

    def _full(self, path: str) -> str:
        check_path(path)
        return self._root + path if path != "/" else self._root or "/"
