"""`python -m benchmarks`: measure mrq and its peers, print medians and ratios."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from benchmarks.report import Results, busy, machine, summary, tables
from benchmarks.runner import running
from benchmarks.systems import SYSTEMS
from benchmarks.workloads import workloads


def arguments() -> argparse.Namespace:
    """Read the command line."""
    names = [workload.name for workload in workloads(quick=True)]
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the data, twice: does all work?")
    parser.add_argument(
        "--systems", metavar="NAME,...", default=",".join(SYSTEMS), help="default: %(default)s"
    )
    parser.add_argument(
        "--workloads", metavar="NAME,...", default=",".join(names), help="default: %(default)s"
    )
    parser.add_argument("--repeat", type=int, help="repetitions; by default 5, with --quick 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument(
        "--publish", action="store_true", help="write benchmarks/results.json and docs/benchmarks.md"
    )
    given = parser.parse_args()
    given.systems, given.workloads = given.systems.split(","), given.workloads.split(",")
    for kind, known, chosen in (("system", SYSTEMS, given.systems), ("workload", names, given.workloads)):
        if unknown := [name for name in chosen if name not in known]:
            parser.error(f"there is no {kind} {unknown[0]!r}; there are: {', '.join(known)}")
    if given.quick and given.publish:
        parser.error("a quick run measures nothing that is worth publishing")
    given.repeat = given.repeat or (2 if given.quick else 5)
    return given


def say(line: str) -> None:
    """Tell the person who waits."""
    print(line, file=sys.stderr, flush=True)


def end_in_order(_number: int, _frame: object) -> None:
    """Have SIGTERM end all that was started, as Ctrl-C does."""
    raise SystemExit(128 + signal.SIGTERM)


def measured(given: argparse.Namespace) -> Results:
    """Measure what was asked for."""
    chosen = [workload for workload in workloads(given.quick) if workload.name in given.workloads]
    where = machine(os.getloadavg()[0])
    with running(given.systems, say) as runner:
        versions = {name: host.version for name, host in runner.hosts.items()}
        left_out = dict(runner.left_out)
        found = {workload.name: summary(workload, runner.run(workload, given.repeat)) for workload in chosen}
    return {
        "quick": given.quick,
        "repeat": given.repeat,
        "machine": where,
        "versions": versions,
        "left_out": left_out,
        "workloads": found,
    }


def main() -> int:
    """Measure, print, write; return 1 if a system failed at a workload or returned something wrong."""
    given = arguments()
    signal.signal(signal.SIGTERM, end_in_order)
    results = measured(given)
    print(tables(results))
    if warning := busy(results["machine"]):
        print(warning)
    for name, why in results["left_out"].items():
        print(f"{name} is left out: {why}")
    failures = [
        f"{name} failed at {workload}: {system['failed']}"
        for workload, found in results["workloads"].items()
        for name, system in found["systems"].items()
        if "failed" in system
    ]
    print(*failures, sep="\n", end="\n" if failures else "")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if given.publish:
        from benchmarks.publish import publish

        publish(results)
    return 1 if failures else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # peers group by hash(), in several processes
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]])
    sys.exit(main())
