"""Where the network's definition is, and what compose is told."""

import os
from pathlib import Path

import pytest

from mrq.errors import ConfigurationError, Unavailable
from mrq.local import compose, definition

ROOT = Path(__file__).parent.parent.parent


def test_a_checkout_is_used_as_it_is(tmp_path: Path) -> None:
    assert definition.find(tmp_path / "unused") == ROOT
    assert not (tmp_path / "unused").exists()


def test_a_wheels_copy_is_laid_out_like_a_checkout(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "mrq"
    (package / "_infra" / "infra").mkdir(parents=True)
    (package / "_infra" / "infra" / "docker-compose.yml").write_text("services: {}\n")
    (package / "__init__.py").write_text("")
    folder = tmp_path / "definition"
    (folder / "of an older version").mkdir(parents=True)
    assert definition.find(folder, package) == folder
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["infra/docker-compose.yml", "mrq/__init__.py"]


def test_an_installation_without_it_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="wheel"):
        definition.find(tmp_path, tmp_path / "mrq")


def test_settings_of_this_process_do_not_reach_the_containers() -> None:
    outer = {"PATH": "/bin", "MRQ_ZOOKEEPER_ROOT": "/test", "MRQ_COMPOSE_PYTHON": "3.9", "MRQ_CONFIG": "x"}
    made = compose.environment(outer, {"MRQ_COMPOSE_PYTHON": "3.11", "MRQ_USERNAME": "mrq"})
    assert made["PATH"] == "/bin"
    assert made["MRQ_COMPOSE_PYTHON"] == "3.11"
    assert made["MRQ_USERNAME"] == "mrq"
    assert not {"MRQ_ZOOKEEPER_ROOT", "MRQ_CONFIG"} & made.keys()


def docker_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = tmp_path / "docker"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_without_docker_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"no docker command.*apt-get install docker\.io"):
        compose.check_docker()


def test_without_compose_v2_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_that(tmp_path, monkeypatch, '[ "$1" != compose ]')
    with pytest.raises(ConfigurationError, match="no compose plugin"):
        compose.check_docker()


@pytest.mark.parametrize(
    ("said", "hint"),
    [("Cannot connect to the Docker daemon", "start Docker"), ("permission denied", "usermod")],
)
def test_an_engine_that_does_not_answer_is_reported_with_its_reason(
    said: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_that(tmp_path, monkeypatch, f'[ "$1" = compose ] || {{ echo "{said}" >&2; exit 1; }}')
    with pytest.raises(Unavailable, match=hint) as raised:
        compose.check_docker()
    assert said in str(raised.value)


def test_what_compose_said_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_that(tmp_path, monkeypatch, "echo one; echo two >&2; exit 1")
    heard: list[str] = []
    with pytest.raises(Exception, match=r"(?s)could not build.*one.*two"):
        compose.Compose(ROOT, "x", {}, heard.append).run("build", what="build the images")
    assert heard == ["one", "two"]


def test_a_port_that_was_taken_meanwhile_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_that(
        tmp_path, monkeypatch, "echo Bind for 127.0.0.1:5672 failed: port is already allocated; exit 1"
    )
    with pytest.raises(Unavailable, match="taken"):
        compose.Compose(ROOT, "x", {}).run("up", what="start the servers")
