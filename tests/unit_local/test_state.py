"""What is remembered of a cluster."""

import shlex
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.errors import ConfigurationError, Unavailable
from mrq.local import variables
from mrq.local.state import StateFile, names, new_secret, parse, project, render
from mrq.membership import PYTHON


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_the_file_is_for_its_owner_only() -> None:
    file = StateFile("web")
    file.write({"MRQ_PASSWORD": "secret"})
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.folder.stat().st_mode) == 0o700
    file.path.chmod(0o644)
    file.write({"MRQ_PASSWORD": "other"})
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.read() == {"MRQ_PASSWORD": "other"}


def test_a_cluster_that_was_removed_is_unknown(home: Path) -> None:
    file = StateFile("web")
    file.write({"A": "1"})
    assert names() == ["web"]
    file.remove()
    assert file.read() is None
    assert names() == []


def test_a_shell_reads_the_file_as_we_do(home: Path) -> None:
    values = {"MRQ_PASSWORD": 'a$b "c" `d` \\e #f', "MRQ_COMPOSE_AMQP_PORT": "5672"}
    file = StateFile("web")
    file.write(values)
    shown = subprocess.run(
        [
            "sh",
            "-c",
            f'. {shlex.quote(str(file.path))}; printf "%s|%s" "$MRQ_PASSWORD" "$MRQ_COMPOSE_AMQP_PORT"',
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "|".join(values.values())


@given(
    st.dictionaries(
        st.from_regex(r"\A[A-Z_]{1,9}\Z"),
        st.text().filter(lambda text: text.isprintable() and "'" not in text),
    )
)
def test_what_is_written_is_read(values: dict[str, str]) -> None:
    assert parse(render(values)) == values


@pytest.mark.parametrize("value", ["it's", "two\nlines"])
def test_what_compose_would_read_otherwise_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="MRQ_PASSWORD"):
        render({"MRQ_PASSWORD": value})


def test_a_file_that_is_none_of_ours_is_refused_by_name() -> None:
    file = StateFile("web")
    file.write({})
    file.path.write_text("what is this\n")
    with pytest.raises(ConfigurationError, match="cluster web"):
        file.read()


@pytest.mark.parametrize("name", ["", "Web", "a b", "../up", "-x", "x" * 41])
def test_names_that_docker_would_not_take_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        StateFile(name)


def test_no_two_names_share_a_project() -> None:
    assert project("mrq") == "mrq"
    assert project("web") == "mrq-web"


def test_one_process_at_a_time_changes_a_cluster() -> None:
    with StateFile("web").locked():
        with pytest.raises(Unavailable, match="another process"), StateFile("web").locked():
            pass
        with StateFile("other").locked():
            pass
    with StateFile("web").locked():
        pass


def test_secrets_are_long_and_never_the_same() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
    assert len(new_secret()) >= 32


# ---------------------------------------------------------------- variables


def test_the_first_start_makes_logins_unless_one_is_given() -> None:
    made = variables.first(None, {})
    assert made["MRQ_USERNAME"] == "mrq"
    passwords = [value for name, value in made.items() if name.endswith("PASSWORD")]
    assert len(set(passwords)) == 5
    given_one = variables.first(("admin", "admin"), {})
    assert variables.login_of(given_one) == ("admin", "admin")
    assert variables.login_of(given_one, variables.WORKER)[0] == "mrq-worker"


def test_images_and_tunables_are_remembered_and_python_is_the_clients() -> None:
    outer = {
        "MRQ_COMPOSE_JVM_IMAGE": "mirror/jvm",
        "MRQ_DRAIN_TIMEOUT": "7",
        "MRQ_ZOOKEEPER_HOSTS": "elsewhere:1",
        "A": "b",
    }
    made = variables.first(None, outer | {"MRQ_COMPOSE_PYTHON": "2.7"})
    assert made["MRQ_COMPOSE_JVM_IMAGE"] == "mirror/jvm"
    assert made["MRQ_COMPOSE_STOP_GRACE"] == "22s"
    assert made["MRQ_COMPOSE_PYTHON"] == PYTHON
    assert "MRQ_ZOOKEEPER_HOSTS" not in made


def test_settings_lead_to_the_cluster_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ZOOKEEPER_HOSTS": "elsewhere:1",
        "USERNAME": "me",
        "HDFS_ROOT": "/x",
        "POLL_INTERVAL": "3",
    }.items():
        monkeypatch.setenv(f"MRQ_{name}", value)
    values = variables.with_ports(variables.first(None, {}), variables.DEFAULT_PORTS | {"zookeeper_2": 4000})
    settings = variables.settings_of(values)
    assert settings.zookeeper_hosts == ("127.0.0.1:2181", "127.0.0.1:4000", "127.0.0.1:2183")
    assert settings.hdfs_urls == ("http://127.0.0.1:14000", "http://127.0.0.1:14001")
    assert settings.username == "mrq"
    assert settings.hdfs_root == "/mrq"
    assert settings.poll_interval == 3
    assert variables.settings_of(values, ("ann", "pw")).username == "ann"


def test_the_lines_for_a_shell_are_quoted() -> None:
    lines = variables.environment_lines(variables.first(("ad min", "p$w"), {}))
    assert "export MRQ_USERNAME='ad min'" in lines
    assert "export MRQ_PASSWORD='p$w'" in lines
    assert "export MRQ_RABBITMQ_HOSTS=127.0.0.1:5672" in lines
