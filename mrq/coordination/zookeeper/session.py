"""A kazoo client with what kazoo leaves to its callers.

* A deadline. Each operation is tried again after a lost connection until its time is over, and for those whose
  session holds nothing also after a lost session. A lost reply leaves open whether the request was performed; an
  operation may even take effect after its deadline.
* Watches across a reconnect. kazoo drops all watches when the connection is lost; here each is called as soon
  as the same session is connected again, for changes may have gone by unseen. When the session is lost they
  end with it, uncalled: the listeners are told `Session.LOST`, then `Session.CONNECTED`.
* No early end. An error that kazoo does not expect ends its connection's thread; the next operation starts it
  anew.
* Quiet. kazoo's log would show every attempt to reconnect and, at level DEBUG, passwords and nodes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    OperationTimeoutError,
    RequestTimeoutError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import EventType, KazooState, KeeperState, WatchedEvent
from kazoo.security import CREATOR_ALL_ACL
from tenacity import Retrying, retry_if_exception_type, stop_before_delay, wait_random_exponential

from mrq.config import Settings
from mrq.coordination.callbacks import tell
from mrq.coordination.limits import parent
from mrq.errors import (
    AuthenticationFailed,
    CoordinationUnavailable,
    MrqError,
    NodeError,
    NodeExists,
    NodeMissing,
    SessionLost,
    VersionConflict,
)
from mrq.ports import Session, Watch

log = logging.getLogger(__name__)

Reply = TypeVar("Reply")

UNANSWERED = (ConnectionLoss, OperationTimeoutError, RequestTimeoutError, SessionMovedError, ThrottledOpError)
"""After these nobody knows whether the request was performed."""

_SESSIONS = {
    KazooState.CONNECTED: Session.CONNECTED,
    KazooState.SUSPENDED: Session.SUSPENDED,
    KazooState.LOST: Session.LOST,
}
_CLOSING = 3.0  # seconds that `close` waits for a server that does not answer


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on its way.

    Attributes:
        deadline: until when, on the monotonic clock.
        generation: in which session.
        zxid: the newest transaction that was known when it began.
    """

    deadline: float
    generation: int
    zxid: int

    def answer(self, result: Any) -> Any:
        """Wait for kazoo's asynchronous result, until the operation's deadline at most."""
        return result.get(timeout=max(0.0, self.deadline - time.monotonic()))


@dataclass(frozen=True, slots=True)
class _Watcher:
    """What kazoo gets as a watch; equal ones are kept once, so that polling with a watch piles up nothing."""

    session: ZooKeeperSession
    generation: int
    path: str
    watch: Watch

    def __call__(self, event: WatchedEvent) -> None:
        if event.type != EventType.NONE or self.session.revive(self):
            tell(self.watch, self.path)


class ZooKeeperSession:
    """A session that follows after the last one by itself. Thread-safe.

    Args:
        settings: where the servers are, who we are, and how long we wait.
        outlives: whether an operation that its session's end cut off is tried again in the next session. That is for
            those whose session holds nothing; for others, what they act for may be somebody else's by then.

    Attributes:
        unanswered: kazoo's errors after which nobody knows whether the request was performed, and it is tried again.
    """

    def __init__(self, settings: Settings, *, outlives: bool = False) -> None:
        self._outlives = outlives
        self.unanswered = (*UNANSWERED, SessionExpiredError) if outlives else UNANSWERED
        self._hosts = ",".join(settings.zookeeper_hosts)
        self._user = settings.username
        self._timeout = settings.operation_timeout
        self._changed = threading.Condition()
        self._state = Session.SUSPENDED
        self._generation = 0
        self._closed = False
        self._listeners: list[Callable[[Session], None]] = []
        self._missed: list[_Watcher] = []
        self.id = 0
        self.client = _make_client(settings)
        self.client.add_listener(self._told)
        self.client.start_async()

    def run(self, path: str, operation: Callable[[Call], Reply], timeout: float | None = None) -> Reply:
        """Try an operation until it is answered, its session is lost, or the time is over.

        Args:
            path: the node that it is about, for the errors.
            operation: sends requests and waits with `Call.answer`; it raises kazoo's errors.
            timeout: seconds, by default ``operation_timeout``.
        """
        seconds = timeout or self._timeout
        call = Call(time.monotonic() + seconds, self._generation, self.client.last_zxid)
        retrying = Retrying(
            retry=retry_if_exception_type(self.unanswered),
            stop=stop_before_delay(seconds),
            wait=wait_random_exponential(multiplier=0.02, max=1),
            reraise=True,
        )
        try:
            reply: Reply = retrying(self._attempt, call, operation)
            return reply
        except (KazooException, KazooTimeoutError) as error:
            raise self._translate(error, path, seconds) from error

    def watcher(self, call: Call, path: str, watch: Watch | None) -> _Watcher | None:
        """Return what to give kazoo so that ``watch(path)`` is called."""
        return watch and _Watcher(self, call.generation, path, watch)

    def revive(self, watcher: _Watcher) -> bool:
        """Return whether a watch that kazoo dropped is to be called now, not after the reconnect or never."""
        with self._changed:
            if self._closed or watcher.generation != self._generation:
                return False
            if self._state is not Session.CONNECTED:
                self._missed.append(watcher)
                return False
            return True

    def add_listener(self, listener: Callable[[Session], None]) -> None:
        """Have changes of the state told, on kazoo's connection thread."""
        with self._changed:
            self._listeners.append(listener)

    def close(self) -> None:
        """End the session; a server that does not answer is left to find out by itself."""
        with self._changed:
            closed, self._closed = self._closed, True
            self._changed.notify_all()
        if not closed:
            # kazoo waits ten seconds and more for a server that has the connection open but does not answer.
            stopping = threading.Thread(
                target=_stop, args=(self.client,), name="zookeeper-close", daemon=True
            )
            stopping.start()
            stopping.join(_CLOSING)

    def _told(self, state: str) -> None:
        """Take a change of state from kazoo, on its connection's thread."""
        with self._changed:
            if self._closed:
                return
            self._state = now = _SESSIONS[state]
            missed: list[_Watcher] = []
            if now is Session.LOST:
                self._generation += 1
                self._missed.clear()
            elif now is Session.CONNECTED:
                self.id = self.client.client_id[0]
                missed, self._missed = self._missed, missed
            self._changed.notify_all()
            listeners = list(self._listeners)
        log.info("the session with ZooKeeper at %s is %s", self._hosts, now.value)
        for listener in listeners:
            tell(listener, now)
        for watcher in missed:
            tell(watcher.watch, watcher.path)

    def _attempt(self, call: Call, operation: Callable[[Call], Reply]) -> Reply:
        self._restart()
        with self._changed:
            settled = self._changed.wait_for(self._settled, call.deadline - time.monotonic())
            if self._closed:
                raise ConnectionClosedError
            if self._generation != call.generation:
                if not self._outlives:
                    raise SessionExpiredError
                call = replace(call, generation=self._generation)
            if not settled:
                raise KazooTimeoutError
        return operation(call)

    def _restart(self) -> None:
        with self._changed:
            lost = self._state is Session.LOST and self.client.client_state == KeeperState.CLOSED
            if self._closed or not lost:
                return
            self._state = Session.SUSPENDED
        self.client.start_async()

    def _settled(self) -> bool:
        # kazoo knows of a lost connection a little before its listeners are told.
        return self._closed or (self._state is Session.CONNECTED and self.client.connected)

    def _translate(self, error: Exception, path: str, seconds: float) -> MrqError:
        match error:
            case NodeExistsError():
                return NodeExists(f"the node {path} is there already")
            case NoNodeError():
                return NodeMissing(f"the node {path} is not there")
            case BadVersionError():
                return VersionConflict(f"the node {path} was written by somebody else since it was read")
            case NoChildrenForEphemeralsError():
                return NodeError(f"{path} can't be created below {parent(path)}: that is ephemeral")
            case NoAuthError() | AuthFailedError():
                return AuthenticationFailed(
                    f"ZooKeeper at {self._hosts} refuses the node {path} to {self._user!r}: the password is "
                    "wrong, the user was deleted, or this is not for that user to do"
                )
            case ConnectionClosedError():
                return CoordinationUnavailable(f"the session is closed: {path} can't be looked at")
            case SessionExpiredError() if not self._outlives:
                return SessionLost(f"the session expired before an answer about {path} came")
        if isinstance(error, (KazooTimeoutError, *self.unanswered)):
            return CoordinationUnavailable(
                f"ZooKeeper at {self._hosts} gave no answer about {path} within {seconds:g} s"
            )
        return NodeError(f"ZooKeeper refused what was asked of {path}: {error!r}")


def _make_client(settings: Settings) -> KazooClient:
    logger = logging.getLogger("mrq.coordination.kazoo")
    logger.setLevel(logging.ERROR)
    return KazooClient(
        hosts=",".join(settings.zookeeper_hosts),
        timeout=settings.zookeeper_session_timeout,
        auth_data=[("digest", f"{settings.username}:{settings.password.get_secret_value()}")],
        default_acl=CREATOR_ALL_ACL,
        # kazoo's own pause between attempts grows to an hour.
        connection_retry={"max_tries": -1, "delay": 0.1, "max_delay": 1.0},
        logger=logger,
        use_ssl=settings.tls,
        check_hostname=settings.tls,
        ca=settings.tls_ca_file and str(settings.tls_ca_file),
    )


def _stop(client: KazooClient) -> None:
    try:
        client.stop()
        client.close()
    except Exception:
        log.warning("ZooKeeper's client did not stop cleanly", exc_info=True)
