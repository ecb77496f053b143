"""Small files that ride in messages and in their job's record, where a file of its own would take longer than the task.

A store's file takes tens of milliseconds, a record's few bytes none. So what is small and was quickly made stays
inline: the code and the input from the submission on, a result from the report of its task to the master, which puts
it into the record when it persists the next phase. There a failover finds it. The manifest, in the store, has the
results of the reduce tasks once more.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping

from mrq.ports import FileStatus, Store

QUICK = 1.0
"""Seconds after which what a task has made is worth a file of its own, for a failover must not cost it again."""


def to_text(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return files as JSON can hold them."""
    return {path: b64encode(data).decode() for path, data in files.items()}


def from_text(texts: Mapping[str, str]) -> dict[str, bytes]:
    """Undo `to_text`."""
    return {path: b64decode(text) for path, text in texts.items()}


class InlineStore:
    """A store with small files on top of it; implements `mrq.ports.Store`. Closing it closes nothing.

    Args:
        store: has the other files.
        texts: the small files, as `to_text` makes them; they come before the store's of the same name.
        room: how many bytes of what is written may stay inline, in all.

    Attributes:
        files: those that are inline, by path.
    """

    def __init__(self, store: Store, texts: Mapping[str, str], room: int = 0) -> None:
        self._store = store
        self._room = room
        self._since = time.monotonic()
        self.files = from_text(texts)

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """Keep a small file inline, and write any other to the store."""
        if isinstance(data, bytes) and len(data) <= self._room and time.monotonic() - self._since < QUICK:
            self._room -= len(data)
            self.files[path] = data
            return len(data)
        return self._store.write(path, data)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a part of a file."""
        data = self.files.get(path)
        if data is None:
            return self._store.read(path, offset, length)
        return data[offset:] if length is None else data[offset : offset + length]

    def rename(self, source: str, target: str) -> bool:
        """Move a file where it is."""
        if source not in self.files:
            return self._store.rename(source, target)
        if target in self.files:
            return False
        self.files[target] = self.files.pop(source)
        return True

    def status(self, path: str) -> FileStatus | None:
        """Return what is at the path."""
        data = self.files.get(path)
        return self._store.status(path) if data is None else FileStatus(path.rpartition("/")[2], len(data))

    def list(self, path: str) -> list[FileStatus]:
        """Return a folder's entries, sorted by name."""
        entries = {entry.name: entry for entry in self._store.list(path)}
        below = f"{path}/" if path else ""
        for file, data in self.files.items():
            if file.startswith(below):
                name, slash, _ = file[len(below) :].partition("/")
                entries[name] = FileStatus(name, 0 if slash else len(data), bool(slash))
        return [entries[name] for name in sorted(entries)]

    def make_dirs(self, path: str) -> None:
        """Create a folder in the store."""
        self._store.make_dirs(path)

    def delete(self, path: str) -> bool:
        """Remove a file, or what the store has."""
        return self.files.pop(path, None) is not None or self._store.delete(path)

    def ping(self) -> None:
        """Find out whether the store answers."""
        self._store.ping()

    def close(self) -> None:
        """Do nothing."""
