"""A child's input is opened once, and small reads take along what comes after them."""

from __future__ import annotations

from pathlib import Path

from mrq import inputs, layout
from mrq.blob import Signer, new_key
from mrq.executor.near import AHEAD_BYTES, OpenInput
from mrq.segment import SegmentReader
from mrq.span import Readable
from mrq.store.folder import FolderStore

SIGNER = Signer(new_key(), "job_1")
PATH = layout.input_file("job_1")


class Counting(FolderStore):
    """Counts reads."""

    n_reads = 0

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self.n_reads += 1
        return super().read(path, offset, length)


def opened(opener: OpenInput, store: Counting, length: int) -> SegmentReader:
    def open_(readable: Readable) -> SegmentReader:
        return SegmentReader(readable, PATH, length, SIGNER, inputs.ROLE, inputs.INDEX)

    return opener.of("job_1", store, length, open_)


def test_neighbouring_small_splits_are_read_together(tmp_path: Path) -> None:
    store, n = Counting(tmp_path), 3000
    written = inputs.write_input(store, PATH, range(n), n, SIGNER, split_bytes=2**20, frame_bytes=2**10)
    assert written.n_splits == n
    opener = OpenInput()
    for index in range(n):
        assert list(opened(opener, store, written.length).partition(index)) == [index]
    assert store.n_reads <= written.length / AHEAD_BYTES + 3


def test_any_order_and_any_size_will_do(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    data = [bytes([n]) * (n * 20_000) for n in range(30)]
    written = inputs.write_input(store, PATH, data, 30, SIGNER, split_bytes=2**20, frame_bytes=2**10)
    opener = OpenInput()
    for index in [*range(29, -1, -1), *range(0, 30, 7), 5, 5]:
        assert list(opened(opener, store, written.length).partition(index)) == [data[index]]


def test_another_job_is_another_input(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    length = inputs.write_input(store, PATH, [1], 1, SIGNER, split_bytes=9, frame_bytes=9).length
    opener = OpenInput()
    first = opened(opener, store, length)
    assert opened(opener, store, length) is first
    other = opener.of(
        "job_2",
        store,
        length,
        lambda s: SegmentReader(s, PATH, length, SIGNER, inputs.ROLE, inputs.INDEX),
    )
    assert other is not first
