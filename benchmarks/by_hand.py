"""MapReduce by hand: the two steps that the peers' files put onto their systems' tasks.

    chunks -> map_part (group one chunk, a part for each reducer) -> reduce_parts (join the parts, reduce) -> in_order

General, as mrq is: any functions, all values of a key at once, in the order of the data, sorted by key. But the keys
must be hashable and have an order, and PYTHONHASHSEED must be the same everywhere.
"""

from __future__ import annotations

import gc
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from benchmarks.workloads import Pairs

Part = dict[Any, list[Any]]

N_REDUCERS = 2
"""One a core."""


def chunks(data: list[Any], n: int) -> list[list[Any]]:
    """Cut the data into at most n pieces of nearly the same length."""
    size = max(-(-len(data) // n), 1)
    return [data[i : i + size] for i in range(0, len(data), size)]


def map_part(
    map_func: Callable[[list[Any]], Pairs], chunk: list[Any], n_reducers: int = N_REDUCERS
) -> list[Part]:
    """Map one chunk and group what comes: a part for each reducer."""
    with collector_paused():
        groups: Part = defaultdict(list)
        for key, value in map_func(chunk):
            groups[key].append(value)
        parts: list[Part] = [{} for _ in range(n_reducers)]
        for key, values in groups.items():
            parts[hash(key) % n_reducers][key] = values
        return parts


def reduce_parts(reduce_func: Callable[[list[Any]], Any], parts: Iterable[Part]) -> Pairs:
    """Join the parts of all chunks, in their order, and reduce each key's values."""
    with collector_paused():
        merged: Part = {}
        for part in parts:
            for key, values in part.items():
                if key in merged:
                    merged[key] += values
                else:
                    merged[key] = list(values)
        return [(key, reduce_func(values)) for key, values in merged.items()]


def map_to_bytes(map_func: Callable[[list[Any]], Pairs], chunk: list[Any]) -> list[bytes]:
    """Do `map_part`, for systems where the parts pass through the submitting process: it need not look into them."""
    return [pickle.dumps(part, pickle.HIGHEST_PROTOCOL) for part in map_part(map_func, chunk)]


def reduce_bytes(reduce_func: Callable[[list[Any]], Any], parts: Iterable[bytes]) -> Pairs:
    """Do `reduce_parts` on what `map_to_bytes` made."""
    return reduce_parts(reduce_func, map(pickle.loads, parts))


def in_order(results: Iterable[Pairs]) -> Pairs:
    """Return what the reducers made, sorted by key."""
    return sorted((pair for pairs in results for pair in pairs), key=itemgetter(0))


@contextmanager
def collector_paused() -> Iterator[None]:
    """Spare the many small objects of a task the garbage collector, as mrq's children nearly do."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
