"""Settings: where each comes from, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.config import Settings, split_address
from mrq.errors import ConfigurationError

SECRET = "hunter2-and-more"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets counts."""
    import os

    for name in os.environ:
        if name.upper().startswith("MRQ_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mrq.toml"
    path.write_text(
        'username = "of-the-file"\nslots = 2\nzookeeper_hosts = ["a:1", "b:2"]\n', encoding="utf-8"
    )
    return path


def test_without_anything_there_are_defaults_on_loopback() -> None:
    """Nobody listens, or connects, elsewhere unasked."""
    settings = Settings.load()
    addresses = (*settings.rabbitmq_hosts, *settings.zookeeper_hosts, *settings.hdfs_urls)
    assert all("127.0.0.1" in address for address in addresses)


def test_a_file_wins_over_the_defaults(file: Path) -> None:
    """By its path."""
    settings = Settings.load(file)
    assert (settings.username, settings.slots) == ("of-the-file", 2)
    assert settings.zookeeper_hosts == ("a:1", "b:2")
    assert settings.poll_interval == Settings.load().poll_interval


def test_the_environment_may_name_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MRQ_CONFIG counts where no file is given."""
    monkeypatch.setenv("MRQ_CONFIG", str(file))
    assert Settings.load().username == "of-the-file"


def test_the_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting by setting."""
    monkeypatch.setenv("MRQ_USERNAME", "of-the-environment")
    settings = Settings.load(file)
    assert (settings.username, settings.slots) == ("of-the-environment", 2)


def test_arguments_win_over_all_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is no argument."""
    monkeypatch.setenv("MRQ_USERNAME", "of-the-environment")
    monkeypatch.setenv("MRQ_SLOTS", "3")
    settings = Settings.load(file, username="of-the-argument", slots=None)
    assert (settings.username, settings.slots) == ("of-the-argument", 3)


def test_lists_are_comma_separated_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks do no harm."""
    monkeypatch.setenv("MRQ_ZOOKEEPER_HOSTS", "zk1:2181, zk2:2181,")
    assert Settings.load().zookeeper_hosts == ("zk1:2181", "zk2:2181")


def test_settings_do_not_change() -> None:
    """They are passed down, and nobody below edits them."""
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().slots = 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"slots": 0}, "slots: Input should be greater than or equal to 1"),
        ({"slots": "many"}, "slots: Input should be a valid integer"),
        ({"poll_interval": -1}, "poll_interval: Input should be greater than 0"),
        ({"poll_interval": float("nan")}, "poll_interval: Input should be"),
        ({"zookeeper_hosts": ""}, "zookeeper_hosts: .*at least one address is needed"),
        ({"hdfs_urls": ()}, "hdfs_urls: .*at least one address is needed"),
        ({"rabbitmq_hosts": "nowhere"}, "rabbitmq_hosts: .*'nowhere' is not of the form host:port"),
        ({"rabbitmq_hosts": "a:1,b:99999"}, "rabbitmq_hosts: .*'b:99999' is not of the form host:port"),
        ({"rabitmq_hosts": "a:1"}, "rabitmq_hosts: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_wrong(arguments: dict[str, Any], said: str) -> None:
    """In a sentence, without a traceback of pydantic's."""
    with pytest.raises(ConfigurationError, match=f"^wrong settings: .*{said}") as caught:
        Settings.load(**arguments)
    assert caught.value.__cause__ is None


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody has to try one after another."""
    monkeypatch.setenv("MRQ_SLOTS", "0")
    with pytest.raises(ConfigurationError, match=r"slots: .*; tls: |tls: .*; slots: "):
        Settings.load(tls="perhaps")


@pytest.mark.parametrize("content", [b"slots = ", b"\xff\xfe", b"slots = 2\nslots = 3\n"], ids=repr)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    """With the reason."""
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"the settings file .*bad\.toml can't be read: "):
        Settings.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A file that was asked for is not optional."""
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigurationError, match=f"the settings file {path} can't be read"):
            Settings.load(path)


def test_a_misspelt_setting_in_a_file_is_named(file: Path) -> None:
    """It would be ignored in silence otherwise."""
    file.write_text("slotz = 2\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="slotz"):
        Settings.load(file)


@pytest.mark.parametrize("source", ["argument", "environment", "file"])
def test_the_password_is_shown_nowhere(source: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the settings' text, and not in an error about another setting."""
    if source == "environment":
        monkeypatch.setenv("MRQ_PASSWORD", SECRET)
    elif source == "file":
        file.write_text(f'password = "{SECRET}"\n', encoding="utf-8")
    arguments: dict[str, Any] = {"password": SECRET} if source == "argument" else {}
    settings = Settings.load(file, **arguments)
    assert settings.password.get_secret_value() == SECRET
    shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(file, **arguments, slots=0)
    assert not any(SECRET in text for text in [*shown, str(caught.value), repr(caught.value)])


def test_a_password_of_the_wrong_type_is_not_shown_either() -> None:
    """The error says what is wrong, not what was given."""
    with pytest.raises(ConfigurationError, match="password: ") as caught:
        Settings.load(password=[SECRET])
    assert SECRET not in str(caught.value)


def test_a_service_without_a_name_is_called_by_its_host_and_process() -> None:
    """Unless it has one."""
    import os
    import socket

    assert Settings.load().service_name() == f"{socket.gethostname()}-{os.getpid()}"
    assert Settings.load(name="ada").service_name() == "ada"


@pytest.mark.parametrize(
    ("address", "parts"),
    [("a:1", ("a", 1)), ("10.0.0.1:65535", ("10.0.0.1", 65535)), ("[::1]:2181", ("::1", 2181))],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    """IPv6 hosts stand in brackets."""
    assert split_address(address) == parts


@given(st.text())
def test_anything_else_is_no_address(text: str) -> None:
    """It is quoted in the error."""
    try:
        _, port = split_address(text)
        refusal = None
    except ValueError as error:
        port, refusal = 1, str(error)
    assert refusal in (None, f"{text!r} is not of the form host:port")
    assert 0 < port < 65536


@pytest.mark.parametrize("address", ["", ":", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:²", "a:1:b"])
def test_these_are_no_addresses(address: str) -> None:
    """A port is a number that TCP has."""
    with pytest.raises(ValueError, match="is not of the form host:port"):
        split_address(address)
