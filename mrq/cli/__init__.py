"""The command ``mrq``: main -> arguments -> verb -> exit code.

exits.py      the exit codes
arguments.py  the arguments of each verb
verbs.py      one function a verb, each of which imports what it needs when it runs
cluster.py    likewise the verbs of a local cluster
users.py      likewise the verbs about logins
ops.py        likewise the verbs for when something is odd
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mrq import logs
from mrq.cli.arguments import parser
from mrq.cli.exits import FAILED, INTERRUPTED, OK, USAGE, exit_code
from mrq.errors import MrqError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code.

    Args:
        argv: the arguments after the command's name; by default the process's.
    """
    try:
        args = parser().parse_args(argv)
    except SystemExit as ended:  # argparse has printed the help, or what is wrong
        return ended.code if isinstance(ended.code, int) else USAGE
    logs.set_up(args.log_level or args.usual_level)
    try:
        return args.verb(args) or OK
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
        import json

        print(json.dumps({"error": type(error).__name__, "message": str(error)}, ensure_ascii=False))
    print(f"mrq: {' '.join(str(error).split())}", file=sys.stderr)
    return exit_code(type(error))
