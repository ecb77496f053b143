"""HDFS, simulated: a file is seen while it is written, and a rename moves the file, whoever still writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from mrq.errors import StoreError, StoreFull, StoreNotFound, StoreUnavailable
from mrq.ports import FileStatus
from tests.sim.network import Network
from tests.sim.world import Process, World

if TYPE_CHECKING:
    from tests.sim.judge import Judge

T = TypeVar("T")


class Inode:
    """A file, wherever it is moved to."""

    __slots__ = ("data", "path")

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.data = data


class SimHdfs:
    """The server.

    Attributes:
        full_until: there is no space left until then; 0 if it never was full.
    """

    def __init__(self, world: World, judge: Judge) -> None:
        self.world = world
        self.judge = judge
        self.files: dict[str, Inode] = {}
        self.folders: set[str] = set()
        self.full_until = 0.0

    def begin(self, path: str, part: bytes) -> Inode:
        """Create or replace a file; it grows."""
        old = self.files.get(path)
        if old:
            self.judge.unlinked(path)
            old.path = ""
        self._make_parents(path)
        inode = self.files[path] = Inode(path, part)
        self.judge.begun(path)
        return inode

    def complete(self, inode: Inode, data: bytes) -> None:
        """Give a file its content, wherever it is by now."""
        if not inode.path:
            raise StoreUnavailable("the file was replaced or removed while it was written")
        if inode.data != data:
            self.judge.changed(inode.path)
            inode.data = data

    def rename(self, source: str, target: str) -> bool:
        inode = self.files.get(source)
        if inode is None:
            if target in self.files:
                return True
            raise StoreNotFound(f"{source} can't be renamed to {target}: neither is there")
        if target in self.files:
            return False
        del self.files[source]
        self._make_parents(target)
        inode.path = target
        self.files[target] = inode
        self.judge.renamed(target, inode)
        return True

    def status(self, path: str) -> FileStatus | None:
        inode = self.files.get(path)
        name = path.rpartition("/")[2]
        if inode:
            return FileStatus(name, len(inode.data))
        return FileStatus(name, 0, True) if path in self.folders else None

    def list(self, path: str) -> list[FileStatus]:
        if path in self.files:
            raise StoreError(f"{path} can't be listed: it is a file")
        start = f"{path}/"
        names = {
            p for p in (*self.files, *self.folders) if p.startswith(start) and "/" not in p[len(start) :]
        }
        return [status for p in sorted(names) if (status := self.status(p))]

    def make_dirs(self, path: str) -> None:
        self._make_parents(f"{path}/x")

    def delete(self, path: str) -> bool:
        inode = self.files.pop(path, None)
        if inode:
            self.judge.unlinked(path)
            inode.path = ""
            return True
        if path not in self.folders:
            return False
        start = f"{path}/"
        for below in [p for p in self.files if p.startswith(start)]:
            self.delete(below)
        self.folders = {p for p in self.folders if p != path and not p.startswith(start)}
        return True

    def _make_parents(self, path: str) -> None:
        while (path := path.rpartition("/")[0]) and path not in self.folders:
            self.folders.add(path)


class SimStore:
    """Implements `mrq.ports.Store` for one process."""

    def __init__(self, hdfs: SimHdfs, network: Network, process: Process) -> None:
        self.hdfs = hdfs
        self.network = network
        self.process = process

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """See `mrq.ports.Store`."""
        whole = data if isinstance(data, bytes) else b"".join(data)
        weather, world = self.network.weather, self.network.world
        if world.now < self.hdfs.full_until:
            if world.random() < 0.5:  # it noticed only when some of it was written
                self._ask(path, lambda: self.hdfs.begin(path, whole[: len(whole) // 2]), writes=True)
            raise StoreFull(f"{path} can't be written: no space is left")
        inode = self._ask(path, lambda: self.hdfs.begin(path, whole[: len(whole) // 2]), writes=True)
        if world.random() < weather.torn:
            self.process.sleep(world.between(0.1, 1.0))
            raise StoreUnavailable(f"the connection was lost while {path} was written")
        self.process.check()
        self.hdfs.complete(inode, whole)
        return len(whole)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `mrq.ports.Store`."""

        def act() -> bytes:
            inode = self.hdfs.files.get(path)
            if inode is None:
                raise StoreNotFound(f"there is no file {path}")
            return inode.data[offset:] if length is None else inode.data[offset : offset + length]

        return self._ask(path, act)

    def rename(self, source: str, target: str) -> bool:
        """See `mrq.ports.Store`."""
        return self._ask(source, lambda: self.hdfs.rename(source, target), writes=True)

    def status(self, path: str) -> FileStatus | None:
        """See `mrq.ports.Store`."""
        return self._ask(path, lambda: self.hdfs.status(path))

    def list(self, path: str) -> list[FileStatus]:
        """See `mrq.ports.Store`."""
        return self._ask(path, lambda: self.hdfs.list(path))

    def make_dirs(self, path: str) -> None:
        """See `mrq.ports.Store`."""
        self._ask(path, lambda: self.hdfs.make_dirs(path), writes=True)

    def delete(self, path: str) -> bool:
        """See `mrq.ports.Store`."""
        return self._ask(path, lambda: self.hdfs.delete(path), writes=True)

    def close(self) -> None:
        """See `mrq.ports.Store`."""

    def _ask(self, path: str, act: Callable[[], T], *, writes: bool = False) -> T:
        return self.network.request(
            self.process,
            "hdfs",
            act,
            lambda: StoreUnavailable(f"the store did not answer about {path} in time"),
            writes=writes,
        )
