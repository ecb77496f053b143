"""Traces: each run of a map task leaves one, wherever it runs and whatever becomes of it."""

from __future__ import annotations

import json
import os
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MANY = 1000
"""What counts as the number of runs where it can't be known: enough that a function raises no more."""


class Traces(Protocol):
    """Where runs leave traces. Travels with the functions."""

    def leave(self, number: int) -> int:
        """Say that an element is mapped; return how often that was said."""


class Places(Protocol):
    """Makes places for traces, and looks at them."""

    def traces(self, job: str) -> Traces:
        """Return a new place, for one job's."""

    def left(self, traces: Any) -> list[str]:
        """Return the names of the traces in a place: number, process and more, with dots between."""


@dataclass(frozen=True)
class FolderTraces:
    """Traces are files in a folder that all processes see.

    Args:
        folder: of one job.
    """

    folder: str

    def leave(self, number: int) -> int:
        Path(self.folder, trace_name(number)).touch()
        return len(list(Path(self.folder).glob(f"{number}.*")))


@dataclass(frozen=True)
class HdfsTraces:
    """Traces are files in HDFS; what is run while no gateway answers leaves none.

    Args:
        urls: of the gateways, as the workers see them.
        folder: of one job.
    """

    urls: tuple[str, ...]
    folder: str

    def leave(self, number: int) -> int:
        for url in self.urls:
            try:
                self._ask(url, "PUT", f"/{trace_name(number)}", "CREATE&data=true")
                found = json.loads(self._ask(url, "GET", "", "LISTSTATUS"))["FileStatuses"]["FileStatus"]
            except OSError:
                time.sleep(0.1)
            else:
                return sum(entry["pathSuffix"].startswith(f"{number}.") for entry in found)
        return MANY

    def _ask(self, url: str, method: str, name: str, query: str) -> bytes:
        address = f"{url}/webhdfs/v1/{self.folder}{name}?op={query}&user.name=mrq"
        kind = {"Content-Type": "application/octet-stream"}
        data = b"x" if method == "PUT" else None
        request = urllib.request.Request(address, data=data, headers=kind, method=method)
        with urllib.request.urlopen(request, timeout=5) as reply:
            return bytes(reply.read())


def trace_name(number: int) -> str:
    return f"{number}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
