"""Users without servers: what each role may do, and the file of the services' logins."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from kazoo.security import make_digest_acl
from pydantic import SecretStr

from mrq.auth import Auth, Login, credentials
from mrq.auth.admin import checked_name, checked_password, generated
from mrq.auth.management import Management
from mrq.auth.policy import SERVICES, Directory, Role, names_in, permissions, tags
from mrq.broker.topology import Topology
from mrq.config import Settings
from mrq.coordination.zookeeper.acl import ALL, decode_rights, digest, encode_rights, from_acl, to_acl
from mrq.errors import AuthenticationFailed, BadMessage, BrokerUnavailable, ConfigurationError

PREFIX = "mrq.v1"
PRIVATE = "private.0af3"
TOPOLOGY = Topology(PREFIX, 20)
EVERYTHING = {
    *(exchange.name for exchange in TOPOLOGY.exchanges()),
    *(queue.name for queue in TOPOLOGY.queues()),
    f"{PREFIX}.{PRIVATE}",
}
IDS = {name: (f"{name}:digest",) for name in ("boss", "m", "w", "o", "alice", "bob")}
DIRECTORY = Directory("boss", {"master": "m", "worker": "w", "monitor": "o"}, IDS)


def allowed(pattern: str) -> set[str]:
    """Return the short names that a permission covers."""
    return {name.removeprefix(f"{PREFIX}.") for name in EVERYTHING if re.search(pattern, name)}


@pytest.mark.parametrize(
    ("role", "configure", "write", "read"),
    [
        ("worker", {PRIVATE}, {"events", PRIVATE}, {"map", "shuffle", "reduce", "control", PRIVATE}),
        ("monitor", set(), set(), set()),
        ("person", set(), set(), set()),
    ],
)  # fmt: skip
def test_a_role_has_the_least_permissions(
    role: Role, configure: set[str], write: set[str], read: set[str]
) -> None:
    """By the names of the topology's exchanges and queues."""
    may = permissions(role, PREFIX)
    assert (allowed(may.configure), allowed(may.write), allowed(may.read)) == (configure, write, read)


def test_a_master_neither_reports_nor_takes_orders() -> None:
    """It may declare everything, but publishes no reports and hears no orders."""
    may = permissions("master", PREFIX)
    everything = {name.removeprefix(f"{PREFIX}.") for name in EVERYTHING}
    assert allowed(may.configure) == everything
    assert allowed(may.write) == everything - {"events"}
    assert allowed(may.read) == everything - {"control", "dead"}


@pytest.mark.parametrize("role", ["master", "worker", "monitor", "person"])
def test_permissions_stay_below_the_prefix(role: Role) -> None:
    """Neither a longer prefix, nor one that a dot stands for, nor the default exchange."""
    may = permissions(role, PREFIX)
    for pattern in (may.configure, may.write, may.read):
        for name in (
            "mrq.v10.map",
            "mrqxv1.map",
            "other.mrq.v1.map",
            "mrq.v1.map.more",
            "amq.default",
            "amq.topic",
        ):
            assert not re.search(pattern, name)


def test_only_the_admin_is_an_administrator() -> None:
    """People may look at the pages; services have no business there."""
    assert [tags(role) for role in ("admin", "monitor", "person", "master", "worker")] == [
        "administrator", "monitoring", "management", "", "",
    ]  # fmt: skip


def test_a_job_is_for_its_owner_and_the_services() -> None:
    """Another person is not in it; who is no person (any more) owns nothing."""
    assert DIRECTORY.job(["alice"]) == {
        "boss:digest": ALL, "m:digest": ALL, "alice:digest": ALL, "w:digest": "r", "o:digest": "r",
    }  # fmt: skip
    assert DIRECTORY.with_user("alice").job(["alice", "w", "nobody"]) == DIRECTORY.job([])


def test_owners_are_those_who_may_do_everything() -> None:
    """As a job's rights tell them, whatever their digest was."""
    assert set(names_in(DIRECTORY.job(["alice"]))) == {"boss", "m", "alice"}
    renewed = DIRECTORY.with_user("alice", "alice:new")
    assert renewed.job(names_in(DIRECTORY.job(["alice"])))["alice:new"] == ALL
    assert "alice:digest" not in renewed.job(["alice"])


def test_every_fixed_node_is_the_admins_and_no_person_may_administer_one() -> None:
    """Everybody else has at most create, delete, read and write."""
    for path, rights in DIRECTORY.fixed().items():
        assert rights["boss:digest"] == ALL, path
        assert not any("a" in letters for who, letters in rights.items() if who != "boss:digest")
    assert DIRECTORY.fixed()["/acl/users"] == {"boss:digest": ALL}


def test_a_directory_survives_its_bytes() -> None:
    """Names with roles are one node, digests another."""
    assert Directory.read(DIRECTORY.roles_node(), DIRECTORY.users_node()) == DIRECTORY
    assert b"digest" not in DIRECTORY.roles_node()
    assert Directory.read(DIRECTORY.roles_node()).role("w") == "worker"
    for damaged in (b"", b"[]", b"{}", b'{"admin": "a", "services": 3}'):
        with pytest.raises(BadMessage):
            Directory.read(damaged)


def test_rights_survive_zookeepers_form_and_bytes() -> None:
    """What nobody may do is left out, and so is a digest that ZooKeeper masks."""
    rights = {"alice:abc": "r", "boss:def": ALL, "m:ghi": "cdr"}
    assert from_acl(to_acl(rights | {"none:x1": ""})) == rights
    assert from_acl(to_acl({"alice:x": "r"})) == {}
    assert decode_rights(encode_rights(rights)) == rights
    for damaged in (b"", b"[]", b"3", b'{"a": 1}'):
        with pytest.raises(BadMessage):
            decode_rights(damaged)


def test_a_digest_is_zookeepers() -> None:
    """As kazoo builds it."""
    assert digest("alice", "word") == make_digest_acl("alice", "word", read=True).id.id


def test_the_file_of_logins_is_for_its_owner_only(tmp_path: Path) -> None:
    """Mode 0600 from the start, also when a file that all could read was there; it is read as it was written."""
    file = tmp_path / "deep" / "services.env"
    logins = {role: Login(role, SecretStr(f"p=w {role}")) for role in SERVICES}
    credentials.write(file, logins)
    file.chmod(0o644)
    credentials.write(file, logins)
    assert file.stat().st_mode & 0o777 == 0o600
    assert credentials.read(file) == logins
    assert [path.name for path in file.parent.iterdir()] == ["services.env"]
    assert credentials.read(tmp_path / "nothing") == {}


def test_a_file_of_logins_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    """A folder in its place, for reading and writing."""
    with pytest.raises(ConfigurationError, match="can't be read"):
        credentials.read(tmp_path)
    with pytest.raises(ConfigurationError, match="can't be kept"):
        credentials.write(tmp_path, {})


def test_no_repr_shows_a_password() -> None:
    """Neither a login's, nor an `Auth`'s, nor its settings'."""
    auth = Auth("alice", "sesame", Settings())
    assert "sesame" not in repr(auth) + repr(auth.settings) + repr(Login("alice", SecretStr("sesame")))
    assert auth.settings.password.get_secret_value() == "sesame"
    assert (auth.username, auth.settings.username) == ("alice", "alice")


@pytest.mark.parametrize("name", ["", "guest", "a:b", "a/b", "1a", "a b", "ü", "a" * 65])
def test_names_that_would_mean_something_else_are_refused(name: str) -> None:
    """A colon ends a digest's name, a slash a path's part."""
    with pytest.raises(ConfigurationError):
        checked_name(name)


@pytest.mark.parametrize("password", ["", "ä", "a\nb"])
def test_passwords_that_servers_read_differently_are_refused(password: str) -> None:
    """And the sentence does not say them."""
    with pytest.raises(ConfigurationError) as refusal:
        checked_password(Login("alice", SecretStr(password)))
    assert not password or password not in str(refusal.value)


def test_generated_passwords_are_long_and_differ() -> None:
    """At least 190 bits, in characters that every file and header takes."""
    words = {generated() for _ in range(50)}
    assert len(words) == 50
    assert all(re.fullmatch(r"[\w-]{32}", word) for word in words)


class _Answers(BaseHTTPRequestHandler):
    """Answers every request with the status that its path ends with."""

    def do_GET(self) -> None:
        """Answer."""
        body = b'{"reason": "that is why"}'
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings with a management API that answers what it is asked to, and a proxy that must not be used."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield Settings(
        username="alice", password=SecretStr("sesame"), rabbitmq_management_url=url, operation_timeout=5
    )
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationFailed),
        (403, AuthenticationFailed),
        (400, ConfigurationError),
        (500, BrokerUnavailable),
    ],
)
def test_the_management_apis_refusals_are_told(api: Settings, status: int, kind: type[Exception]) -> None:
    """Who asked for what, and never with which password; 404 is an answer."""
    management = Management(api)
    with pytest.raises(kind, match=str(status) if kind is not AuthenticationFailed else "'alice'") as refusal:
        management._ask("GET", str(status))
    assert "sesame" not in str(refusal.value)
    assert management._ask("GET", "404") is None


def test_a_management_api_that_is_away_is_told() -> None:
    """Its address is in the sentence."""
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"):
        Management(Settings(rabbitmq_management_url="http://127.0.0.1:9")).require_admin()


def test_without_the_management_api_users_can_not_be_managed() -> None:
    """The sentence names the setting."""
    with pytest.raises(ConfigurationError, match="MRQ_RABBITMQ_MANAGEMENT_URL"):
        Management(Settings(rabbitmq_management_url=None))
    with pytest.raises(ConfigurationError, match="ftp"):
        Management(Settings(rabbitmq_management_url="ftp://host"))
