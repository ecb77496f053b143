"""Calling what others gave us to call, so that their mistakes don't end our threads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

Told = TypeVar("Told")


def tell(callback: Callable[[Told], None], what: Told) -> None:
    """Call a watch or a listener; what it raises is logged, for the next one must be told too."""
    try:
        callback(what)
    except Exception:
        log.exception("%r failed when it was told of %s", callback, what)
