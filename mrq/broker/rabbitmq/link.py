"""A connection to RabbitMQ that comes back by itself, with the topology declared each time."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pika
from pika.exceptions import ProbableAccessDeniedError, ProbableAuthenticationError

from mrq.broker.rabbitmq.declare import Declaration
from mrq.broker.rabbitmq.frames import Connection
from mrq.broker.rabbitmq.loop import Backoff, IOThread, guarded
from mrq.broker.topology import Topology
from mrq.config import Settings, split_address
from mrq.errors import AuthenticationFailed, BrokerUnavailable, ConfigurationError, MrqError

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 2.0
"""How long the broker may take to answer a close: one that blocks publishers reads nothing."""

SETTLE_SECONDS = 0.5
"""How long a queue that is gone stays gone: RabbitMQ cancels the consumers of a deleted queue some 40 ms later. When
the queue is there again by then, it keeps them instead, and never delivers to them (seen with 3.10); for the case that
somebody else declares it sooner there is `Consumer.refresh`."""

HOPELESS_SECONDS = 30.0
"""How long to wait after a refusal that only a person can mend."""


class Link:
    """One supervised connection. Everything but `started` and `ready` is for the I/O thread only.

    Attributes:
        started: ends when the link is up for the first time; fails when only a person can help.
        ready: whether the connection is open and the topology declared.
        blocked: why the broker blocks publishers, or None.
        last_error: why there was no connection at the last attempt.
    """

    def __init__(self, thread: IOThread, settings: Settings, topology: Topology, purpose: str) -> None:
        self._thread = thread
        self._settings = settings
        self._topology = topology
        self._purpose = purpose
        self._connection: Any = None
        self._hosts = [
            (address, parameters(settings, address, purpose)) for address in settings.rabbitmq_hosts
        ]
        self._attempt = 0
        self._told = ""
        self._backoff = Backoff()
        self._closing = False
        self._up: list[Callable[[Connection], None]] = []
        self._down: list[Callable[[], None]] = []
        self._unblocked: list[Callable[[], None]] = []
        self._waiting: list[Callable[[Connection], None]] = []
        self._closed: Callable[[], None] | None = None
        self.started: Future[None] = Future()
        self.ready = False
        self.blocked: str | None = None
        self.last_error: Exception | None = None

    def add_listeners(self, up: Callable[[Connection], None], down: Callable[[], None]) -> None:
        """Have ``up(connection)`` and ``down()`` called whenever the link comes and goes."""
        self._up.append(up)
        self._down.append(down)

    def add_unblocked_listener(self, unblocked: Callable[[], None]) -> None:
        """Have ``unblocked()`` called when the broker takes messages again."""
        self._unblocked.append(unblocked)

    def when_ready(self, function: Callable[[Connection], None]) -> None:
        """Call a function with the connection now, or once, when the link is up."""
        connection = self.usable()
        if connection is not None:
            guarded(function)(connection)
        else:
            self._waiting.append(function)

    def redeclare(self, done: Callable[[MrqError | None], None]) -> None:
        """Declare the topology once more, a little later; ``done`` gets None, or why that failed."""
        self._thread.later(SETTLE_SECONDS, partial(self._redeclare, done))

    def _redeclare(self, done: Callable[[MrqError | None], None]) -> None:
        connection = self.usable()
        if connection is None:
            done(BrokerUnavailable(self.story()))
        else:
            Declaration(connection, self._topology, done)

    def usable(self) -> Connection | None:
        """Return the connection if it is open and the topology declared."""
        connection = self._connection
        # pika closes the channels of a lost connection before it tells of the loss.
        return connection if self.ready and connection is not None and connection.is_open else None

    def story(self) -> str:
        """Say in words how the connection is."""
        settings = self._settings
        where = f"RabbitMQ at {', '.join(settings.rabbitmq_hosts)} (vhost {settings.rabbitmq_vhost})"
        if self.ready and self.blocked is not None:
            return f"{where} blocks publishers because of an alarm: {self.blocked}"
        if self.ready:
            return f"{where} is connected"
        return f"{where} is not connected: {self.last_error or 'no answer yet'}"

    def unanswered(self, what: str, more: str = "") -> MrqError:
        """Return the error for what had no answer in time: a login that is refused now is the reason to tell."""
        refused = isinstance(self.last_error, AuthenticationFailed)
        story = f"{what}: {self.story()}; {more}".removesuffix("; ")
        return AuthenticationFailed(story) if refused else BrokerUnavailable(story)

    # --- connecting ---

    def dial(self) -> None:
        """Begin to connect, to one host after another."""
        if self._closing:
            return
        address, target = self._hosts[self._attempt % len(self._hosts)]
        self._attempt += 1
        try:
            self._connection = Connection(
                target,
                on_open_callback=guarded(self._opened),
                on_open_error_callback=guarded(partial(self._not_opened, address)),
                on_close_callback=guarded(self._lost),
                custom_ioloop=self._thread.loop,
            )
        except Exception as error:
            self._not_opened(address, None, error)

    def _not_opened(self, address: str, _connection: Any, error: BaseException) -> None:
        if self._closing:
            self._gone()
            return
        self._connection = None
        self.last_error = why = explain(self._settings, address, error)
        if isinstance(why, AuthenticationFailed):
            self._give_up_start(why)
        level = logging.DEBUG if str(why) == self._told else logging.WARNING
        self._told = str(why)
        log.log(level, "no connection to RabbitMQ for %s: %s", self._purpose, why)
        round_ended = self._attempt % len(self._hosts) == 0
        self._thread.later(self._backoff.next() if round_ended else 0, self.dial)

    def _give_up_start(self, error: MrqError) -> None:
        if not self.started.done():
            self.started.set_exception(error)

    def _opened(self, connection: Connection) -> None:
        if self._closing:
            connection.close()
            return
        connection.add_on_connection_blocked_callback(guarded(self._on_blocked))
        connection.add_on_connection_unblocked_callback(guarded(self._on_unblocked))
        self._declare(connection)

    def _declare(self, connection: Any) -> None:
        if connection is self._connection and connection.is_open:
            Declaration(connection, self._topology, partial(self._declared, connection))

    def _declared(self, connection: Any, error: MrqError | None) -> None:
        if connection is not self._connection or not connection.is_open:
            return
        if error is not None:
            self.last_error = error
            hopeless = isinstance(error, (ConfigurationError, AuthenticationFailed))
            if hopeless:
                self._give_up_start(error)
            log.error("%s", error)
            seconds = max(self._backoff.next(), HOPELESS_SECONDS if hopeless else 0)
            self._thread.later(seconds, partial(self._declare, connection))
            return
        self._backoff.reset()
        self.ready = True
        self.last_error, self._told = None, ""
        log.info("connected to RabbitMQ for %s", self._purpose)
        waiting, self._waiting = self._waiting, []
        for listener in [*self._up, *waiting]:
            guarded(listener)(connection)
        if not self.started.done():
            self.started.set_result(None)

    # --- being connected, and no more ---

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason)
        log.warning("%s", self.story())

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self.blocked = None
        log.warning("RabbitMQ takes messages again")
        for listener in self._unblocked:
            guarded(listener)()

    def _lost(self, connection: Connection, reason: Exception) -> None:
        if connection is not self._connection:
            return
        self._connection, self.ready, self.blocked = None, False, None
        self.last_error = reason
        for listener in self._down:
            guarded(listener)()
        if self._closing:
            self._gone()
        else:
            log.warning("lost the connection to RabbitMQ for %s: %s", self._purpose, reason)
            self._thread.later(self._backoff.next(), self.dial)

    # --- closing ---

    def close(self, closed: Callable[[], None]) -> None:
        """Close for good; ``closed()`` is called soon, also when the broker does not answer."""
        self._closing, self.ready, self._closed = True, False, closed
        connection = self._connection
        if connection is None or connection.is_closed:
            self._gone()
            return
        self._thread.later(GOODBYE_SECONDS, partial(self._hang_up, connection))
        # One that is about to open or to fail says so soon; pika trips over a close in that moment.
        if connection.is_open:
            connection.close()

    def _hang_up(self, connection: Any) -> None:
        if self._closed is None:
            return
        # The end of the connection follows in the loop's next round; if pika fails to tell it, we leave anyway.
        self._thread.later(0.2, self._gone)
        if not connection.is_closed:
            # pika has no public way to drop a connection whose peer does not answer.
            connection._terminate_stream(BrokerUnavailable("RabbitMQ did not answer the close"))

    def _gone(self) -> None:
        self._connection = None
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()


def parameters(settings: Settings, address: str, purpose: str) -> pika.ConnectionParameters:
    """Return what pika needs to know to connect to a host.

    Raises:
        ConfigurationError: the file of certificate authorities can't be read.
    """
    host, port = split_address(address)
    tls = None
    if settings.tls:
        try:
            context = ssl.create_default_context(cafile=settings.tls_ca_file)
        except OSError as error:
            raise ConfigurationError(f"tls_ca_file {settings.tls_ca_file} can't be used: {error}") from error
        tls = pika.SSLOptions(context, server_hostname=host)
    return pika.ConnectionParameters(
        host,
        port,
        settings.rabbitmq_vhost,
        pika.PlainCredentials(settings.username, settings.password.get_secret_value()),
        heartbeat=settings.rabbitmq_heartbeat,
        socket_timeout=min(5.0, settings.connect_timeout),
        stack_timeout=min(10.0, settings.connect_timeout),
        ssl_options=tls,
        client_properties={"connection_name": f"mrq {settings.service_name()} {purpose}"},
    )


def explain(settings: Settings, address: str, error: BaseException) -> MrqError:
    """Say why a host let no connection open."""
    text = cause(error)
    who = f"user {settings.username!r} on vhost {settings.rabbitmq_vhost!r}"
    # pika guesses both from where the handshake broke off, also when the server merely went away.
    if isinstance(error, ProbableAuthenticationError) and "(403)" in text:
        return AuthenticationFailed(f"RabbitMQ at {address} refused {who}: wrong username or password")
    if isinstance(error, ProbableAccessDeniedError) and "(530)" in text and "limit" not in text:
        return AuthenticationFailed(
            f"RabbitMQ at {address} refused {who}: there is no such vhost, or the user may not use it"
        )
    return BrokerUnavailable(f"{address}: {text}")


def cause(error: BaseException) -> str:
    """Return in words what is at the bottom of pika's nested errors."""
    inner: Any = error
    for _ in range(5):
        if getattr(inner, "exceptions", None):
            inner = inner.exceptions[-1]
        elif isinstance(getattr(inner, "exception", None), BaseException):
            inner = inner.exception
        elif len(inner.args) == 1 and isinstance(inner.args[0], BaseException):
            inner = inner.args[0]
    return str(inner) or repr(inner)
