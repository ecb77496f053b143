"""The verbs of a cluster in containers on this machine (`mrq.local`)."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from mrq.cli.shared import new_console, print_json, say, settings_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    import mrq

NAME = "mrq"
WORKERS, MASTERS = 4, 1


def add_to(to: Any, add_verb: Callable[..., argparse.ArgumentParser], positive: Callable[[str], int]) -> None:
    """Add the verbs and their arguments."""
    parsers = {
        run.__name__: add_verb(to, run, prints=run is not env) for run in (up, scale, down, ps, logs, env)
    }
    for parser in parsers.values():
        parser.add_argument("--name", default=NAME, help=f"the cluster's (default: {NAME})")
    for role in ("workers", "masters"):
        for verb, usual in (
            ("up", f"default: {WORKERS if role == 'workers' else MASTERS}"),
            ("scale", "as it is"),
        ):
            parsers[verb].add_argument(f"--{role}", type=positive, metavar="N", help=f"how many ({usual})")
    parsers["up"].set_defaults(usual_level="warning")
    parsers["up"].add_argument("--build", action="store_true", help="build the images anew")
    parsers["up"].add_argument("--verbose", action="store_true", help="show what docker compose says")
    parsers["down"].add_argument("--cleanup", action="store_true", help="remove data and logins, too")
    parsers["logs"].add_argument("service", metavar="SERVICE", nargs="?", help="as in worker (default: all)")
    parsers["logs"].add_argument(
        "--tail", type=positive, default=100, metavar="N", help="lines of each container (default: 100)"
    )


def up(args: argparse.Namespace) -> None:
    """Start a cluster in containers on this machine."""
    from mrq.local import LocalCluster

    began = time.monotonic()
    cluster = LocalCluster(
        _auth(args),
        n_workers=args.workers or WORKERS,
        n_masters=args.masters or MASTERS,
        verbose=args.verbose,
        name=args.name,
        build=args.build,
    )
    with_cluster = _members(cluster)
    print(f"up in {time.monotonic() - began:.1f} s", file=sys.stderr)
    say(args, f'{_described(args, with_cluster)}; for clients: eval "$(mrq env{_named(args)})"', with_cluster)


def scale(args: argparse.Namespace) -> None:
    """Change how many masters and workers a cluster has; who leaves ends its tasks first."""
    from mrq.local import LocalCluster

    cluster = LocalCluster.attach(args.name)
    cluster.scale(n_masters=args.masters, n_workers=args.workers)
    members = _members(cluster)
    say(args, _described(args, members), members)


def down(args: argparse.Namespace) -> None:
    """End a cluster's containers."""
    from mrq.local import Network

    with Network(args.name) as network, network.state.locked():
        network.down(cleanup=args.cleanup)
    say(args, f"cluster {args.name} is down", {"down": args.name, "cleanup": args.cleanup})


def ps(args: argparse.Namespace) -> None:
    """Show a cluster's containers."""
    from rich.table import Table

    from mrq.local import Network

    with Network(args.name) as network:
        network.check_up()
        rows = network.engine.rows()
    if args.json:
        print_json(rows)
        return
    table = Table("service", "hostname", "health", "since", "ports", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row["service"], row["hostname"], row["health"], row["since"], ", ".join(map(str, row["ports"]))
        )
    new_console().print(table)


def logs(args: argparse.Namespace) -> None:
    """Print what a cluster's containers have logged."""
    from mrq.local import Network

    with Network(args.name) as network:
        text = network.engine.logs(args.service, args.tail)
    say(args, text, {"lines": text.splitlines()})


def env(args: argparse.Namespace) -> None:
    """Print settings for a shell that point clients at a cluster, its admin's password among them."""
    from mrq.local import Network
    from mrq.local.variables import environment_lines

    with Network(args.name) as network:
        print(*environment_lines(network.values), sep="\n")


def _auth(args: argparse.Namespace) -> mrq.Auth | None:
    """Return the login that the settings give, if they give one."""
    import mrq

    settings = settings_of(args)
    password = settings.password.get_secret_value()
    return mrq.Auth(settings.username, password, settings) if password else None


def _members(cluster: mrq.LocalCluster) -> dict[str, Any]:
    with cluster.local_monitoring as monitoring:
        members = {"masters": sorted(monitoring.masters()), "workers": sorted(monitoring.workers())}
    cluster.close()
    return {"name": cluster.name} | members


def _described(args: argparse.Namespace, members: dict[str, Any]) -> str:
    return f"cluster {args.name}: {len(members['masters'])} masters, {len(members['workers'])} workers"


def _named(args: argparse.Namespace) -> str:
    return "" if args.name == NAME else f" --name {args.name}"
