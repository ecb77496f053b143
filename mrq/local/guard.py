"""The logins of a cluster at its servers: made once, after the first start, and asked for later.

RabbitMQ itself starts with the login ``mrq-server``, which nobody uses but its health check and the first start: so
that the admin's password can be changed without anything being started again.
"""

from __future__ import annotations

from collections.abc import Mapping

from mrq.auth import Auth, policy
from mrq.auth.management import Management
from mrq.auth.policy import SERVICES
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
    username, password = variables.login_of(values)
    server = Management(variables.settings_of(values, variables.login_of(values, variables.SERVER)))
    server.put_user(username, password, policy.tags("admin"))
    server.permit(username, policy.permissions("admin", settings.rabbitmq_prefix))
    logins = {role: variables.login_of(values, variables.PREFIXES[role]) for role in SERVICES}
    Auth(username, password, settings).initialize(
        names={role: name for role, (name, _) in logins.items()},
        passwords={role: secret for role, (_, secret) in logins.items()},
    )
    return dict(values) | {DONE: "yes"}
