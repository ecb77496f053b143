"""RabbitMQ's management API, for tests and benchmarks: no pytest is needed here."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

import requests
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from mrq.config import Settings

# RabbitMQ answers 500 now and then when it has much to do.
_patiently = Retrying(
    retry=retry_if_result(lambda reply: reply.status_code >= 500),
    stop=stop_after_delay(20),
    wait=wait_fixed(0.1),
)


class Management:
    """RabbitMQ's HTTP API."""

    def __init__(self, settings: Settings) -> None:
        self._base = f"{settings.rabbitmq_management_url}/api"
        self._vhost = quote(settings.rabbitmq_vhost, safe="")
        self._auth = (settings.username, settings.password.get_secret_value())

    def _call(self, method: str, path: str) -> Any:
        with requests.Session() as session:
            session.trust_env = False  # no proxy leads to loopback
            ask = partial(session.request, method, f"{self._base}/{path}", auth=self._auth, timeout=10)
            reply: requests.Response = _patiently(ask)
        if reply.status_code != 404:
            reply.raise_for_status()
        return reply.json() if reply.content else None

    def connections(self, name: str) -> list[str]:
        """Return the server's names of the connections whose own names begin so."""
        listed = self._call("GET", "connections")
        return [one["name"] for one in listed if one.get("user_provided_name", "").startswith(name)]

    def close_connection(self, name: str) -> None:
        self._call("DELETE", f"connections/{quote(name, safe='')}")

    def delete_queue(self, name: str) -> None:
        self._call("DELETE", f"queues/{self._vhost}/{quote(name, safe='')}")

    def delete_exchange(self, name: str) -> None:
        self._call("DELETE", f"exchanges/{self._vhost}/{quote(name, safe='')}")

    def queues(self, prefix: str) -> list[str]:
        listed = self._call("GET", f"queues/{self._vhost}?disable_stats=true&enable_queue_totals=true")
        return [one["name"] for one in listed if one["name"].startswith(f"{prefix}.")]

    def delete_all(self, prefix: str) -> None:
        """Remove all queues and exchanges below a prefix."""
        for queue in self.queues(prefix):
            self.delete_queue(queue)
        for exchange in self._call("GET", f"exchanges/{self._vhost}"):
            if exchange["name"].startswith(f"{prefix}."):
                self.delete_exchange(exchange["name"])
