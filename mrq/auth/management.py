"""RabbitMQ's users, over its management API. A password travels in headers and bodies only."""

from __future__ import annotations

import base64
import json
import logging
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

from mrq.auth.policy import Permissions
from mrq.config import Settings
from mrq.errors import AuthenticationFailed, BrokerUnavailable, ConfigurationError, MrqError

log = logging.getLogger(__name__)

WHY = "deleted, or given other rights, by mrq"
DEFAULT_USER = "guest"


class Management:
    """The management API, asked with an admin's login.

    Args:
        settings: where it is, who asks, and how long to wait.

    Raises:
        ConfigurationError: the settings don't say where it is.
    """

    def __init__(self, settings: Settings) -> None:
        if not settings.rabbitmq_management_url:
            raise ConfigurationError(
                "RabbitMQ's users are managed over its management API: set MRQ_RABBITMQ_MANAGEMENT_URL, as in "
                "http://127.0.0.1:15672"
            )
        self._url = settings.rabbitmq_management_url.rstrip("/")
        if urlsplit(self._url).scheme not in ("http", "https"):
            raise ConfigurationError(f"rabbitmq_management_url {self._url!r} is not an address of the web")
        self._user = settings.username
        self._login = _basic(settings.username, settings.password.get_secret_value())
        self._vhost = quote(settings.rabbitmq_vhost, safe="")
        self._timeout = settings.operation_timeout
        handlers: list[Any] = [urllib.request.ProxyHandler({})]  # our own servers are not behind a proxy
        if settings.tls_ca_file:
            context = ssl.create_default_context(cafile=settings.tls_ca_file)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def require_admin(self) -> None:
        """See that the login is an administrator's.

        Raises:
            AuthenticationFailed: it is not, or it is wrong.
        """
        who = self._ask("GET", "whoami") or {}
        if "administrator" not in _tags(who):
            raise AuthenticationFailed(
                f"{self._user!r} may not manage users: RabbitMQ knows no administrator of that name"
            )

    def tags(self, name: str) -> list[str] | None:
        """Return a user's tags, or None when there is no such user."""
        user = self._ask("GET", f"users/{_quoted(name)}")
        return None if user is None else _tags(user)

    def put_user(self, name: str, password: str, tags: str) -> None:
        """Create a user, or give one this password and these tags."""
        self._ask("PUT", f"users/{_quoted(name)}", {"password": password, "tags": tags})
        if name == self._user:
            self._login = _basic(name, password)

    def permit(self, name: str, permissions: Permissions) -> None:
        """Say what a user may do in the vhost."""
        body = {
            "configure": permissions.configure,
            "write": permissions.write,
            "read": permissions.read,
        }
        self._ask("PUT", f"permissions/{self._vhost}/{_quoted(name)}", body)

    def delete_user(self, name: str) -> None:
        """Delete a user, and end the user's connections. One who is not there is no error."""
        self._ask("DELETE", f"users/{_quoted(name)}")
        self.disconnect(name)

    def disconnect(self, name: str) -> None:
        """End a user's connections: RabbitMQ lets them live when the password changes."""
        for connection in self._ask("GET", f"connections/username/{_quoted(name)}") or []:
            self._ask("DELETE", f"connections/{_quoted(connection['name'])}", reason=WHY)

    def make_vhost(self) -> None:
        """Create the vhost, unless it is there."""
        if self._ask("GET", f"vhosts/{self._vhost}") is None:
            self._ask("PUT", f"vhosts/{self._vhost}", {})

    def close_default_user(self) -> None:
        """Delete RabbitMQ's user guest if everybody knows its password."""
        try:
            self._ask("GET", "whoami", login=_basic(DEFAULT_USER, DEFAULT_USER))
        except AuthenticationFailed:
            return
        log.warning("RabbitMQ had the user guest with the password that everybody knows: it is deleted")
        self.delete_user(DEFAULT_USER)

    def _ask(self, method: str, path: str, body: Any = None, *, reason: str = "", login: str = "") -> Any:
        """Return the answer, or None for 404."""
        request = urllib.request.Request(
            f"{self._url}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": login or self._login, "Content-Type": "application/json"},
            method=method,
        )
        if reason:
            request.add_header("X-Reason", reason)
        try:
            with self._opener.open(request, timeout=self._timeout) as reply:
                text = reply.read()
                return json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise self._refusal(error, f"{method} /api/{path}") from None
        except (OSError, ValueError) as error:
            raise BrokerUnavailable(
                f"RabbitMQ's management API at {self._url} does not answer: {error}"
            ) from None

    def _refusal(self, error: urllib.error.HTTPError, asked: str) -> MrqError:
        reason = _reason(error)
        # What the API does over AMQP for somebody, as to publish, is refused with a 400.
        if error.code in (401, 403) or "ACCESS_REFUSED" in reason:
            return AuthenticationFailed(
                f"RabbitMQ at {self._url} refused {asked} to {self._user!r}: wrong password, or not for that user "
                f"to do ({reason})"
            )
        if error.code >= 500:
            return BrokerUnavailable(f"RabbitMQ at {self._url} failed at {asked}: {error.code} {reason}")
        return ConfigurationError(f"RabbitMQ at {self._url} refused {asked}: {error.code} {reason}")


def _tags(user: dict[str, Any]) -> list[str]:
    held = user.get("tags") or []  # a text before RabbitMQ 3.9
    return [tag for tag in held.split(",") if tag] if isinstance(held, str) else list(held)


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read()).get("reason", error.reason))
    except (OSError, ValueError, AttributeError):
        return str(error.reason)


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _quoted(name: str) -> str:
    return quote(name, safe="")
