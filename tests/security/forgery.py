"""Files of jobs as somebody else would have them, who can write to the store but has no job's key."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from random import Random
from typing import Any

from mrq.blob import Signer, new_key
from mrq.segment import SegmentWriter

ROLES = {"input": "input", "map_results": "map", "shuffle_results": "shuffle", "reduce_results": "reduce"}


class Trace:
    """Its unpickling creates a folder: so it shows whether anything of a pickle was loaded.

    Args:
        path: of that folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def forged(name: str, job_id: str, trace: Trace, length: int = 0) -> bytes:
    """Return a file that is right in every way, but was signed with another key; what it holds leaves a trace.

    Args:
        name: below the job's folder, as in ``map_results/1``.
        job_id: the job.
        trace: what it holds.
        length: of the file, if it is a segment and this can be.
    """
    signer = Signer(new_key(), job_id)
    folder, _, index = name.partition("/")
    if folder not in ROLES:
        return signer.seal(folder, "", pickle.dumps(trace))
    filler = Random(0).randbytes(length)
    for n in range(length + 1):
        writer = SegmentWriter(signer, ROLES[folder], index or 0, 2**16)
        data = b"".join(writer.file([[trace, filler[:n]]]))
        if len(data) >= length:
            break
    return data


def alterations(data: bytes, *, places: int = 8) -> dict[str, bytes]:
    """Return damaged forms of a file that none can be read in, by what was done."""
    altered = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "cut at its end": data[:-1],
        "cut at its beginning": data[1:],
    }
    for place in {number * (len(data) - 1) // (places - 1) for number in range(places)}:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        altered[f"byte {place} flipped"] = bytes(changed)
    return altered
