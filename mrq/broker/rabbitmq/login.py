"""Asks RabbitMQ whether a login is good, and nothing else."""

from __future__ import annotations

import pika
from pika.exceptions import AMQPError

from mrq.broker.rabbitmq.link import explain, parameters
from mrq.config import Settings
from mrq.errors import AuthenticationFailed, BrokerUnavailable, MrqError


def check_login(settings: Settings) -> None:
    """Open a connection to the vhost and close it again; the user needs no permission in it.

    Raises:
        AuthenticationFailed: RabbitMQ refuses the user, the password or the vhost.
        BrokerUnavailable: no host answers.
    """
    trouble: MrqError | None = None
    for address in settings.rabbitmq_hosts:
        target = parameters(settings, address, "login")
        target.blocked_connection_timeout = settings.connect_timeout
        try:
            pika.BlockingConnection(target).close()
            return
        except (AMQPError, OSError) as error:
            trouble = explain(settings, address, error)
            if isinstance(trouble, AuthenticationFailed):
                break
    raise trouble or BrokerUnavailable("the settings name no host of RabbitMQ")
