"""An immutable mapping from task indices, of which a changed copy costs about the same however many tasks are out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

V = TypeVar("V")

_PAGE = 128
"""Indices in one page; a change copies one page, and the table of the pages that are not empty."""

_Pages = dict[int, dict[int, V]]


class Paged(Mapping[int, V]):
    """Values by index. `put` and `without` return a new one, which shares all but one page with the old one."""

    __slots__ = ("_length", "_pages")

    def __init__(self) -> None:
        self._pages: _Pages[V] = {}
        self._length = 0

    def put(self, items: Iterable[tuple[int, V]]) -> Paged[V]:
        """Return one that has these items, too."""
        pages, new, length = dict(self._pages), set(), self._length
        for index, value in items:
            number = index // _PAGE
            if number not in new:
                new.add(number)
                pages[number] = dict(pages.get(number, ()))
            length += index not in pages[number]
            pages[number][index] = value
        return self._made(pages, length)

    def without(self, indices: Iterable[int]) -> Paged[V]:
        """Return one that lacks these; itself if it has none of them."""
        gone = [index for index in indices if index in self]
        if not gone:
            return self
        pages = dict(self._pages)
        for number in {index // _PAGE for index in gone}:
            left = {index: value for index, value in pages.pop(number).items() if index not in gone}
            if left:
                pages[number] = left
        return self._made(pages, self._length - len(gone))

    @staticmethod
    def _made(pages: _Pages[V], length: int) -> Paged[V]:
        made: Paged[V] = Paged()
        made._pages, made._length = pages, length
        return made

    def __getitem__(self, index: int) -> V:
        return self._pages[index // _PAGE][index]

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and index in self._pages.get(index // _PAGE, ())

    def __iter__(self) -> Iterator[int]:
        for page in self._pages.values():
            yield from page

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return repr(dict(self))
