"""Faults put into mrq on purpose: a simulation that finds none of them would be worth nothing.

Each mutation is what somebody might do to the code with the best intentions. `python -m tests.sim.mutations` plays
seeds until each was caught, and writes the table in docs/simulation.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.sim import mutants_data, mutants_master, mutants_stragglers, mutants_worker
from tests.sim.mutating import MUTATIONS
from tests.sim.schedule import run, undisturbed

MUTANTS = (mutants_worker, mutants_master, mutants_stragglers, mutants_data)
"""The modules that fill `MUTATIONS`, each with what it knows."""

MOST_SEEDS = 3000
"""Within so many seeds each mutation must be caught."""

DOCS = Path(__file__).parents[2] / "docs" / "simulation.md"
BEGIN, END = "<!-- mutations: begin -->", "<!-- mutations: end -->"


def caught(name: str, most: int = MOST_SEEDS, *, first: int = 0) -> tuple[int, str] | None:
    """Return after how many seeds a mutation was caught, and what was broken; None when it was not."""
    undisturbed.cache_clear()
    with MUTATIONS[name].applied():
        for seed in range(first, first + most):
            try:
                violation, _ = run(seed)
            except Exception as error:
                return seed + 1, f"an exception left the code: {error!r}"
            if violation:
                return seed + 1, str(violation)
    return None


def table(results: dict[str, tuple[int, str] | None]) -> str:
    """Return the table of the docs."""
    rows = ["| mutation | what broke | seeds |", "| --- | --- | ---: |"]
    for name, result in results.items():
        n, what = result or (0, "**not caught**")
        rows.append(f"| {MUTATIONS[name].what} (`{name}`) | {_short(what)} | {n or ''} |")
    return "\n".join(rows)


def _short(what: str) -> str:
    what = what.replace("|", "/")
    return what if len(what) <= 110 else what[:107] + "..."


def main() -> None:
    """Play on two processes, and write the table into the docs; exits 1 if a mutation was not caught."""
    from concurrent.futures import ProcessPoolExecutor

    from tests.sim import mutations  # by its name, for the other processes

    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", help="all, and written into the docs, unless some are named")
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
    arguments = parser.parse_args()
    chosen = arguments.names or list(MUTATIONS)
    results = {}
    with ProcessPoolExecutor(min(2, len(chosen))) as pool:
        playing = [pool.submit(mutations.caught, name, first=arguments.first) for name in chosen]
        for name, future in zip(chosen, playing, strict=True):
            results[name] = future.result()
            print(name, *(results[name] or ("NOT CAUGHT",)), flush=True)
    if not arguments.names:
        text = DOCS.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        DOCS.write_text(f"{head}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    if None in results.values():
        sys.exit(1)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim.mutations", *sys.argv[1:]])
    main()
