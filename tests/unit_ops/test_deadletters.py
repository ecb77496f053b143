"""The dead letters' debugger over embedded parts: what is looked at stays, and what is published again is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mrq import envelope
from mrq.core.model import JobState, Phase
from mrq.errors import BrokerUnavailable, MrqError
from mrq.ops.deadletters import DeadLetters
from mrq.ports import Message
from mrq.wire import TaskMessage

if TYPE_CHECKING:
    from tests.unit_ops.conftest import Parts


def kill(
    parts: Parts, *, body: bytes | None = None, key: str = "", job: int = 0, index: int = 3, **more: Any
) -> str:
    """Have a task message rejected; return its id."""
    fields: dict[str, Any] = {"phase": Phase.MAP, "epoch": 7, "attempt": 1}
    task = TaskMessage(job_id=f"job_{job}", index=index, **(fields | more))
    message = envelope.task(parts.topology, task, key or parts.key)
    if body is not None:
        message = Message(parts.topology.tasks, "map.job_0", "task", body)
    parts.broker.publish([message]).result(5)
    (loan,) = parts.broker.borrow(parts.topology.queue(task.phase), 10)
    loan.reject(requeue=False)
    return f"{task.task_id}@{task.epoch}.{task.attempt}"


@pytest.fixture
def letters(parts: Parts) -> DeadLetters:
    return DeadLetters(parts.broker, parts.registry, parts.settings)


def depth(parts: Parts, queue: str) -> int:
    return parts.broker.depths()[queue].ready


def test_the_list_says_what_died_where_why_and_when(parts: Parts, letters: DeadLetters) -> None:
    """And looking leaves all where it is, as often as one likes."""
    name = kill(parts)
    for _ in range(parts.settings.delivery_limit + 2):
        (letter,) = letters.letters()
    assert (letter.id, letter.task, letter.job_id, letter.phase) == (name, "job_0/map/3", "job_0", "map")
    assert (letter.index, letter.epoch, letter.attempt) == (3, 7, 1)
    assert (letter.queue, letter.reason) == (parts.topology.queue("map"), "rejected")
    assert letter.at > 1e9
    assert depth(parts, "dead") == 1


def test_show_tells_of_the_job(parts: Parts, letters: DeadLetters) -> None:
    """The whole message, and no key."""
    record = parts.add_job()
    name = kill(parts)
    (opened,) = letters.show(name)
    assert opened.body["attempt"] == 1
    assert opened.job is not None
    assert (opened.job["state"], opened.job["epoch"]) == ("map", 7)
    assert opened.obstacle == ""
    assert f'"{record.key}"' not in opened.model_dump_json()
    assert letters.show("job_0/map/3") == [opened]


def test_replay_publishes_the_task_again(parts: Parts, letters: DeadLetters) -> None:
    """With its epoch and attempt; the letter is gone."""
    parts.add_job()
    name = kill(parts)
    assert letters.replay(name) == {name: ""}
    assert depth(parts, "dead") == 0
    (again,) = parts.broker.borrow(parts.topology.queue("map"), 10)
    assert (again.message.headers["epoch"], again.message.headers["attempt"]) == (7, 1)
    assert again.message.message_id == "job_0/map/3"
    envelope.check(again.message, "job_0", parts.key)


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (None, "not there"),
        ({"state": JobState.COMPLETED}, "has ended: completed"),
        ({"cancel_requested": True}, "cancelled"),
        ({"epoch": 9}, "epoch 7 is over"),
        ({"state": JobState.SHUFFLE}, "another phase: shuffle"),
        ({"state": JobState.SUBMITTED}, "another phase: submitted"),
        ({"n_map": 3}, "no such task"),
    ],
)
def test_replay_says_why_not(
    parts: Parts, letters: DeadLetters, job: dict[str, Any] | None, why: str
) -> None:
    """What could do nothing any more, or harm, stays a dead letter."""
    if job is not None:
        parts.add_job(**job)
    name = kill(parts)
    told = letters.replay()
    assert why in told[name]
    assert (depth(parts, "dead"), depth(parts, "map")) == (1, 0)
    assert letters.show(name)[0].obstacle == told[name]


def test_what_cannot_be_read_is_shown_and_dropped_but_not_replayed(
    parts: Parts, letters: DeadLetters
) -> None:
    """Another version's message, or nobody's; a job's name that is no name harms nobody."""
    kill(parts, body=b"\xff\x00 rubbish")
    (letter,) = letters.letters()
    assert letter.id.startswith("bad-")
    assert letters.show(letter.id)[0].body == "\\xff\x00 rubbish"
    assert "can't be read" in letters.replay(letter.id)[letter.id]
    assert letters.drop(letter.id) == [letter.id]
    kill(parts, body=b'{"job_id": "../..", "phase": "map", "index": 1, "epoch": 1, "attempt": 0}')
    assert letters.show(letters.letters()[0].id)[0].job is None


def test_drop_takes_one_or_all(parts: Parts, letters: DeadLetters) -> None:
    """The others stay."""
    names = [kill(parts, index=index) for index in range(3)]
    assert letters.drop(names[1]) == [names[1]]
    assert {letter.id for letter in letters.letters()} == {names[0], names[2]}
    assert set(letters.drop()) == {names[0], names[2]}
    assert letters.letters() == []
    assert letters.drop() == []


def test_a_letter_that_is_not_there_is_an_error(parts: Parts, letters: DeadLetters) -> None:
    """And costs the others nothing."""
    kill(parts)
    with pytest.raises(MrqError, match="no dead letter job_9/map/0"):
        letters.drop("job_9/map/0")
    assert depth(parts, "dead") == 1


def test_a_replay_that_is_not_confirmed_keeps_the_letter(parts: Parts, letters: DeadLetters) -> None:
    """Nothing is lost while the broker is short of memory."""
    parts.add_job()
    kill(parts)
    parts.server.block()
    with pytest.raises(BrokerUnavailable):
        letters.replay()
    assert depth(parts, "dead") == 1
    parts.server.unblock()
