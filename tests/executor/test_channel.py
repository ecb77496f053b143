"""Bodies in a stream of bytes, and sockets that travel with them."""

from __future__ import annotations

import socket

import pytest

from mrq.errors import BadMessage
from mrq.executor.channel import LIMIT, Inbox, Outbox, frame, receive


def test_bodies_are_found_however_the_stream_is_cut() -> None:
    """Byte by byte gives the same as all at once, empty bodies included."""
    bodies = [b"one", b"", b"x" * 1000]
    stream = b"".join(map(frame, bodies))
    assert Inbox().feed(stream) == bodies
    inbox = Inbox()
    assert [body for byte in stream for body in inbox.feed(bytes([byte]))] == bodies


def test_a_body_beyond_the_limit_is_refused_before_it_is_read() -> None:
    """The announcement is enough."""
    assert Inbox().feed(frame(bytes(LIMIT))) == [bytes(LIMIT)]
    with pytest.raises(BadMessage, match="at most"):
        Inbox().feed((LIMIT + 1).to_bytes(4, "big"))


def test_an_outbox_sends_what_a_full_socket_would_not_take() -> None:
    """More than the socket's buffer arrives whole and in order, once it is read."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        outbox, bodies = Outbox(), [bytes([n]) * 100_000 for n in range(20)]
        for body in bodies:
            outbox.put(body)
        assert not outbox.flush(ours)
        inbox, received = Inbox(), list[bytes]()
        while len(received) < len(bodies):
            received += inbox.feed(theirs.recv(2**16))
            outbox.flush(ours)
        assert received == bodies


def test_a_socket_travels_with_its_body_and_is_closed_here() -> None:
    """The other end gets a working copy."""
    ours, theirs = socket.socketpair()
    passed, peer = socket.socketpair()
    with ours, theirs, peer:
        outbox = Outbox()
        outbox.put(b"take this", (passed,))
        assert outbox.flush(ours)
        assert passed.fileno() == -1
        data, numbers, _, _ = socket.recv_fds(theirs, 100, 4)
        assert data == frame(b"take this")
        with socket.socket(fileno=numbers[0]) as arrived:
            arrived.sendall(b"hello")
        assert peer.recv(5) == b"hello"


def test_a_closed_channel_is_none_even_in_the_middle_of_a_body() -> None:
    """The child ends when the worker does."""
    for last_words in (b"", b"\0", frame(b"cut off")[:-1]):
        ours, theirs = socket.socketpair()
        with theirs:
            ours.sendall(frame(b"whole") + last_words)
            ours.close()
            assert receive(theirs) == b"whole"
            assert receive(theirs) is None
