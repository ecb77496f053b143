"""Which ports of 127.0.0.1 a cluster's services are published on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from mrq.errors import ConfigurationError, Unavailable

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether somebody could listen on a port just now."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a port in TIME_WAIT is free for a server
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def any_free() -> int:
    """Return a port that is free just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def choose_ports(
    preferred: Mapping[str, int],
    given: Mapping[str, int],
    *,
    free: Callable[[int], bool] = is_free,
    another: Callable[[], int] = any_free,
) -> dict[str, int]:
    """Return a port for each name: the given one, the preferred one if it is free, else any.

    Args:
        preferred: a port by name: the defaults, or those of the last time.
        given: what the user insists on.
        free: tells whether a port is free.
        another: returns a free port.

    Raises:
        ConfigurationError: a given name is unknown, or a port no port.
        Unavailable: a given port is taken.
    """
    unknown = sorted(given.keys() - preferred.keys())
    if unknown:
        raise ConfigurationError(f"no port is called {', '.join(unknown)}; there are {', '.join(preferred)}")
    for name, port in given.items():
        if not isinstance(port, int) or not 0 < port < 65536:
            raise ConfigurationError(
                f"the port of {name} must be a whole number from 1 to 65535, not {port!r}"
            )
        if not free(port):
            raise Unavailable(f"port {port} for {name} is taken by another process; give another, or none")
    if len(set(given.values())) < len(given):
        raise ConfigurationError(f"two services can't share a port: {dict(given)}")
    chosen = dict(given)
    for name, port in preferred.items():
        if name in chosen:
            continue
        while port in chosen.values() or not free(port):
            port = another()
        chosen[name] = port
    return {name: chosen[name] for name in preferred}
