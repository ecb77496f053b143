"""`Crew`: the masters and workers that a cluster lacks, as child processes for a while.

with Crew(members, environment) as crew:
    crew.complete(masters=1, workers=2)      # starts those that are missing, waits until they are registered
    ...                                      # leaving the block drains and ends those that were started
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from types import TracebackType

from mrq.errors import MrqError, Unavailable
from mrq.registry import Role

START_WITHIN = 30.0
END_WITHIN = 15.0
LOG_TAIL = 5
"""Lines of a child's log that its failure quotes."""


class Crew:
    """Child processes ``mrq master`` and ``mrq worker``, that end with it.

    Args:
        members: returns the names of the registered masters or workers.
        environment: of the children; it holds the settings as ``MRQ_*``.
    """

    def __init__(self, members: Callable[[Role], Collection[str]], environment: Mapping[str, str]) -> None:
        self._members = members
        self._environment = dict(environment)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by `close`
        self._children: dict[str, subprocess.Popen[str]] = {}

    def complete(self, *, masters: int, workers: int) -> list[str]:
        """Start a role's members where none is registered; return the names of those that were started.

        Raises:
            MrqError: one ended at once; the message ends with its log.
            Unavailable: one did not register in time.
        """
        wanted: dict[Role, int] = {"masters": masters, "workers": workers}
        lacking = {role: number for role, number in wanted.items() if not self._members(role)}
        for role, number in lacking.items():
            for n in range(number):
                self._start(role.removesuffix("s"), n)
        deadline = time.monotonic() + START_WITHIN
        while missing := self._children.keys() - {name for role in lacking for name in self._members(role)}:
            self._check(missing)
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{', '.join(sorted(missing))} did not register within {START_WITHIN:.0f} s"
                )
            time.sleep(0.1)
        return list(self._children)

    def _start(self, verb: str, n: int) -> None:
        name = f"demo-{os.getpid()}-{verb}-{n}"
        self._children[name] = subprocess.Popen(
            [sys.executable, "-m", "mrq.cli", verb, "--name", name],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            text=True,
            start_new_session=True,  # Ctrl-C at the terminal is for us; we end them in order
        )

    def _check(self, names: Collection[str]) -> None:
        for name in names:
            code = self._children[name].poll()
            if code is not None:
                self._log.seek(0)
                tail = self._log.read().splitlines()[-LOG_TAIL:]
                raise MrqError(f"{name} ended with exit code {code}: {' / '.join(tail) or 'it said nothing'}")

    def close(self) -> None:
        """End the children, by force those that take too long."""
        for child in self._children.values():
            child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_WITHIN
        for child in self._children.values():
            try:
                child.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._log.close()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
