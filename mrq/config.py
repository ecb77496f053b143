"""Settings: one frozen object, read once at the edge and passed down.

Defaults < a TOML file (``MRQ_CONFIG``, or `Settings.load`'s argument) < ``MRQ_*`` in the environment < arguments.
Lists are comma-separated in the environment: ``MRQ_ZOOKEEPER_HOSTS=zk1:2181,zk2:2181``.
"""

from __future__ import annotations

import os
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mrq.errors import ConfigurationError

Hosts = Annotated[tuple[str, ...], NoDecode]


MOST_INLINE_BYTES = 32 * 1024
"""Records must stay well below the megabyte that ZooKeeper takes."""


class Settings(BaseSettings):
    """Where the servers are, who we are, and how long we wait. All durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix="MRQ_", frozen=True, extra="forbid")

    username: str = "mrq"
    """The login, the same at RabbitMQ and ZooKeeper."""
    password: SecretStr = SecretStr("")

    rabbitmq_hosts: Hosts = ("127.0.0.1:5672",)
    rabbitmq_vhost: str = "mrq"
    rabbitmq_prefix: str = "mrq.v1"
    """What the names of queues and exchanges begin with."""
    rabbitmq_management_url: str | None = None
    rabbitmq_heartbeat: int = Field(30, ge=1)

    zookeeper_hosts: Hosts = ("127.0.0.1:2181",)
    zookeeper_root: str = "/mrq/v1"
    zookeeper_session_timeout: float = Field(10.0, gt=0)
    """A master or worker that is not heard of for so long is taken for dead."""

    hdfs_urls: Hosts = ("http://127.0.0.1:14000",)
    """HttpFS gateways, or NameNodes when `hdfs_direct`; one that fails is left for the next."""
    hdfs_user: str = "mrq"
    hdfs_root: str = "/mrq"
    hdfs_direct: bool = False
    """Whether `hdfs_urls` are NameNodes that redirect to DataNodes (WebHDFS)."""
    hdfs_datanode_rewrite: str = ""
    """With `hdfs_direct`: ``from=to`` pairs of ``host:port``, comma-separated, put in place in redirects."""

    tls: bool = False
    tls_ca_file: Path | None = None

    connect_timeout: float = Field(15.0, gt=0)
    """How long to go on trying to reach a server at the start."""
    operation_timeout: float = Field(30.0, gt=0)
    """How long any single operation may take, reconnects included, before it raises `Unavailable`."""

    name: str = ""
    """This master's or worker's name; by default ``<hostname>-<pid>``."""
    slots: int = Field(1, ge=1)
    """Tasks of each phase that a worker runs at once."""
    delivery_limit: int = Field(20, ge=1)
    """Deliveries of one task message, by deaths of whole workers, before it goes to the dead letters."""
    task_memory_limit: int | None = Field(None, ge=2**20)
    """How many bytes a task may take at this worker when its job sets no limit."""
    split_bytes: int = Field(32 * 2**20, ge=1)
    """A split that grows beyond this is cut."""
    frame_bytes: int = Field(2**20, ge=1)
    """The unit in which records are pickled, signed and read."""
    inline_bytes: int = Field(16 * 1024, ge=0, le=MOST_INLINE_BYTES)
    """How many bytes of a job's input and functions, and of the results of each phase, may stay in its record and in
    messages rather than in files of their own; 0 for none."""
    poll_interval: float = Field(1.0, gt=0)
    """How often truth is looked up although no watch or message told of it."""
    reconcile_after: float = Field(15.0, gt=0)
    """How long a job may show no progress before the master compares it with store and queues."""
    give_up_after: float = Field(300.0, gt=0)
    """How long a client goes on asking servers that don't answer before its futures raise `Unavailable`."""
    drain_timeout: float = Field(60.0, ge=0)
    """How long running tasks may go on after SIGTERM."""
    retention_age: float = Field(604800.0, ge=0)
    """How long after its end masters clear a job, with its files; 0 for never."""
    retention_count: int = Field(1000, ge=0)
    """How many jobs that have ended masters keep, the last ones; 0 for all."""

    @field_validator("rabbitmq_hosts", "zookeeper_hosts", "hdfs_urls", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        if not value:
            raise ValueError("at least one address is needed")
        return value

    @field_validator("rabbitmq_hosts", "zookeeper_hosts")
    @classmethod
    def _host_and_port(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            split_address(address)
        return value

    @classmethod
    def load(cls, file: str | Path | None = None, **arguments: Any) -> Settings:
        """Read the settings from file, environment and arguments.

        Args:
            file: a TOML file of settings by name; by default what ``MRQ_CONFIG`` names, if anything.
            arguments: settings by name; they win over all else. None stands for "not given".

        Raises:
            ConfigurationError: a setting is unknown or wrong; the message names each.
        """
        path = file or os.environ.get("MRQ_CONFIG")
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            from_file = tomllib.loads(Path(path).read_text(encoding="utf-8")) if path else {}
        except (OSError, ValueError) as error:  # a ValueError: neither TOML nor UTF-8
            raise ConfigurationError(f"the settings file {path} can't be read: {error}") from error
        in_environment = {name for name in from_file if f"MRQ_{name.upper()}" in os.environ}
        merged = {name: value for name, value in from_file.items() if name not in in_environment} | given
        try:
            return cls(**merged)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
            raise ConfigurationError("wrong settings: " + "; ".join(lines)) from None

    def service_name(self) -> str:
        """Return this process's name as a master or worker."""
        return self.name or f"{socket.gethostname()}-{os.getpid()}"


def split_address(address: str) -> tuple[str, int]:
    """Take ``host:port`` apart.

    Raises:
        ValueError: it has another form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not of the form host:port")
    return host.strip("[]"), int(port)
