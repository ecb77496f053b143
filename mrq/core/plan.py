"""How data is cut into splits."""

from __future__ import annotations

from collections.abc import Iterator

SMALL = 20_000
"""How many elements of an iterable without a length are looked at before it counts as long."""


def quotas(length: int | None, n_splits: int) -> Iterator[int]:
    """Return how many elements each split gets, at least one; without end, for data may be longer than it says.

    Args:
        length: the number of elements, or None if all that is known is that there are more than `SMALL`.
        n_splits: how many splits to aim at. With a length there are that many, or one an element, whose sizes differ
            by one at most. Without, the splits grow with what was seen: ``n_splits`` for the first `SMALL` elements,
            then as many again each time the data has multiplied by e, so that none is much above its share.
    """
    if length is None:
        yield from _growing(-(-SMALL // n_splits), n_splits)
    base, extra = divmod(length or 0, max(1, min(length or 0, n_splits)))
    for number in range(min(length or 0, n_splits)):
        yield base + (number < extra)
    while True:
        yield max(1, base)


def _growing(first: int, n_splits: int) -> Iterator[int]:
    seen, quota = 0, first
    while True:
        yield quota
        seen += quota
        quota = max(quota, seen // n_splits)
