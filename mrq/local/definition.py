"""Where the network's definition is: in a checkout, or in the installed package.

A checkout is used as it stands. The wheel carries what the images are built from as ``mrq/_infra``; together with the
installed package it is laid out like a checkout in the cluster's state folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import mrq
from mrq.errors import ConfigurationError

COMPOSE_FILE = Path("infra") / "docker-compose.yml"
SOURCES = ("mrq", "masters", "workers")
PACKED = "_infra"
"""The folder of the wheel's copy, within the package."""


def find(folder: Path, package: Path | None = None) -> Path:
    """Return the root of the definition: the folder that has ``infra/docker-compose.yml``.

    Args:
        folder: where to lay it out if mrq is installed from a wheel.
        package: the package's folder; by default this one's.

    Raises:
        ConfigurationError: mrq was installed without it.
    """
    package = package or Path(mrq.__file__).parent
    if (package.parent / COMPOSE_FILE).is_file():
        return package.parent
    packed = package / PACKED
    if not (packed / COMPOSE_FILE).is_file():
        raise ConfigurationError(
            f"this mrq has no {COMPOSE_FILE} with it, neither beside {package} nor in it: install it from its wheel, "
            "or use a checkout"
        )
    lay_out(packed, package, folder)
    return folder


def lay_out(packed: Path, package: Path, folder: Path) -> None:
    """Make ``folder`` look like a checkout, as far as the images are built from it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(packed, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns(PACKED, "__pycache__"))


def changed_at(root: Path) -> float:
    """Return when what masters and workers run was last changed, in seconds since 1970."""
    sources = (path for folder in SOURCES for path in (root / folder).rglob("*.py"))
    return max((path.stat().st_mtime for path in sources), default=0.0)
