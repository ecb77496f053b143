"""What somebody might send in place of our JSON: seeded damage to good messages and records."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

DEEP = 20_000
"""How deep the deepest values are nested; a message of 64 KiB is the longest that RabbitMQ takes."""


class Raw(str):
    """JSON text that `json` would not write."""


HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 0.5, 1e308, "", "x", "1", "-1", "map", "reduce",
    "job_0", "job_00", "job_-1", "job_1e3", "job_" + "9" * 30, "../../etc/passwd", "job_0/../job_1", "job_0/owner",
    "/jobs/job_0", "a\nb", "a\x00b", "\x1b[2J", "%s%n{0}", "ö\u202e", "x" * 5000, "x" * 60_000, [], {}, [[]], [None],
    {"v": 1}, ["job_0"], {"$ref": "#"}, list(range(500)),
    Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("-0"), Raw("1" + "0" * 400), Raw("9" * 5000),
    Raw('"\\ud800"'), Raw('"\\u0000"'), Raw("[" * DEEP + "]" * DEEP), Raw('{"a":' * DEEP + "1" + "}" * DEEP),
    Raw("[" * DEEP), Raw("01"), Raw("'x'"), Raw("undefined"), Raw("0x10"), Raw('"'), Raw(""), Raw("{"),
]  # fmt: skip
"""Values of fields: wrong types, wrong ranges, paths, control characters, numbers and depths that parsers choke on."""


class Fuzzer:
    """Damages good bodies, each time in another way; the same seed damages in the same ways."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)

    def damaged(self, body: bytes) -> bytes:
        """Return a body that differs from the good one."""
        while (bad := self.dice.choice(WAYS)(self, body)) == body:
            pass
        return bad

    # ------------------------------------------------------------ bytes

    def flipped(self, body: bytes) -> bytes:
        """Change up to eight bits."""
        changed = bytearray(body)
        for _ in range(self.dice.randint(1, 8)):
            changed[self.dice.randrange(len(changed))] ^= 1 << self.dice.randrange(8)
        return bytes(changed)

    def cut(self, body: bytes) -> bytes:
        """Leave out the end, the beginning, or a part."""
        start, end = sorted(self.dice.randrange(len(body) + 1) for _ in range(2))
        return self.dice.choice((body[:start], body[end:], body[:start] + body[end:]))

    def mixed(self, body: bytes) -> bytes:
        """Put something else in somewhere, that is no UTF-8 perhaps."""
        start, end = sorted(self.dice.randrange(len(body) + 1) for _ in range(2))
        return body[:start] + self.dice.randbytes(self.dice.randint(1, 12)) + body[end:]

    def other(self, body: bytes) -> bytes:
        """Return something else altogether."""
        return self.dice.choice(
            (
                b"", b"null", b"[]", b"{}", b"0", b'"x"', b"\xef\xbb\xbf" + body, body.decode().encode("utf-16"),
                body * 2, b"\x80\x04\x95", b"\x1f\x8b\x08", b"[" * DEEP, b'{"a":' * (DEEP // 2), b"[" + body,
                self.dice.randbytes(300),
            )
        )  # fmt: skip

    # ------------------------------------------------------------ fields

    def replaced(self, body: bytes) -> bytes:
        """Give some fields, nested ones too, hostile values."""
        message = json.loads(body)
        for _ in range(self.dice.randint(1, 2)):
            where = self._somewhere(message)
            where[self.dice.choice(list(where))] = self.dice.choice(HOSTILE)
        return _text(message)

    def removed(self, body: bytes) -> bytes:
        """Leave a field out."""
        message = json.loads(body)
        where = self._somewhere(message)
        del where[self.dice.choice(list(where))]
        return _text(message)

    def doubled(self, body: bytes) -> bytes:
        """Say a field twice."""
        name = self.dice.choice(list(json.loads(body)))
        more = f"{json.dumps(name)}:{_text(self.dice.choice(HOSTILE)).decode()}"
        return b"{" + more.encode() + b"," + body[1:]

    def of_another_version(self, body: bytes) -> bytes:
        """Claim to be from the past, or the future."""
        return _text(
            json.loads(body)
            | {"v": self.dice.choice((0, 2, 3, -1, 99, "1", "2", None, 1.5, [1], Raw("1e999")))}
        )

    def _somewhere(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return an object in the message that has fields."""
        found, at = [], [message]
        while at:
            value = at.pop()
            if isinstance(value, dict):
                found += [value] * bool(value)
                at += value.values()
            elif isinstance(value, list):
                at += value
        return self.dice.choice(found)


Way = Callable[[Fuzzer, bytes], bytes]
WAYS: list[Way] = [
    Fuzzer.flipped, Fuzzer.cut, Fuzzer.mixed, Fuzzer.other, Fuzzer.replaced, Fuzzer.replaced, Fuzzer.replaced,
    Fuzzer.removed, Fuzzer.doubled, Fuzzer.of_another_version,
]  # fmt: skip


def _text(value: Any) -> bytes:
    """Write JSON, with `Raw` as it is."""
    if isinstance(value, Raw):
        text = str(value)
    elif isinstance(value, dict):
        text = "{" + ",".join(f"{json.dumps(k)}:{_text(v).decode()}" for k, v in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ",".join(_text(v).decode() for v in value) + "]"
    else:
        text = json.dumps(value)
    return text.encode()
