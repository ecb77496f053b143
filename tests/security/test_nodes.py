"""Nodes that hold something else than they should, beside good ones: left alone by all, and named by those who look."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.coordination.embedded import EmbeddedCoordination
from mrq.core.model import JobState, Phase
from mrq.errors import BadMessage, BadSignature, MrqError
from mrq.inline import to_text
from mrq.ops.doctor import Doctor
from mrq.ops.explain import explain, lines
from mrq.records import JobRecord
from mrq.registry import Role
from tests.integration.cluster import eventually
from tests.jobs import Gate, add_up, count_characters, plain, random_strings
from tests.security.forgery import Trace, forged
from tests.security.fuzz import HOSTILE, Fuzzer

DATA = random_strings(40)
EXPECTED = plain(DATA, count_characters, add_up)


class Admin:
    """Somebody who may write every node, and does."""

    def __init__(self, cluster: mrq.EmbeddedCluster) -> None:
        self.cluster = cluster
        self.tree = EmbeddedCoordination(cluster._tree)

    def put(self, path: str, data: bytes) -> None:
        """Write a node, whether it is there or not."""
        if self.tree.get(path) is None:
            self.tree.create(path, data)
        else:
            self.tree.set(path, data)

    def clean(self) -> None:
        """Remove all jobs, and what was put among the members."""
        for folder in ("/jobs", "/masters", "/workers"):
            for name in self.tree.children(folder):
                if folder == "/jobs" or name.startswith("odd"):
                    self.tree.delete(f"{folder}/{name}")
        self.tree.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[mrq.EmbeddedCluster]:
    settings = mrq.Settings.load(poll_interval=0.2, reconcile_after=3)
    with mrq.EmbeddedCluster(n_workers=2, n_masters=2, settings=settings) as cluster:
        yield cluster


@pytest.fixture
def admin(cluster: mrq.EmbeddedCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Admin]:
    """And a job that runs meanwhile, and ends right; then a second one, from its submission on."""
    gate = Gate(tmp_path)

    def map_func(strings: list[str]) -> list[tuple[str, int]]:
        gate.wait("good")
        return count_characters(strings)

    future = cluster.mapreduce(DATA, map_func, add_up, 1)
    eventually(lambda: gate.reached("good"), "its task runs")
    admin = Admin(cluster)
    yield admin
    look(cluster)
    gate.open("good")
    assert future.result(60) == EXPECTED
    assert cluster.mapreduce(DATA, count_characters, add_up, 2).result(60) == EXPECTED
    assert all(member.thread.is_alive() for member in (*cluster.masters, *cluster.workers))
    assert [record.exc_text or record.msg for record in caplog.records if record.exc_info] == []
    admin.clean()


def look(cluster: mrq.EmbeddedCluster) -> list[str]:
    """Look at everything that people look at; return what the doctor says."""
    status = cluster.local_monitoring.status()
    assert status.missing == {}
    assert json.loads(status.model_dump_json())
    assert cluster.local_monitoring.zoo().workers
    for record in cluster.jobs():
        assert list(lines(explain(record.job_id, cluster.local_monitoring, cluster._settings)))
    diagnosis = Doctor(cluster.local_monitoring, cluster._settings).diagnose()
    asked_in_vain = {name for name, why in diagnosis.unchecked.items() if "MANAGEMENT" not in why}
    assert asked_in_vain == set()
    return [f"{finding.where}: {finding.what}" for finding in diagnosis.findings]


# ---------------------------------------------------------------- jobs

GARBAGE: dict[str, bytes] = {
    "nothing like JSON": b"\x80\x04\x95 rubbish \xff",
    "no object": b"[1, 2]",
    "deep": b"[" * 100_000,
    "a megabyte": b"x" * 1_000_000,
    "a megabyte of JSON": b'{"v":1,"job_id":"' + b"x" * 999_900 + b'"}',
    "null": b"null",
    "a number": b"1e999",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_a_job_whose_record_is_none_is_left_alone_and_named(
    admin: Admin, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """It was written so by an admin, or by another version: masters say it once, and whoever asks is told."""
    cluster, job_id = admin.cluster, f"job_{5000 + list(GARBAGE).index(what)}"
    why = f"the znode of {job_id} is not a JobRecord of version 1"
    with caplog.at_level(logging.ERROR):
        admin.put(f"/jobs/{job_id}", GARBAGE[what])
        eventually(lambda: caplog.text.count(f"{job_id} is left alone: {why}") == 2, "both masters say so")
        assert any(said.startswith(f"{job_id}: {why}") for said in look(cluster))
        with pytest.raises(BadMessage, match=why):
            cluster.attach(job_id)
        with pytest.raises(BadMessage, match=why):
            explain(job_id, cluster.local_monitoring, cluster._settings)
    assert caplog.text.count(f"{job_id} is left alone") == 2, "it is said again and again"


def record(**more: Any) -> bytes:
    """A good record but for what is said."""
    good = JobRecord(job_id="job_1", key="00" * 32, n_map=1, n_reduce=1, python="3.11", mrq="0.1.0")
    return json.dumps(json.loads(good.encode()) | more).encode()


WRONG: list[dict[str, Any]] = [
    {"v": 2}, {"job_id": "job_0"}, {"job_id": "../../x"}, {"key": "no key"}, {"key": ""}, {"n_map": 10**12},
    {"n_reduce": -1}, {"epoch": 2**64}, {"submitted_at": 1e300}, {"task_timeout": -1}, {"state": "flying"},
    {"retries": "many"}, {"inline": {"x": "no base64"}},
]  # fmt: skip


@pytest.mark.parametrize("more", WRONG, ids=str)
def test_a_record_with_one_wrong_field_is_none(
    admin: Admin, caplog: pytest.LogCaptureFixture, more: dict[str, Any]
) -> None:
    """One that says that it is another job's, too: it would be acted on in that one's place."""
    job_id = f"job_{6000 + WRONG.index(more)}"
    with caplog.at_level(logging.ERROR):
        admin.put(f"/jobs/{job_id}", record(**({"job_id": job_id} | more)))
        eventually(
            lambda: f"{job_id} is left alone: the znode of {job_id}" in caplog.text, "a master says so"
        )


def test_a_job_whose_record_is_spoilt_while_it_runs_is_let_go(
    admin: Admin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its future says what is the matter; its master gives it up, and has it again when the record is there again."""
    gate, cluster = Gate(tmp_path), admin.cluster

    def map_func(strings: list[str]) -> list[tuple[str, int]]:
        gate.wait("spoilt")
        return count_characters(strings)

    future = cluster.mapreduce(DATA, map_func, add_up, 1)
    eventually(lambda: gate.reached("spoilt"), "its task runs")
    path = f"/jobs/{future.job_id}"
    node = admin.tree.get(path)
    assert node
    with caplog.at_level(logging.ERROR):
        admin.put(path, b"spoilt")
        with pytest.raises(BadMessage, match=f"the znode of {future.job_id} is not a JobRecord of version 1"):
            future.result(60)
        eventually(lambda: f"{future.job_id} is given up" in caplog.text, "its master says so")
        eventually(lambda: cluster._registry.owner(future.job_id) is None, "nobody owns it")
    admin.put(path, node.data)
    gate.open("spoilt")
    assert cluster.attach(future.job_id).result(60) == EXPECTED


def test_a_small_file_that_was_forged_in_the_record_is_refused(admin: Admin, tmp_path: Path) -> None:
    """What rides in the record is signed as any file is: whoever wrote that must have had the key from elsewhere."""
    trace, server = Trace(tmp_path / "trace"), admin.cluster._server
    server.block()  # the master can't give its task out
    future = admin.cluster.mapreduce(DATA, count_characters, add_up, 1)
    registry = admin.cluster._registry
    held = eventually(
        lambda: (job := registry.job(future.job_id)) and job.record.epoch and job, "it is claimed"
    )
    code = f"jobs/{future.job_id}/code"
    assert code in held.record.inline
    bad = to_text({code: forged("code", future.job_id, trace)})
    changed = held.record.model_copy(update={"inline": held.record.inline | bad})
    admin.tree.set(f"/jobs/{future.job_id}", changed.encode(), held.version)
    server.unblock()
    with pytest.raises(
        BadSignature, match=rf"{future.job_id}: task map 0 was refused: .*the file for code is not signed"
    ):
        future.result(60)
    assert not trace.path.exists()


def test_names_that_no_job_has_hurt_nobody(admin: Admin) -> None:
    """They are sorted, looked at, and left alone."""
    names = ("x", "job_", "job_²", "job_٣", "job_-1", "job_" + "9" * 5000, "_", "job_1_2", "ö")
    for name in names:
        admin.put(f"/jobs/{name}", b"rubbish")
    assert set(admin.cluster._registry.job_ids()) >= set(names)


@pytest.mark.parametrize("name", ["../../x", "job_0/owner", "", ".", "job_0\x00", "/"], ids=repr)
def test_a_name_that_is_a_path_is_refused(cluster: mrq.EmbeddedCluster, name: str) -> None:
    """By whatever takes a job's name."""
    with pytest.raises(MrqError):
        cluster.attach(name)


NO_NUMBERS = [b"", b"x", b"-5", b"\xff", b"9" * 5000, "٣".encode(), b"1.5", b"[" * 1000]


@pytest.mark.parametrize("number", NO_NUMBERS, ids=lambda number: repr(number[:9]))
def test_a_counter_that_is_no_number_is_said(admin: Admin, number: bytes) -> None:
    """No job can get a name before somebody mends it; what runs goes on."""
    before = admin.tree.get("/ids/jobs")
    assert before
    admin.put("/ids/jobs", number)
    try:
        with pytest.raises(BadMessage, match="/ids/jobs holds no number: write the greatest number"):
            admin.cluster.mapreduce(DATA, count_characters, add_up)
    finally:
        admin.put("/ids/jobs", before.data)


def test_two_thousand_damaged_records_cost_nothing(admin: Admin) -> None:
    """Each way in which a good one can be damaged; and each hostile value, in a member's node."""
    fuzzer, registry, said = Fuzzer(4), admin.cluster._registry, set()
    for number in range(2000):
        job_id = f"job_{70_000 + number % 40}"
        admin.put(f"/jobs/{job_id}", fuzzer.damaged(record(job_id=job_id, state="completed")))
        try:
            held = registry.job(job_id)
        except BadMessage as error:
            said.add(str(error).startswith(f"the znode of {job_id} "))
        else:
            said.add(held is None or held.record.job_id == job_id)
    assert said == {True}
    for number, value in enumerate(HOSTILE):
        admin.put(f"/workers/odd-{number}", json.dumps(value).encode())


# ---------------------------------------------------------------- what is there for people, and members


def test_what_is_there_for_people_costs_them_only_that(admin: Admin) -> None:
    """Progress, pages and owner of a job that has ended, and pages that are called as none is."""
    cluster = admin.cluster
    future = cluster.mapreduce(DATA, count_characters, add_up, 1)
    assert future.result(60) == EXPECTED
    odd = ("map-x", "map-", "map-²", "map-" + "9" * 500, "reduce--1")
    for name in ("progress", "owner", "map-0", "shuffle-0", *odd):
        admin.put(f"/jobs/{future.job_id}/{name}", b"\xff\x00 rubbish")
    (job,) = [job for job in cluster.local_monitoring.jobs() if job.job_id == future.job_id]
    assert (job.state, job.done, job.owner) == (JobState.COMPLETED, 0, "\ufffd\x00 rubbish")
    assert cluster._registry.pages(future.job_id, Phase.MAP) == []
    look(cluster)


def test_a_running_job_whose_progress_is_spoilt_goes_on(admin: Admin) -> None:
    """Its master writes it anew."""
    (running,) = [
        held.record.job_id for held in admin.cluster._registry.readable_jobs() if held.record.goes_on
    ]
    for name in ("progress", "map-0"):
        admin.put(f"/jobs/{running}/{name}", b"rubbish")
    look(admin.cluster)


@pytest.mark.parametrize("folder", ["masters", "workers"])
def test_a_member_that_is_none_is_left_out(
    admin: Admin, folder: Role, caplog: pytest.LogCaptureFixture
) -> None:
    """And does not count for anything, as its slots would."""
    registry = admin.cluster._registry
    members = registry.members(folder).keys()
    many = b'{"v":1,"hostname":"h","pid":1,"python":"3","mrq":"0","slots":1e300}'
    for number, data in enumerate((*GARBAGE.values(), b"", many)):
        admin.put(f"/{folder}/odd-{number}", data)
    assert registry.members(folder).keys() == members
    assert f"the member odd-0 of the {folder} is left out: not a MemberInfo of version 1" in caplog.text


def test_the_tree_of_files_may_hold_any_name(cluster: mrq.EmbeddedCluster) -> None:
    """As `mrq hdfs` shows it: numbers in order, and what only looks like one somewhere."""
    names = {"10", "2", "²", "٣", "x" * 200, "9" * 200}
    for name in names:
        cluster._store.write(f"odd/{name}", b"x")
    shown = list(cluster.local_monitoring.hdfs("odd"))
    assert set(shown) == names
    assert shown.index("2") < shown.index("10") < shown.index("9" * 200)
    cluster._store.delete("odd")
