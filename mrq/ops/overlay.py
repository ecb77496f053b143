"""A store on top of another: what is written stays in the upper one, and the lower one is only read."""

from __future__ import annotations

from collections.abc import Iterable

from mrq.ports import FileStatus, Store


class Overlay:
    """Implements `mrq.ports.Store`. Closing it closes neither store.

    Args:
        lower: is read where the upper one has nothing.
        upper: takes all that is written; only there a file is renamed or deleted.
    """

    def __init__(self, lower: Store, upper: Store) -> None:
        self._lower = lower
        self._upper = upper

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """Create or replace a file of the upper store."""
        return self._upper.write(path, data)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of the file that `status` tells of."""
        has_it = self._upper if self._upper.status(path) else self._lower
        return has_it.read(path, offset, length)

    def rename(self, source: str, target: str) -> bool:
        """Move a file within the upper store, whatever the lower one has at the target."""
        return self._upper.rename(source, target)

    def status(self, path: str) -> FileStatus | None:
        """Return what is at the path in the upper store, else in the lower one."""
        return self._upper.status(path) or self._lower.status(path)

    def list(self, path: str) -> list[FileStatus]:
        """Return the entries of both, the upper store's where names are the same."""
        entries = {entry.name: entry for store in (self._lower, self._upper) for entry in store.list(path)}
        return [entries[name] for name in sorted(entries)]

    def make_dirs(self, path: str) -> None:
        """Create a folder in the upper store."""
        self._upper.make_dirs(path)

    def delete(self, path: str) -> bool:
        """Remove what the upper store has; what the lower one has shows again."""
        return self._upper.delete(path)

    def ping(self) -> None:
        """Find out whether the lower store answers."""
        self._lower.ping()

    def close(self) -> None:
        """Do nothing."""
