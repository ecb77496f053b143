"""What a path and a node's bytes may be: checked before anything is sent, by both adapters alike."""

from __future__ import annotations

import re

from mrq.errors import ConfigurationError

MAX_DATA = 1_000_000
"""Bytes in a node. ZooKeeper takes packets of up to 1 MiB; beyond that it hangs up without a word."""

# ZooKeeper, PathUtils.validatePath: control characters, surrogates, private use, specials.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")


def check_path(path: str) -> None:
    """Refuse what ZooKeeper refuses.

    Raises:
        ConfigurationError: the path is not absolute, ends with a slash, or has an empty, a ``.`` or a ``..``
            segment or a character that may not be in a path.
    """
    if not path.startswith("/"):
        raise ConfigurationError(f"the node's path {path!r} does not begin with a slash")
    if path == "/":
        return
    if bad := set(path[1:].split("/")) & {"", ".", ".."}:
        raise ConfigurationError(f"the node's path {path!r} has the segment {min(bad)!r}")
    if _FORBIDDEN.search(path):
        raise ConfigurationError(f"the node's path {path!r} has a character that ZooKeeper refuses")


def check_data(path: str, data: bytes) -> None:
    """Refuse bytes that no node can hold.

    Raises:
        ConfigurationError: they are more than `MAX_DATA`.
    """
    if len(data) > MAX_DATA:
        raise ConfigurationError(
            f"{len(data):,} bytes are too many for the node {path}, which can hold {MAX_DATA:,}: "
            "keep them in the store"
        )


def parent(path: str) -> str:
    """Return the path of the node above."""
    return path.rpartition("/")[0] or "/"


def child(path: str, name: str) -> str:
    """Return the path of the node called ``name`` below."""
    return f"{path.rstrip('/')}/{name}"
