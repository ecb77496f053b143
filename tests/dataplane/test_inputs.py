"""The client's data on its way into the store: every element once, in order, in splits of bounded size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.blob import Signer
from mrq.core.plan import SMALL
from mrq.errors import NotShippable
from mrq.inputs import INDEX, ROLE, InputSummary, write_input
from mrq.segment import SegmentReader
from mrq.store.folder import FolderStore

SIGNER = Signer(bytes(32), "job_1")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def splits(
    store: FolderStore, data: Any, n: int, split_bytes: int = 2**25, **options: Any
) -> tuple[InputSummary, list[list[Any]]]:
    summary = write_input(
        store, "input", data, n, SIGNER, split_bytes=split_bytes, frame_bytes=2**16, **options
    )
    reader = SegmentReader(store, "input", summary.length, SIGNER, ROLE, INDEX)
    return summary, [list(reader.partition(number)) for number in range(summary.n_splits)]


class Liar:
    """Says that it is of one length, and is of another."""

    def __init__(self, said: int, true: int) -> None:
        self.said, self.true = said, true

    def __len__(self) -> int:
        return self.said

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.true))


@settings(max_examples=40, deadline=None)
@given(said=st.integers(0, 50), true=st.integers(0, 50), n=st.integers(1, 9))
def test_no_element_is_lost_or_repeated_whatever_len_says(
    tmp_path_factory: pytest.TempPathFactory, said: int, true: int, n: int
) -> None:
    """A wrong len() costs evenness only."""
    store = FolderStore(tmp_path_factory.mktemp("store"))
    summary, parts = splits(store, Liar(said, true), n)
    assert [element for part in parts for element in part] == list(range(true))
    assert all(parts)
    assert summary.records == true
    if said == true:
        assert len(parts) == min(n, true)


@pytest.mark.parametrize("n_elements", [0, 1, 7, 1000])
def test_a_generator_is_cut_like_a_list(store: FolderStore, n_elements: int) -> None:
    """As long as it isn't long."""
    assert splits(store, iter(range(n_elements)), 4) == splits(store, range(n_elements), 4)


def test_no_data_is_a_file_without_splits(store: FolderStore) -> None:
    """It is there, and valid."""
    summary, parts = splits(store, [], 4)
    assert (summary.n_splits, summary.records, parts) == (0, 0, [])


def test_a_long_generator_has_even_enough_splits(store: FolderStore) -> None:
    """None is far above its share, though nobody knew the length."""
    _, parts = splits(store, (n for n in range(SMALL * 5)), 8)
    assert [element for part in parts for element in part] == list(range(SMALL * 5))
    assert max(map(len, parts)) <= SMALL * 5 / 8 + 1
    assert len(parts) < 8 * 4


def test_a_split_that_grows_too_big_is_cut(store: FolderStore) -> None:
    """So that a worker can hold it, however few splits were asked for."""
    data = ["x" * 10_000] * 100
    _, parts = splits(store, data, 1, split_bytes=200_000)
    assert [element for part in parts for element in part] == data
    assert 5 <= len(parts) <= 6


def test_a_million_small_elements_and_one_of_50_mb(store: FolderStore) -> None:
    """Nothing is too many or too big."""
    big = b"0123456789" * 5_000_000
    seen: list[int] = []
    summary, parts = splits(store, [*range(1_000_000), big], 4, progress=seen.append)
    assert summary.records == 1_000_001
    assert parts[-1][-1] == big
    assert sum(map(len, parts)) == 1_000_001
    assert seen == sorted(seen)
    assert seen[-1] == 1_000_001


def test_an_element_that_does_not_pickle_is_named_by_its_position(store: FolderStore) -> None:
    """And nothing is written."""
    with pytest.raises(NotShippable, match=r"element 300: .*lock"):
        splits(store, [*range(300), threading.Lock()], 4)
    assert store.status("input") is None


def test_what_iterating_raises_comes_through_as_it_is(store: FolderStore) -> None:
    """It is the user's own exception, in the user's own process."""

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("the data is gone")

    with pytest.raises(LookupError, match="the data is gone"):
        splits(store, broken(), 4)
