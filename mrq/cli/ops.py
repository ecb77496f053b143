"""The verbs for whoever runs a cluster, or wonders about a job (`mrq.ops`)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mrq.cli.exits import FAILED, OK
from mrq.cli.shared import new_console, print_json, say, settings_of
from mrq.errors import ConfigurationError, MrqError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from mrq.ops.deadletters import DeadLetters, Letter, Opened
    from mrq.ops.replay import Replayed

ACTIONS = ("list", "show", "replay", "drop")


def add_to(to: Any, add_verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs and their arguments."""
    letters = add_verb(to, dlq)
    letters.add_argument("action", choices=ACTIONS, help="what to do")
    letters.add_argument(
        "id", metavar="ID", nargs="?", help="a letter's id, or a task's for all of its letters: job_7/map/3"
    )
    letters.add_argument("--all", action="store_true", help="of replay and drop: every letter")
    again = add_verb(to, replay)
    again.add_argument("job", metavar="JOB", help="as in job_7")
    again.add_argument("task", metavar="TASK", nargs="+", help="as in map 3, or map/3")
    again.add_argument(
        "--local",
        action="store_true",
        required=True,
        help="in this process; nothing is written to the cluster",
    )
    again.add_argument("--pdb", action="store_true", help="open the debugger where a function raises")
    patient = add_verb(to, doctor)
    patient.add_argument("--fix", action="store_true", help="remove files that nobody can need any more")
    add_verb(to, explain).add_argument("job", metavar="JOB", help="as in job_7")
    told = add_verb(to, report)
    told.add_argument("job", metavar="JOB", help="as in job_7")
    told.add_argument("-o", "--output", metavar="FILE", help="where the page goes (default: JOB.html)")


# ---------------------------------------------------------------- the whole cluster, and one job


def doctor(args: argparse.Namespace) -> int:
    """Find what is wrong with the cluster, and say what to do; exit code 1 if anything is."""
    from mrq.monitoring import LocalMonitoring
    from mrq.ops.doctor import Doctor

    settings = settings_of(args)
    with LocalMonitoring(settings) as servers:
        fixed = Doctor(servers, settings).fix() if args.fix else []
        found = Doctor(servers, settings).diagnose()
    if args.json:
        print_json(found.model_dump(mode="json") | ({"removed": fixed} if args.fix else {}))
    else:
        for path in fixed:
            print(f"removed {path}")
        for finding in found.findings:
            print(f"{finding.severity.value:8}{finding.where}: {finding.what}\n        -> {finding.do}")
        for name, why in found.unchecked.items():
            print(f"{'?':8}{name} not looked at: {why}")
        if not found.findings:
            print("nothing is wrong" + (" with what could be looked at" if found.unchecked else ""))
    return FAILED if found.findings else OK


def explain(args: argparse.Namespace) -> None:
    """Tell a job's story: who submitted it, who did what, what it waits for."""
    from mrq.monitoring import LocalMonitoring
    from mrq.ops.explain import explain as tell
    from mrq.ops.explain import lines

    settings = settings_of(args)
    with LocalMonitoring(settings) as servers:
        story = tell(args.job, servers, settings)
    if args.json:
        print_json(story.model_dump(mode="json"))
    else:
        print("\n".join(lines(story)))


def report(args: argparse.Namespace) -> None:
    """Draw where a job's time went: the timeline of its tasks as a page of HTML."""
    from pathlib import Path

    from mrq.monitoring import LocalMonitoring
    from mrq.report import report_of

    with LocalMonitoring(settings_of(args)) as servers:
        told = report_of(args.job, servers.registry, servers.store)
    file = Path(args.output or f"{args.job}.html")
    if args.output or not args.json:
        try:
            file.write_text(told.html(), encoding="utf-8")
        except OSError as error:
            raise MrqError(f"the page can't be written: {error}") from error
    if args.json:
        print_json(told.data())
    else:
        print("\n".join([*told.lines(), str(file)]))


# ---------------------------------------------------------------- dead letters


def dlq(args: argparse.Namespace) -> int:
    """List, show, replay or drop dead letters."""
    from mrq.monitoring import LocalMonitoring
    from mrq.ops.deadletters import DeadLetters

    if args.action == "list" and (args.id or args.all):
        raise ConfigurationError("mrq dlq list takes no ID, and shows all anyway")
    if args.action == "show" and (args.all or not args.id):
        raise ConfigurationError("mrq dlq show takes the ID of a letter: see mrq dlq list")
    if args.action in ("replay", "drop") and bool(args.id) == args.all:
        raise ConfigurationError(f"mrq dlq {args.action} takes the ID of a letter, or --all")
    settings = settings_of(args)
    with LocalMonitoring(settings) as servers:
        letters = DeadLetters(servers.broker, servers.registry, settings)
        return {"list": _list, "show": _show, "replay": _replay, "drop": _drop}[args.action](args, letters)


def _list(args: argparse.Namespace, letters: DeadLetters) -> int:
    found = letters.letters()
    if args.json:
        print_json([letter.model_dump() for letter in found])
    elif found:
        new_console().print(_table(found))
    else:
        print("no dead letters")
    return OK


def _table(letters: Iterable[Letter]) -> Any:
    from rich.table import Table

    table = Table(
        "id", "job", "phase", "index", "epoch", "attempt", "reason", "when", box=None, pad_edge=False
    )
    for letter in letters:
        place = (letter.job_id, letter.phase, *map(_number, (letter.index, letter.epoch, letter.attempt)))
        table.add_row(letter.id, *place, letter.reason, _when(letter.at))
    return table


def _show(args: argparse.Namespace, letters: DeadLetters) -> int:
    found = letters.show(args.id)
    if args.json:
        print_json([letter.model_dump() for letter in found])
    else:
        print("\n\n".join("\n".join(_lines(letter)) for letter in found))
    return OK


def _lines(letter: Opened) -> Iterable[str]:
    yield letter.id
    yield f"  died     {_when(letter.at) or 'at an unknown time'} in {letter.queue or '?'}: {letter.reason or '?'}"
    yield f"  key      {letter.routing_key}"
    for name, value in letter.headers.items():
        yield f"  header   {name}: {value}"
    yield f"  body     {letter.body}"
    if letter.job:
        known = ", ".join(f"{name} {value}" for name, value in letter.job.items() if value not in (None, ""))
        yield f"  job      {known}"
    else:
        yield "  job      nothing is known of it"
    yield f"  replay   {letter.obstacle or 'possible: mrq dlq replay ' + letter.id}"


def _replay(args: argparse.Namespace, letters: DeadLetters) -> int:
    told = letters.replay(args.id)
    done = [name for name, obstacle in told.items() if not obstacle]
    refused = {name: obstacle for name, obstacle in told.items() if obstacle}
    lines = [f"{name} is published again" for name in done]
    lines += [f"{name} is not published: {obstacle}" for name, obstacle in refused.items()]
    say(args, "\n".join(lines) or "no dead letters", {"replayed": done, "refused": refused})
    return FAILED if refused else OK


def _drop(args: argparse.Namespace, letters: DeadLetters) -> int:
    dropped = letters.drop(args.id)
    say(args, f"dropped {', '.join(dropped)}" if dropped else "no dead letters", {"dropped": dropped})
    return OK


def _number(number: int) -> str:
    return str(number) if number >= 0 else ""


def _when(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else ""


# ---------------------------------------------------------------- a task once more


def replay(args: argparse.Namespace) -> int:
    """Run one task of a job again in this terminal, on its very input."""
    from contextlib import nullcontext, redirect_stdout

    from mrq.ops.replay import run

    if args.pdb and args.json:
        raise ConfigurationError("--pdb wants a terminal, --json is for programs: take one of them")
    # With --json, what the functions print must not get between: it goes to standard error.
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        replayed = run(args.job, " ".join(args.task), pdb=args.pdb, settings=settings_of(args))
    if args.json:
        print_json(_as_json(replayed))
    elif replayed.error is None:
        print("\n".join(_summary(replayed)))
    elif not args.pdb:  # else it was shown before the debugger opened
        print(replayed.traceback, end="")
    return OK if replayed.error is None else FAILED


def _as_json(replayed: Replayed) -> dict[str, Any]:
    done = replayed.error is None
    return {
        "job_id": replayed.job_id,
        "task": f"{replayed.phase.value} {replayed.index}",
        "outcome": "done" if done else "raised",
        "error": None if done else type(replayed.error).__name__,
        "traceback": replayed.traceback,
        "stats": replayed.stats.model_dump(exclude={"v"}),
        "partitions": replayed.partitions,
        "rows": [[_repr(part) for part in row] for row in replayed.rows],
        "committed": replayed.committed,
    }


def _summary(replayed: Replayed) -> Iterable[str]:
    stats, told = replayed.stats, {
        "same": "what is committed has the same bytes",
        "differs": "what is committed has other bytes: the functions are not deterministic",
        "none": "nothing is committed of this task",
    }  # fmt: skip
    yield f"{replayed.job_id}: {replayed.phase.value} {replayed.index} went well in {stats.seconds:.3f} s"
    yield f"  in   {stats.records_in:,} records, {stats.bytes_in:,} bytes"
    yield f"  out  {stats.records_out:,} records, {stats.bytes_out:,} bytes, by partition {replayed.partitions}"
    yield f"  {told[replayed.committed]}"
    for key, value in replayed.rows:
        yield f"    {_repr(key)}: {_repr(value)}"
    if (more := sum(replayed.partitions) - len(replayed.rows)) > 0:
        yield f"    and {more:,} more"


def _repr(value: object) -> str:
    from reprlib import Repr

    shorten = Repr()
    shorten.maxstring = shorten.maxother = 120
    try:
        return shorten.repr(value)
    except Exception:  # a __repr__ of the user's
        return f"<{type(value).__qualname__}>"
