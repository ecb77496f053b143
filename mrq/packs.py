"""Packs: small results of many map tasks in one file.

A job of ten thousand small tasks would make ten thousand files of a hundred bytes, each of which takes HDFS longer than
its task took. So a quick task's small result rides in its report even where the record has no room for all of a phase
(`mrq.inline`): the master holds such results for a while, writes them as a pack, and names the pack in the record.
What no pack holds yet when a master dies is made again, which is bounded by `due`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mrq import layout
from mrq.blob import Signer
from mrq.ports import Store
from mrq.records import Pack
from mrq.span import Readable
from mrq.wire import decode

RESULT_BYTES = 1024
"""How long a result may be that rides to a pack."""
PACK_BYTES = 4 * 2**20
MOST = 500
"""How many packs a record names at most; later results have files."""
SECONDS = 2.0
"""So much of each slot's work is worth a pack."""


def due(n_bytes: int, seconds: float, window: int) -> bool:
    """Return whether results that no pack holds yet are too much to lose, or to hold.

    Args:
        n_bytes: how long they are.
        seconds: for how long tasks ran to make them.
        window: how many of the job's tasks may be out at once.
    """
    return seconds > SECONDS * window or n_bytes > PACK_BYTES


def write(store: Store, signer: Signer, name: str, files: Mapping[str, str]) -> None:
    """Write a pack under a name that nothing was ever written under: it counts once the job's record names it."""
    body = Pack(job_id=signer.job_id, files=dict(files)).encode()
    store.write(layout.pack(signer.job_id, name), signer.seal("pack", name, body))


def read(store: Readable, signer: Signer, names: Iterable[str]) -> dict[str, str]:
    """Return what is in a job's packs, base64 by path.

    Raises:
        StoreNotFound: one is gone.
        BadMessage: one is damaged, or not the job's.
    """
    files: dict[str, str] = {}
    for name in names:
        files |= decode(Pack, signer.open("pack", name, store.read(layout.pack(signer.job_id, name)))).files
    return files
