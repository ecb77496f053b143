"""Who may do what with a node: ZooKeeper's digest ACLs as plain data.

ZooKeeper keeps no list of users. A session says ``name:password``, and a node's ACL names the digests that it admits
(ZooKeeper Programmer's Guide, "ZooKeeper access control using ACLs"). A tree is *guarded* once it has a node `GUARD`;
then a new node's creator may do everything with it, and so may others:

* what the template of its folder says: the node ``/acl<folder>``, which holds `Rights`;
* where there is none, those who may with the node above, and the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kazoo.security import ACL, Id, Permissions, make_digest_acl_credential

from mrq.errors import BadMessage

GUARD = "/acl"
"""The node whose presence says that the tree is guarded; templates are below."""

Rights = Mapping[str, str]
"""By digest id, the permissions, each a letter of `ALL`."""

ALL = "cdrwa"
"""Create and delete children, read, write, administer (change the ACL)."""

_BITS = {
    "c": Permissions.CREATE,
    "d": Permissions.DELETE,
    "r": Permissions.READ,
    "w": Permissions.WRITE,
    "a": Permissions.ADMIN,
}


def digest(username: str, password: str) -> str:
    """Return what an ACL calls a login: ``name:base64(sha1(name:password))``."""
    return str(make_digest_acl_credential(username, password))


def template_of(folder: str) -> str:
    """Return the path of the rights of what is created in a folder."""
    return GUARD + folder


def encode_rights(rights: Rights) -> bytes:
    """Return rights as a template holds them."""
    return json.dumps(dict(rights), sort_keys=True).encode()


def decode_rights(data: bytes) -> dict[str, str]:
    """Read a template.

    Raises:
        BadMessage: it holds something else.
    """
    try:
        rights = json.loads(data)
        return {str(who): _known(letters) for who, letters in rights.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BadMessage(f"a template of rights below {GUARD} can't be read: {error}") from None


def _known(letters: str) -> str:
    return "".join(letter for letter in ALL if letter in letters)


def to_acl(rights: Rights) -> list[Any]:
    """Return rights as kazoo takes them."""
    return [
        ACL(sum(_BITS[letter] for letter in letters), Id("digest", who))
        for who, letters in sorted(rights.items())
        if letters
    ]


def from_acl(acl: Iterable[Any]) -> dict[str, str]:
    """Return what kazoo gives as rights: those of logins, and not of ids that ZooKeeper has masked.

    It shows ``name:x`` in place of a digest to those who may not administer the node.
    """
    rights: dict[str, str] = {}
    for entry in acl:
        who = entry.id.id
        if entry.id.scheme == "digest" and not who.endswith(":x"):
            held = rights.get(who, "")
            rights[who] = "".join(letter for letter in ALL if letter in held or entry.perms & _BITS[letter])
    return rights
