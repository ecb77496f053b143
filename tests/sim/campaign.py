"""Many seeds on several processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.sim.schedule import run

CHUNK = 25


def play(seeds: range) -> tuple[list[tuple[int, str]], int, float]:
    """Play seeds; return what was broken, how many events there were, and the processor time."""
    begun = time.process_time()
    broken, events = [], 0
    for seed in seeds:
        violation, world = run(seed)
        events += world.n_events
        if violation:
            broken.append((seed, str(violation)))
    return broken, events, time.process_time() - begun


def campaign(seeds: range, processes: int) -> Iterator[tuple[list[tuple[int, str]], int, float]]:
    """Play many seeds on several processes."""
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    if processes == 1:
        yield from map(play, chunks)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(play, chunks)
