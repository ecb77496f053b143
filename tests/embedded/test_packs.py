"""Small results of many map tasks share files, which the job's record names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import mrq
from mrq import layout, packs, truth
from mrq.blob import Signer
from mrq.core.model import JobState, Phase
from mrq.errors import BadMessage, BadSignature
from mrq.executor.child import Runner
from mrq.ops import replay
from mrq.ports import Store
from mrq.records import JobRecord
from mrq.wire import Assignment, TaskMessage, decode

N_TASKS = 60


@pytest.fixture
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    """Its records have no room for what so many tasks make."""
    with mrq.EmbeddedCluster(n_workers=2, settings=mrq.Settings.load(inline_bytes=4000)) as cluster:
        yield cluster


def by_tens(numbers: list[int]) -> list[tuple[int, int]]:
    return [(number // 10, number) for number in numbers]


def in_order(values: list[int]) -> list[int]:
    return list(values)


EXPECTED = [(ten, list(range(10 * ten, 10 * ten + 10))) for ten in range(N_TASKS // 10)]


def run(cluster: mrq.EmbeddedCluster) -> JobRecord:
    future = cluster.mapreduce(range(N_TASKS), by_tens, in_order, N_TASKS, n_reducers=2)
    assert future.result(60) == EXPECTED
    return cluster._registry.require(future.job_id).record


def signer(record: JobRecord) -> Signer:
    return Signer(bytes.fromhex(record.key), record.job_id)


def test_many_small_results_are_in_few_files(cluster: mrq.EmbeddedCluster) -> None:
    record = run(cluster)
    paths = {layout.result(record.job_id, Phase.MAP, index) for index in range(N_TASKS)}
    files = {f"{layout.results(record.job_id, Phase.MAP)}/{file.name}" for file in
             cluster._store.list(layout.results(record.job_id, Phase.MAP))}  # fmt: skip
    packed = packs.read(cluster._store, signer(record), record.packs)
    assert packed.keys() | files == paths
    assert len(files) < N_TASKS // 2, "a task that took long has a file, others do not"
    assert not record.inline.keys() & paths


def test_few_results_stay_in_the_record(cluster: mrq.EmbeddedCluster) -> None:
    future = cluster.mapreduce(range(20), by_tens, in_order, 4)
    future.result(60)
    record = cluster._registry.require(future.job_id).record
    assert record.packs == []
    assert layout.result(record.job_id, Phase.MAP, 0) in record.inline


def test_a_successor_goes_on_from_the_packs(cluster: mrq.EmbeddedCluster) -> None:
    record = run(cluster)
    packed = packs.read(cluster._store, signer(record), record.packs)
    mapping = record.model_copy(update={"state": JobState.MAP, "epoch": record.epoch + 1})
    assert truth.known_set(cluster._store, mapping) == (Phase.MAP, frozenset(range(N_TASKS)))
    nothing = mapping.model_copy(update={"packs": []})
    known = truth.known_set(cluster._store, nothing)[1]
    assert known == frozenset(range(N_TASKS)) - {int(path.rpartition("/")[2]) for path in packed}


def test_a_shuffle_task_is_replayed_on_packs(cluster: mrq.EmbeddedCluster) -> None:
    record = run(cluster)
    replayed = replay.run(record.job_id, "shuffle 0", registry=cluster._registry, store=cluster._store)
    assert replayed.committed == "same"


def test_a_pack_of_another_name_is_refused(cluster: mrq.EmbeddedCluster) -> None:
    record = run(cluster)
    [name, *_] = record.packs
    sealed = cluster._store.read(layout.pack(record.job_id, name))
    cluster._store.write(layout.pack(record.job_id, "7-7"), sealed)
    with pytest.raises(BadSignature):
        packs.read(cluster._store, signer(record), ["7-7"])
    with pytest.raises(BadMessage):
        decode(JobRecord, record.encode().replace(name.encode(), b"../../x"))


class _RunnerHere(Runner):
    """Runs tasks as a child does, on a store that is open."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._here = store

    def _open(self, address: dict[str, Any]) -> Store:
        return self._here


def test_a_forged_pack_is_refused_by_the_task_that_needs_it(cluster: mrq.EmbeddedCluster) -> None:
    record = run(cluster)
    assignment = Assignment(
        task=TaskMessage(job_id=record.job_id, phase=Phase.SHUFFLE, index=0, epoch=record.epoch + 1, attempt=0),
        key=record.key, n_map=record.n_map, n_reduce=record.n_reduce, input_length=record.input_length,
        frame_bytes=2**20, store={}, inline=record.inline, packs=record.packs, run="again",
    )  # fmt: skip
    assert _RunnerHere(cluster._store).run(assignment).kind == "done"
    path = layout.pack(record.job_id, record.packs[0])
    sealed = bytearray(cluster._store.read(path))
    sealed[-1] ^= 1
    cluster._store.write(path, bytes(sealed))
    refused = _RunnerHere(cluster._store).run(assignment)
    assert (refused.kind, refused.type) == ("refused", "BadSignature")
    assert record.packs[0] in refused.message
    cluster._store.delete(path)
    assert _RunnerHere(cluster._store).run(assignment).type == "StoreNotFound"
    mapping = record.model_copy(update={"state": JobState.MAP})
    assert len(truth.known_set(cluster._store, mapping)[1]) < N_TASKS, "then the tasks run again"
