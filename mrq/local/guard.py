"""The logins of a cluster at its servers: made once, after the first start, and asked for later."""

from __future__ import annotations

from collections.abc import Mapping

from mrq.auth import Auth
from mrq.auth.policy import Service
from mrq.config import Settings
from mrq.local import variables

DONE = "MRQ_LOCAL_GUARDED"
"""The variable that remembers that the servers know the logins."""


def is_authenticated(settings: Settings) -> bool:
    """Whether the servers know the settings' login.

    Raises:
        Unavailable: they don't answer.
    """
    return Auth(settings.username, settings.password.get_secret_value(), settings).is_authenticated()


def initialize(values: Mapping[str, str]) -> dict[str, str]:
    """Have the servers know the admin and the services, if they don't yet; return the variables that say so.

    Raises:
        MrqError: a server refused, or did not answer.
    """
    if values.get(DONE):
        return dict(values)
    settings = variables.settings_of(values)
    roles: tuple[Service, ...] = ("master", "worker", "monitor")
    logins = {role: variables.login_of(values, variables.SERVICE_ROLES[role]) for role in roles}
    Auth(settings.username, settings.password.get_secret_value(), settings).initialize(
        names={role: username for role, (username, _) in logins.items()},
        passwords={role: password for role, (_, password) in logins.items()},
    )
    return dict(values) | {DONE: "yes"}
