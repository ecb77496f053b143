"""What somebody might do to files, functions and those who read results, with the best intentions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mrq.board
import mrq.executor.child
import mrq.executor.phases
import mrq.executor.skipping
import mrq.following
import mrq.performer
import mrq.sidecar
from mrq import layout
from mrq.blob import Signer
from mrq.core.keys import sorted_by_key
from mrq.core.model import Phase
from mrq.errors import NodeError
from mrq.registry import Registry
from mrq.segment import SegmentReader
from tests.sim.mutating import mutation


@mutation(
    "overwrite", "A result is committed over the one that is there", (mrq.executor.phases._Task, "commit")
)
def _overwriting(self: Any, written: Any) -> Any:
    if self.store.status(self._result):
        self.store.delete(self._result)
    self.store.rename(self._attempt, self._result)
    return written


@mutation("write-in-place", "A result is written where it is read", (mrq.executor.phases._Task, "__init__"))
def _in_place(self: Any, *arguments: Any) -> None:
    _init(self, *arguments)
    self._attempt = self._result


_init = mrq.executor.phases._Task.__init__


@mutation(
    "no-manifest",
    "The client reads what is in the folder, not what the manifest names",
    (mrq.following, "read_result"),
)
def _by_folder(store: Any, signer: Signer, record: Any) -> Any:
    pairs: list[Any] = []
    for number, file in enumerate(store.list(layout.results(record.job_id, Phase.REDUCE))):
        path = layout.result(record.job_id, Phase.REDUCE, int(file.name) if file.name.isdigit() else number)
        pairs += SegmentReader(store, path, None, signer, "reduce", file.name).partition(0)
    return sorted_by_key(pairs)


@mutation("late-files-gone", "A submission that was not answered takes its files away", (Registry, "submit"))
def _discarding(self: Any, record: Any) -> None:
    try:
        _submit(self, record)
    except (mrq.following.Unavailable, mrq.following.SessionLost) as error:
        raise NodeError(str(error)) from None


_submit = Registry.submit


@mutation(
    "lost-in-its-own-way",
    "A submission whose reply was lost takes its own record for another's",
    (Registry, "submit"),
)
def _creating(self: Any, record: Any) -> None:
    self.tree.create(f"/jobs/{record.job_id}", record.encode())


@mutation(
    "give-up-lost-session",
    "The client's session ends, and so does the future",
    (mrq.following.Follower, "_look"),
)
def _gives_up(self: Any, job_id: str) -> None:
    try:
        self._registry.job(job_id)
    except mrq.following.SessionLost as error:
        self._finish(job_id, error)
        return
    except mrq.following.Unavailable:
        pass
    _look(self, job_id)


_look = mrq.following.Follower._look


# ---------------------------------------------------------------- packs


@mutation("pack-unwritten", "A pack is named before it is written", (mrq.performer.Performer, "_pack"))
def _name_first(self: Any, owned: Any) -> None:
    name = f"{owned.epoch}-{owned.n_packs}"
    owned.held = self._registry.amend(owned.job_id, owned.held, owned.epoch, pack=name)
    _pack(self, owned)


@mutation("pack-forgotten", "The record names the last pack only", (mrq.performer.Performer, "_pack"))
def _name_last(self: Any, owned: Any) -> None:
    record = owned.held.record.model_copy(update={"packs": []})
    owned.held = replace(owned.held, record=record)
    _pack(self, owned)


_pack = mrq.performer.Performer._pack


@mutation("pack-unread", "A shuffle task is not told of packs", (mrq.executor.child.Runner, "_unpacked"))
def _unread(_self: Any, assignment: Any, _store: Any) -> Any:
    return assignment


# ---------------------------------------------------------------- bad records and memory


@mutation(
    "bisect-one",
    "The search for bad records ends with the first",
    (mrq.executor.skipping.Skips, "_find"),
)
def _find_one(self: Any, call: Any, elements: Any, first: int, error: Any) -> None:
    if not self.records:
        _find(self, call, elements, first, error)


_find = mrq.executor.skipping.Skips._find


@mutation(
    "skip-good",
    "A half of which an element is bad is skipped as a whole",
    (mrq.executor.skipping.Skips, "_find"),
)
def _skip_halves(self: Any, call: Any, elements: Any, first: int, error: Any) -> None:
    if len(elements) > 2:
        _find(self, call, elements, first, error)
        return
    for position, element in enumerate(elements):
        if not self.skip(first + position, element, error):
            raise error


@mutation("skipped-twice", "What a task skipped counts each time that it is told", (mrq.board.Board, "note"))
def _note_twice(self: Any, report: Any) -> None:
    place = (report.phase, report.index)
    before = self.skipped.get(place, 0)
    _note(self, report)
    if report.outcome and report.outcome.skipped and before:
        self.skipped[place] = before + report.outcome.skipped


_note = mrq.board.Board.note


@mutation(
    "skipped-untold",
    "What was skipped counts only where a report told of it",
    (mrq.sidecar, "count_skipped"),
)
def _none_untold(*_: Any) -> dict[Any, int]:
    return {}


@mutation(
    "memory-crash",
    "A task beyond its memory limit counts as a crash",
    (mrq.executor.child, "_raised"),
)
def _memory_crash(error: Any, assignment: Any, store: Any) -> Any:
    if isinstance(error, MemoryError):
        return mrq.executor.child._of(error, "crashed")
    return _raised(error, assignment, store)


_raised = mrq.executor.child._raised
