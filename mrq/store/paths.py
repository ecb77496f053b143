"""Which paths a store takes: the same ones over a folder as over HDFS."""

from __future__ import annotations

import re
from unicodedata import is_normalized

from mrq.errors import StoreError

_LONGEST_NAME = 255  # bytes: dfs.namenode.fs-limits.max-component-length, and NAME_MAX
# HDFS refuses colons; Java's URLs change the others: a space at the end goes, Unicode is composed (NFC).
_NEVER = re.compile(r"[\x00-\x1f\x7f:\\]|^\s|\s$")


def checked(path: str, *, root: bool = False) -> str:
    """Return the path if a store may use it.

    Args:
        path: relative, ``/``-separated.
        root: whether ``""``, the store's root, will do.

    Raises:
        StoreError: it is absolute, has an empty, ``.`` or ``..`` part, or a name that is too long or does
            not come through HDFS as it is.
    """
    if root and not path:
        return path
    for name in path.split("/"):
        if name in ("", ".", "..") or not _survives(name):
            raise StoreError(
                f"{path!r} is no path in a store: give relative names joined by '/', without empty, '.' or "
                f"'..' parts, control characters, ':' or '\\', spaces at their ends or decomposed Unicode, "
                f"each of at most {_LONGEST_NAME} bytes"
            )
    return path


def _survives(name: str) -> bool:
    if _NEVER.search(name) or not is_normalized("NFC", name):
        return False
    try:
        return len(name.encode()) <= _LONGEST_NAME
    except UnicodeEncodeError:  # a lone surrogate
        return False


def parent(path: str) -> str:
    """Return the folder that the path is in; ``""`` is the root."""
    return path.rpartition("/")[0]


def name(path: str) -> str:
    """Return the path's last part."""
    return path.rpartition("/")[2]
