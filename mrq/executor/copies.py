"""Copies of a child process that functions fork: they may do anything but come back."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def in_one_process(function: Callable[..., T]) -> Callable[..., T]:
    """Let no copy of this process that a function forks come back from it: two would write one attempt's file."""
    pid = os.getpid()

    def called(*args: Any) -> T:
        try:
            return function(*args)
        finally:
            if os.getpid() != pid:
                os._exit(1)

    return called
