"""A login, and the file that keeps those of the services: ``MRQ_WORKER_USERNAME=…`` lines, as env files have."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from mrq.auth.policy import SERVICES, Service
from mrq.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Login:
    """A username with its password, which no repr shows."""

    username: str
    password: SecretStr


def read(file: str | Path) -> dict[Service, Login]:
    """Return what a file of `write` holds; nothing when it is not there.

    Raises:
        ConfigurationError: it can't be read.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the services' logins in {file} can't be read: {type(error).__name__}"
        ) from None
    values = dict(
        line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")
    )
    logins: dict[Service, Login] = {}
    for role in SERVICES:
        name, password = (values.get(f"MRQ_{role.upper()}_{what}") for what in ("USERNAME", "PASSWORD"))
        if name and password:
            logins[role] = Login(name, SecretStr(password))
    return logins


def write(file: str | Path, logins: Mapping[Service, Login]) -> None:
    """Put logins into a file that its owner alone may read; one that is there is replaced at once, or not at all.

    Raises:
        ConfigurationError: it can't be written.
    """
    path = Path(file)
    lines = []
    for role, login in logins.items():
        lines.append(f"MRQ_{role.upper()}_USERNAME={login.username}")
        lines.append(f"MRQ_{role.upper()}_PASSWORD={login.password.get_secret_value()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # of mode 0600
        try:
            with open(number, "w", encoding="utf-8") as to:
                to.write("\n".join(lines) + "\n")
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise ConfigurationError(f"the services' logins can't be kept in {file}: {error.strerror}") from None
