"""The mapping of tasks under way: a dict that is never changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mrq.core.paged import Paged

indices = st.integers(0, 600)
puts = st.tuples(st.just("put"), st.dictionaries(indices, st.text(max_size=1), max_size=5))
withouts = st.tuples(st.just("without"), st.sets(indices, max_size=5))


@given(st.lists(puts | withouts, max_size=12))
def test_it_is_a_dict_of_which_each_change_makes_a_new_one(changes: list[tuple[str, object]]) -> None:
    """Every version stays what it was, whatever is made of it."""
    versions: list[tuple[Paged[str], dict[int, str]]] = [(Paged(), {})]
    for what, given_ in changes:
        paged, plain = versions[-1]
        if isinstance(given_, dict):
            assert what == "put"
            versions.append((paged.put(given_.items()), plain | given_))
        elif isinstance(given_, set):
            left = {index: value for index, value in plain.items() if index not in given_}
            versions.append((paged.without(given_), left))
    for paged, plain in versions:
        assert dict(paged) == plain
        assert len(paged) == len(plain)
        assert paged == Paged[str]().put(plain.items())
        assert all((index in paged) == (index in plain) for index in range(601))
        assert paged.get(700) is None


def test_what_changes_nothing_makes_no_copy() -> None:
    """So that an event of a task without trouble costs nothing for it."""
    paged = Paged[str]().put([(1, "a")])
    assert paged.without([2, 700]) is paged
