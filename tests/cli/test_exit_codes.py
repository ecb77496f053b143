"""What the command says and returns when something is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrq import errors
from mrq.cli import main
from mrq.cli.exits import exit_code


@pytest.mark.parametrize(
    "verb",
    [
        "jobs",
        "zoo",
        "hdfs",
        "cancel job_1",
        "clear",
        "status",
        "master",
        "worker",
        "demo --cluster --limit 1",
    ],
)
def test_without_servers_every_verb_that_needs_one_returns_3_and_names_it(
    verb: str, nobody: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb.split(), *nobody]) == 3
    lines = capfd.readouterr().err.splitlines()
    told = [line for line in lines if line.startswith("mrq: ")]
    assert any(name in told[-1] for name in ("ZooKeeper", "HDFS", "RabbitMQ")), lines
    assert not any("Traceback" in line for line in lines)


def test_status_without_servers_names_each(nobody: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", *nobody]) == 3
    out, err = capfd.readouterr()
    assert set(json.loads(out)["missing"]) == {"ZooKeeper", "HDFS", "RabbitMQ"}
    assert sum(line.startswith("mrq: ") for line in err.splitlines()) == 3


def test_an_error_is_json_too_where_json_is_asked_for(
    nobody: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "--json", *nobody]) == 3
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["error"] == "CoordinationUnavailable"
    assert document["message"] in err


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("slots=0", "slots"),
        ("no_such_setting=1", "no_such_setting"),
        ("slots", "name=value"),
        ("zookeeper_hosts=here", "host:port"),
    ],
)
def test_a_wrong_setting_returns_2_and_is_named(
    setting: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["worker", "--set", setting]) == 2
    error = capfd.readouterr().err
    assert error.startswith("mrq: ")
    assert told in error
    assert len(error.splitlines()) == 1


def test_settings_before_and_after_the_verb_both_count(
    nobody: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mrq.toml"
    file.write_text("slots = 0\n")
    assert main(["--set", "slots=1", "status", "--config", str(file), *nobody]) == 3
    assert main(["--config", str(file), "status", *nobody]) == 2
    assert "slots" in capfd.readouterr().err


def test_debug_shows_where_an_error_comes_from(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "--set", "slots=0", "--log-level", "debug"]) == 2
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words", [["nonsense"], [], ["worker", "--slots", "0"], ["worker", "--slots", "many"], ["cancel"]]
)
def test_a_wrong_argument_returns_2(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage: mrq" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigurationError, 2),
        (errors.BrokerUnavailable, 3),
        (errors.StoreUnavailable, 3),
        (errors.AuthenticationFailed, 4),
        (errors.UnknownJob, 1),
        (errors.StoreFull, 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(kind: type[errors.MrqError], code: int) -> None:
    assert exit_code(kind) == code


def test_an_interrupt_returns_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mrq.config.Settings.load", interrupt)
    assert main(["jobs"]) == 130


def test_help_returns_0_and_explains_the_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capfd.readouterr().out
    assert "exit codes:" in text
    assert all(
        verb in text
        for verb in ("demo", "master", "worker", "status", "jobs", "cancel", "clear", "zoo", "hdfs")
    )


def test_help_loads_no_library() -> None:
    program = (
        "import sys, mrq.cli; mrq.cli.main(['--help']); mrq.cli.main(['version'])\n"
        "heavy = {'pika', 'kazoo', 'hdfs', 'requests', 'rich', 'pydantic', 'cloudpickle', 'tenacity', 'docker'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m mrq.cli version | true", shell=True, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr


def test_version_is_told_for_people_and_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    import mrq

    assert main(["version"]) == 0
    assert capfd.readouterr().out.startswith(f"mrq {mrq.__version__}, Python 3.")
    assert main(["version", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["mrq"] == mrq.__version__


def test_services_log_with_their_name_and_fields_as_json(
    nobody: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["worker", "--name", "w-7", "--log-json", *nobody]) == 3
    records = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert all(record["name"] == "w-7" for record in records)
    assert os.environ.get("MRQ_NAME") is None
