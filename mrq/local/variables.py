"""The variables of a cluster's definition (``infra/.env.example``): made once, remembered, and read as settings."""

from __future__ import annotations

from collections.abc import Mapping

from mrq.config import Settings
from mrq.local.hostports import HOST
from mrq.local.state import new_secret
from mrq.membership import PYTHON

DEFAULT_PORTS = {
    "amqp": 5672,
    "management": 15672,
    "zookeeper_1": 2181,
    "zookeeper_2": 2182,
    "zookeeper_3": 2183,
    "httpfs_1": 14000,
    "httpfs_2": 14001,
    "namenode_http": 9870,
    "datanode_1_http": 9864,
    "datanode_2_http": 9874,
}
"""The ports on 127.0.0.1 by name; ``amqp`` is the variable ``MRQ_COMPOSE_AMQP_PORT``."""

ADMIN, SERVER, MASTER, WORKER, MONITOR = "", "ADMIN_", "MASTER_", "WORKER_", "MONITOR_"
"""What stands between ``MRQ_`` and ``USERNAME``; `SERVER` is the login that RabbitMQ starts with."""
PREFIXES = {"server": SERVER, "master": MASTER, "worker": WORKER, "monitor": MONITOR}

TUNABLES = (
    "SLOTS",
    "DRAIN_TIMEOUT",
    "CONNECT_TIMEOUT",
    "ZOOKEEPER_SESSION_TIMEOUT",
    "RECONCILE_AFTER",
    "DELIVERY_LIMIT",
)
"""What may be set of masters and workers, in the environment of the first start."""

USUAL_DRAIN_TIMEOUT = 60.0
GRACE = 15.0
"""Seconds above the drain timeout before a master or worker is killed."""


def first(login: tuple[str, str] | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a new cluster, without its ports.

    Args:
        login: the admin's username and password; by default ``mrq`` and a new secret.
        environment: for ``MRQ_COMPOSE_*`` and the `TUNABLES`, which are remembered.
    """
    username, password = login or ("mrq", new_secret())
    values = {"MRQ_USERNAME": username, "MRQ_PASSWORD": password}
    for role, prefix in PREFIXES.items():
        values[f"MRQ_{prefix}USERNAME"] = (
            f"mrq-{role}" if username != f"mrq-{role}" else f"mrq-{role}-service"
        )
        values[f"MRQ_{prefix}PASSWORD"] = new_secret()
    for name, value in environment.items():
        if name.startswith("MRQ_COMPOSE_") or name.removeprefix("MRQ_") in TUNABLES:
            values[name] = value
    values.setdefault("MRQ_COMPOSE_STOP_GRACE", f"{drain_timeout(values) + GRACE:.0f}s")
    return values | {"MRQ_COMPOSE_PYTHON": PYTHON}


def ports_of(values: Mapping[str, str]) -> dict[str, int]:
    """Return the ports by name: the remembered ones, else the defaults."""
    return {name: int(values.get(_port(name), default)) for name, default in DEFAULT_PORTS.items()}


def with_ports(values: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variables with these ports."""
    return dict(values) | {_port(name): str(port) for name, port in ports.items()}


def login_of(values: Mapping[str, str], prefix: str = ADMIN) -> tuple[str, str]:
    """Return a role's username and password."""
    return values[f"MRQ_{prefix}USERNAME"], values[f"MRQ_{prefix}PASSWORD"]


def drain_timeout(values: Mapping[str, str]) -> float:
    """Return how many seconds masters and workers take at most to drain."""
    return float(values.get("MRQ_DRAIN_TIMEOUT", USUAL_DRAIN_TIMEOUT))


def addresses(values: Mapping[str, str]) -> dict[str, str]:
    """Return the settings by name that lead a client on this machine to the cluster, all but the login."""
    ports = ports_of(values)
    return {
        "rabbitmq_hosts": f"{HOST}:{ports['amqp']}",
        "rabbitmq_management_url": f"http://{HOST}:{ports['management']}",
        "rabbitmq_vhost": values.get("MRQ_RABBITMQ_VHOST", "mrq"),
        "zookeeper_hosts": ",".join(f"{HOST}:{ports[f'zookeeper_{n}']}" for n in (1, 2, 3)),
        "hdfs_urls": ",".join(f"http://{HOST}:{ports[f'httpfs_{n}']}" for n in (1, 2)),
        "hdfs_user": values.get("MRQ_HDFS_USER", "mrq"),
    }


def settings_of(values: Mapping[str, str], login: tuple[str, str] | None = None) -> Settings:
    """Return a client's settings.

    Where things are is the cluster's, whatever the environment says; timeouts and sizes may be the environment's.
    """
    username, password = login or login_of(values)
    places = ("rabbitmq_prefix", "zookeeper_root", "hdfs_root", "hdfs_direct", "hdfs_datanode_rewrite", "tls")
    fixed = {name: Settings.model_fields[name].default for name in places}
    return Settings.load(**fixed, **addresses(values), username=username, password=password)


def environment_lines(values: Mapping[str, str], login: tuple[str, str] | None = None) -> list[str]:
    """Return assignments for a shell that point every client at the cluster."""
    import shlex

    username, password = login or login_of(values)
    settings = {"username": username, "password": password} | addresses(values)
    return [f"export MRQ_{name.upper()}={shlex.quote(value)}" for name, value in settings.items()]


def _port(name: str) -> str:
    return f"MRQ_COMPOSE_{name.upper()}_PORT"
