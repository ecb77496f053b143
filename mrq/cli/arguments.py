"""The arguments of the command ``mrq``, and which verb they lead to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mrq import logs
from mrq.cli import cluster, ops, users, verbs
from mrq.cli.exits import EPILOG

if TYPE_CHECKING:
    from collections.abc import Callable


def parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses has the verb's function as ``verb``."""
    top = argparse.ArgumentParser(
        prog="mrq",
        description="MapReduce over RabbitMQ, ZooKeeper and HDFS.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(top, "set")
    top.set_defaults(config=None, log_level=None, set=[])
    below = top.add_subparsers(metavar="VERB", required=True)
    _add_demo(below)
    _add_services(below)
    _add_views(below)
    cluster.add_to(below, _add_verb, _positive)
    users.add_to(below, _add_verb)
    ops.add_to(below, _add_verb)
    return top


def _add_common(to: argparse.ArgumentParser, assignments: str) -> None:
    """Add what may stand before the verb and after it; SUPPRESS has the later one win only if it is there."""
    common = to.add_argument_group("common options", argument_default=argparse.SUPPRESS)
    common.add_argument("--config", metavar="FILE", help="a TOML file of settings")
    common.add_argument(
        "--set", metavar="NAME=VALUE", action="append", dest=assignments, help="a setting; may be repeated"
    )
    common.add_argument("--log-level", choices=logs.LEVELS, help="the least that is logged")


def _add_verb(to: Any, run: Callable[..., Any], *, prints: bool = True) -> argparse.ArgumentParser:
    text = (run.__doc__ or "").strip()
    summary = text[:1].lower() + text[1:].rstrip(".")
    verb: argparse.ArgumentParser = to.add_parser(run.__name__, help=summary, description=text)
    verb.set_defaults(
        verb=run, json=False, usual_level="error"
    )  # what is away is in the answer, not in the log
    _add_common(verb, "set_too")
    if prints:
        verb.add_argument("--json", action="store_true", help="print JSON")
    return verb


def _add_demo(to: Any) -> None:
    demo = _add_verb(to, verbs.demo)
    demo.set_defaults(usual_level="warning")
    demo.add_argument(
        "--cluster", action="store_true", help="on the real servers; starts what lacks, and ends it"
    )
    demo.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="how many to start (default: one per core; 2 with --cluster)",
    )
    demo.add_argument(
        "--masters", type=_positive, metavar="N", default=1, help="how many to start (default: 1)"
    )
    demo.add_argument("--limit", type=_positive, metavar="N", help="count the first N files only")
    demo.add_argument("--check", action="store_true", help="compare with a plain evaluation")


def _add_services(to: Any) -> None:
    master = _add_verb(to, verbs.master, prints=False)
    worker = _add_verb(to, verbs.worker, prints=False)
    for service in (master, worker):
        service.set_defaults(usual_level="info")
        service.add_argument("--name", help="unique among its kind (default: <hostname>-<pid>)")
        service.add_argument("--log-json", action="store_true", help="log JSON lines")
    worker.add_argument("--slots", type=_positive, metavar="N", help="tasks of each phase to run at once")


def _add_views(to: Any) -> None:
    _add_verb(to, verbs.status)
    _add_verb(to, verbs.jobs)
    _add_verb(to, verbs.cancel).add_argument("job", metavar="JOB", help="as in job_7")
    clear = _add_verb(to, verbs.clear)
    clear.add_argument("job", metavar="JOB", nargs="?", help="that job only")
    clear.add_argument("--force", action="store_true", help="cancel and remove jobs that run, too")
    _add_verb(to, verbs.zoo)
    _add_verb(to, verbs.hdfs).add_argument(
        "path", metavar="PATH", nargs="?", default="jobs", help="a folder below hdfs_root (default: jobs)"
    )
    _add_verb(to, verbs.version)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number
