"""Bad records: found, left out, and kept for the user, as far as ``max_skipped`` allows.

A bad element is found by bisection: of a split on which ``map_func`` raises, each half is tried, and of each half that
raises too, down to single elements. For k bad ones among n that takes about 2 k log2(n) calls.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

TEXT = 500
"""How many characters of an exception's text are kept."""


class Skips:
    """The bad records of one task.

    Args:
        most: how many there may be.

    Attributes:
        records: position (of an element in its split, of a key in its partition), element or key, exception's text.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.records: list[tuple[int, Any, str]] = []

    def without_bad(self, call: Callable[[list[Any]], T], elements: list[Any]) -> T:
        """Return what ``call`` makes of the elements, bad ones left out.

        Raises:
            BaseException: what ``call`` raised, if leaving out some elements does not help, or is not allowed.
        """
        if not self._most:
            return call(elements)
        try:
            return call(elements)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            whole = error
        self._find(call, elements, 0, whole)
        if not self.records:
            whole.add_note("no single element raises, so that there is none to skip")
            raise whole
        bad = {position for position, _, _ in self.records}
        return call([element for position, element in enumerate(elements) if position not in bad])

    def skip(self, position: int, record: Any, error: BaseException) -> bool:
        """Leave a record out; return False when that is not allowed."""
        if not self._most or isinstance(error, MemoryError) or not isinstance(error, Exception):
            return False
        if len(self.records) == self._most:
            error.add_note(f"max_skipped={self._most}: as many bad records of this task were skipped before")
            return False
        text = "".join(traceback.format_exception_only(error)).strip()
        self.records.append((position, record, text[:TEXT]))
        return True

    def _find(
        self, call: Callable[[list[Any]], object], elements: list[Any], first: int, error: Exception
    ) -> None:
        """Skip the bad ones among elements that raise an error together."""
        if len(elements) == 1:
            if not self.skip(first, elements[0], error):
                raise error
            return
        middle = len(elements) // 2
        for start, half in ((0, elements[:middle]), (middle, elements[middle:])):
            # Outside of any except clause, so that no error becomes the context of the next.
            if half and (own := _failure(call, half)):
                self._find(call, half, first + start, own)


def _failure(call: Callable[[list[Any]], object], elements: list[Any]) -> Exception | None:
    try:
        call(elements)
    except MemoryError:
        raise
    except Exception as error:
        return error
    return None
