"""The client's data on its way into the store: one segment, one partition a split."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from mrq import serial
from mrq.blob import Signer
from mrq.core import plan
from mrq.segment import SegmentWriter
from mrq.spool import Writable, write_whole

ROLE, INDEX = "input", 0


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What was written: how many splits, how many elements, and the file's length in bytes."""

    n_splits: int
    records: int
    length: int


def write_input(
    store: Writable,
    path: str,
    data: Iterable[Any],
    n_splits: int,
    signer: Signer,
    *,
    split_bytes: int,
    frame_bytes: int,
    progress: Callable[[int], None] | None = None,
) -> InputSummary:
    """Write data, which is iterated once and never held as a whole. No data makes a file without splits.

    Args:
        store: where to.
        path: the file.
        data: the elements.
        n_splits: how many splits to aim at (`mrq.core.plan.quotas`).
        signer: of the job.
        split_bytes: a split ends when its pickles exceed this.
        frame_bytes: of pickled elements in a frame.
        progress: told now and then how many elements are done.

    Raises:
        NotShippable: an element can't be pickled; the message says which.
        MrqError: the store can't take the file.
        Exception: whatever iterating ``data`` raises.
    """
    writer = SegmentWriter(signer, ROLE, INDEX, frame_bytes, dumps=serial.dumps_by_value, noun="element")
    write_whole(store, path, _written(writer, data, n_splits, split_bytes, progress or (lambda _: None)))
    return InputSummary(writer.n_partitions, writer.summary.records, writer.length)


def _written(
    writer: SegmentWriter,
    data: Iterable[Any],
    n_splits: int,
    split_bytes: int,
    progress: Callable[[int], None],
) -> Iterator[bytes]:
    length, elements = _measured(data, split_bytes)
    for first, quota in zip(elements, plan.quotas(length, n_splits), strict=False):
        for frame in writer.partition(chain((first,), islice(elements, quota - 1)), split_bytes):
            progress(writer.n_records)
            yield frame
    yield writer.finish()


def _measured(data: Iterable[Any], split_bytes: int) -> tuple[int | None, Iterator[Any]]:
    """Return how many elements there are, None for very many, and an iterator over all of them."""
    elements = iter(data)
    if isinstance(data, Sized):
        return len(data), elements
    head: list[Any] = []
    size = 0
    for element in islice(elements, plan.SMALL):
        head.append(element)
        size += sys.getsizeof(element)
        if size > split_bytes:
            break
    else:
        if len(head) < plan.SMALL:
            return len(head), iter(head)
    return None, chain(head, elements)
