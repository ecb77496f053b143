"""RabbitMQ's management API, to look only; and the clocks of servers that speak HTTP."""

from __future__ import annotations

import email.utils
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

from mrq.auth.management import Management
from mrq.config import Settings
from mrq.errors import ConfigurationError


class Pages(Management):
    """What the management pages show to this login. Raises what `Management` raises."""

    def queues(self) -> list[dict[str, Any]]:
        """Return the queues of the vhost, each with ``name`` and, after some seconds, ``consumers``."""
        return list(self._seen("queues/" + self._vhost))

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes, with their alarms."""
        return list(self._seen("nodes"))

    def _seen(self, path: str) -> Any:
        found = self._ask("GET", path)
        if found is None:
            raise ConfigurationError(f"RabbitMQ's management API has no /api/{path}")
        return found


def clock_ahead(url: str, settings: Settings) -> float | None:
    """Return by how many seconds a server's clock is ahead of ours, to a second; None when it tells no time.

    Raises:
        OSError: it does not answer.
    """
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    if settings.tls_ca_file:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, method="HEAD")
    before = time.time()
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=settings.connect_timeout) as reply:
            date = reply.headers.get("Date")
    except urllib.error.HTTPError as refused:
        with refused:
            date = refused.headers.get("Date")
    if date is None:
        return None
    # The header has whole seconds, cut off; it was written some time between the two readings of our clock.
    theirs = email.utils.parsedate_to_datetime(date).timestamp()
    if theirs + 1 < before:
        return theirs + 1 - before
    return max(0.0, theirs - time.time())
