"""The verbs about logins (`mrq.auth`). A password is asked for or read from standard input, never an argument."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mrq.cli.shared import print_json, say, settings_of
from mrq.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from mrq.auth import Auth

ACTIONS = ("init", "add", "delete", "passwd", "list")


def add_to(to: Any, add_verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs and their arguments."""
    add_verb(to, whoami)
    parser = add_verb(to, user)
    parser.set_defaults(usual_level="warning")
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("name", metavar="NAME", nargs="?", help="of add, delete and passwd: whom")
    parser.add_argument(
        "--file", metavar="FILE", help="of init: where to keep the services' logins (mode 0600)"
    )
    parser.add_argument("--ask", action="store_true", help="of add: ask for the password, do not generate it")
    parser.add_argument(
        "--generate", action="store_true", help="of passwd: generate the password, do not ask"
    )


def whoami(args: argparse.Namespace) -> None:
    """Ask the servers about this login, and print its role."""
    auth = _auth(args)
    role = auth.role
    say(args, f"{auth.username} ({role})", {"username": auth.username, "role": role})


def user(args: argparse.Namespace) -> None:
    """Manage users, as the admin."""
    if args.action in ("add", "delete", "passwd") and not args.name:
        raise ConfigurationError(f"mrq user {args.action} takes the NAME of a user")
    {"init": _init, "add": _add, "delete": _delete, "passwd": _passwd, "list": _list}[args.action](args)


def _init(args: argparse.Namespace) -> None:
    if not args.file:
        raise ConfigurationError(
            "mrq user init takes --file FILE: the services' new logins have to go somewhere"
        )
    known = _auth(args).initialize(args.file)
    names = {role: login.username for role, login in known.items()}
    say(
        args,
        f"the logins of {', '.join(names.values())} are in {args.file}",
        {"file": args.file, "users": names},
    )


def _add(args: argparse.Namespace) -> None:
    given = _ask(args.name) if args.ask else None
    password = _auth(args).create_user(args.name, given)
    if given is None:  # the only time that it can be seen
        say(args, password, {"username": args.name, "password": password})
    else:
        say(args, f"{args.name} may log in", {"username": args.name})


def _delete(args: argparse.Namespace) -> None:
    _auth(args).delete_user(args.name)
    say(args, f"{args.name} is locked out", {"deleted": args.name})


def _passwd(args: argparse.Namespace) -> None:
    from mrq.auth.admin import generated

    password = generated() if args.generate else _ask(args.name)
    _auth(args).change_password(args.name, password)
    if args.generate:
        say(args, password, {"username": args.name, "password": password})
    else:
        say(args, f"{args.name} has a new password", {"username": args.name})


def _list(args: argparse.Namespace) -> None:
    users = _auth(args).users()
    if args.json:
        print_json(users)
    else:
        width = max(map(len, users))
        print(*(f"{name:{width}}  {role}" for name, role in users.items()), sep="\n")


def _auth(args: argparse.Namespace) -> Auth:
    from mrq.auth import Auth

    settings = settings_of(args)
    return Auth(settings.username, settings.password.get_secret_value(), settings)


def _ask(name: str) -> str:
    """Return a password that somebody types, or the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    from getpass import getpass

    password = getpass(f"New password for {name}: ")
    if getpass("Once more: ") != password:
        raise ConfigurationError("that was not the same password twice")
    return password
