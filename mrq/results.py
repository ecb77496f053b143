"""Reading what a job has come to: its result by the manifest alone, or the exception that ended it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mrq import code, layout
from mrq.blob import Signer
from mrq.core.keys import sorted_by_key
from mrq.core.model import Phase
from mrq.errors import (
    BadMessage,
    BadSignature,
    JobError,
    PoisonTaskError,
    StoreFull,
    TaskError,
    TaskTimeoutError,
    VersionMismatch,
)
from mrq.ports import Store
from mrq.segment import SegmentReader
from mrq.wire import FailureRecord, JobRecord, Manifest, ManifestEntry, decode

READERS = 4
"""Reduce results read at once."""


def read_result(store: Store, signer: Signer, record: JobRecord) -> list[tuple[Any, Any]]:
    """Return a completed job's ``[(key, y), …]``, sorted by key.

    Raises:
        BadSignature: a file is not what the manifest, or the manifest not what the job's record, says.
        Unavailable: the store does not answer.
    """
    body = signer.open("manifest", "", store.read(layout.manifest(record.job_id)))
    if signer.digest("manifest", "", body).hex() != record.manifest_digest:
        raise BadSignature(f"{record.job_id}: the manifest is not the one that the job was completed with")
    manifest = decode(Manifest, body)
    with ThreadPoolExecutor(min(READERS, len(manifest.results)) or 1) as pool:
        parts = list(
            pool.map(lambda item: _read_part(store, signer, *item), list(enumerate(manifest.results)))
        )
    return parts[0] if len(parts) == 1 else sorted_by_key([pair for part in parts for pair in part])


def _read_part(store: Store, signer: Signer, index: int, entry: ManifestEntry) -> list[tuple[Any, Any]]:
    path = layout.result(signer.job_id, Phase.REDUCE, index)
    reader = SegmentReader(store, path, entry.length, signer, "reduce", str(index))
    if reader.summary.digest != entry.digest:
        raise BadSignature(f"{signer.job_id}: reduce result {index} is not the one in the manifest")
    return list(reader.partition(0))


def read_failure(store: Store, signer: Signer, record: JobRecord) -> BaseException:
    """Return the exception that a failed job's future raises."""
    failure = record.failure
    if failure is None:
        return JobError(f"{record.job_id} failed, and its record does not say why", job_id=record.job_id)
    if failure.kind == "raised" and failure.path:
        return code.load_error(store.read(failure.path), signer, failure.phase, failure.index)
    return _own_error(record.job_id, failure)


def _own_error(job_id: str, failure: FailureRecord) -> BaseException:
    task = f"{failure.phase.value} {failure.index}"
    what = f"{job_id}: task {task} "
    if failure.kind == "poison":
        return PoisonTaskError(
            f"{what}ended its process on each of {failure.attempts} attempts, the last time by {failure.type}: "
            f"{failure.message}; look for os._exit, a crash in native code, or too little memory",
            job_id=job_id,
            task=task,
            attempts=failure.attempts,
        )
    if failure.kind == "timeout":
        return TaskTimeoutError(
            f"{what}took longer than task_timeout: {failure.message}",
            job_id=job_id,
            task=task,
            attempts=failure.attempts,
        )
    text = f"{what}was refused: {failure.type}: {failure.message}"
    if failure.type == "VersionMismatch":
        return VersionMismatch(text, job_id=job_id)
    for kind in (BadSignature, BadMessage, StoreFull):
        if failure.type == kind.__name__:
            return kind(text)
    return TaskError(text, job_id=job_id, task=task, attempts=failure.attempts)
