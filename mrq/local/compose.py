"""The compose CLI, for what the network's definition says: build, up, down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mrq.config import Settings
from mrq.errors import ConfigurationError, MrqError, Unavailable
from mrq.local.definition import COMPOSE_FILE

HOW_TO_GET_DOCKER = (
    "LocalCluster needs Docker 20.10 or later and its compose plugin (v2). Debian 13: apt-get install docker.io "
    "docker-compose; Ubuntu: docker.io docker-compose-v2; macOS and Windows: Docker Desktop. "
    "mrq.EmbeddedCluster runs jobs without it"
)
TAIL = 15
"""Lines of compose's output that its failure quotes."""


def check_docker() -> None:
    """See that the command, its plugin and an engine are there.

    Raises:
        ConfigurationError: the docker command or its compose plugin is missing.
        Unavailable: no engine answers.
    """
    if shutil.which("docker") is None:
        raise ConfigurationError(f"there is no docker command. {HOW_TO_GET_DOCKER}")
    if _try("compose", "version", "--short").returncode:
        raise ConfigurationError(f"docker has no compose plugin (v2). {HOW_TO_GET_DOCKER}")
    asked = _try("version", "--format", "{{.Server.Version}}")
    if asked.returncode:
        reason = " ".join(asked.stderr.split()) or "it gave no reason"
        hint = (
            "sudo usermod -aG docker $USER, then log in again" if "permission" in reason else "start Docker"
        )
        raise Unavailable(f"no Docker engine answers ({hint}): {reason}. {HOW_TO_GET_DOCKER}")


def _try(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"docker {words[0]} gave no answer in 30 s")


class Compose:
    """Runs ``docker compose`` for one cluster.

    Args:
        root: the folder of the definition.
        project: the compose project.
        values: the variables of the definition; they win over the ``.env`` beside it and over the environment.
        say: is told each line of output, for those who want to see it.
    """

    def __init__(
        self, root: Path, project: str, values: Mapping[str, str], say: Callable[[str], None] | None = None
    ) -> None:
        self.root = root
        self._words = ["docker", "compose", "--ansi", "never", "--progress", "plain", "-p", project]
        self._words += ["-f", str(root / COMPOSE_FILE)]
        self._environment = environment(os.environ, values)
        self._say = say

    def run(self, *words: str, what: str) -> str:
        """Run a command of compose; return its standard output.

        Args:
            words: the command.
            what: what it is for, for the message of an error.

        Raises:
            MrqError: it failed; the message ends with what it said.
        """
        lines = []
        with subprocess.Popen(
            [*self._words, *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                if self._say:
                    self._say(lines[-1])
        if process.returncode:
            raise _failure(what, lines)
        return "\n".join(lines)

    def config(self) -> dict[str, Any]:
        """Return the definition with its variables filled in."""
        done = subprocess.run(
            [*self._words, "--profile", "*", "config", "--format", "json"],
            env=self._environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise _failure("read the network's definition", done.stderr.splitlines())
        config: dict[str, Any] = json.loads(done.stdout)
        return config


def environment(outer: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for compose: settings that point this process elsewhere are not the cluster's."""
    settings = {f"MRQ_{name.upper()}" for name in Settings.model_fields}
    kept = {name: value for name, value in outer.items() if name not in settings and name != "MRQ_CONFIG"}
    return kept | {"COMPOSE_MENU": "false"} | dict(values)


def _failure(what: str, lines: Sequence[str]) -> MrqError:
    tail = "\n  ".join(line for line in lines[-TAIL:] if line.strip())
    if "port is already allocated" in tail or "address already in use" in tail:
        return Unavailable(
            f"docker compose could not {what}: a port was taken by another process meanwhile\n  {tail}"
        )
    return MrqError(f"docker compose could not {what}:\n  {tail or 'it said nothing'}")
