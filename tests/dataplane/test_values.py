"""The values of a key that has many: in the order of the input, like a list, and not in memory."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq import spool
from mrq.core.grouping import cut, merge
from mrq.executor import phases, values
from mrq.executor.values import LazyValues, gathered, sealed
from tests.dataplane.test_phases import Job

pieces = st.lists(st.lists(st.integers(), min_size=1, max_size=5), min_size=1, max_size=6)


def lazy(lists: list[list[Any]]) -> LazyValues:
    made = LazyValues()
    for each in lists:
        made.append(each)
    return made


@given(pieces, st.data())
def test_they_read_as_a_list_does(lists: list[list[int]], data: st.DataObject) -> None:
    """len, iteration, indices, slices, and all that these are enough for."""
    plain, found = list(chain.from_iterable(lists)), lazy(lists)
    index = data.draw(st.integers(-len(plain), len(plain) - 1))
    start, stop, step = data.draw(st.slices(len(plain)).map(lambda s: (s.start, s.stop, s.step)))
    assert found[index] == plain[index]
    assert found[start:stop:step] == plain[start:stop:step]
    assert list(found) == plain
    assert list(reversed(found)) == plain[::-1]
    assert (len(found), sum(found), max(found), sorted(found)) == (
        len(plain),
        sum(plain),
        max(plain),
        sorted(plain),
    )
    assert (found.index(plain[index]), found.count(plain[index])) == (
        plain.index(plain[index]),
        plain.count(plain[index]),
    )
    assert found == plain
    assert found != [*plain, 1]
    assert plain[0] in found
    assert (found + [1], [1] + found) == ([*plain, 1], [1, *plain])  # noqa: RUF005 - what is tested
    for outside in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            found[outside]


def test_two_can_read_at_once_and_a_pickle_is_a_list() -> None:
    """As of a list, iterators do not disturb one another; what a function returns arrives as a list."""
    found = lazy([[1, 2], [3]])
    assert list(zip(found, found, strict=True)) == [(1, 1), (2, 2), (3, 3)]
    assert type(pickle.loads(pickle.dumps(found))) is list
    with pytest.raises(TypeError):
        hash(found)
    assert "3 values" in repr(found)


@given(st.lists(st.tuples(st.integers(), st.lists(st.integers(), min_size=1, max_size=9))), st.integers(1, 4))
def test_rows_become_groups_again(groups: list[tuple[int, list[int]]], most: int) -> None:
    """Whether in memory or not."""
    for memory in (0, values.MEMORY_BYTES):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mrq.core.grouping.PIECE", most)
            patch.setattr("mrq.core.grouping.FEW", 1)
            patch.setattr(values, "MEMORY_BYTES", memory)
            patch.setattr(values, "_MANY", 2)
            patch.setattr(values, "FEW", 1)
            for rows in (cut(groups), sealed(groups)):
                assert [(key, list(all_)) for key, all_ in gathered(rows)] == groups


class Caseless(str):
    """Opaque, for only its own ``==`` can tell."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    __hash__ = None  # type: ignore[assignment]


def test_many_values_pass_a_merge_packed_but_not_an_opaque_keys() -> None:
    """Few values are joined; many stay the bytes that they are."""
    many, few = [1] * 1000, [1] * 10
    [(_, packed)] = sealed([("a", many)])
    assert isinstance(packed, bytes)
    assert len(packed) < 200
    streams = [[[("a", packed), ("b", few)]], [[("a", few), ("b", few)]], [[("a", packed)]]]
    assert list(merge(streams)) == [("a", packed), few, packed, ("b", few * 2)]
    assert list(sealed([(Caseless("a"), many)])) == [(Caseless("a"), many)]


TEXT = "x" * 1000
N = 30_000


def one_of_three_is_hot(numbers: list[int]) -> Iterator[tuple[str, str]]:
    """A third of all records has one key; each value is a text of its own."""
    return ((("hot" if n % 3 == 0 else f"key-{n}"), f"{n}{TEXT}") for n in numbers)


def letters_in(texts: list[str]) -> int:
    """Needs one value at a time."""
    return sum(map(len, texts))


def test_a_key_of_a_third_of_all_records_stays_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shuffle and reduce hold less than a third of its values at any time; the result is plain Python's."""
    monkeypatch.setattr(phases, "_MERGE_BYTES", 2**18)
    monkeypatch.setattr(values, "MEMORY_BYTES", 2**17)
    monkeypatch.setattr(spool, "MEMORY_BYTES", 2**17)
    monkeypatch.setattr("mrq.core.grouping._PIECE_BYTES", 2**13)
    job = Job(tmp_path, range(N), (one_of_three_is_hot, letters_in), n_map=8, n_reduce=1)
    job.run_phase(phases.Phase.MAP)
    tracemalloc.start()
    try:
        job.run_phase(phases.Phase.SHUFFLE)
        job.run_phase(phases.Phase.REDUCE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < N * len(TEXT) / 3 / 3, f"{peak:,} bytes, more than a third of the hot key's values"
    expected = {"hot": 0} | {f"key-{n}": 0 for n in range(N) if n % 3}
    for n in range(N):
        expected["hot" if n % 3 == 0 else f"key-{n}"] += len(f"{n}{TEXT}")
    assert dict(job.rows(phases.Phase.REDUCE, 0)) == expected
