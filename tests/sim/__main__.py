"""``python -m tests.sim --seeds 0..999`` plays schedules; ``--seed 17 --story`` tells what happened in one."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.sim.campaign import campaign
from tests.sim.plan import plan_of
from tests.sim.schedule import run


def main(arguments: list[str]) -> int:
    """Run the command; 0 when no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="0..199", help="which, as FIRST..LAST")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--story", action="store_true", help="tell all that happened in --seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--stop", action="store_true", help="stop at the first broken promise")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return tell(options.seed, whole=options.story)
    first, _, last = options.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    begun, events, seconds, broken = time.perf_counter(), 0, 0.0, []
    for failed, n, cpu in campaign(seeds, options.processes):
        events, seconds = events + n, seconds + cpu
        for seed, what in failed:
            print(f"seed {seed}: {what}", flush=True)
        broken += failed
        if broken and options.stop:
            break
    wall = time.perf_counter() - begun
    print(
        f"{len(seeds)} schedules, {events} events, {len(broken)} broke a promise; {wall:.1f} s, "
        f"{len(seeds) / wall:.0f} schedules/s, {1000 * seconds / len(seeds):.1f} ms of processor time each"
    )
    if broken:
        tell(broken[0][0])
    return bool(broken)


def tell(seed: int, *, whole: bool = False) -> bool:
    """Play one seed and tell what happened: all, or if a promise was broken; return whether one was."""
    violation, world = run(seed, telling=True)
    if whole or violation:
        print(plan_of(seed))
        print("\n".join(world.story))
    print(f"seed {seed}: {violation or 'every promise was kept'}")
    return violation is not None


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # or sets would be gone through in another order each time
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])
    sys.exit(main(sys.argv[1:]))
