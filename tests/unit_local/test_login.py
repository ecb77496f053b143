"""`mrq.Auth` at the cluster on this machine, while nobody answers."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrq import Auth, Settings
from mrq.errors import Unavailable
from mrq.local import variables
from mrq.local.hostports import any_free
from mrq.local.login import ELSEWHERE
from mrq.local.state import StateFile


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address where nobody listens, and a home without clusters."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MRQ_CONNECT_TIMEOUT", "0.3")
    monkeypatch.setenv("MRQ_OPERATION_TIMEOUT", "0.3")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def remember(name: str) -> dict[str, str]:
    values = variables.first(("admin", "secret"), {})
    values = variables.with_ports(values, {port: any_free() for port in variables.DEFAULT_PORTS})
    StateFile(name).write(values)
    return values


def test_before_the_first_start_a_login_is_the_admins_to_be(
    nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rabbitmq_hosts", "zookeeper_hosts"):
        monkeypatch.setattr(Settings.model_fields[name], "default", (nobody,))
    Settings.model_rebuild(force=True)
    try:
        assert Auth("admin", "admin").is_authenticated()
    finally:
        monkeypatch.undo()
        Settings.model_rebuild(force=True)


def test_while_the_cluster_is_down_its_admin_is_known() -> None:
    remember("mrq")
    assert Auth("admin", "secret").is_authenticated()
    assert not Auth("admin", "wrong").is_authenticated()
    assert not Auth("ann", "secret").is_authenticated()


def test_it_finds_the_cluster_that_it_belongs_to() -> None:
    auth = Auth("admin", "secret")
    auth.belongs_to("web")
    assert auth.settings.rabbitmq_hosts == ("127.0.0.1:5672",)
    values = remember("web")
    assert auth.settings.rabbitmq_hosts == (f"127.0.0.1:{values['MRQ_COMPOSE_AMQP_PORT']}",)
    assert auth.settings.username == auth.username == "admin"


def test_servers_that_were_named_are_asked_and_nothing_else(nobody: str) -> None:
    remember("mrq")
    named = Settings.load(rabbitmq_hosts=nobody, zookeeper_hosts=nobody)
    auth = Auth("admin", "secret", named)
    auth.belongs_to("mrq")
    with pytest.raises(Unavailable):
        auth.is_authenticated()
    assert auth.settings.rabbitmq_hosts == (nobody,)


def test_the_environment_names_servers_too(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_RABBITMQ_HOSTS", nobody)
    monkeypatch.setenv("MRQ_ZOOKEEPER_HOSTS", nobody)
    with pytest.raises(Unavailable):
        Auth("admin", "secret").is_authenticated()
