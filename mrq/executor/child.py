"""One job's tasks, one after the other, in a process of their own: the only place where users' functions run.

A child knows the store's address and one job's key. Whatever a function does to it, up to ending it, the
worker lives.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from contextlib import suppress
from typing import Any

from mrq import code, layout, packs, raised
from mrq.blob import Signer
from mrq.errors import BadMessage, MrqError, StoreNotFound
from mrq.executor import memory, phases
from mrq.executor.channel import frame, receive
from mrq.executor.near import OpenInput
from mrq.executor.stopwatch import Stopwatch
from mrq.executor.streams import Streams
from mrq.inline import InlineStore, to_text
from mrq.ports import Store
from mrq.store.address import open_store
from mrq.wire import Assignment, Outcome, TaskMessage, decode

_MESSAGE_CHARACTERS = 500


def serve(channel: socket.socket, streams: Streams) -> None:
    """Run what comes through the channel until the worker closes it."""
    home, pid = os.getcwd(), os.getpid()
    runner = Runner()
    while (body := receive(channel)) is not None:
        streams.renew()
        outcome = runner.run(decode(Assignment, body))
        if os.getpid() != pid:  # a function forked, and its copy came back here
            os._exit(1)
        streams.flush()
        try:
            channel.sendall(frame(outcome.encode()))
        except OSError:  # the worker is gone, or did not wait for this one
            return
        with suppress(OSError):  # functions change it, and remove it
            os.chdir(home)


class Runner:
    """Runs assignments, and keeps the store open and the job's functions loaded from one to the next."""

    def __init__(self) -> None:
        self._address: dict[str, Any] | None = None
        self._store: Store | None = None
        self._code: dict[str, phases.Code] = {}
        self._opened = OpenInput()
        self._packs: tuple[tuple[str, tuple[str, ...]], dict[str, str]] | None = None

    def run(self, assignment: Assignment) -> Outcome:
        """Run one task; whatever happens is told by the outcome, and where the time went."""
        began, watch = time.time(), Stopwatch()
        outcome = self._guarded(assignment, watch)
        return outcome.model_copy(update={"began": began, "spent": watch.spent()})

    def _guarded(self, assignment: Assignment, watch: Stopwatch) -> Outcome:
        try:
            return self._run(assignment, self._open(assignment.store), watch)
        except (BadMessage, StoreNotFound) as error:  # forged, damaged, of another version, gone: so it stays
            return _of(error, "refused")
        except (MrqError, OSError) as error:  # the store's trouble or this machine's, not the task's
            return _of(error, "killed")
        except MemoryError as error:
            return _of(error, "crashed")
        except Exception as error:
            traceback.print_exc()
            return _of(error, "refused", "a fault of mrq's own: ")

    def _run(self, assignment: Assignment, store: Store, watch: Stopwatch) -> Outcome:
        try:
            assignment = self._unpacked(assignment, store)
            files = InlineStore(store, assignment.inline, assignment.inline_bytes)
            outcome = phases.run(
                assignment, files, lambda: self._load(assignment, files), watch, self._opened
            )
            return _with_inline(outcome, assignment.task, files)
        except phases.UserError as carrier:
            return _raised(carrier.error, assignment, store)
        except MemoryError as error:
            if assignment.memory_limit is None:  # this machine's trouble, perhaps
                raise
            return _raised(error, assignment, store)
        except Exception:
            raise
        except BaseException as error:  # SystemExit and its like: nobody but a function raises these here
            return _raised(error, assignment, store)

    def _open(self, address: dict[str, Any]) -> Store:
        if self._store is None or self._address != address:
            self._store = open_store(address)
            self._address = address
        return self._store

    def _unpacked(self, assignment: Assignment, store: Store) -> Assignment:
        """Return the assignment with what is in the job's packs, which stay at hand for the next."""
        if not assignment.packs:
            return assignment
        which = assignment.task.job_id, tuple(assignment.packs)
        if self._packs is None or self._packs[0] != which:
            signer = Signer(bytes.fromhex(assignment.key), assignment.task.job_id)
            self._packs = which, packs.read(store, signer, assignment.packs)
        return assignment.model_copy(update={"inline": assignment.inline | self._packs[1]})

    def _load(self, assignment: Assignment, store: Store) -> phases.Code:
        """Return the job's functions; verified before a byte is unpickled."""
        job_id = assignment.task.job_id
        if job_id not in self._code:
            sealed = store.read(layout.code(job_id))
            payload = Signer(bytes.fromhex(assignment.key), job_id).open("code", "", sealed)
            try:
                self._code[job_id] = code.unpack(payload)
            except BaseException as error:  # modules that lack here, and all that a user's module may raise
                raise phases.UserError(error) from None
        return self._code[job_id]


def _with_inline(outcome: Outcome, task: TaskMessage, files: InlineStore) -> Outcome:
    """Let the outcome carry the result, if that has no file."""
    path = layout.result(task.job_id, task.phase, task.index)
    if path not in files.files:
        return outcome
    return outcome.model_copy(update={"inline": to_text(files.files)[path]})


def _raised(error: BaseException, assignment: Assignment, store: Store) -> Outcome:
    if isinstance(error, MemoryError) and assignment.memory_limit is not None:
        error = memory.exceeded(error, assignment)
    task = assignment.task
    signer = Signer(bytes.fromhex(assignment.key), task.job_id)
    path = layout.error(task, assignment.run)
    store.write(path, raised.dump_error(error, signer, task.phase, task.index, task.attempt + 1))
    return _of(error, "raised").model_copy(update={"path": path})


def _of(error: BaseException, kind: Any, prefix: str = "") -> Outcome:
    try:
        text = str(error)
    except Exception:  # a __str__ of the user's
        text = "its message can't be shown"
    # A lone surrogate is no UTF-8, so no JSON.
    text = text.encode("utf-8", "backslashreplace").decode()
    return Outcome(kind=kind, type=type(error).__name__, message=(prefix + text)[:_MESSAGE_CHARACTERS])
