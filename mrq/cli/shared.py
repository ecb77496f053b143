"""What the verbs share: settings from the arguments, and how answers are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrq.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from mrq.config import Settings


def settings_of(args: argparse.Namespace, **more: Any) -> Settings:
    """Return the settings that file, environment and arguments make; ``more`` wins, where it is not None."""
    from mrq.config import Settings

    given = {name: value for name, value in more.items() if value is not None}
    return Settings.load(args.config, **(assignments(args) | given))


def assignments(args: argparse.Namespace) -> dict[str, str]:
    """Take the ``--set`` options apart."""
    given = {}
    for text in (*args.set, *getattr(args, "set_too", ())):
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"--set takes name=value, not {text!r}")
        given[name.lower()] = value
    return given


def new_console(*, stderr: bool = False) -> Console:
    """Return where to draw: as wide as the terminal, or as needed where there is none."""
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=160)


def print_json(document: Any) -> None:
    """Print a document as JSON."""
    import json

    print(json.dumps(document, ensure_ascii=False, indent=2))


def say(args: argparse.Namespace, line: str, document: dict[str, Any]) -> None:
    """Print a line, or with ``--json`` the document."""
    if args.json:
        print_json(document)
    else:
        print(line)
