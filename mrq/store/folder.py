"""The store over a local folder: what `EmbeddedCluster` uses, and any number of processes may share.

``<root>/files`` holds the files, ``<root>/writing`` what is being written. Nothing is flushed to the disk:
the store survives its processes, not its machine.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from mrq.errors import StoreError, StoreFull, StoreNotFound, StoreUnavailable
from mrq.ports import FileStatus
from mrq.store.paths import checked
from mrq.store.paths import name as last_name

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TRIES = 100  # a folder that others remove as often as it is made


class FolderStore:
    """A `mrq.ports.Store` over a folder, which must be on one file system that knows hard links.

    Args:
        root: the folder; made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._files = self.root / "files"
        self._writing = self.root / "writing"
        self._closed = False

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """See `mrq.ports.Store.write`; the file appears whole, or not at all."""
        target = self._at(path)
        with _refusals("write", path):
            draft, length = self._draft(data)
            try:
                _put(os.replace, draft, target)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        return length

    def _draft(self, data: bytes | Iterable[bytes]) -> tuple[Path, int]:
        self._writing.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=self._writing)
        draft, length = Path(name), 0
        try:
            with open(number, "wb") as file:
                for piece in (data,) if isinstance(data, bytes) else _own_errors(data):
                    length += file.write(piece)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return draft, length

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `mrq.ports.Store.read`."""
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"offset {offset} and length {length} can't be negative")
        place = self._at(path)
        with _refusals("read", path):
            try:
                with open(place, "rb", buffering=0) as file:
                    file.seek(offset)
                    return file.readall() if length is None else _read_fully(file, length)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise StoreNotFound(f"the folder {self.root} has no file {path}") from None

    def rename(self, source: str, target: str) -> bool:
        """See `mrq.ports.Store.rename`; ``link`` is what makes the first to come win."""
        old, new = self._at(source), self._at(target)
        with _refusals("rename", f"{source} to {target}"):
            try:
                _put(os.link, old, new)
            except (FileNotFoundError, FileExistsError, NotADirectoryError):
                return self._settle(source, target, old, new)
            old.unlink(missing_ok=True)
        return True

    def _settle(self, source: str, target: str, old: Path, new: Path) -> bool:
        """Say what a rename that failed has come to."""
        if new.is_dir():
            raise StoreError(f"{source} can't be renamed to {target}: a folder is there")
        if not os.path.lexists(old):
            if os.path.lexists(new):
                return True
            raise StoreNotFound(
                f"{source} can't be renamed to {target}: neither is in the folder {self.root}"
            )
        if not os.path.lexists(new):
            raise StoreError(f"{source} can't be renamed to {target}: a part of the target's path is a file")
        if old == new or not _same(old, new):
            return False
        old.unlink(missing_ok=True)  # somebody was killed between link and unlink
        return True

    def status(self, path: str) -> FileStatus | None:
        """See `mrq.ports.Store.status`; the root's path is ``""``."""
        place = self._at(path, root=True)
        with _refusals("look at", path):
            try:
                found = os.stat(place)
            except (FileNotFoundError, NotADirectoryError):
                return None
        is_dir = stat.S_ISDIR(found.st_mode)
        return FileStatus(last_name(path), 0 if is_dir else found.st_size, is_dir, found.st_mtime)

    def list(self, path: str) -> list[FileStatus]:
        """See `mrq.ports.Store.list`."""
        place = self._at(path, root=True)
        with _refusals("list", path):
            try:
                names = sorted(os.listdir(place))
            except FileNotFoundError:
                return []
            except NotADirectoryError:
                if place.is_file():
                    raise StoreError(f"{path} can't be listed: it is a file") from None
                return []
        entries = (self.status(f"{path}/{name}" if path else name) for name in names)
        return [entry for entry in entries if entry is not None]

    def make_dirs(self, path: str) -> None:
        """See `mrq.ports.Store.make_dirs`."""
        place = self._at(path, root=True)
        with _refusals("make the folder", path):
            place.mkdir(parents=True, exist_ok=True)

    def delete(self, path: str) -> bool:
        """See `mrq.ports.Store.delete`; ``""`` empties the store."""
        place = self._at(path, root=True)
        with _refusals("delete", path):
            try:
                _remove_tree(place) if place.is_dir() else place.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def ping(self) -> None:
        """Make the store's folder, to find out now whether it can be written to."""
        self.make_dirs("")

    def close(self) -> None:
        """See `mrq.ports.Store.close`."""
        self._closed = True

    def _at(self, path: str, *, root: bool = False) -> Path:
        if self._closed:
            raise StoreUnavailable(f"the store in {self.root} was closed: open a new one")
        return self._files / checked(path, root=root)


@contextmanager
def _refusals(action: str, path: str) -> Iterator[None]:
    try:
        yield
    except _Foreign as error:
        raise error.cause from None
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreFull(
                f"can't {action} {path}: {error.strerror}; make room on the disk and try again"
            ) from error
        raise StoreError(f"can't {action} {path}: {error.strerror or error}") from error


class _Foreign(Exception):
    """Carries what the caller's own iterable raised past `_refusals`."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


def _own_errors(data: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from data
    except Exception as error:
        raise _Foreign(error) from error


def _put(action: Callable[[Path, Path], None], source: Path, target: Path) -> None:
    """Do what puts ``source`` at ``target``; make the target's folder if that is what lacks."""
    for _ in range(_TRIES):
        try:
            action(source, target)
        except FileNotFoundError:
            if not os.path.lexists(source):
                raise
            target.parent.mkdir(parents=True, exist_ok=True)
        else:
            return
    raise StoreError(f"the folder of {target} can't be kept: others remove it all the time")


def _read_fully(file: FileIO, length: int) -> bytes:
    pieces = []
    while length and (piece := file.read(length)):
        pieces.append(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _same(old: Path, new: Path) -> bool:
    try:
        return os.path.samefile(old, new)
    except FileNotFoundError:  # another call for the same two has just ended
        return not os.path.lexists(old)


def _remove_tree(place: Path) -> None:
    """Remove a folder, whatever others put into it meanwhile or take out of it."""
    for _ in range(_TRIES):
        try:
            shutil.rmtree(place)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
        if not place.exists():
            return
    raise StoreError(f"{place} can't be removed: others write to it all the time")
