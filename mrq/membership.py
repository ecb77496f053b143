"""How a master or worker shows itself to the others: an ephemeral record, renewed with each session."""

from __future__ import annotations

import os
import platform
import socket

import mrq
from mrq.records import MemberInfo
from mrq.registry import Registry, Role

PYTHON = ".".join(platform.python_version_tuple()[:2])
"""This process's version of Python, as far as pickled functions care."""


class Membership:
    """Keeps a member's record current.

    Args:
        role: ``"masters"`` or ``"workers"``.
        name: unique in the role.
        registry: where the record is.
    """

    def __init__(self, role: Role, name: str, registry: Registry) -> None:
        self._role = role
        self._name = name
        self._registry = registry
        self._shown: MemberInfo | None = None

    def show(self, *, state: str, jobs: int, slots: int = 0) -> None:
        """Write the record, unless it says this already. Raises what `Registry.register` raises."""
        info = MemberInfo(
            hostname=socket.gethostname(),
            pid=os.getpid(),
            python=PYTHON,
            mrq=mrq.__version__,
            slots=slots,
            state=state,
            jobs=jobs,
        )
        if info != self._shown:
            self._registry.register(self._role, self._name, info)
            self._shown = info

    def end(self) -> None:
        """Know that the record went with its session."""
        self._shown = None
