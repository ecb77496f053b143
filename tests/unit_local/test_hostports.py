"""Which ports are taken."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.errors import ConfigurationError, Unavailable
from mrq.local.hostports import any_free, choose_ports, is_free

DEFAULTS = {"amqp": 5672, "management": 15672}


def test_the_preferred_are_taken_while_they_are_free() -> None:
    assert choose_ports(DEFAULTS, {}, free=lambda port: True) == DEFAULTS


def test_one_that_is_taken_is_replaced() -> None:
    chosen = choose_ports(DEFAULTS, {}, free=lambda port: port != 5672, another=lambda: 4000)
    assert chosen == {"amqp": 4000, "management": 15672}


def test_a_given_one_is_kept_from_the_others() -> None:
    chosen = choose_ports(DEFAULTS, {"management": 5672}, free=lambda port: True, another=lambda: 4000)
    assert chosen == {"amqp": 4000, "management": 5672}


def test_a_given_one_that_is_taken_is_refused_by_name() -> None:
    with pytest.raises(Unavailable, match="port 7 for amqp"):
        choose_ports(DEFAULTS, {"amqp": 7}, free=lambda port: False)


@pytest.mark.parametrize(
    "given_ones", [{"web": 80}, {"amqp": 0}, {"amqp": 70000}, {"amqp": 1, "management": 1}]
)
def test_ports_that_can_not_be_are_refused(given_ones: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        choose_ports(DEFAULTS, given_ones, free=lambda port: True)


@given(st.sets(st.integers(1, 12)), st.permutations(range(1, 13)))
def test_no_two_services_share_a_port_and_none_is_taken(taken: set[int], others: list[int]) -> None:
    ports = choose_ports(
        {"a": 1, "b": 1, "c": 2},
        {},
        free=lambda port: port not in taken,
        another=iter([*others, *range(20, 30)]).__next__,
    )
    assert len(set(ports.values())) == 3
    assert not taken & set(ports.values())


def test_a_port_somebody_listens_on_is_not_free() -> None:
    port = any_free()
    assert is_free(port)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert not is_free(port)
