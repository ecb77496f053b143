"""An instance of the native servers for tests: the scripts of infra/native, bound to one run folder."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path

NATIVE = Path(__file__).parents[2] / "infra" / "native"


class Instance:
    """The scripts of infra/native, bound to one run folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(os.environ.get("MRQ_NATIVE_RUN", NATIVE / "run"))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MRQ_NATIVE_")}
        self.environment |= {"MRQ_NATIVE_RUN": str(self.folder), "MRQ_NATIVE_PORT_OFFSET": "auto"}

    def run(self, verb: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [NATIVE / verb, *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def up(self, *services: str) -> None:
        result = self.run("up", *services)
        assert result.returncode == 0, result.stderr

    def down(self, *arguments: str) -> None:
        result = self.run("down", *arguments)
        assert result.returncode == 0, result.stderr

    def services(self) -> dict[str, dict[str, object]]:
        return {row["service"]: row for row in json.loads(self.run("status", "--json").stdout)}

    def pids(self) -> dict[str, object]:
        return {name: row["pid"] for name, row in self.services().items()}

    def settings(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.folder / "env").read_text().splitlines())

    def call(self, method: str, path: str, body: object = None, password: str | None = None) -> object:
        """A call of the RabbitMQ management API."""
        settings = self.settings()
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        url = settings["MRQ_RABBITMQ_MANAGEMENT_URL"] + path
        credentials = settings["MRQ_USERNAME"], password or settings["MRQ_PASSWORD"]
        passwords.add_password(None, url, *credentials, is_authenticated=True)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
        )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        with opener.open(request, timeout=10) as response:
            text = response.read()
        return json.loads(text) if text else None
