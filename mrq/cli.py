"""The command ``mrq``: one function a verb, each of which imports what it needs when it runs.

main -> parse -> verb(arguments) -> exit code
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import mrq
from mrq import logs
from mrq.errors import AuthenticationFailed, ConfigurationError, MrqError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from mrq.config import Settings
    from mrq.monitoring import LocalMonitoring

OK, FAILED, USAGE, UNAVAILABLE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

EPILOG = """\
exit codes:
  0    all is well
  1    it failed; standard error says why
  2    a wrong argument or setting
  3    a server is away: RabbitMQ, ZooKeeper or HDFS
  4    a server refused the username or the password
  130  interrupted

Settings come from --config FILE (TOML), MRQ_* in the environment, and --set name=value; later ones win.
With --json, standard output is one JSON document, {"error": ..., "message": ...} if it failed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code.

    Args:
        argv: the arguments after the command's name; by default the process's.
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as ended:  # argparse has printed the help, or what is wrong
        return ended.code if isinstance(ended.code, int) else USAGE
    args.json = getattr(args, "json", False)
    logs.set_up(args.log_level or "warning")
    try:
        return int(args.verb(args) or OK)
    except MrqError as error:
        return _failed(args, error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # as in `mrq jobs | head`; what Python would flush at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _failed(args: argparse.Namespace, error: MrqError) -> int:
    """Say what is wrong, in one line; the whole story with ``--log-level debug``."""
    if args.log_level == "debug":
        import traceback

        traceback.print_exception(error)
    if args.json:
        _print_json({"error": type(error).__name__, "message": str(error)})
    print(f"mrq: {' '.join(str(error).split())}", file=sys.stderr)
    return _exit_code(type(error))


def _exit_code(kind: type[BaseException]) -> int:
    codes = {ConfigurationError: USAGE, Unavailable: UNAVAILABLE, AuthenticationFailed: REFUSED}
    return next((code for base, code in codes.items() if issubclass(kind, base)), FAILED)


# ---------------------------------------------------------------- what the verbs share


def _settings(args: argparse.Namespace, **more: Any) -> Settings:
    from mrq.config import Settings

    return Settings.load(args.config, **(_assignments(args) | more))


def _assignments(args: argparse.Namespace) -> dict[str, str]:
    """Take the ``--set`` options apart."""
    given = {}
    for text in (*args.set, *getattr(args, "set_too", ())):
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"--set takes name=value, not {text!r}")
        given[name.lower()] = value
    return given


def _monitoring(args: argparse.Namespace) -> LocalMonitoring:
    from mrq.monitoring import LocalMonitoring

    return LocalMonitoring(_settings(args))


def _console(*, stderr: bool = False) -> Console:
    """Return where to draw: as wide as the terminal, or as needed where there is none."""
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=160)


def _print_json(document: Any) -> None:
    import json

    print(json.dumps(document, ensure_ascii=False, indent=2))


# ---------------------------------------------------------------- verbs: the demo and the services


def demo(args: argparse.Namespace) -> int:
    """Count the words of the standard library, embedded or on the servers."""
    from dataclasses import asdict

    from mrq import demo as job

    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # so that what we started ends
    corpus = job.Corpus.find(args.limit)
    console = _console(stderr=args.json)
    console.print(f"Counting the words of {len(corpus)} files, {corpus.n_bytes:,} bytes", highlight=False)
    run = _demo_on_servers if args.cluster else _demo_embedded
    outcome = run(args, lambda cluster: job.run(cluster, corpus, console, check=args.check), console)
    if args.json:
        _print_json(asdict(outcome))
    else:
        console.print(job.table(outcome))
        console.print(outcome.summary(), highlight=False, soft_wrap=True)
    return FAILED if outcome.checked is False else OK


def _demo_embedded(args: argparse.Namespace, run: Callable[..., Any], _console: Console) -> Any:
    with mrq.EmbeddedCluster(n_workers=args.workers, n_masters=args.masters, settings=_settings(args)) as cluster:
        return run(cluster)


def _demo_on_servers(args: argparse.Namespace, run: Callable[..., Any], console: Console) -> Any:
    """Run with the masters and workers that are registered; where there are none, with some of our own."""
    from mrq.crew import Crew

    settings = _settings(args)
    environment = os.environ | {f"MRQ_{name.upper()}": value for name, value in _assignments(args).items()}
    if args.config:
        environment["MRQ_CONFIG"] = os.path.abspath(args.config)
    with _monitoring(args) as monitoring, Crew(monitoring.members, environment) as crew:
        started = crew.complete(masters=args.masters, workers=args.workers or 2)
        if started:
            console.print(f"Started for this demo: {', '.join(started)}", highlight=False)
        with mrq.Client(settings) as client:
            outcome = run(client)
            client.clear(outcome.job_id)
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
    settings = _settings(args, name=args.name, **more)
    name = settings.service_name()
    logs.set_up(args.log_level or "info", name=name, as_json=args.log_json)
    from mrq.daemon import serve

    serve(role, settings.model_copy(update={"name": name}))


# ---------------------------------------------------------------- verbs: see and steer


def status(args: argparse.Namespace) -> int:
    """Show masters, workers, jobs and queues."""
    from mrq.monitoring import render

    with _monitoring(args) as monitoring:
        seen = monitoring.status()
    if args.json:
        print(seen.model_dump_json(indent=2))
    else:
        _console().print(*render(seen))
    for service, missing in seen.missing.items():
        print(f"mrq: {service}: {missing.message}", file=sys.stderr)
    kinds = {missing.error for missing in seen.missing.values()}
    return (REFUSED if "AuthenticationFailed" in kinds else UNAVAILABLE) if kinds else OK


def jobs(args: argparse.Namespace) -> None:
    """Show the jobs that have not been cleared."""
    from mrq.monitoring import jobs_table

    with _monitoring(args) as monitoring:
        found = monitoring.jobs()
    if args.json:
        _print_json([job.model_dump(mode="json") for job in found])
    elif found:
        _console().print(jobs_table(found))
    else:
        print("no jobs")


def cancel(args: argparse.Namespace) -> None:
    """Cancel a job."""
    with _monitoring(args) as monitoring:
        monitoring.cancel(args.job)
    _say(args, f"{args.job} is cancelled", {"cancelled": args.job})


def clear(args: argparse.Namespace) -> None:
    """Remove jobs that have ended, with their files."""
    with mrq.Client(_settings(args)) as client:
        cleared = client.clear(args.job, force=args.force)
    _say(args, f"cleared {', '.join(cleared)}" if cleared else "nothing to clear", {"cleared": cleared})


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
            _print_json(monitoring.hdfs(args.path))
        else:
            monitoring.print_hdfs(args.path)


def version(args: argparse.Namespace) -> None:
    """Print the versions of mrq and Python."""
    python = ".".join(map(str, sys.version_info[:3]))
    _say(args, f"mrq {mrq.__version__}, Python {python}", {"mrq": mrq.__version__, "python": python})


def _say(args: argparse.Namespace, line: str, document: dict[str, Any]) -> None:
    if args.json:
        _print_json(document)
    else:
        print(line)


# ---------------------------------------------------------------- arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mrq",
        description="MapReduce over RabbitMQ, ZooKeeper and HDFS.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser, "set")
    parser.set_defaults(config=None, log_level=None, set=[])
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_services(verbs)
    _add_views(verbs)
    return parser


def _add_common(parser: argparse.ArgumentParser, set_into: str) -> None:
    """Add what may stand before the verb and after it; SUPPRESS lets the later one win only if it is there."""
    common = parser.add_argument_group("common options", argument_default=argparse.SUPPRESS)
    common.add_argument("--config", metavar="FILE", help="a TOML file of settings")
    common.add_argument(
        "--set", metavar="NAME=VALUE", action="append", dest=set_into, help="a setting; may be repeated"
    )
    common.add_argument("--log-level", choices=logs.LEVELS, help="the least that is logged")


def _add_verb(verbs: Any, name: str, run: Callable[..., Any], *, as_json: bool = True) -> argparse.ArgumentParser:
    text = (run.__doc__ or "").strip()
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text[:1].lower() + text[1:].rstrip("."), description=text)
    parser.set_defaults(verb=run)
    _add_common(parser, "set_too")
    if as_json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_services(verbs: Any) -> None:
    parser = _add_verb(verbs, "demo", demo)
    parser.add_argument("--cluster", action="store_true", help="on the real servers; starts what lacks, and ends it")
    parser.add_argument("--workers", type=_positive, metavar="N", help="how many to start (default: one per core; 2)")
    parser.add_argument("--masters", type=_positive, metavar="N", default=1, help="how many to start (default: 1)")
    parser.add_argument("--limit", type=_positive, metavar="N", help="count the first N files only")
    parser.add_argument("--check", action="store_true", help="compare with a plain evaluation")
    for name, run in (("master", master), ("worker", worker)):
        parser = _add_verb(verbs, name, run, as_json=False)
        parser.add_argument("--name", help="unique among its kind (default: <hostname>-<pid>)")
        parser.add_argument("--log-json", action="store_true", help="log JSON lines")
        if name == "worker":
            parser.add_argument("--slots", type=_positive, metavar="N", help="tasks of each phase to run at once")


def _add_views(verbs: Any) -> None:
    _add_verb(verbs, "status", status)
    _add_verb(verbs, "jobs", jobs)
    _add_verb(verbs, "cancel", cancel).add_argument("job", metavar="JOB", help="as in job_7")
    parser = _add_verb(verbs, "clear", clear)
    parser.add_argument("job", metavar="JOB", nargs="?", help="that job only")
    parser.add_argument("--force", action="store_true", help="cancel and remove jobs that run, too")
    _add_verb(verbs, "zoo", zoo)
    _add_verb(verbs, "hdfs", hdfs).add_argument("path", metavar="PATH", nargs="?", default="jobs")
    _add_verb(verbs, "version", version)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
