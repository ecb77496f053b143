"""How a fault is put into mrq on purpose, and taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutation:
    """One change to the code.

    Attributes:
        what: in words, for the table.
        changes: (module or class, name, what stands there instead).
    """

    what: str
    changes: tuple[tuple[Any, str, Any], ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have it in force."""
        before = [(owner, name, owner.__dict__[name]) for owner, name, _ in self.changes]
        for owner, name, new in self.changes:
            setattr(owner, name, new)
        try:
            yield
        finally:
            for owner, name, old in before:
                setattr(owner, name, old)


MUTATIONS: dict[str, Mutation] = {}


def mutation(
    name: str, what: str, *owners: tuple[Any, str]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as what stands in the given places instead."""

    def register(new: Callable[..., Any]) -> Callable[..., Any]:
        MUTATIONS[name] = Mutation(what, tuple((owner, attribute, new) for owner, attribute in owners))
        return new

    return register
