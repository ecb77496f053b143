"""What is remembered of a cluster: its ports, logins and secrets, in an env file that only its owner may read.

    $XDG_STATE_HOME/mrq/<name>/cluster.env      (by default ~/.local/state/mrq/<name>/cluster.env)

A shell can source the file. Its variables are those of ``infra/docker-compose.yml``.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mrq.errors import ConfigurationError, Unavailable

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
FILE = "cluster.env"


def state_home() -> Path:
    """Return the folder of all clusters' states."""
    home = os.environ.get("XDG_STATE_HOME")
    return Path(home or Path.home() / ".local" / "state") / "mrq"


def project(name: str) -> str:
    """Return the compose project of a cluster."""
    return "mrq" if name == "mrq" else f"mrq-{name}"


@dataclass(frozen=True)
class StateFile:
    """The file of one cluster.

    Args:
        name: the cluster's.

    Raises:
        ConfigurationError: it can't be a name.
    """

    name: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"a cluster's name has up to 40 of a-z, 0-9, _ and -, and begins with a letter or digit: "
                f"{self.name!r} does not"
            )

    @property
    def folder(self) -> Path:
        """Where the cluster's state is."""
        return state_home() / self.name

    @property
    def path(self) -> Path:
        """The env file."""
        return self.folder / FILE

    def read(self) -> dict[str, str] | None:
        """Return the variables, or None where there is no such cluster.

        Raises:
            ConfigurationError: the file can't be read.
        """
        try:
            return parse(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the state of cluster {self.name} can't be read: {error}") from error

    def write(self, values: Mapping[str, str]) -> None:
        """Replace the file; nobody else may read it, not even for a moment."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever was there before
            file.write(render(values))
        new.replace(self.path)

    def remove(self) -> None:
        """Forget the cluster."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from starting, scaling or ending the same cluster meanwhile.

        Raises:
            Unavailable: one does so now.
        """
        state_home().mkdir(mode=0o700, parents=True, exist_ok=True)
        with (state_home() / f".{self.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable(
                    f"another process starts, scales or ends the cluster {self.name}; try again when it is done"
                ) from None
            yield


def names() -> list[str]:
    """Return the clusters that have a state here."""
    return sorted(path.parent.name for path in state_home().glob(f"*/{FILE}"))


def render(values: Mapping[str, str]) -> str:
    """Write variables as lines that a shell, compose and `parse` read alike.

    Raises:
        ConfigurationError: a value has a line break or a single quote, which compose would not read as a shell does.
    """
    for name, value in values.items():
        if not value.isprintable() or "'" in value:
            raise ConfigurationError(f"{name} may hold neither single quotes nor control characters")
    return "".join(f"{name}='{value}'\n" for name, value in values.items())


def parse(text: str) -> dict[str, str]:
    """Read what `render` has written.

    Raises:
        ValueError: a line has another form.
    """
    values = {}
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        name, equals, value = words[0].partition("=")
        if not equals or len(words) > 1:
            raise ValueError(f"{name} is not followed by a value")
        values[name] = value
    return values


def new_secret() -> str:
    """Draw a password of 192 bits, in letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(24)
