"""Signed bytes: nothing that was changed, moved, cut or signed by somebody else gets through."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mrq.blob import DIGEST_SIZE, KEY_SIZE, Signer, new_key
from mrq.errors import BadMessage, BadSignature

KEY = bytes(range(KEY_SIZE))
signer = Signer(KEY, "job_7")

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
payloads = st.binary(max_size=200)


@given(words, words, payloads)
def test_what_was_sealed_is_opened_at_its_place(role: str, place: str, payload: bytes) -> None:
    """Byte for byte."""
    assert signer.open(role, place, signer.seal(role, place, payload)) == payload


@given(payloads, st.integers(0))
def test_a_blob_with_any_bit_flipped_is_refused(payload: bytes, bit: int) -> None:
    """In the digest, or in the payload."""
    blob = bytearray(signer.seal("map", "3", payload))
    bit %= len(blob) * 8
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadSignature):
        signer.open("map", "3", bytes(blob))


@given(payloads, st.integers(0))
def test_a_blob_that_was_cut_is_refused(payload: bytes, length: int) -> None:
    """Wherever, also within the digest."""
    blob = signer.seal("map", "3", payload)
    with pytest.raises(BadSignature):
        signer.open("map", "3", blob[: length % len(blob)])


@given(payloads, st.binary(min_size=1, max_size=50))
def test_a_blob_that_has_grown_is_refused(payload: bytes, more: bytes) -> None:
    """At its end, and at its beginning."""
    blob = signer.seal("map", "3", payload)
    for grown in (blob + more, more + blob):
        with pytest.raises(BadSignature):
            signer.open("map", "3", grown)


Where = tuple[str, str, str]


@given(st.tuples(words, words, words), st.tuples(words, words, words), payloads)
def test_a_blob_that_was_moved_is_refused(there: Where, here: Where, payload: bytes) -> None:
    """To another job, role or place, also where they read the same when joined."""
    assume(there != here)
    blob = Signer(KEY, there[0]).seal(there[1], there[2], payload)
    with pytest.raises(BadSignature):
        Signer(KEY, here[0]).open(here[1], here[2], blob)


@pytest.mark.parametrize("here", [("job_", "7map", "3"), ("job_7m", "ap", "3"), ("job_7", "map3", "")])
def test_names_that_read_the_same_when_joined_are_different_places(here: Where) -> None:
    """Each part is signed with its length."""
    blob = signer.seal("map", "3", b"payload")
    with pytest.raises(BadSignature):
        Signer(KEY, here[0]).open(here[1], here[2], blob)


@given(st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE), payloads)
def test_a_blob_of_another_key_is_refused(key: bytes, payload: bytes) -> None:
    """Each job has its own."""
    assume(key != KEY)
    with pytest.raises(BadSignature):
        signer.open("map", "3", Signer(key, "job_7").seal("map", "3", payload))


@given(st.binary(max_size=100))
def test_bytes_that_nobody_signed_are_refused(blob: bytes) -> None:
    """Of any length."""
    with pytest.raises(BadSignature):
        signer.open("map", "3", blob)


def test_the_refusal_says_which_file_it_is_and_what_may_have_happened() -> None:
    """And it is a bad message, for those who catch that."""
    with pytest.raises(
        BadMessage, match=r"job_7: the file for map 3 is not signed .* damaged, moved, or written by"
    ):
        signer.open("map", "3", b"\0" * 100)


def test_a_view_of_a_payload_is_signed_like_its_bytes() -> None:
    """So that large frames need not be copied."""
    digest = signer.digest("map", "3", b"payload")
    assert len(digest) == DIGEST_SIZE
    signer.verify("map", "3", memoryview(b"payload"), memoryview(digest))


def test_each_job_gets_a_key_of_its_own() -> None:
    """A random one."""
    assert len({new_key() for _ in range(100)}) == 100
    assert {len(new_key())} == {KEY_SIZE}
