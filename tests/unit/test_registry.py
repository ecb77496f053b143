"""The registry over a tree in memory: ids, records under several hands, claims, members, pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.core.model import JobState, Phase, TaskState
from mrq.errors import BadMessage, NodeExists, UnknownJob
from mrq.ports import Node, Watch
from mrq.records import JobRecord, MemberInfo, PhaseProgress, ProgressRecord, TaskPage, TaskRow
from mrq.registry import Registry, StaleEpoch

Open = Callable[[], Registry]


class Interrupted(EmbeddedCoordination):
    """A session whose next write of a node comes after somebody else's, or whose reply is lost.

    Attributes:
        before_set: called once, right before a node is written.
        before_create: called once, right before a node is created.
        lose_reply: whether the next write succeeds, and is retried as an adapter would.
    """

    before_set: Callable[[], Any] | None = None
    before_create: Callable[[], Any] | None = None
    lose_reply = False

    def set(self, path: str, data: bytes, version: int = -1) -> int:
        call, self.before_set = self.before_set, None
        if call:
            call()
        if self.lose_reply:
            self.lose_reply = False
            super().set(path, data, version)
        return super().set(path, data, version)

    def create(self, path: str, data: bytes, *, ephemeral: bool = False, parents: bool = True) -> Node:
        call, self.before_create = self.before_create, None
        if call:
            call()
        return super().create(path, data, ephemeral=ephemeral, parents=parents)


@pytest.fixture
def tree() -> EmbeddedTree:
    return EmbeddedTree()


@pytest.fixture
def open_registry(tree: EmbeddedTree) -> Iterator[Open]:
    """Open registries, each with a session of its own."""
    opened: list[EmbeddedCoordination] = []

    def new() -> Registry:
        opened.append(Interrupted(tree))
        return Registry(opened[-1])

    yield new
    for session in opened:
        session.close()


@pytest.fixture
def registry(open_registry: Open) -> Registry:
    return open_registry()


@pytest.fixture
def other(open_registry: Open) -> Registry:
    return open_registry()


def session_of(registry: Registry) -> Interrupted:
    assert isinstance(registry.tree, Interrupted)
    return registry.tree


def record(job_id: str = "job_0", **fields: Any) -> JobRecord:
    return JobRecord(job_id=job_id, key="00" * 32, n_map=2, n_reduce=1, python="3.11", mrq="0.1.0", **fields)


def member(**fields: Any) -> MemberInfo:
    return MemberInfo(hostname="ada", python="3.11", mrq="0.1.0", **({"pid": 7} | fields))


def now_is(registry: Registry, job_id: str = "job_0") -> JobRecord:
    return registry.require(job_id).record


# ---------------------------------------------------------------- ids


def test_ids_begin_at_0_where_the_tree_was_made_for_users(registry: Registry) -> None:
    """`mrq.Auth` makes the counter before there is a job: it holds the last number given out, none."""
    registry.tree.create("/ids/jobs", b"-1")
    assert registry.last_job_number() == -1
    assert [registry.next_job_id() for _ in range(2)] == ["job_0", "job_1"]


def test_no_two_callers_ever_get_the_same_id(open_registry: Open) -> None:
    """Four threads with a session each, and no number is left out."""
    registries = [open_registry() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        given = [
            job_id
            for ids in pool.map(lambda r: [r.next_job_id() for _ in range(50)], registries)
            for job_id in ids
        ]
    assert sorted(given, key=lambda job_id: int(job_id[4:])) == [f"job_{n}" for n in range(200)]


def test_ids_begin_at_nought_and_go_on_where_a_former_client_stopped(
    registry: Registry, other: Registry
) -> None:
    """The number is in the tree, not in the client."""
    assert [registry.next_job_id(), other.next_job_id(), registry.next_job_id()] == [
        "job_0",
        "job_1",
        "job_2",
    ]


def test_jobs_are_listed_oldest_first(registry: Registry) -> None:
    """By number, so that ``job_10`` comes after ``job_9``."""
    for number in (10, 9, 100):
        registry.submit(record(f"job_{number}"))
    assert registry.job_ids() == ["job_9", "job_10", "job_100"]


# ---------------------------------------------------------------- records


def test_a_job_that_was_never_submitted_is_unknown(registry: Registry) -> None:
    """The error names it."""
    assert registry.job("job_9") is None
    with pytest.raises(UnknownJob, match="no job job_9") as caught:
        registry.require("job_9")
    assert caught.value.job_id == "job_9"


def test_a_job_can_not_be_submitted_twice(registry: Registry, other: Registry) -> None:
    """Whoever comes second has someone else's id: another key tells."""
    registry.submit(record())
    with pytest.raises(NodeExists):
        other.submit(record().model_copy(update={"key": "f" * 64}))


def test_a_submission_finds_itself_although_a_master_was_quick(registry: Registry, other: Registry) -> None:
    """Its reply was lost, and the record was written by a master since."""
    registry.submit(record())
    held = other.require(record().job_id)
    epoch = other.claim(record().job_id, "ada")
    assert epoch
    other.amend(record().job_id, held, epoch, state=JobState.MAP)
    registry.submit(record())
    assert registry.require(record().job_id).record.state is JobState.MAP


def test_a_znode_that_holds_something_else_is_said_to_be_that_job_s(registry: Registry) -> None:
    """The message says which job, and what is wrong."""
    registry.tree.create("/jobs/job_3", b'{"v": 2}')
    with pytest.raises(BadMessage, match="the znode of job_3 is not a JobRecord of version 1"):
        registry.job("job_3")


def test_an_owner_writes_its_epoch_with_each_change(registry: Registry) -> None:
    """So that older owners find out."""
    registry.submit(record())
    held = registry.amend("job_0", registry.require("job_0"), 5, state=JobState.MAP)
    assert held == registry.require("job_0")
    assert (held.record.state, held.record.epoch) == (JobState.MAP, 5)


def test_an_owner_s_change_keeps_a_cancellation_that_came_before_it(
    registry: Registry, other: Registry
) -> None:
    """The write is compared, repeated on the newer record, and loses nothing."""
    registry.submit(record())
    held = registry.amend("job_0", registry.require("job_0"), 5, state=JobState.MAP)
    session_of(registry).before_set = lambda: other.request_cancel("job_0", 1.0)
    registry.amend("job_0", held, 5, state=JobState.SHUFFLE)
    assert (now_is(other).state, now_is(other).cancel_requested) == (JobState.SHUFFLE, True)


def test_a_pack_whose_write_came_late_stays_beside_the_next(registry: Registry, other: Registry) -> None:
    """A write that was given up, and then again another: the record names both packs."""
    registry.submit(record())
    held = registry.amend("job_0", registry.require("job_0"), 5, state=JobState.MAP)
    session_of(registry).before_set = lambda: other.amend("job_0", held, 5, pack="5-0")
    assert registry.amend("job_0", held, 5, pack="5-1").record.packs == ["5-0", "5-1"]


def test_an_owner_s_change_whose_reply_was_lost_is_made_once(registry: Registry) -> None:
    """It recognizes what it wrote itself."""
    registry.submit(record())
    held = registry.require("job_0")
    session_of(registry).lose_reply = True
    held = registry.amend("job_0", held, 5, state=JobState.MAP)
    assert held.version == 1
    assert held == registry.require("job_0")


def test_a_stale_owner_s_change_is_refused(registry: Registry, other: Registry) -> None:
    """Whether it knows of its successor or not."""
    registry.submit(record())
    stale = registry.amend("job_0", registry.require("job_0"), 5, state=JobState.MAP)
    other.amend("job_0", other.require("job_0"), 9, state=JobState.MAP)
    for held in (stale, registry.require("job_0")):
        with pytest.raises(StaleEpoch):
            registry.amend("job_0", held, 5, state=JobState.SHUFFLE)
    assert (now_is(registry).state, now_is(registry).epoch) == (JobState.MAP, 9)


def test_a_successor_whose_reading_is_old_takes_nothing_back(registry: Registry, other: Registry) -> None:
    """The owner before it wrote once more meanwhile: the successor has to read again."""
    registry.submit(record())
    held = registry.amend("job_0", registry.require("job_0"), 5, state=JobState.MAP)
    old_reading = other.require("job_0")
    registry.amend("job_0", held, 5, state=JobState.SHUFFLE)
    with pytest.raises(StaleEpoch):
        other.amend("job_0", old_reading, 9, state=JobState.MAP)
    assert now_is(registry).state is JobState.SHUFFLE


@pytest.mark.parametrize("end", [state for state in JobState if state.ended])
def test_a_record_that_has_ended_is_never_changed(registry: Registry, end: JobState) -> None:
    """By no epoch, and by no cancellation."""
    registry.submit(record())
    held = registry.amend("job_0", registry.require("job_0"), 5, state=end, ended_at=1.0)
    with pytest.raises(StaleEpoch):
        registry.amend("job_0", held, 9, state=JobState.MAP)
    assert registry.request_cancel("job_0", 2.0) is (end is JobState.CANCELLED)
    assert registry.require("job_0") == held


def test_a_change_of_a_job_that_was_cleared_is_refused(registry: Registry, other: Registry) -> None:
    """Nothing of it comes back."""
    registry.submit(record())
    held = registry.require("job_0")
    assert other.delete_job("job_0")
    with pytest.raises(StaleEpoch):
        registry.amend("job_0", held, 5, state=JobState.MAP)
    assert registry.job_ids() == []


# ---------------------------------------------------------------- cancellation


def test_a_job_that_nobody_owns_is_cancelled_on_the_spot(registry: Registry) -> None:
    """There is no master to do it."""
    registry.submit(record())
    assert registry.request_cancel("job_0", 3.5) is True
    assert (now_is(registry).state, now_is(registry).ended_at) == (JobState.CANCELLED, 3.5)


def test_a_job_that_is_owned_is_cancelled_by_its_owner(registry: Registry) -> None:
    """The client only asks; asking twice is asking once."""
    registry.submit(record())
    registry.amend("job_0", registry.require("job_0"), 5, state=JobState.MAP)
    assert registry.request_cancel("job_0", 3.5) is True
    held = registry.require("job_0")
    assert (held.record.state, held.record.cancel_requested) == (JobState.MAP, True)
    assert registry.request_cancel("job_0", 4.5) is True
    assert registry.require("job_0") == held


def test_a_claim_that_comes_between_makes_the_cancellation_the_owner_s(
    registry: Registry, other: Registry
) -> None:
    """The client's write is repeated on the owner's record."""
    registry.submit(record())
    held = other.require("job_0")
    session_of(registry).before_set = lambda: other.amend("job_0", held, 5, state=JobState.MAP)
    assert registry.request_cancel("job_0", 3.5) is True
    assert (now_is(other).state, now_is(other).epoch, now_is(other).cancel_requested) == (
        JobState.MAP,
        5,
        True,
    )


def test_a_cancellation_that_comes_between_makes_the_claim_void(registry: Registry, other: Registry) -> None:
    """The master's first write finds the job ended."""
    registry.submit(record())
    held = registry.require("job_0")
    session_of(registry).before_set = lambda: other.request_cancel("job_0", 3.5)
    with pytest.raises(StaleEpoch):
        registry.amend("job_0", held, 5, state=JobState.MAP)
    assert now_is(registry).state is JobState.CANCELLED


def test_a_job_that_was_cleared_can_not_be_cancelled(registry: Registry, other: Registry) -> None:
    """Also when it is cleared while the request is on its way."""
    registry.submit(record())
    session_of(registry).before_set = lambda: other.delete_job("job_0")
    with pytest.raises(UnknownJob):
        registry.request_cancel("job_0", 1.0)


# ---------------------------------------------------------------- ownership


def test_one_master_owns_a_job_and_each_claim_has_a_later_epoch(registry: Registry, other: Registry) -> None:
    """A claim told twice is the same claim."""
    registry.submit(record())
    first = registry.claim("job_0", "m1")
    assert first is not None
    assert registry.claim("job_0", "m1") == first
    assert other.claim("job_0", "m2") is None
    assert other.owner("job_0") == "m1"
    other.release("job_0")  # it is not its to give up
    assert other.owner("job_0") == "m1"
    registry.release("job_0")
    assert registry.owner("job_0") is None
    second = other.claim("job_0", "m2")
    assert second is not None
    assert second > first


def test_an_owner_whose_session_is_over_owns_nothing(registry: Registry, other: Registry) -> None:
    """Its successor's epoch is later."""
    registry.submit(record())
    first = registry.claim("job_0", "m1")
    session_of(registry).expire()
    second = other.claim("job_0", "m2")
    assert first is not None
    assert second is not None
    assert second > first


def test_a_claim_of_a_job_that_is_cleared_meanwhile_leaves_nothing_behind(
    registry: Registry, other: Registry
) -> None:
    """Creating the owner's node would make the job's node anew, without a record."""
    registry.submit(record())
    session_of(registry).before_create = lambda: other.delete_job("job_0")
    assert registry.claim("job_0", "m1") is None
    assert registry.job_ids() == []


def test_a_job_s_node_without_a_record_is_no_job(registry: Registry) -> None:
    """So an empty one disturbs nobody."""
    registry.tree.create("/jobs/job_4/owner", b"m1")
    assert registry.job("job_4") is None


# ---------------------------------------------------------------- members


@pytest.mark.parametrize("role", ["masters", "workers"])
def test_members_are_those_whose_sessions_live(registry: Registry, other: Registry, role: Any) -> None:
    """Another name each, seen by everyone."""
    registry.register(role, "a", member(slots=2))
    other.register(role, "b", member(slots=3))
    assert registry.members(role) == {"a": member(slots=2), "b": member(slots=3)}
    session_of(other).expire()
    assert registry.members(role) == {"a": member(slots=2)}


def test_registering_again_changes_what_is_shown(registry: Registry) -> None:
    """The node stays the session's own."""
    registry.register("workers", "a", member(state="idle"))
    registry.register("workers", "a", member(state="busy"))
    assert registry.members("workers")["a"].state == "busy"
    session_of(registry).expire()
    assert registry.members("workers") == {}


def test_a_member_registers_again_after_its_session_was_lost(registry: Registry) -> None:
    """With the new session."""
    registry.register("workers", "a", member())
    session_of(registry).expire()
    registry.register("workers", "a", member())
    assert registry.members("workers") == {"a": member()}


def test_a_member_takes_over_the_node_that_its_former_session_left(
    registry: Registry, other: Registry
) -> None:
    """A node of a session that has not expired yet would vanish under it."""
    other.register("workers", "a", member(pid=1))
    registry.register("workers", "a", member(pid=2))
    session_of(other).expire()
    assert registry.members("workers") == {"a": member(pid=2)}


def test_a_watch_tells_of_a_member_that_comes(registry: Registry, other: Registry) -> None:
    """So that nobody needs to poll."""
    from queue import SimpleQueue

    told: SimpleQueue[str] = SimpleQueue()
    watch: Watch = told.put
    assert registry.members("workers", watch) == {}
    other.register("workers", "a", member())
    assert told.get(timeout=10) == "/workers"


# ---------------------------------------------------------------- for people


def page(first: int, worker: str) -> TaskPage:
    return TaskPage(phase=Phase.MAP, rows=[TaskRow(index=first, state=TaskState.RUNNING, worker=worker)])


def test_pages_come_in_the_order_of_their_numbers(registry: Registry) -> None:
    """Page 10 after page 9, and only of the phase asked for."""
    registry.submit(record())
    for number in (10, 9, 0):
        registry.write_page("job_0", number, page(number * 200, "ada"))
    registry.write_page("job_0", 1, TaskPage(phase=Phase.REDUCE, rows=[]))
    assert [p.rows[0].index for p in registry.pages("job_0", Phase.MAP)] == [0, 1800, 2000]
    assert registry.pages("job_0", Phase.REDUCE) == [TaskPage(phase=Phase.REDUCE, rows=[])]
    assert registry.pages("job_0", Phase.SHUFFLE) == []


def test_a_page_is_replaced_by_the_next_of_its_number(registry: Registry) -> None:
    """It shows the present, not the past."""
    registry.submit(record())
    registry.write_page("job_0", 0, page(0, "ada"))
    registry.write_page("job_0", 0, page(0, "bob"))
    assert registry.pages("job_0", Phase.MAP) == [page(0, "bob")]


def test_progress_is_nothing_until_it_is_written(registry: Registry) -> None:
    """Then it is what was written last."""
    registry.submit(record())
    assert registry.progress("job_0") == ProgressRecord()
    for done in (1, 2):
        registry.write_progress(
            "job_0", ProgressRecord(phases={Phase.MAP: PhaseProgress(done=done, total=2)})
        )
    assert registry.progress("job_0").phases[Phase.MAP].done == 2


def test_progress_of_a_job_that_was_cleared_does_not_bring_it_back(registry: Registry) -> None:
    """Its master may not know yet."""
    registry.write_progress("job_0", ProgressRecord())
    registry.write_page("job_0", 0, page(0, "ada"))
    assert registry.job_ids() == []
