"""Reading what a job has come to: its result by the manifest alone, or the exception that ended it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from tempfile import gettempdir
from typing import Any

from mrq import layout, raised, sidecar
from mrq.blob import Signer
from mrq.core.keys import sorted_by_key
from mrq.core.model import JobState, Phase
from mrq.errors import (
    BadMessage,
    BadSignature,
    JobError,
    MrqError,
    PoisonTaskError,
    StoreFull,
    StoreNotFound,
    TaskError,
    TaskTimeoutError,
    TooManySkipped,
    VersionMismatch,
)
from mrq.inline import InlineStore
from mrq.ports import Store
from mrq.records import FailureRecord, JobRecord, Manifest, ManifestEntry
from mrq.segment import SegmentReader
from mrq.sidecar import Skipped
from mrq.span import Readable
from mrq.stored import LocalCopy, StoredResult
from mrq.wire import decode

READERS = 4
"""Reduce results read at once."""
MEMORY_BYTES = 64 * 2**20
"""How long a result's files may be together for it to be read into memory at once."""
MEMORY_RECORDS = 500_000
"""How many pairs there may be for that: files are compressed, and a pair of two small objects takes 200 bytes."""
NOTE_LINES = 20
"""How many of the last lines that a failed task printed are shown with its exception."""


def read_result(store: Store, signer: Signer, record: JobRecord) -> list[tuple[Any, Any]] | StoredResult:
    """Return a completed job's ``[(key, y), …]``, sorted by key.

    Raises:
        BadSignature: a file is not what the manifest, or the manifest not what the job's record, says.
        MrqError: there is no room for a copy of a big result.
        Unavailable: the store does not answer.
    """
    files = InlineStore(store, record.inline)
    entries = _entries(files, signer, record)
    known = [entry for entry in entries if entry]
    big = sum(e.length for e in known) > MEMORY_BYTES or sum(e.records for e in known) > MEMORY_RECORDS

    def opened(index: int, entry: ManifestEntry | None) -> SegmentReader:
        where = _copied(files, record.job_id, index, entry.length) if big and entry else files
        return _open_part(where, signer, index, entry)

    with ThreadPoolExecutor(min(READERS, len(entries)) or 1) as pool:
        readers = list(pool.map(opened, range(len(entries)), entries))
        if big:
            return StoredResult(readers)
        parts = list(pool.map(lambda reader: list(reader.partition(0)), readers))
    return parts[0] if len(parts) == 1 else sorted_by_key([pair for part in parts for pair in part])


def _entries(files: InlineStore, signer: Signer, record: JobRecord) -> Sequence[ManifestEntry | None]:
    """Return what the manifest says of each partition; None of each where the record has all results itself."""
    paths = {layout.result(record.job_id, Phase.REDUCE, index) for index in range(record.n_reduce)}
    if files.files.keys() >= paths:
        return [None] * record.n_reduce
    return _read_manifest(files, signer, record).results


def _open_part(store: Readable, signer: Signer, index: int, entry: ManifestEntry | None) -> SegmentReader:
    path = layout.result(signer.job_id, Phase.REDUCE, index)
    reader = SegmentReader(store, path, entry.length if entry else None, signer, "reduce", str(index))
    if entry and reader.summary.digest != entry.digest:
        raise BadSignature(f"{signer.job_id}: reduce result {index} is not the one in the manifest")
    return reader


def _copied(store: Store, job_id: str, index: int, length: int) -> Readable:
    path = layout.result(job_id, Phase.REDUCE, index)
    try:
        return LocalCopy(store, path, length)
    except OSError as error:
        raise MrqError(
            f"{job_id} has completed, but its result can't be copied to {gettempdir()}: {error}; make room there, or "
            "set TMPDIR, and attach to it again"
        ) from error


def _read_manifest(store: Store, signer: Signer, record: JobRecord) -> Manifest:
    body = signer.open("manifest", "", store.read(layout.manifest(record.job_id)))
    if signer.digest("manifest", "", body).hex() != record.manifest_digest:
        raise BadSignature(f"{record.job_id}: the manifest is not the one that the job was completed with")
    return decode(Manifest, body)


def read_skipped(store: Store, signer: Signer, record: JobRecord) -> list[Skipped]:
    """Return the bad records that a job was done without; of a job that has not completed, those known so far."""
    if not record.max_skipped:
        return []
    if record.state is JobState.COMPLETED:
        tasks = [(entry.phase, entry.index) for entry in _read_manifest(store, signer, record).skipped]
    else:
        tasks = sidecar.committed_tasks(store, record.job_id)
    return sidecar.read_skipped(store, signer, tasks, record.n_reduce)


def read_failure(store: Store, signer: Signer, record: JobRecord) -> BaseException:
    """Return the exception that a failed job's future raises; its notes show what the task printed last."""
    failure = record.failure
    if failure is None:
        return JobError(f"{record.job_id} failed, and its record does not say why", job_id=record.job_id)
    if failure.kind == "raised" and failure.path:
        error = raised.load_error(store.read(failure.path), signer, failure.phase, failure.index)
    else:
        error = _own_error(record.job_id, failure)
    with suppress(
        MrqError, TypeError
    ):  # a note is worth no second trouble; a class may have spoilt its notes
        if printed := sidecar.read_output(store, signer, (failure.phase, failure.index)):
            lines = "\n".join(f"  {line.line}" for line in printed[-NOTE_LINES:])
            last = printed[-1]
            error.add_note(f"{last.job_id}: {last.task} printed last (attempt {last.attempt}):\n{lines}")
    return error


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
    if failure.kind == "skipped":
        return TooManySkipped(
            f"{job_id}: {failure.message}; future.skipped() shows them, the last at task {task}",
            job_id=job_id,
            task=task,
            attempts=failure.attempts,
        )
    refused = f"{job_id} can't be completed" if failure.kind == "unfinished" else f"{what}was refused"
    text = f"{refused}: {failure.type}: {failure.message}"
    if failure.type == "VersionMismatch":
        return VersionMismatch(text, job_id=job_id)
    for kind in (BadSignature, BadMessage, StoreFull, StoreNotFound):
        if failure.type == kind.__name__:
            return kind(text)
    return TaskError(text, job_id=job_id, task=task, attempts=failure.attempts)
