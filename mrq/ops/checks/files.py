"""Files without a record, records without files, attempts that nobody will finish."""

from __future__ import annotations

from collections.abc import Iterator

from mrq import layout
from mrq.core.model import JobState
from mrq.ops.checks.finding import Finding, Patient, ago, error, info, warning
from mrq.ports import Store

UPLOAD = 3600.0
"""Seconds after which files without a record are no upload any more that is still going on, as far as one can see."""
ABANDONED = 86400.0
"""Seconds after which they are removed by `remove`."""
ATTEMPTS = 3600.0
"""Seconds after a job's end after which nobody writes an attempt of it."""


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Name folders without a job, and attempts of jobs that have ended."""
    for job_id, silent in _without_record(patient):
        if silent > UPLOAD:
            yield warning(
                job_id,
                f"{layout.folder(job_id)} has files, but there is no such job; last written {ago(silent)} ago",
                "mrq doctor --fix removes it"
                + ("" if silent > ABANDONED else f" {ago(ABANDONED)} after that: it may be an upload"),
            )
    for job_id, names in _attempts(patient):
        yield info(
            job_id,
            f"it has ended, and {len(names)} files of attempts are left in {layout.attempts(job_id)}",
            f"mrq doctor --fix, or mrq clear {job_id}",
        )


def lost(patient: Patient) -> Iterator[Finding]:
    """Name jobs that can't go on, or be read, for lack of files."""
    store = patient.servers.store
    for record in patient.records:
        needed = [layout.manifest(record.job_id)] if record.state is JobState.COMPLETED else []
        if not record.state.ended:
            needed = [layout.code(record.job_id), layout.input_file(record.job_id)]
        gone = [path for path in needed if path not in record.inline and store.status(path) is None]
        if gone:
            yield error(
                record.job_id,
                f"it is {record.state.value}, but {' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone",
                f"mrq clear {record.job_id} --force, and submit it again",
            )


def remove(patient: Patient) -> list[str]:
    """Remove what nobody can need any more; return the paths."""
    last = patient.servers.registry.last_job_number()
    paths = [
        layout.folder(job_id)
        for job_id, silent in _without_record(patient)
        if silent > ABANDONED and _number(job_id) in range(last + 1)  # else it may be another tree's
    ]
    ended = {record.job_id: record.ended_at for record in patient.records}
    for job_id, names in _attempts(patient):
        if patient.now - ended[job_id] > ATTEMPTS:
            paths += [f"{layout.attempts(job_id)}/{name}" for name in names]
    for path in paths:
        patient.servers.store.delete(path)
    return paths


def _without_record(patient: Patient) -> Iterator[tuple[str, float]]:
    """Return the folders that belong to no job, and how many seconds ago each was last written to."""
    store = patient.servers.store
    folders = {entry.name: entry.modified for entry in store.list(layout.JOBS)}
    # Asked for after the folders: a submission writes its files first.
    known = set(patient.servers.registry.job_ids())
    for name in folders.keys() - known:
        yield name, patient.now - max(folders[name], _newest(store, layout.folder(name)))


def _number(job_id: str) -> int:
    digits = job_id.removeprefix("job_")
    return int(digits) if digits.isdecimal() else -1


def _newest(store: Store, folder: str) -> float:
    entries = store.list(folder) if (status := store.status(folder)) and status.is_dir else []
    below = [_newest(store, f"{folder}/{entry.name}") for entry in entries if entry.is_dir]
    return max([0.0, *below, *(entry.modified for entry in entries)])


def _attempts(patient: Patient) -> Iterator[tuple[str, list[str]]]:
    """Return the attempts' files of jobs that have ended."""
    for record in patient.records:
        if record.state.ended:
            names = [entry.name for entry in patient.servers.store.list(layout.attempts(record.job_id))]
            if names:
                yield record.job_id, names
