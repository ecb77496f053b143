"""Servers for the tests of RabbitMQ alone: the shared one, and one of our own that may be hurt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.broker_servers import RabbitMQKind
from tests.own_rabbitmq import OwnServer, own_rabbitmq


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_rabbitmq(tmp_path_factory.mktemp("rabbitmq") / "run") as server:
        yield server


@pytest.fixture
def own(own_server: OwnServer) -> Iterator[RabbitMQKind]:
    kind = RabbitMQKind(**own_server.settings, operation_timeout=5.0)
    yield kind
    kind.close()


@pytest.fixture
def kind() -> Iterator[RabbitMQKind]:
    """The shared server, below a prefix of the test's own."""
    kind = RabbitMQKind(operation_timeout=10.0, delivery_limit=3)
    yield kind
    kind.close()
