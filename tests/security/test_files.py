"""Files of jobs that were damaged, forged or moved: refused in a clear sentence by whoever reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq import layout, timeline
from mrq.blob import Signer
from mrq.core.model import Phase
from mrq.errors import BadMessage, BadSignature, RemoteTraceback, StoreNotFound
from mrq.future import JobFuture
from mrq.ops import replay
from mrq.records import JobRecord
from mrq.results import read_failure, read_result
from mrq.sidecar import read_output
from tests.integration.cluster import eventually
from tests.jobs import Gate, GatedKey, add_up, random_strings
from tests.security.forgery import Trace, alterations, forged

DATA = random_strings(30)
EXPECTED = [(text, 1) for text in sorted(DATA)]
NAMES = ("code", "input", "map_results/0", "shuffle_results/0", "reduce_results/0", "manifest", "timeline")


def one_each(strings: list[str]) -> list[tuple[str, int]]:
    """Map: so many keys that all files are longer than a forged one need be."""
    return [(text, 1) for text in strings]


class Ended:
    """Jobs that have ended in a cluster, with all their files: ``one`` and ``another`` of one task a phase, ``wide`` of
    two, and ``raised``, which failed and printed something.
    """

    def __init__(self, cluster: mrq.EmbeddedCluster, folder: Path) -> None:
        def prints(strings: list[str]) -> Any:
            print("a last word")
            raise ValueError("no")

        self.cluster = cluster
        self.folder = folder
        self.one, self.another = (self._run(1) for _ in range(2))
        self.wide = self._run(2)
        failing = cluster.mapreduce(DATA, prints, add_up, 1)
        assert isinstance(failing.exception(60), ValueError)
        self.raised = cluster._registry.require(failing.job_id).record

    def _run(self, width: int) -> JobRecord:
        future = self.cluster.mapreduce(DATA, one_each, add_up, width, n_reducers=width)
        assert future.result(60) == EXPECTED
        written = self.folder / "files" / layout.timeline(future.job_id)
        eventually(written.exists, "its timeline is there")
        return self.cluster._registry.require(future.job_id).record

    def file(self, record: JobRecord, name: str) -> Path:
        """Where the store has a file of a job's."""
        return self.folder / "files" / layout.folder(record.job_id) / name

    def read(self, record: JobRecord, name: str) -> Any:
        """Read a file as whoever reads it would: a worker for its task, the client for the result."""
        signer = Signer(bytes.fromhex(record.key), record.job_id)
        if name == "timeline":
            return timeline.read(self.cluster._store, record)
        if name.startswith(("reduce_results", "manifest")):
            return read_result(self.cluster._store, signer, record)
        if name.startswith("errors"):
            return read_failure(self.cluster._store, signer, record)
        if name.startswith("output"):
            return read_output(self.cluster._store, signer)
        reader = {"code": "map", "input": "map", "map_results": "shuffle", "shuffle_results": "reduce"}
        index = name.partition("/")[2] or "0"
        task = f"{reader[name.partition('/')[0]]} {index}"
        return replay.run(
            record.job_id,
            task,
            settings=self.cluster._settings,
            registry=self.cluster._registry,
            store=self.cluster._store,
        )


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    folder = tmp_path_factory.mktemp("store")
    with mrq.EmbeddedCluster(
        n_workers=2, folder=folder, settings=mrq.Settings.load(inline_bytes=0)
    ) as cluster:
        yield Ended(cluster, folder)


@pytest.fixture
def in_place_of(ended: Ended) -> Iterator[Callable[[Path, bytes], None]]:
    """A function that puts other bytes into a file, which are taken out again at the end."""
    kept: dict[Path, bytes] = {}

    def put(path: Path, data: bytes) -> None:
        kept.setdefault(path, path.read_bytes())
        path.write_bytes(data)

    yield put
    for path, data in kept.items():
        path.write_bytes(data)


Put = Callable[[Path, bytes], None]


def refused(ended: Ended, record: JobRecord, name: str) -> str:
    """See that a file is refused, and return what is said of it."""
    with pytest.raises(BadMessage) as caught:
        ended.read(record, name)
    said = str(caught.value)
    assert said.startswith(f"{record.job_id}: ")
    assert "submit the job again" in said
    return said


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_refused_by_its_name(ended: Ended, in_place_of: Put, name: str) -> None:
    """Whichever byte was flipped, and wherever it was cut."""
    path = ended.file(ended.one, name)
    assert ended.read(ended.one, name)
    for data in alterations(path.read_bytes()).values():
        in_place_of(path, data)
        said = refused(ended, ended.one, name)
        assert name.partition("_")[0].partition("/")[0] in said


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_has_grown_is_refused_or_read_as_it_was(
    ended: Ended, in_place_of: Put, name: str
) -> None:
    """Where its length is known beforehand, nobody looks beyond that."""
    path = ended.file(ended.one, name)
    in_place_of(path, path.read_bytes() + path.read_bytes())
    if name in ("input", "reduce_results/0"):
        found = ended.read(ended.one, name)
        assert found == EXPECTED if name != "input" else found.committed == "same"
    else:
        refused(ended, ended.one, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_file_is_refused_and_leaves_no_trace(
    ended: Ended, in_place_of: Put, tmp_path: Path, name: str
) -> None:
    """Though all is right about it but its key; with the job's own key it would have left one."""
    trace = tmp_path / "trace"
    path = ended.file(ended.one, name)
    in_place_of(path, forged(name, ended.one.job_id, Trace(trace), path.stat().st_size))
    assert "is not signed with the job's key" in refused(ended, ended.one, name)
    assert not trace.exists()


def test_a_trace_is_left_where_a_file_is_signed(
    ended: Ended, in_place_of: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the lack of one means something."""
    trace = tmp_path / "trace"
    monkeypatch.setattr("tests.security.forgery.new_key", lambda: bytes.fromhex(ended.one.key))
    in_place_of(
        ended.file(ended.one, "shuffle_results/0"),
        forged("shuffle_results/0", ended.one.job_id, Trace(trace)),
    )
    with suppress(Exception):
        ended.read(ended.one, "shuffle_results/0")
    assert trace.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_job_is_refused(ended: Ended, in_place_of: Put, name: str) -> None:
    """Though that job is like this one in everything."""
    in_place_of(ended.file(ended.one, name), ended.file(ended.another, name).read_bytes())
    assert re.search("is not signed with the job's key|is damaged: it ends", refused(ended, ended.one, name))


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_a_file_of_the_same_job_is_refused_in_another_place(
    ended: Ended, in_place_of: Put, source: str, target: str
) -> None:
    """Another kind of file, or, of the same kind, another index."""
    if source == target:
        if "/" not in source:
            return
        record, source, target = ended.wide, source.replace("/0", "/1"), target
    else:
        record = ended.one
    in_place_of(ended.file(record, target), ended.file(record, source).read_bytes())
    refused(ended, record, target)


@pytest.mark.parametrize("folder", ["errors", "output"])
def test_what_a_failed_job_left_is_refused_when_it_was_damaged_or_forged(
    ended: Ended, in_place_of: Put, tmp_path: Path, folder: str
) -> None:
    """The exception, which is a pickle, and what was printed, which is JSON."""
    (path,) = ended.file(ended.raised, folder).iterdir()
    trace = tmp_path / "trace"
    assert ended.read(ended.raised, folder)
    for data in (
        *alterations(path.read_bytes()).values(),
        forged("error", ended.raised.job_id, Trace(trace)),
    ):
        in_place_of(path, data)
        refused(ended, ended.raised, folder)
    assert not trace.exists()


def test_a_file_that_is_gone_is_named(ended: Ended, in_place_of: Put) -> None:
    """As it is when it was deleted by somebody."""
    path = ended.file(ended.one, "shuffle_results/0")
    in_place_of(path, path.read_bytes())
    path.unlink()
    with pytest.raises(StoreNotFound, match=re.escape(f"{ended.one.job_id}: the file for shuffle 0")):
        ended.read(ended.one, "shuffle_results/0")


# ---------------------------------------------------------------- while the job runs


class Live:
    """A cluster whose master can be kept from hearing and saying anything, so that a phase ends and none begins."""

    def __init__(self, cluster: mrq.EmbeddedCluster, folder: Path, gate: Gate) -> None:
        self.cluster = cluster
        self.folder = folder
        self.gate = gate

    def submit(self, phase: Phase | None) -> JobFuture:
        """Submit a job that waits at the gate in a phase."""
        gate = self.gate

        def map_func(strings: list[str]) -> list[tuple[Any, int]]:
            if phase is Phase.MAP:
                gate.wait("map")
            pairs = one_each(strings)
            return [(GatedKey(key, gate), n) for key, n in pairs] if phase is Phase.SHUFFLE else list(pairs)

        def reduce_func(values: list[int]) -> int:
            if phase is Phase.REDUCE:
                gate.wait("reduce")
            return sum(values)

        return self.cluster.mapreduce(DATA, map_func, reduce_func, 1, n_reducers=1)

    def put(self, future: JobFuture, name: str, data: bytes) -> None:
        """Write a file of the job's, from outside."""
        (self.folder / "files" / layout.folder(future.job_id) / name).write_bytes(data)

    def length(self, future: JobFuture, name: str) -> int:
        """Return the length of a file of the job's; 0 when it is not there."""
        path = self.folder / "files" / layout.folder(future.job_id) / name
        return path.stat().st_size if path.exists() else 0


PHASE_OF = {"map_results/0": Phase.MAP, "shuffle_results/0": Phase.SHUFFLE, "reduce_results/0": Phase.REDUCE}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with mrq.EmbeddedCluster(
        n_workers=2, folder=tmp_path / "store", settings=mrq.Settings.load(inline_bytes=0)
    ) as cluster:
        yield Live(cluster, tmp_path / "store", Gate(tmp_path))


def test_a_job_whose_files_are_forged_while_it_runs_fails_and_another_does_not(
    live: Live, tmp_path: Path
) -> None:
    """In each phase: what was committed is replaced before anybody reads it."""
    server, gate, trace = live.cluster._server, live.gate, Trace(tmp_path / "trace")
    for name in NAMES[:5]:
        phase = PHASE_OF.get(name)
        good = live.cluster.mapreduce(DATA, one_each, add_up, 2)
        if phase is None:
            server.block()  # the master can't give a task out
            future = live.submit(None)
        else:
            future = live.submit(phase)
            eventually(lambda phase=phase: gate.reached(phase.value), f"{phase} runs")
            server.block()  # the worker can't report
            gate.open(phase.value)
            eventually(lambda name=name, future=future: live.length(future, name), f"{name} is committed")
        live.put(future, name, forged(name, future.job_id, trace, live.length(future, name)))
        server.unblock()
        with pytest.raises(
            BadSignature, match=rf"{future.job_id}: .*not signed with the job's key.*submit the job again"
        ):
            future.result(60)
        assert good.result(60) == EXPECTED
        live.cluster.clear()
        for file in tmp_path.glob("*-*"):  # the gate closes again
            file.unlink()
    assert not trace.path.exists()


def test_a_manifest_that_somebody_else_wrote_first_ends_the_job(live: Live, tmp_path: Path) -> None:
    """Its master finds it where it would put its own, and goes round for nothing no more."""
    trace = Trace(tmp_path / "trace")
    future = live.submit(Phase.REDUCE)
    eventually(lambda: live.gate.reached("reduce"), "reduce runs")
    live.put(future, "manifest", forged("manifest", future.job_id, trace))
    live.gate.open("reduce")
    with pytest.raises(
        BadSignature, match=rf"{future.job_id} can't be completed: .*the file for manifest is not signed"
    ):
        future.result(60)
    assert not trace.path.exists()
    assert live.cluster.mapreduce(DATA, one_each, add_up, 2).result(60) == EXPECTED


def test_a_result_that_is_there_before_its_task_ran_is_not_believed(live: Live, tmp_path: Path) -> None:
    """Somebody commits in a worker's place: the worker finds it, looks at it, and refuses it."""
    trace = Trace(tmp_path / "trace")
    future = live.submit(Phase.MAP)
    eventually(lambda: live.gate.reached("map"), "map runs")
    live.put(future, "map_results/0", forged("map_results/0", future.job_id, trace))
    live.gate.open("map")
    with pytest.raises(BadSignature, match=rf"{future.job_id}: task map 0 was refused: .*the file for map 0"):
        future.result(60)
    assert not trace.path.exists()


def test_the_remote_traceback_is_still_there(ended: Ended) -> None:
    """Nothing of this has changed what is good."""
    error = ended.read(ended.raised, "errors")
    assert isinstance(error.__cause__, RemoteTraceback)
