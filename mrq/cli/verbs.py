"""What the command ``mrq`` does: one function a verb, which returns an exit code, or None for 0.

Each imports what it needs when it runs, so that ``mrq --help`` loads no library.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import mrq
from mrq import logs
from mrq.cli.exits import FAILED, OK, REFUSED, UNAVAILABLE
from mrq.cli.shared import assignments, new_console, print_json, say, settings_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from rich.console import Console

    from mrq.monitoring import LocalMonitoring


def _monitoring(args: argparse.Namespace) -> LocalMonitoring:
    from mrq.monitoring import LocalMonitoring

    return LocalMonitoring(settings_of(args))


# ---------------------------------------------------------------- verbs: the demo and the services


def demo(args: argparse.Namespace) -> int:
    """Count the words of the standard library, embedded or on the servers."""
    from dataclasses import asdict

    from mrq import demo as job

    signal.signal(
        signal.SIGTERM, lambda number, _frame: sys.exit(128 + number)
    )  # so that what we started ends
    corpus = job.Corpus.find(args.limit)
    console = new_console(stderr=args.json)
    console.print(f"Counting the words of {len(corpus)} files, {corpus.n_bytes:,} bytes", highlight=False)
    run = _demo_on_servers if args.cluster else _demo_embedded
    outcome = run(args, lambda cluster: job.run(cluster, corpus, console, check=args.check), console)
    if args.json:
        print_json(asdict(outcome))
    else:
        console.print(job.table(outcome))
        console.print(outcome.summary(), highlight=False, soft_wrap=True)
    return FAILED if outcome.checked is False else OK


def _demo_embedded(args: argparse.Namespace, run: Callable[..., Any], _console: Console) -> Any:
    with mrq.EmbeddedCluster(
        n_workers=args.workers, n_masters=args.masters, settings=settings_of(args)
    ) as cluster:
        return run(cluster)


def _demo_on_servers(args: argparse.Namespace, run: Callable[..., Any], console: Console) -> Any:
    """Run with the masters and workers that are registered; where there are none, with some of our own."""
    from mrq.crew import Crew

    settings = settings_of(args)
    environment = os.environ | {f"MRQ_{name.upper()}": value for name, value in assignments(args).items()}
    if args.config:
        environment["MRQ_CONFIG"] = os.path.abspath(args.config)
    with _monitoring(args) as monitoring, Crew(monitoring.registry.members, environment) as crew:
        monitoring.queues()  # RabbitMQ is the masters' and workers' business; that it is away is better said by us
        started = crew.complete(masters=args.masters, workers=args.workers or 2)
        if started:
            console.print(f"Started for this demo: {', '.join(started)}", highlight=False)
        with mrq.Client(settings) as client:
            outcome = run(client)
        if started:
            console.print("Ending what was started", highlight=False)
        return outcome


def master(args: argparse.Namespace) -> None:
    """Run a master until SIGTERM."""
    _serve("master", args)


def worker(args: argparse.Namespace) -> None:
    """Run a worker until SIGTERM."""
    _serve("worker", args, slots=args.slots)


def _serve(role: str, args: argparse.Namespace, **more: Any) -> None:
    settings = settings_of(args, name=args.name, **more)
    name = settings.service_name()
    logs.set_up(args.log_level or args.usual_level, name=name, as_json=args.log_json)
    from mrq.daemon import serve

    serve(role, settings.model_copy(update={"name": name}))


# ---------------------------------------------------------------- verbs: see and steer


def status(args: argparse.Namespace) -> int:
    """Show masters, workers, jobs and queues."""
    from mrq.monitoring.tables import render

    with _monitoring(args) as monitoring:
        seen = monitoring.status()
    if args.json:
        print(seen.model_dump_json(indent=2))
    elif tables := render(seen):
        new_console().print(*tables)
    for service, missing in seen.missing.items():
        print(f"mrq: {service}: {missing.message}", file=sys.stderr)
    kinds = {missing.error for missing in seen.missing.values()}
    return (REFUSED if "AuthenticationFailed" in kinds else UNAVAILABLE) if kinds else OK


def jobs(args: argparse.Namespace) -> None:
    """Show the jobs that have not been cleared."""
    from mrq.monitoring import tables

    with _monitoring(args) as monitoring:
        found = monitoring.jobs()
    if args.json:
        print_json([job.model_dump(mode="json") for job in found])
    elif found:
        new_console().print(tables.jobs(found))
    else:
        print("no jobs")


def cancel(args: argparse.Namespace) -> None:
    """Cancel a job."""
    with _monitoring(args) as monitoring:
        monitoring.cancel(args.job)
    say(args, f"{args.job} is cancelled", {"cancelled": args.job})


def clear(args: argparse.Namespace) -> None:
    """Remove jobs that have ended, with their files."""
    with mrq.Client(settings_of(args)) as client:
        cleared = client.clear(args.job, force=args.force)
    say(args, f"cleared {', '.join(cleared)}" if cleared else "nothing to clear", {"cleared": cleared})


def zoo(args: argparse.Namespace) -> None:
    """Print what ZooKeeper holds."""
    with _monitoring(args) as monitoring:
        if args.json:
            print(monitoring.zoo().model_dump_json(indent=2))
        else:
            monitoring.print_zoo()


def hdfs(args: argparse.Namespace) -> None:
    """Print the tree of the jobs' files."""
    with _monitoring(args) as monitoring:
        if args.json:
            print_json(monitoring.hdfs(args.path))
        else:
            monitoring.print_hdfs(args.path)


def version(args: argparse.Namespace) -> None:
    """Print the versions of mrq and Python."""
    python = ".".join(map(str, sys.version_info[:3]))
    say(args, f"mrq {mrq.__version__}, Python {python}", {"mrq": mrq.__version__, "python": python})
