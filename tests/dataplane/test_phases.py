"""Map, shuffle and reduce over real files: the same result as plain Python's, committed once."""

from __future__ import annotations

import json
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq import layout, spool
from mrq.blob import Signer
from mrq.core.grouping import group
from mrq.core.keys import order_key
from mrq.core.model import PHASES, Phase
from mrq.errors import BadSignature, NotShippable, StoreError
from mrq.executor import phases, values
from mrq.executor.stopwatch import Stopwatch
from mrq.inputs import write_input
from mrq.segment import SegmentReader, SegmentWriter
from mrq.spool import write_whole
from mrq.store.folder import FolderStore
from mrq.wire import Assignment, Outcome, TaskMessage

KEY = bytes(32)
SIGNER = Signer(KEY, "job_1")


class Job:
    """A job by hand: no master, no worker, no process."""

    def __init__(
        self, root: Path, data: Iterable[Any], code: phases.Code, n_map: int = 3, n_reduce: int = 2
    ) -> None:
        self.store = FolderStore(root)
        self.code = code
        self.n_reduce = n_reduce
        path = layout.input_file("job_1")
        self.input = write_input(self.store, path, data, n_map, SIGNER, split_bytes=2**20, frame_bytes=2**10)

    def run(self, phase: Phase, index: int, attempt: int = 0, *, check_first: bool = False) -> Outcome:
        assignment = Assignment(
            task=TaskMessage(job_id="job_1", phase=phase, index=index, epoch=1, attempt=attempt),
            key=KEY.hex(),
            n_map=self.input.n_splits,
            n_reduce=self.n_reduce,
            input_length=self.input.length,
            frame_bytes=2**10,
            store={},
            check_first=check_first,
        )
        return phases.run(assignment, self.store, lambda: self.code, Stopwatch())

    def run_phase(self, phase: Phase) -> list[Outcome]:
        return [
            self.run(phase, i) for i in range(self.input.n_splits if phase is Phase.MAP else self.n_reduce)
        ]

    def result(self) -> list[tuple[Any, Any]]:
        for phase in PHASES:
            self.run_phase(phase)
        rows = [row for index in range(self.n_reduce) for row in self.rows(Phase.REDUCE, index)]
        return sorted(rows, key=lambda row: order_key(row[0]))

    def rows(self, phase: Phase, index: int) -> list[Any]:
        path = layout.result("job_1", phase, index)
        reader = SegmentReader(self.store, path, None, SIGNER, phase.value, index)
        return [row for n in range(len(reader.entries)) for row in reader.partition(n)]


def letters(words: list[str]) -> Iterator[tuple[str, int]]:
    return ((letter, 1) for word in words for letter in word)


COUNT: phases.Code = (letters, sum)

keys = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(-2, 2),
        st.text("ab", max_size=2),
        st.binary(max_size=1),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(st.text("ab"), inner, max_size=2),
    ),
    max_leaves=3,
)


@settings(max_examples=40, deadline=None)
@given(
    data=st.lists(st.tuples(keys, st.integers())),
    n_map=st.integers(1, 5),
    n_reduce=st.integers(1, 4),
    many=st.integers(1, 4),
)
def test_the_three_phases_are_plain_pythons_evaluation(
    tmp_path_factory: pytest.TempPathFactory,
    data: list[tuple[Any, int]],
    n_map: int,
    n_reduce: int,
    many: int,
) -> None:
    """Whatever the keys and tasks, and what is packed by itself: all groups, values in the order of the input."""
    job = Job(tmp_path_factory.mktemp("store"), data, (lambda pairs: pairs, tuple), n_map, n_reduce)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "_MANY", many)
        patch.setattr(values, "FEW", 0)
        result = job.result()
    assert repr(result) == repr([(key, tuple(values)) for key, values in group(data)])


def test_stats_say_what_was_handled(tmp_path: Path) -> None:
    """Records and bytes in and out of each phase fit each other."""
    job = Job(tmp_path, ["ab", "bc", "cd"], COUNT)
    outcomes = {phase: job.run_phase(phase) for phase in PHASES}
    assert sum(o.stats.records_in for o in outcomes[Phase.MAP]) == 3
    for before, after in ((Phase.MAP, Phase.SHUFFLE), (Phase.SHUFFLE, Phase.REDUCE)):
        out = sum(o.stats.records_out for o in outcomes[before])
        assert out == sum(o.stats.records_in for o in outcomes[after]) > 0
    assert all(o.kind == "done" and o.stats.bytes_out == o.length for o in outcomes[Phase.REDUCE])


# ---------------------------------------------------------------- commit


def attempts(job: Job) -> list[str]:
    return [file.name for file in job.store.list(layout.attempts("job_1"))]


@pytest.mark.parametrize("check_first", [False, True])
def test_a_second_attempt_reports_the_first_ones_result(tmp_path: Path, check_first: bool) -> None:
    """Though it came to another result; and it leaves no file."""
    numbers = count()
    job = Job(tmp_path, "abc", (lambda part: [(letter, next(numbers)) for letter in part], list))
    first = job.run(Phase.MAP, 0)
    second = job.run(Phase.MAP, 0, 1, check_first=check_first)
    assert (second.kind, second.digest, second.length) == ("done", first.digest, first.length)
    assert attempts(job) == []


def test_a_result_that_is_there_is_reported_without_running(tmp_path: Path) -> None:
    """When the worker says that it may be there already."""
    calls = count()
    job = Job(tmp_path, "abc", (lambda part: (next(calls) and None) or [], list))
    job.run(Phase.MAP, 0, check_first=True)
    job.run(Phase.MAP, 0, 1, check_first=True)
    assert next(calls) == 1


def test_the_same_task_makes_the_same_bytes(tmp_path: Path) -> None:
    """So a job's result does not depend on which attempt was committed."""
    data = [f"word{n % 7}" for n in range(500)]
    one, two = (Job(tmp_path / name, data, COUNT) for name in ("one", "two"))
    for phase in PHASES:
        assert [o.digest for o in one.run_phase(phase)] == [o.digest for o in two.run_phase(phase)]


# ---------------------------------------------------------------- what user code does


def raises(*_: Any) -> Any:
    raise KeyError("mine")


def lazily(part: list[Any]) -> Iterator[tuple[Any, Any]]:
    yield "a", 1
    raise KeyError("mine")


def exits(*_: Any) -> Any:
    raise SystemExit(3)


class Unequal:
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        raise KeyError("mine")


class BadOnceSent:
    """Raises where it is unpickled."""

    def __reduce__(self) -> Any:
        return (raises, ([],))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ((raises, sum), KeyError),
        ((lazily, sum), KeyError),
        ((COUNT[0], raises), KeyError),
        ((exits, sum), SystemExit),
        ((COUNT[0], exits), SystemExit),
        ((lambda part: [(Unequal(), 1) for _ in "ab"], sum), KeyError),
        ((lambda part: raises, sum), TypeError),
        ((COUNT[0], lambda values: threading.Lock()), NotShippable),
        ((lambda part: [("a", threading.Lock())], sum), NotShippable),
        ((lambda part: [("a", threading.Lock())] * 1000, sum), NotShippable),
        ((lambda part: [("a", BadOnceSent())], sum), KeyError),
        ((lambda part: [("a", BadOnceSent())] * 1000, sum), KeyError),
    ],
)
def test_what_user_code_raises_is_carried_and_no_attempt_is_left(
    tmp_path: Path, code: phases.Code, error: type[BaseException]
) -> None:
    """Function, iterator, comparison or pickling: the caller gets the very exception, marked as the user's."""
    job = Job(tmp_path, ["ab"], code)
    with pytest.raises(phases.UserError) as caught:
        job.result()
    assert type(caught.value.error) is error
    assert caught.value.error.__traceback__ or error is NotShippable
    assert attempts(job) == []


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "it returned None (NoneType)"),
        (7, "it returned 7 (int)"),
        ("ab", "it returned 'ab' (str)"),
        ({("a", "b"): 1}, "it returned a dict: return its .items()"),
        (["ab"], "item 0 is 'ab' (str)"),
        ([("a", 1), ("b", 1, 2)], "item 1 is ('b', 1, 2) (tuple)"),
        ([3], "item 0 is 3 (int)"),
    ],
)
def test_a_map_function_that_returns_no_pairs_is_told_what_it_returned(
    tmp_path: Path, returned: Any, said: str
) -> None:
    """Also where Python would take it for pairs, as with strings of two characters."""
    job = Job(tmp_path, ["x"], (lambda part: returned, sum))
    with pytest.raises(phases.UserError) as caught:
        job.run(Phase.MAP, 0)
    assert said in str(caught.value.error)


def test_pairs_may_be_lists(tmp_path: Path) -> None:
    """As JSON gives them."""
    assert Job(tmp_path, ["x"], (lambda part: json.loads('[["a", 1]]'), sum)).result() == [("a", 1)]


# ---------------------------------------------------------------- what the store does


def test_a_shuffle_without_all_map_results_is_to_be_tried_again(tmp_path: Path) -> None:
    """It says what lacks, and is no fault of the user's."""
    job = Job(tmp_path, ["ab", "cd", "ef"], COUNT)
    job.run(Phase.MAP, 0)
    with pytest.raises(StoreError, match=r"shuffle 0 needs the results of 3 map tasks, but .* holds 1 files"):
        job.run(Phase.SHUFFLE, 0)


def test_a_forged_map_result_is_refused(tmp_path: Path) -> None:
    """The job's key does not vouch for it."""
    job = Job(tmp_path, ["ab", "cd", "ef"], COUNT)
    job.run_phase(Phase.MAP)
    forger = SegmentWriter(Signer(b"2" * 32, "job_1"), "map", 1, 1000)
    write_whole(job.store, layout.result("job_1", Phase.MAP, 1), forger.file([[("a", [10**6])], []]))
    with pytest.raises(BadSignature, match="map 1"):
        job.run(Phase.SHUFFLE, 0)


def test_a_merge_of_much_data_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and blocks of the inputs and a piece of the output, not the partitions."""
    monkeypatch.setattr(phases, "_MERGE_BYTES", 2**20)
    monkeypatch.setattr(spool, "MEMORY_BYTES", 2**20)
    noise = random.Random(7)

    def emit(part: list[int]) -> Iterator[tuple[str, bytes]]:
        return ((f"{n:06d}-{noise.randrange(9)}", noise.randbytes(10_000)) for _ in part for n in range(400))

    job = Job(tmp_path, range(5), (emit, len), n_map=5, n_reduce=1)
    job.run_phase(Phase.MAP)
    peaks = [peak_of(lambda: job.run(Phase.SHUFFLE, 0)), peak_of(lambda: job.run(Phase.REDUCE, 0))]
    assert job.store.status(layout.result("job_1", Phase.SHUFFLE, 0)).length > 20_000_000
    assert max(peaks) < 8_000_000


def peak_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
