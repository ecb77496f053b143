"""The operators' verbs, over embedded parts in place of the servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import mrq
from mrq import envelope
from mrq.cli import main
from mrq.core.model import Phase
from mrq.wire import TaskMessage
from tests.jobs import count_characters

if TYPE_CHECKING:
    from tests.unit_ops.conftest import Parts


@pytest.fixture
def on_parts(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Have the verbs find these parts instead of servers."""
    given = {"_registry": parts.registry, "_store": parts.store, "_broker": parts.broker}

    def init(self: Any, settings: Any, **_: Any) -> None:
        from contextlib import ExitStack

        self.__dict__.update(given, _settings=settings, _opened=ExitStack())

    monkeypatch.setattr("mrq.monitoring.LocalMonitoring.__init__", init)
    for name in ("MRQ_RABBITMQ_MANAGEMENT_URL", "MRQ_CONFIG", "MRQ_HDFS_URLS"):
        monkeypatch.delenv(name, raising=False)
    return parts


def kill(parts: Parts) -> str:
    task = TaskMessage(job_id="job_0", phase=Phase.MAP, index=3, epoch=7, attempt=0)
    parts.broker.publish([envelope.task(parts.topology, task, parts.key)]).result(5)
    parts.broker.borrow(parts.topology.queue("map"), 1)[0].reject(requeue=False)
    return "job_0/map/3@7.0"


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def test_dead_letters_are_listed_shown_replayed_and_dropped(
    on_parts: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people and as JSON."""
    on_parts.add_job(0)
    assert run(capsys, "dlq", "list") == (0, "no dead letters\n", "")
    name = kill(on_parts)
    code, text, _ = run(capsys, "dlq", "list")
    assert (code, text.splitlines()[1].split()[:3]) == (0, [name, "job_0", "map"])
    assert json.loads(run(capsys, "dlq", "list", "--json")[1])[0]["id"] == name
    text = run(capsys, "dlq", "show", "job_0/map/3")[1]
    assert "rejected" in text
    assert f"possible: mrq dlq replay {name}" in text
    assert json.loads(run(capsys, "dlq", "show", name, "--json")[1])[0]["job"]["state"] == "map"
    assert run(capsys, "dlq", "replay", name) == (0, f"{name} is published again\n", "")
    on_parts.broker.borrow(on_parts.topology.queue("map"), 1)[0].reject(requeue=False)
    assert json.loads(run(capsys, "dlq", "drop", "--all", "--json")[1]) == {"dropped": [name]}


def test_a_replay_that_is_refused_fails(on_parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    """And says why."""
    name = kill(on_parts)
    code, text, _ = run(capsys, "dlq", "replay", "--all")
    assert (code, text) == (1, f"{name} is not published: job_0 is not there (any more)\n")
    assert "drop" not in text
    code, text, _ = run(capsys, "dlq", "replay", "--all", "--json")
    assert (code, list(json.loads(text)["refused"])) == (1, [name])


@pytest.mark.parametrize(
    "argv",
    [
        ("dlq", "list", "--all"), ("dlq", "show"), ("dlq", "replay"), ("dlq", "drop", "a", "--all"),
        ("replay", "job_0", "map", "0"), ("replay", "job_0", "sort", "0", "--local"),
        ("replay", "job_0", "map", "0", "--local", "--pdb", "--json"), ("dlq", "burn"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_usage_errors(
    on_parts: Parts, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]
) -> None:
    """Nothing is done."""
    kill(on_parts)
    assert run(capsys, *argv)[0] == 2
    assert on_parts.broker.depths()["dead"].ready == 1


def test_the_doctor_returns_1_when_something_is_wrong(
    on_parts: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    """And 0 when nothing is; what it could not look at is said."""
    code, text, _ = run(capsys, "doctor", "--set", "hdfs_urls=http://127.0.0.1:1")
    assert code == 1
    assert (
        "warning masters: no masters are registered: jobs will wait\n        -> start one: mrq master" in text
    )
    on_parts.add_member("masters", "m-1")
    on_parts.add_member("workers", "w-1")
    for phase in Phase:
        on_parts.broker.consume(on_parts.topology.queue(phase), 1, lambda _: None)
    code, text, _ = run(capsys, "doctor", "--set", "hdfs_urls=http://127.0.0.1:1", "--fix")
    assert code == 0
    assert text.splitlines()[-1] == "nothing is wrong with what could be looked at"
    code, text, _ = run(capsys, "doctor", "--set", "hdfs_urls=http://127.0.0.1:1", "--json", "--fix")
    assert (code, json.loads(text)["findings"], json.loads(text)["removed"]) == (0, [], [])


def test_a_story_is_told_as_text_and_as_json(on_parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    """The same story."""
    on_parts.add_job(0)
    code, text, _ = run(capsys, "explain", "job_0")
    assert code == 0
    assert "submitted by c-1" in text
    assert json.loads(run(capsys, "explain", "job_0", "--json")[1])["job_id"] == "job_0"
    assert run(capsys, "explain", "job_1")[0] == 1


def test_a_task_is_replayed_in_the_terminal(
    parts: Parts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the functions print is there; with --json it does not get between."""

    def shout(strings: list[str]) -> Any:
        print("shouting")
        return count_characters(strings)

    def explode(values: list[int]) -> Any:
        raise ValueError("odd")

    with mrq.EmbeddedCluster(n_workers=1) as cluster:
        future = cluster.mapreduce(["abba"], shout, explode, 1)
        future.exception(60)
        parts.registry, parts.store = cluster._registry, cluster._store  # type: ignore[assignment]
        monkeypatch.setattr("mrq.ops.replay.LocalMonitoring", lambda *_, **__: cluster.local_monitoring)
        capsys.readouterr()
        code, text, _ = run(capsys, "replay", future.job_id, "map", "0", "--local")
        assert code == 0
        assert "shouting" in text
        assert "what is committed has the same bytes" in text
        assert "'a': [1, 1]" in text
        code, text, err = run(capsys, "replay", future.job_id, "map/0", "--local", "--json")
        assert (code, json.loads(text)["rows"]) == (0, [["'a'", "[1, 1]"], ["'b'", "[1, 1]"]])
        assert "shouting" in err
        code, text, _ = run(capsys, "replay", future.job_id, "reduce/0", "--local")
        assert code == 1
        assert text.splitlines()[-1] == "ValueError: odd"
        code, text, _ = run(capsys, "replay", future.job_id, "reduce/0", "--local", "--json")
        assert (code, json.loads(text)["error"]) == (1, "ValueError")
