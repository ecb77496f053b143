"""A job's submission: plan, pack, upload, write the record. Nothing is submitted until the record is written."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from typing import Any

import mrq
from mrq import code, layout
from mrq.blob import Signer, new_key
from mrq.config import Settings
from mrq.core.model import PHASES
from mrq.errors import ConfigurationError, MrqError, SessionLost, StoreError, Unavailable, VersionMismatch
from mrq.inline import InlineStore, to_text
from mrq.inputs import InputSummary, write_input
from mrq.membership import PYTHON
from mrq.ports import Store
from mrq.records import JobRecord
from mrq.registry import Registry
from mrq.wire import MAX_TASKS

log = logging.getLogger(__name__)

MOST_PRIORITY = 10
"""The highest `priority`; the lowest is the same below 0."""
LEAST_MEMORY = 2**20
"""The least `memory_limit`, in bytes."""

MapFunc = Callable[[list[Any]], Iterable[tuple[Any, Any]]]
ReduceFunc = Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `JobClient.mapreduce` takes beside data and functions.

    Raises:
        ConfigurationError: an option is wrong.
    """

    requested_n_workers: int | None = None
    n_reducers: int | None = None
    retries: int = 0
    task_timeout: float | None = None
    priority: int = 0
    speculative: bool = True
    memory_limit: int | None = None
    max_skipped: int = 0

    def __post_init__(self) -> None:
        for name in ("requested_n_workers", "n_reducers"):
            number = getattr(self, name)
            if number is not None and not (isinstance(number, int) and 1 <= number <= MAX_TASKS):
                raise ConfigurationError(
                    f"{name} must be a whole number from 1 to {MAX_TASKS:,}, not {number!r}"
                )
        if not isinstance(self.priority, int) or abs(self.priority) > MOST_PRIORITY:
            raise ConfigurationError(
                f"priority must be a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}, not {self.priority!r}"
            )
        for name in ("retries", "max_skipped"):
            number = getattr(self, name)
            if not isinstance(number, int) or number < 0:
                raise ConfigurationError(f"{name} must be a whole number from 0, not {number!r}")
        if self.memory_limit is not None and not (
            isinstance(self.memory_limit, int) and self.memory_limit >= LEAST_MEMORY
        ):
            raise ConfigurationError(
                f"memory_limit must be a whole number of bytes, {LEAST_MEMORY} at least, not {self.memory_limit!r}"
            )
        if self.task_timeout is not None and not self.task_timeout > 0:
            raise ConfigurationError(f"task_timeout must be more than 0 seconds, not {self.task_timeout!r}")


class Submitter:
    """Makes jobs durable.

    Args:
        registry: of the coordination service.
        store: where the jobs' files go.
        settings: for sizes.
        pool: uploads files beside one another.
    """

    def __init__(self, registry: Registry, store: Store, settings: Settings, pool: Executor) -> None:
        self._registry = registry
        self._store = store
        self._settings = settings
        self._pool = pool

    def submit(
        self, data: Iterable[Any], map_func: MapFunc, reduce_func: ReduceFunc, options: Options
    ) -> str:
        """Submit a job; arguments, id and errors as of `JobClient.mapreduce`."""
        called_at = time.time()
        check_functions(map_func, reduce_func)
        packed = code.pack(map_func, reduce_func)
        slots = self._usable_slots()
        n_splits = options.requested_n_workers or max(slots, 1)
        job_id = self._registry.next_job_id()
        key = new_key()
        try:
            summary, inline = self._upload(Signer(key, job_id), packed, data, n_splits)
            record = self._record(job_id, key, options, summary, n_splits, inline, called_at)
        except BaseException:
            self._discard(job_id)
            raise
        try:
            self._registry.submit(record)
        except (Unavailable, SessionLost):
            raise  # the server may still come to it: then the job needs its files
        except BaseException:
            self._discard(job_id)
            raise
        log.info("%s is submitted: %d map tasks", job_id, record.n_map, extra={"job": job_id})
        return job_id

    def _record(
        self,
        job_id: str,
        key: bytes,
        options: Options,
        summary: InputSummary,
        n_splits: int,
        inline: dict[str, bytes],
        called_at: float,
    ) -> JobRecord:
        timeout = options.task_timeout
        n_reduce = options.n_reducers or min(n_splits, summary.n_splits)
        return JobRecord(
            job_id=job_id,
            key=key.hex(),
            n_map=summary.n_splits,
            n_reduce=n_reduce if summary.n_splits else 0,
            window=options.requested_n_workers,
            retries=options.retries,
            priority=options.priority,
            speculative=options.speculative,
            task_timeout=timeout if timeout and math.isfinite(timeout) else None,
            memory_limit=options.memory_limit,
            max_skipped=options.max_skipped,
            python=PYTHON,
            mrq=mrq.__version__,
            client=f"{socket.gethostname()}-{os.getpid()}",
            called_at=called_at,
            submitted_at=time.time(),
            input_length=summary.length,
            input_records=summary.records,
            inline=to_text(inline),
        )

    def _usable_slots(self) -> int:
        """Count the live slots; refuse workers that could not unpickle the functions."""
        workers = self._registry.members("workers")
        others = {name: info.python for name, info in workers.items() if info.python != PYTHON}
        if others:
            raise VersionMismatch(
                f"this client runs Python {PYTHON}, but {_listed(others)}: functions pickled here do not load there; "
                "use the same minor version on both sides",
                job_id="(not submitted)",
            )
        return sum(info.slots for info in workers.values())

    def _upload(
        self, signer: Signer, packed: bytes, data: Iterable[Any], n_splits: int
    ) -> tuple[InputSummary, dict[str, bytes]]:
        """Write the job's files, but for those that stay inline; what can goes up while the data is cut."""
        job_id = signer.job_id
        files = InlineStore(self._store, {}, self._settings.inline_bytes)
        sealed = signer.seal("code", "", packed)
        others = [self._pool.submit(_write_code, files, layout.code(job_id), sealed)]
        others += [self._pool.submit(self._make, layout.attempts(job_id))]
        path = layout.input_file(job_id)
        try:
            with code.by_value():
                summary = write_input(
                    files,
                    layout.upload(path),
                    data,
                    n_splits,
                    signer,
                    split_bytes=self._settings.split_bytes,
                    frame_bytes=self._settings.frame_bytes,
                )
            _commit(files, path)
            if path not in files.files:  # nor will the results be small
                others += [self._pool.submit(self._make, layout.results(job_id, phase)) for phase in PHASES]
            return summary, files.files
        finally:
            wait(others)
            for other in others:
                other.result()

    def _make(self, folder: str) -> None:
        self._store.make_dirs(folder)

    def _discard(self, job_id: str) -> None:
        """Remove what a submission that failed has left, if the store lets us."""
        try:
            if self._registry.job(job_id) is None:
                self._store.delete(layout.folder(job_id))
        except MrqError as error:
            log.warning("files of %s may be left over: %s", job_id, error)


def _write_code(files: Store, path: str, sealed: bytes) -> None:
    files.write(layout.upload(path), sealed)
    _commit(files, path)


def _commit(files: Store, path: str) -> None:
    """Put a file that was written where the job's tasks look.

    A write that was cut off is done again; should the first one arrive later all the same, and in part, it finds its
    file gone from there, and spoils nothing that is in use.
    """
    if not files.rename(layout.upload(path), path):
        raise StoreError(f"{path} is there already, though nobody else has that job's number")


def check_functions(map_func: object, reduce_func: object) -> None:
    """Raise `ConfigurationError` unless both can be called."""
    for name, func in (("map_func", map_func), ("reduce_func", reduce_func)):
        if not callable(func):
            raise ConfigurationError(f"{name} is not callable: {func!r}")


def _listed(pythons: dict[str, str]) -> str:
    shown = [f"worker {name} runs {python}" for name, python in sorted(pythons.items())[:3]]
    more = len(pythons) - len(shown)
    return ", ".join(shown) + (f" and {more} more differ" if more else "")
