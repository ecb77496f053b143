"""From settings to connected parts: the one place that knows which adapter stands behind which port."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.client import JobClient
from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.master import Master
from mrq.registry import Registry
from mrq.store.address import describe, open_store
from mrq.worker import Worker


class Client(JobClient):
    """Submits jobs to the masters and workers at the servers that the settings name.

    It needs ZooKeeper and HDFS; RabbitMQ is the masters' and workers' business.

    Args:
        settings: by default from file and environment (`Settings.load`).
        arguments: settings by name, in place of ``settings``.

    Raises:
        ConfigurationError: a setting is wrong.
        AuthenticationFailed: ZooKeeper refused the login.
        CoordinationUnavailable, StoreUnavailable: no answer within ``connect_timeout``.
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        settings = settings or Settings.load(**arguments)
        with ExitStack() as opened:
            tree = ZooKeeperCoordination(settings, outlives_sessions=True)
            opened.callback(tree.close)
            store = open_store(describe(settings))
            opened.callback(store.close)
            store.ping()
            super().__init__(Registry(tree), store, settings)
            opened.pop_all()


def open_master(settings: Settings, opened: ExitStack) -> Master:
    """Connect a master; ``opened`` closes its connections."""
    broker, registry = _open_broker_and_registry(settings, opened)
    store = open_store(describe(settings))
    opened.callback(store.close)
    store.ping()
    return Master(settings.service_name(), registry, broker, store, settings)


def open_worker(settings: Settings, opened: ExitStack) -> Worker:
    """Connect a worker; ``opened`` closes its connections. Its children open the store themselves."""
    broker, registry = _open_broker_and_registry(settings, opened)
    return Worker(settings.service_name(), registry, broker, describe(settings), settings)


def _open_broker_and_registry(settings: Settings, opened: ExitStack) -> tuple[RabbitMQBroker, Registry]:
    """RabbitMQ comes first: it knows a wrong password from a right one before anything is written."""
    broker = RabbitMQBroker(settings)
    opened.callback(broker.close)
    tree = ZooKeeperCoordination(settings)
    opened.callback(tree.close)
    return broker, Registry(tree)
