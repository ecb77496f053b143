"""The file format: what goes in comes out, in its place only, and nothing else is ever unpickled."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.blob import Signer
from mrq.errors import BadMessage, BadSignature, NotShippable, StoreNotFound
from mrq.ports import FileStatus
from mrq.segment import SegmentReader, SegmentSummary, SegmentWriter

KEY = bytes(32)
SIGNER = Signer(KEY, "job_7")


class Memory:
    """A store of one file, which counts what is read of it."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data
        self.reads: list[int] = []

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        assert self.data is not None
        part = self.data[offset:][:length]
        self.reads.append(len(part))
        return part

    def status(self, path: str) -> FileStatus | None:
        return None if self.data is None else FileStatus("file", len(self.data))


def written(
    partitions: Iterable[Iterable[Any]], frame_bytes: int = 100, role: str = "map", index: int = 3
) -> tuple[bytes, SegmentSummary]:
    writer = SegmentWriter(SIGNER, role, index, frame_bytes)
    data = b"".join(writer.file(partitions))
    return data, writer.summary


def opened(data: bytes, signer: Signer = SIGNER, role: str = "map", index: int = 3) -> SegmentReader:
    return SegmentReader(Memory(data), "jobs/job_7/file", len(data), signer, role, index, chunk_bytes=256)


def everything(data: bytes, **where: Any) -> list[list[Any]]:
    reader = opened(data, **where)
    return [list(reader.partition(number)) for number in range(len(reader.entries))]


SAMPLE = [[("a", [1, 2]), ("b", ["x" * 50])], [], [(n, [n] * 3) for n in range(12)]]
DATA, SUMMARY = written(SAMPLE)


@given(
    st.lists(st.lists(st.one_of(st.text(), st.integers(), st.binary(max_size=300))), max_size=4),
    st.integers(1, 500),
)
def test_what_goes_in_comes_out(partitions: list[list[Any]], frame_bytes: int) -> None:
    """Any number of partitions, empty ones too, whatever the frames' size."""
    data, summary = written(partitions, frame_bytes)
    assert everything(data) == partitions
    assert summary == opened(data).summary
    assert summary.length == len(data)
    assert summary.records == sum(map(len, partitions))


def test_the_digest_stands_for_the_content() -> None:
    """The same content has the same bytes; another content another digest."""
    assert written(SAMPLE) == (DATA, SUMMARY)
    assert written([SAMPLE[2], [], SAMPLE[0]])[1].digest != SUMMARY.digest


def test_every_flipped_byte_is_noticed() -> None:
    """Wherever it is: frame header, payload, index or trailer."""
    for at in range(len(DATA)):
        for flip in (1, 0x80):
            damaged = DATA[:at] + bytes([DATA[at] ^ flip]) + DATA[at + 1 :]
            with pytest.raises(BadMessage, match=r"job_7.*map 3"):
                everything(damaged)


def test_every_truncation_is_noticed() -> None:
    """A file that ends early, whether or not the reader knows how long it was."""
    for length in range(len(DATA)):
        with pytest.raises(BadMessage, match=r"job_7.*map 3"):
            everything(DATA[:length])
        with pytest.raises(BadMessage, match=r"job_7.*map 3"):
            SegmentReader(Memory(DATA[:length]), "file", len(DATA), SIGNER, "map", 3)


@pytest.mark.parametrize(
    "where",
    [
        {"role": "reduce"},
        {"index": 4},
        {"signer": Signer(KEY, "job_8")},
        {"signer": Signer(b"1" * 32, "job_7")},
    ],
)
def test_a_file_is_good_in_its_own_place_only(where: dict[str, Any]) -> None:
    """Another role, index, job or key: not one byte of it is unpickled."""
    with pytest.raises(BadSignature):
        opened(DATA, **where)


def test_frames_and_partitions_can_not_change_places() -> None:
    """Parts of a well-signed file in another order are not well signed."""
    reader = opened(DATA)
    first, _, third = reader.entries
    end = DATA[third.offset + third.length :]
    swapped = DATA[third.offset : third.offset + third.length] + DATA[: first.length] + end
    assert len(swapped) == len(DATA)
    with pytest.raises(BadMessage):
        everything(swapped)


def test_a_dropped_last_frame_is_noticed() -> None:
    """The last frame says that it is the last, and the index how long a partition is."""
    many, _ = written([[bytes([n]) * 90 for n in range(5)]], 64)
    fewer, _ = written([[bytes([n]) * 90 for n in range(4)]], 64)
    entry = opened(many).entries[0]
    with pytest.raises(BadMessage):
        everything(fewer[: opened(fewer).entries[0].length] + many[entry.length :])


class Bomb:
    """Unpickling it is noticed."""

    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Bomb, "exploded", True)


def test_nothing_is_unpickled_before_its_digest_was_checked() -> None:
    """Somebody without the key gets no code run."""
    forged = b"".join(SegmentWriter(Signer(b"2" * 32, "job_7"), "map", 3, 100).file([[Bomb()]]))
    entry = opened(written([[b"x"]])[0]).entries[0]
    spliced = forged[: entry.length] + DATA
    for data in (forged, spliced):
        with pytest.raises(BadMessage):
            everything(data)
    assert not Bomb.exploded


def test_a_small_file_takes_one_read() -> None:
    """Its tail is all of it."""
    store = Memory(DATA)
    reader = SegmentReader(store, "file", None, SIGNER, "map", 3)
    assert list(reader.partition(2)) == SAMPLE[2]
    assert store.reads == [len(DATA)]


def test_a_partition_of_a_big_file_is_read_alone_and_in_chunks() -> None:
    """Two reads more than the partition's own: none, for the tail holds the index."""
    noise = random.Random(5)
    data, _ = written([[noise.randbytes(1000) for _ in range(500)] for _ in range(4)], 4096)
    store = Memory(data)
    reader = SegmentReader(store, "file", len(data), SIGNER, "map", 3, chunk_bytes=100_000)
    assert len(list(reader.partition(1))) == 500
    assert len(store.reads) == 1 + -(-reader.entries[1].length // 100_000)
    assert sum(store.reads) < 64 * 1024 + reader.entries[1].length + 1


def test_frames_are_about_as_big_as_asked_whatever_the_records() -> None:
    """Small records by the thousand share a frame; a big one has its own."""
    noise = random.Random(6)
    records = [noise.randbytes(10) for _ in range(5000)] + [noise.randbytes(50_000)] + [b"x"] * 100
    data, _ = written([records], 4096)
    blocks = list(opened(data).blocks(0))
    assert [record for block in blocks for record in block] == records
    sizes = [len(pickle.dumps(block)) for block in blocks]
    assert sorted(sizes)[-2] < 3 * 4096
    assert len(blocks) < 30


def test_a_file_that_is_not_there_is_said_so() -> None:
    """Job, role and index are in the message."""
    with pytest.raises(StoreNotFound, match="job_7: the file for map 3"):
        SegmentReader(Memory(None), "file", None, SIGNER, "map", 3)


@settings(max_examples=20)
@given(st.integers(0, 700))
def test_a_record_that_does_not_pickle_is_named(position: int) -> None:
    """By its position, however many were pickled together."""
    records: list[Any] = [0] * 700
    records.insert(position, threading.Lock())
    with pytest.raises(NotShippable, match=rf"record {position}: .*lock"):
        written([records])
