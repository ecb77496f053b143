"""Signed bytes: nothing from the store is unpickled unless the job's key vouches for it.

A digest is ``blake2b(key=…)`` (RFC 7693, keyed) over the job, the role, the place and the length, then the payload;
so a blob that was flipped, forged, or moved to another job, role or place does not verify.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from mrq.errors import BadSignature

DIGEST_SIZE = 32
KEY_SIZE = 32


def new_key() -> bytes:
    """Return a random key for a new job."""
    return secrets.token_bytes(KEY_SIZE)


class Signer:
    """Signs and verifies one job's bytes.

    Args:
        key: the job's secret, `KEY_SIZE` bytes.
        job_id: the job.
    """

    def __init__(self, key: bytes, job_id: str) -> None:
        self._key = key
        self.job_id = job_id

    def digest(self, role: str, place: str, payload: bytes | memoryview) -> bytes:
        """Return the keyed digest of a payload at its place (``role`` as in ``"map"``, ``place`` as in ``"3/0/1"``)."""
        mac = hashlib.blake2b(key=self._key, digest_size=DIGEST_SIZE)
        for part in (self.job_id, role, place, str(len(payload))):
            encoded = part.encode()
            mac.update(len(encoded).to_bytes(4, "big") + encoded)
        mac.update(payload)
        return mac.digest()

    def verify(
        self, role: str, place: str, payload: bytes | memoryview, digest: bytes | memoryview, what: str = ""
    ) -> None:
        """Check a payload against its digest; ``what`` is what the error calls it.

        Raises:
            BadSignature: they do not belong together.
        """
        if not hmac.compare_digest(self.digest(role, place, payload), bytes(digest)):
            what = what or f"the file for {role} {place}".rstrip()
            raise BadSignature(
                f"{self.job_id}: {what} is not signed with the job's key: it was damaged, moved, or written by "
                "somebody else; submit the job again, and see who else can write to the store"
            )

    def seal(self, role: str, place: str, payload: bytes) -> bytes:
        """Return digest and payload in one blob."""
        return self.digest(role, place, payload) + payload

    def open(self, role: str, place: str, blob: bytes) -> bytes:
        """Take a sealed blob's payload out.

        Raises:
            BadSignature: too short, or the digest is wrong.
        """
        digest, payload = blob[:DIGEST_SIZE], blob[DIGEST_SIZE:]
        self.verify(role, place, payload, digest)
        return payload
