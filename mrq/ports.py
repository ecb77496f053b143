"""What mrq needs from the world: a store, a coordination service and a broker.

Each has two adapters, an embedded and a real one, and one contract suite (`tests/contract`) runs over both.
Callbacks (watches, listeners, handlers) come on the adapter's own threads and must only enqueue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One entry of a folder: its name (no path), its length in bytes, and whether it is a folder.

    Attributes:
        modified: when it was last written, in seconds since the epoch by the store's clock; 0 when it does not tell.
    """

    name: str
    length: int
    is_dir: bool = False
    modified: float = field(default=0.0, compare=False)


class Store(Protocol):
    """Files: big, written once, moved by rename. Paths are relative, ``/``-separated, without ``..``.

    Every method raises `StoreUnavailable` when the store does not answer by the deadline, `StoreFull` when it
    has no space left, and `StoreError` for any other refusal.
    """

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """Create or replace a file, with its parent folders; return its length in bytes."""

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return ``length`` bytes from ``offset`` (to the end for None; fewer at the end of the file).

        Raises:
            StoreNotFound: there is no such file.
        """

    def rename(self, source: str, target: str) -> bool:
        """Move a file to a name that must be free: the first to come wins.

        Returns:
            True when the source now is the target, also when the reply of the move was lost, or when the source
            is gone and the target is there; False when the target was there before (the source stays).

        Raises:
            StoreNotFound: neither source nor target is there.
        """

    def status(self, path: str) -> FileStatus | None:
        """Return what is at the path, or None."""

    def list(self, path: str) -> list[FileStatus]:
        """Return a folder's entries sorted by name; none for a folder that is not there."""

    def make_dirs(self, path: str) -> None:
        """Create a folder and its parents; nothing happens when it is there."""

    def delete(self, path: str) -> bool:
        """Remove a file, or a folder with all that is in it; return whether it was there."""

    def ping(self) -> None:
        """Find out whether the store answers, and lets us in, by the deadline for connecting.

        Raises:
            AuthenticationFailed: it does not let us in.
        """

    def close(self) -> None:
        """Let go of connections; other threads' calls fail with `StoreUnavailable`."""


class Session(Enum):
    """The state of a coordination session."""

    CONNECTED = "connected"  # all is well, perhaps again
    SUSPENDED = "suspended"  # no connection: what the session owns may or may not still be its own
    LOST = "lost"  # expired: its ephemeral nodes are gone; a new session follows by itself


@dataclass(frozen=True, slots=True)
class Node:
    """A node's content.

    Attributes:
        data: its bytes.
        version: counts its writes; `Coordination.set` compares it.
        czxid: the transaction that created it: grows with every change of the tree, so it serves as an epoch.
        mine: whether it is ephemeral and belongs to this session.
        created, modified: when, in seconds since the epoch by the server's clock; 0 when it does not tell.
    """

    data: bytes
    version: int
    czxid: int
    mine: bool = False
    created: float = field(default=0.0, compare=False)
    modified: float = field(default=0.0, compare=False)


Watch = Callable[[str], None]


class Coordination(Protocol):
    """A tree of small nodes with versions, sessions and one-shot watches, as ZooKeeper has.

    Paths begin with ``/`` and are below the adapter's root. A watch may also be called when nothing has changed,
    after a reconnect; the same function on the same path is kept, and called, once. Reads may lag behind other
    sessions' writes by a moment.

    Every method raises `CoordinationUnavailable` when no answer comes by the deadline, and `SessionLost` when the
    session expired during the call.
    """

    def create(self, path: str, data: bytes, *, ephemeral: bool = False, parents: bool = True) -> Node:
        """Create a node; ``parents``: with those above it that lack.

        Raises:
            NodeMissing: the node above it is not there, and ``parents`` is False.
            NodeExists: it is there already (and not by this very call, whose reply was lost).
        """

    def get(self, path: str, watch: Watch | None = None) -> Node | None:
        """Return a node, or None; ``watch(path)`` is called once, when it is created, written or deleted."""

    def set(self, path: str, data: bytes, version: int = -1) -> int:
        """Write a node if its version still is ``version`` (-1: whatever it is); return the new version.

        Raises:
            VersionConflict: somebody wrote it since (or this call's own reply was lost: read and compare).
            NodeMissing: it is not there.
        """

    def delete(self, path: str) -> bool:
        """Remove a node and all below it; return whether it was there."""

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        """Return the names of a node's children, sorted; none for a node that is not there.

        ``watch(path)`` is called once, when a child is created or deleted (also when the node itself is).
        """

    def sync(self) -> None:
        """Have what this session reads from now on hold all that anybody wrote before this call."""

    def add_listener(self, listener: Callable[[Session], None]) -> None:
        """Have changes of the session's state told; the watches of a session end with it."""

    def close(self) -> None:
        """End the session at once: its ephemeral nodes go with it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the management UI shows it.

    Attributes:
        exchange: where it is published.
        routing_key: for tasks ``<phase>.<job>``, for reports the job.
        type: what the body is, as in ``"task"``.
        body: JSON.
        message_id: the task, as in ``"job_7/map/3"``.
        correlation_id: the job.
        headers: what a person looks for, as in epoch and attempt.
        mandatory: whether a message that no queue takes is an error.
        priority: 0, or above 4 to be taken before others, where the broker can (RabbitMQ 4.0 and later).
    """

    exchange: str
    routing_key: str
    type: str
    body: bytes
    message_id: str = ""
    correlation_id: str = ""
    headers: Mapping[str, str | int] = field(default_factory=dict)
    mandatory: bool = False
    priority: int = 0


class Delivery(Protocol):
    """A message on loan: another consumer gets it when this one's connection ends before the ack."""

    @property
    def message(self) -> Message:
        """What was published."""

    @property
    def queue(self) -> str:
        """The queue that it came from."""

    @property
    def delivery_count(self) -> int:
        """How often it was delivered before (0 the first time)."""

    def ack(self) -> None:
        """Be done with it. Thread-safe; does nothing after the channel that delivered it has ended."""

    def reject(self, *, requeue: bool) -> None:
        """Give it back to the queue, or to the dead letters. Thread-safe, like `ack`."""


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue's messages that wait, messages that are with a consumer, and consumers (-1: not known)."""

    ready: int
    unacked: int
    consumers: int


class Subscription(Protocol):
    """A private queue that ends with its connection; it is declared and bound anew after each reconnect."""

    def bind(self, exchange: str, routing_key: str) -> None:
        """Have messages of that key too; returns when the broker has it, or raises `BrokerUnavailable`."""

    def unbind(self, exchange: str, routing_key: str) -> None:
        """Undo `bind`."""


Handler = Callable[[Delivery], None]


class Broker(Protocol):
    """Durable queues and exchanges of `mrq.broker.topology`, declared by the adapter, at each reconnect anew."""

    def publish(self, messages: Sequence[Message]) -> Future[None]:
        """Send messages; the future ends when the broker has confirmed every one.

        The future raises `BrokerUnavailable` when the deadline passes first, `Unroutable` when a mandatory
        message was returned after the topology had been declared once more. Thread-safe; never blocks for long.
        """

    def consume(self, queue: str, prefetch: int, handler: Handler) -> None:
        """Take deliveries of a queue, at most ``prefetch`` unacked at a time.

        It is taken up again after a reconnect, a cancelled consumer or a closed channel.

        Raises:
            AuthenticationFailed: the login may not consume it.
        """

    def subscribe(self, handler: Handler, prefetch: int = 1000) -> Subscription:
        """Open a private queue; its deliveries need an ack too."""

    def stop_consuming(self) -> None:
        """Take no new delivery of a durable queue; what is on loan can still be acked, and private queues go on."""

    def refresh(self) -> None:
        """Have consumers of durable queues taken up again that are idle: the broker may have forgotten them.

        Nothing is lost by it, nor comes twice. Thread-safe; does not block.
        """

    def depths(self) -> dict[str, Depth]:
        """Return the depth of each durable queue, by its short name: map, shuffle, reduce, dead.

        Raises:
            BrokerUnavailable: no answer by the deadline.
        """

    def borrow(self, queue: str, limit: int) -> list[Delivery]:
        """Take up to ``limit`` messages that wait in a queue, in order, without becoming its consumer.

        Nobody else sees them before they are rejected with ``requeue=True``, or the connection is closed. Each loan
        counts as a delivery.

        Raises:
            AuthenticationFailed: the login may not read the queue.
            BrokerUnavailable: no answer by the deadline.
        """

    def healthy(self) -> bool:
        """Whether the connection is open and every consumer asked for is registered."""

    def close(self) -> None:
        """End the connection; what is on loan goes back to its queue."""
