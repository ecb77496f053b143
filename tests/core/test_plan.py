"""Laws of cutting data into splits."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from mrq.core.plan import SMALL, quotas


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_splits_of_known_length_cover_it_and_differ_by_one_at_most(length: int, n: int) -> None:
    """As many splits as asked for, or one an element; no element is left out."""
    sizes = list(islice(quotas(length, n), min(length, n)))
    assert sum(sizes) == length
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(st.one_of(st.none(), st.integers(0, 100)), st.integers(1, 300))
def test_quotas_never_end_and_never_are_nothing(length: int | None, n: int) -> None:
    """Data that is longer than it says still has splits to go to."""
    assert all(size >= 1 for size in islice(quotas(length, n), 1000))


@given(st.integers(SMALL, 10**9), st.integers(1, 100))
def test_splits_of_unknown_length_stay_near_their_share(total: int, n: int) -> None:
    """However long the data turns out to be: no split far above total / n, and not many more splits than n."""
    seen, sizes = 0, []
    for size in quotas(None, n):
        sizes.append(min(size, total - seen))
        seen += size
        if seen >= total:
            break
    assert max(sizes) <= total / n + 1
    assert len(sizes) <= n * 17
