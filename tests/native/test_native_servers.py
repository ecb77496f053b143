"""The native servers: started once, stopped whole, said when they fail, and no bother to one another."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.servers import NATIVE, Instance

RENDER = NATIVE.parent / "render"

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


def processes_that_mention(text: str) -> list[str]:
    """The command lines of living processes that name `text` there or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in words and process.name != str(os.getpid()):
            found.append(words[:200].replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.fixture
def main() -> Instance:
    """The instance that this test run uses."""
    return Instance()


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Instance]:
    """An instance of the test's own beside the main one, not started."""
    instance = Instance(tmp_path / "second")
    yield instance
    instance.down("--wipe")
    assert not instance.folder.exists()


def test_every_service_of_the_main_instance_is_healthy(main: Instance) -> None:
    status = main.run("status")
    assert status.returncode == 0, status.stdout
    states = {name: row["state"] for name, row in main.services().items()}
    assert states == dict.fromkeys(states, "healthy")
    assert {"rabbitmq", "zookeeper-3", "namenode", "datanode-2", "httpfs"} <= states.keys()


def test_up_of_what_runs_starts_nothing(main: Instance) -> None:
    before = main.pids()
    main.up()
    assert main.pids() == before


def test_nobody_but_the_owner_reads_the_password(main: Instance) -> None:
    for name in ("password", "env", "rabbitmq/conf/rabbitmq.conf"):
        assert stat.S_IMODE((main.folder / name).stat().st_mode) == 0o600


def test_rabbitmq_knows_one_user_and_refuses_a_wrong_password(main: Instance) -> None:
    users = main.call("GET", "/api/users")
    assert [user["name"] for user in users] == ["mrq"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        main.call("GET", "/api/users", password="guess")


def test_a_second_instance_runs_beside_the_main_one_and_is_wiped_without_a_trace(
    main: Instance, second: Instance
) -> None:
    before = main.pids()
    second.up("rabbitmq", "zookeeper")
    states = second.services()
    for name in ("epmd", "rabbitmq", "zookeeper-1", "zookeeper-2", "zookeeper-3"):
        assert states[name]["state"] == "healthy"
        assert states[name]["port"] != main.services()[name]["port"]
    assert second.run("status").returncode == 1, "HDFS was not started, so not all is healthy"

    second.down("--wipe")
    assert not second.folder.exists()
    assert processes_that_mention(str(second.folder)) == []
    assert main.pids() == before


def test_a_service_that_was_stopped_comes_back_with_its_state(second: Instance) -> None:
    second.up("rabbitmq")
    second.call("PUT", "/api/queues/mrq/kept", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    second.down("rabbitmq")
    assert second.pids()["rabbitmq"] is None
    second.up("rabbitmq")
    assert second.call("GET", "/api/queues/mrq/kept")["name"] == "kept"


def test_a_killed_service_is_seen_and_started_again_without_the_others(second: Instance) -> None:
    second.up("zookeeper")
    before = second.pids()
    os.kill(int(str(before["zookeeper-2"])), signal.SIGKILL)
    second.up("zookeeper")
    after = second.pids()
    assert after["zookeeper-2"] not in (None, before["zookeeper-2"])
    assert (after["zookeeper-1"], after["zookeeper-3"]) == (before["zookeeper-1"], before["zookeeper-3"])


def test_a_taken_port_is_said_before_anything_starts(second: Instance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        result = second.run("up", "zookeeper-1", MRQ_NATIVE_PORT_OFFSET="0", MRQ_NATIVE_ZOOKEEPER_PORT=port)
    assert result.returncode == 1
    assert f"zookeeper-1 cannot start: another process listens on its port {port}" in result.stderr
    assert second.pids()["zookeeper-1"] is None


def test_a_service_that_does_not_work_in_time_is_said_with_the_end_of_its_log(second: Instance) -> None:
    # One server of three has no quorum, so it never serves.
    result = second.run("up", "zookeeper-1", MRQ_NATIVE_DEADLINE="15")
    assert result.returncode == 1
    assert "zookeeper-1 does not work after 15 s" in result.stderr
    log = second.folder / "zookeeper-1" / "log"
    said = result.stderr.splitlines()
    quoted = said[said.index(f"--- the last lines of {log}") + 1 :]
    assert quoted
    assert "\n".join(quoted) in log.read_text()


def test_a_service_that_ends_is_said_with_the_end_of_its_log(second: Instance) -> None:
    second.up("zookeeper")
    second.down("zookeeper-1")
    (second.folder / "zookeeper-1" / "data" / "version-2" / "currentEpoch").write_text("no number")
    result = second.run("up", "zookeeper-1")
    assert result.returncode == 1
    assert "zookeeper-1 ended right after its start" in result.stderr
    assert "no number" in result.stderr, "the log's last lines say why"


def test_wipe_leaves_a_folder_that_is_not_an_instance_alone(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "letter").write_text("dear")
    instance = Instance(precious)
    instance.down("--wipe")
    assert instance.run("up", "epmd").returncode == 1
    assert (precious / "letter").read_text() == "dear"


def test_an_unknown_service_is_refused_with_the_names_there_are(main: Instance) -> None:
    result = main.run("up", "postgres")
    assert result.returncode != 0
    assert "no service is called postgres; there are: epmd rabbitmq" in result.stderr


def test_a_template_takes_values_from_the_environment_and_says_what_is_missing(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text("port=${env.PORT:-1}\nname=${env.NAME}\n")
    bash = {"PATH": os.environ["PATH"]}
    full = subprocess.run(
        [RENDER, template], env=bash | {"NAME": "a&b"}, capture_output=True, text=True, check=True
    )
    assert full.stdout == "port=1\nname=a&b\n"
    missing = subprocess.run([RENDER, template], env=bash, capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "needs NAME" in missing.stderr


def test_the_scripts_are_valid_bash() -> None:
    for script in [*NATIVE.iterdir(), RENDER, *(NATIVE.parents[1] / "script").iterdir()]:
        if script.is_file() and "bash" in script.read_text().splitlines()[0]:
            subprocess.run([shutil.which("bash") or "bash", "-n", script], check=True)
