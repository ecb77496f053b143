"""Users at the real servers: what each may do, and that everything else is refused, in a clear sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.auth import Auth, Login
from mrq.auth.management import Management
from mrq.auth.policy import SERVICES, Service
from mrq.broker.rabbitmq import RabbitMQBroker
from mrq.config import Settings
from mrq.coordination.zookeeper import ZooKeeperCoordination
from mrq.errors import AuthenticationFailed, BrokerUnavailable, ConfigurationError, CoordinationUnavailable
from mrq.monitoring import LocalMonitoring
from mrq.ports import Message
from mrq.registry import Registry
from tests.integration.cluster import eventually
from tests.jobs import add_up, count_characters, plain

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

DATA = ["mine", "yours", "ours"] * 5
NOWHERE = "127.0.0.1:9"


@dataclass
class Guarded:
    """A tree, a vhost's prefix and users of the test's own, guarded by the admin."""

    settings: Settings
    admin: Auth
    logins: dict[Service, Login]
    suffix: str
    file: Path

    def name(self, who: str) -> str:
        """Return a user's name that no other test has."""
        return f"{who}-{self.suffix}"

    def person(self, who: str) -> Auth:
        """Create a person, and return the login."""
        name = self.name(who)
        return self.auth(name, self.admin.create_user(name))

    def auth(self, name: str, password: str) -> Auth:
        """Return a login with the test's settings."""
        return Auth(name, password, self.settings)

    def auth_of(self, role: Service) -> Auth:
        """Return a service's login."""
        login = self.logins[role]
        return self.auth(login.username, login.password.get_secret_value())

    def service(self, role: Service) -> Settings:
        """Return the settings of a service."""
        return self.auth_of(role).settings


def forget_users(settings: Settings, suffix: str) -> None:
    """Delete the test's users from RabbitMQ."""
    rabbit = Management(settings)
    for user in rabbit._ask("GET", "users"):
        if user["name"].endswith(suffix):
            rabbit.delete_user(user["name"])


@pytest.fixture
def guarded(settings: Settings, tmp_path: Path) -> Iterator[Guarded]:
    """A guarded tree."""
    suffix = uuid.uuid4().hex[:8]
    admin = Auth(settings.username, settings.password.get_secret_value(), settings)
    names: dict[Service, str] = {role: f"{role}-{suffix}" for role in SERVICES}
    file = tmp_path / "keys" / "services.env"
    try:
        yield Guarded(settings, admin, admin.initialize(file, names=names), suffix, file)
    finally:
        forget_users(settings, suffix)


@pytest.fixture
def serve(guarded: Guarded, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that starts a master and a worker, each with its own login."""
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        for role in ("master", "worker"):
            login = guarded.logins[role]  # type: ignore[index]  # both are services
            environment = os.environ | {
                "MRQ_USERNAME": login.username,
                "MRQ_PASSWORD": login.password.get_secret_value(),
            }
            with open(tmp_path / f"{role}.log", "wb") as log:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "mrq.cli", role], env=environment, stdout=log, stderr=log
                    )
                )

    yield start
    for process in processes:
        process.terminate()
    codes = [process.wait(60) for process in processes]
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert codes == [0] * len(codes), logs
    assert not any(login.password.get_secret_value() in logs for login in guarded.logins.values())


def registry_of(auth: Auth, opened: list[ZooKeeperCoordination]) -> Registry:
    """Connect a registry as somebody."""
    tree = ZooKeeperCoordination(auth.settings)
    opened.append(tree)
    return Registry(tree)


@pytest.fixture
def opened() -> Iterator[list[ZooKeeperCoordination]]:
    """Sessions that are closed at the end."""
    trees: list[ZooKeeperCoordination] = []
    yield trees
    for tree in trees:
        tree.close()


def refused(call: Callable[[], Any], *said: str) -> None:
    """See that a call is refused, at once and in a sentence that says these things."""
    start = time.monotonic()
    with pytest.raises(AuthenticationFailed) as refusal:
        call()
    assert time.monotonic() - start < 15
    for text in said:
        assert text in str(refusal.value)


def submit(auth: Auth) -> str:
    """Submit a job, and return its id without waiting for it."""
    with_settings = auth.settings
    client = mrq.Client(with_settings)
    try:
        return client.mapreduce(DATA, count_characters, add_up, 2).job_id
    finally:
        client.close()


def test_only_the_right_password_is_authentic(guarded: Guarded) -> None:
    """RabbitMQ and ZooKeeper are really asked; a wrong login is False, and no password is shown."""
    alice = guarded.person("alice")
    assert (alice.is_authenticated(), alice.role) == (True, "person")
    assert (guarded.admin.is_authenticated(), guarded.admin.role) == (True, "admin")
    assert not guarded.auth(alice.username, "not-the-password").is_authenticated()
    assert not guarded.auth("nobody", "not-the-password").is_authenticated()
    assert "not-the-password" not in repr(guarded.auth("nobody", "not-the-password"))
    for role in SERVICES:
        login = guarded.logins[role]
        assert guarded.auth_of(role).role == role
        assert login.password.get_secret_value() not in repr(login)


def test_servers_that_are_away_are_no_wrong_password(guarded: Guarded) -> None:
    """Unavailable, by the deadline."""
    hurried = {"connect_timeout": 2.0, "operation_timeout": 2.0}
    away = guarded.settings.model_copy(update={"rabbitmq_hosts": (NOWHERE,), **hurried})
    with pytest.raises(BrokerUnavailable):
        Auth("alice", "x", away).is_authenticated()
    away = guarded.settings.model_copy(update={"zookeeper_hosts": (NOWHERE,), **hurried})
    password = guarded.settings.password.get_secret_value()
    with pytest.raises(CoordinationUnavailable):
        Auth(guarded.settings.username, password, away).is_authenticated()


def test_a_person_runs_jobs_with_services_that_have_their_own_logins(
    guarded: Guarded, serve: Callable[[], None]
) -> None:
    """The whole way: submit, claim, tasks, reports, result, progress; and the monitor and the admin see it."""
    alice = guarded.person("alice")
    serve()
    with mrq.Client(alice.settings) as client:
        future = client.mapreduce(DATA, count_characters, add_up, 2)
        assert future.result(90) == plain(DATA, count_characters, add_up)
        assert future.progress().job_id == future.job_id
        assert client.attach(future.job_id).result(60) == future.result()
    with LocalMonitoring(guarded.service("monitor")) as monitoring:
        seen = monitoring.status()
        assert (len(seen.jobs), len(seen.masters), len(seen.workers), seen.missing) == (1, 1, 1, {})
        assert set(seen.queues) == {"map", "shuffle", "reduce", "dead"}
        assert monitoring.zoo().jobs
    with mrq.Client(guarded.admin.settings) as client:
        assert client.clear() == [future.job_id]


def test_a_person_reads_only_their_own_jobs(guarded: Guarded, opened: list[ZooKeeperCoordination]) -> None:
    """Not another's key, record or progress, neither by attaching nor by asking ZooKeeper; nor may one change them."""
    alice, bob = guarded.person("alice"), guarded.person("bob")
    job_id = submit(alice)
    registry = registry_of(alice, opened)
    assert registry.require(job_id).record.key
    master = registry_of(guarded.auth_of("master"), opened)
    assert master.claim(job_id, "m1") is not None
    assert registry.owner(job_id) == "m1"  # what a master makes below a job is for its owner too
    other = registry_of(bob, opened)
    assert other.job_ids() == [job_id]
    with mrq.Client(bob.settings) as client:
        refused(lambda: client.attach(job_id), repr(bob.username), job_id)
        refused(lambda: client.clear(job_id))
    refused(lambda: other.owner(job_id))
    refused(lambda: other.request_cancel(job_id, 0.0))
    refused(lambda: other.tree.set(f"/jobs/{job_id}", b"{}"))
    refused(lambda: other.tree.delete(f"/jobs/{job_id}"))
    assert registry.request_cancel(job_id, time.time())


def test_a_person_clears_their_own_job(guarded: Guarded, opened: list[ZooKeeperCoordination]) -> None:
    """Its files and all that its nodes hold are gone; the empty node is a master's to bury."""
    alice = guarded.person("alice")
    job_id = submit(alice)
    master = registry_of(guarded.auth_of("master"), opened)
    master.claim(job_id, "m1")
    with mrq.Client(alice.settings) as client:
        assert client.attach(job_id).cancel()
        assert client.clear(job_id, force=True) == [job_id]
        assert client.jobs() == []
    assert master.job(job_id) is None
    master.bury(job_id)
    assert master.job_ids() == []


def test_nobody_reads_another_ones_digest(guarded: Guarded, opened: list[ZooKeeperCoordination]) -> None:
    """The list of users is the admin's alone; what else names people is masked or closed."""
    alice, bob = guarded.person("alice"), guarded.person("bob")
    tree = registry_of(bob, opened).tree
    assert isinstance(tree, ZooKeeperCoordination)
    refused(lambda: tree.get("/acl/users"))
    refused(lambda: tree.get("/acl/workers"))
    refused(lambda: tree.set("/acl", b"{}"))
    refused(lambda: tree.set_rights("/acl", {"me:digest": "r"}))
    refused(lambda: tree.create("/acl/mine", b""))
    refused(lambda: tree.create("/workers/bob", b"", ephemeral=True))
    for path in ("/", "/acl", "/jobs", "/workers"):
        assert not any(who.startswith(alice.username) for who in tree.rights(path))


def task(settings: Settings) -> Message:
    """Return a task as a master publishes it."""
    return Message(f"{settings.rabbitmq_prefix}.tasks", "map.job_0", "task", b"{}", mandatory=True)


def report(settings: Settings) -> Message:
    """Return a report as a worker publishes it."""
    return Message(f"{settings.rabbitmq_prefix}.events", "job_0", "report", b"{}")


@pytest.mark.parametrize("who", ["person", "worker", "monitor"])
def test_only_a_master_publishes_tasks(guarded: Guarded, who: str) -> None:
    """The future fails with the broker's refusal at once, not at the deadline."""
    settings = guarded.person("alice").settings if who == "person" else guarded.service(who)  # type: ignore[arg-type]
    broker = RabbitMQBroker(settings)
    try:
        refused(lambda: broker.publish([task(settings)]).result(60), settings.username, "tasks")
        if who == "worker":  # and what it may publish still goes
            broker.publish([report(settings)]).result(30)
    finally:
        broker.close()


@pytest.mark.parametrize("who", ["person", "monitor"])
def test_only_workers_consume_tasks(guarded: Guarded, who: str) -> None:
    """Neither a task queue nor orders nor reports."""
    settings = guarded.person("alice").settings if who == "person" else guarded.service("monitor")
    broker = RabbitMQBroker(settings)
    try:
        refused(lambda: broker.consume(broker.topology.queue("map"), 1, print), settings.username, "map")
        refused(lambda: broker.subscribe(print), settings.username)
        assert set(broker.depths()) == {"map", "shuffle", "reduce", "dead"}
    finally:
        broker.close()


def test_a_person_looks_at_the_management_pages_and_changes_nothing(guarded: Guarded) -> None:
    """The same login opens them: queues are listed; messages are neither read, written, nor thrown away."""
    alice = guarded.person("alice").settings
    pages, vhost, prefix = Management(alice), alice.rabbitmq_vhost, alice.rabbitmq_prefix
    queue = f"queues/{vhost}/{prefix}.map"
    assert f"{prefix}.map" in {row["name"] for row in pages._ask("GET", f"queues/{vhost}")}
    assert pages._ask("GET", queue)["type"] == "quorum"
    get = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    task = {"routing_key": "map.job_0", "payload": "{}", "payload_encoding": "string", "properties": {}}
    refused(lambda: pages._ask("POST", f"{queue}/get", get), alice.username)
    refused(lambda: pages._ask("POST", f"exchanges/{vhost}/{prefix}.tasks/publish", task), alice.username)
    refused(lambda: pages._ask("DELETE", f"{queue}/contents"), alice.username)
    refused(lambda: pages._ask("DELETE", queue), alice.username)
    refused(lambda: pages._ask("GET", "users"), alice.username)


def test_a_monitor_submits_and_cancels_nothing(guarded: Guarded) -> None:
    """It looks, and that is all."""
    job_id = submit(guarded.person("alice"))
    with mrq.Client(guarded.service("monitor")) as client:
        refused(lambda: client.mapreduce(DATA, count_characters, add_up, 2), guarded.name("monitor"))
    with LocalMonitoring(guarded.service("monitor")) as monitoring:
        assert [job.job_id for job in monitoring.jobs()] == [job_id]
        refused(lambda: monitoring.cancel(job_id), guarded.name("monitor"))


@pytest.mark.parametrize("role", ["master", "worker"])
def test_a_service_does_not_start_with_a_persons_login(guarded: Guarded, role: str) -> None:
    """Exit code 4, and one line that names the user."""
    alice = guarded.person("alice")
    run = subprocess.run(
        [sys.executable, "-m", "mrq.cli", role],
        env=os.environ
        | {
            "MRQ_USERNAME": alice.username,
            "MRQ_PASSWORD": alice.settings.password.get_secret_value(),
        },
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 4, run.stderr
    assert repr(alice.username) in run.stderr
    assert "Traceback" not in run.stderr


def test_a_deleted_user_is_locked_out_at_once(guarded: Guarded, opened: list[ZooKeeperCoordination]) -> None:
    """New logins, sessions and connections that were open before, own jobs, and RabbitMQ's pages."""
    alice = guarded.person("alice")
    job_id = submit(alice)
    open_registry = registry_of(alice, opened)
    open_broker = RabbitMQBroker(alice.settings.model_copy(update={"operation_timeout": 3.0}))
    try:
        guarded.admin.delete_user(alice.username)
        assert not alice.is_authenticated()
        refused(lambda: mrq.Client(alice.settings), repr(alice.username))
        refused(lambda: open_registry.require(job_id), repr(alice.username))
        refused(open_registry.next_job_id)
        refused(lambda: open_registry.members("workers"))
        refused(lambda: RabbitMQBroker(alice.settings), repr(alice.username))
        eventually(lambda: not open_broker.healthy(), "its connection has ended", 15)
        refused(lambda: open_broker.publish([task(alice.settings)]).result(60), alice.username)
        refused(Management(alice.settings).require_admin)
    finally:
        open_broker.close()
    again = guarded.person("alice")  # the same name, but somebody else
    assert again.is_authenticated()
    refused(lambda: registry_of(again, opened).require(job_id))
    assert registry_of(guarded.admin, opened).require(job_id)


def test_a_changed_password_takes_effect_at_once(
    guarded: Guarded, opened: list[ZooKeeperCoordination]
) -> None:
    """The old one is refused, also where it was let in before; the new one has all that was theirs."""
    alice = guarded.person("alice")
    job_id = submit(alice)
    before = registry_of(alice, opened)
    guarded.admin.change_password(alice.username, "another word")
    after = guarded.auth(alice.username, "another word")
    assert (alice.is_authenticated(), after.is_authenticated()) == (False, True)
    refused(lambda: before.require(job_id))
    assert registry_of(after, opened).require(job_id).record.job_id == job_id
    with mrq.Client(after.settings) as client:
        assert client.attach(job_id).cancel()


def test_a_service_with_a_changed_password_works_on_with_the_new_one(guarded: Guarded) -> None:
    """A worker's role, too, is a user like others."""
    name = guarded.logins["worker"].username
    guarded.admin.change_password(name, "another word")
    refused(lambda: RabbitMQBroker(guarded.service("worker")), name)
    settings = guarded.auth(name, "another word").settings
    broker = RabbitMQBroker(settings)
    tree = ZooKeeperCoordination(settings)
    try:
        broker.consume(broker.topology.queue("map"), 1, print)
        tree.create("/workers/w1", b"", ephemeral=True)
    finally:
        broker.close()
        tree.close()


@pytest.mark.parametrize("who", ["person", "master", "worker", "monitor"])
def test_only_the_admin_manages_users(guarded: Guarded, who: str) -> None:
    """Everybody else is told so."""
    auth = guarded.person("alice") if who == "person" else guarded.auth_of(who)  # type: ignore[arg-type]
    for ask in (
        auth.users,
        auth.initialize,
        lambda: auth.create_user(guarded.name("eve")),
        lambda: auth.delete_user(guarded.name("master")),
        lambda: auth.change_password(auth.username, "another word"),
    ):
        refused(ask, auth.username)


def test_users_are_listed_with_their_roles_and_mistakes_are_told(guarded: Guarded) -> None:
    """Names that are taken, unknown, needed or malformed."""
    alice = guarded.person("alice").username
    admin = guarded.admin
    expected = {guarded.settings.username: "admin", alice: "person"}
    assert admin.users() == expected | {guarded.name(role): role for role in SERVICES}
    for call in (
        lambda: admin.create_user(alice),
        lambda: admin.create_user("with:colon"),
        lambda: admin.create_user("guest"),
        lambda: admin.create_user(guarded.name("eve"), ""),
        lambda: admin.create_user(guarded.name("eve"), "umlaut-ä"),
        lambda: admin.delete_user("nobody"),
        lambda: admin.delete_user(guarded.name("worker")),
        lambda: admin.delete_user(admin.username),
        lambda: admin.change_password("nobody", "word"),
    ):
        with pytest.raises(ConfigurationError):
            call()


def test_initializing_again_changes_no_password(guarded: Guarded) -> None:
    """The file is for its owner only, and what it says is used again; a running service is not disturbed."""
    assert guarded.file.stat().st_mode & 0o777 == 0o600
    names: dict[Service, str] = {role: guarded.name(role) for role in SERVICES}
    alice = guarded.person("alice")
    broker = RabbitMQBroker(guarded.service("worker"))
    try:
        assert guarded.admin.initialize(guarded.file, names=names) == guarded.logins
        assert guarded.admin.initialize(names=names) == {}
        assert broker.healthy()
    finally:
        broker.close()
    assert alice.is_authenticated()
    given: dict[Service, str] = {"monitor": "a given word"}
    assert guarded.admin.initialize(names=names, passwords=given)["monitor"].username == names["monitor"]
    assert guarded.auth(names["monitor"], "a given word").role == "monitor"


def test_a_tree_of_one_login_is_taken_over(
    settings: Settings, tmp_path: Path, opened: list[ZooKeeperCoordination]
) -> None:
    """Jobs and members that are there get the rights of new ones, also from a session that is open meanwhile."""
    admin = Auth(settings.username, settings.password.get_secret_value(), settings)
    assert admin.role == "admin"
    before = registry_of(admin, opened)
    job_id = submit(admin)
    before.claim(job_id, "m0")
    suffix = uuid.uuid4().hex[:8]
    try:
        logins = admin.initialize(names={role: f"{role}-{suffix}" for role in SERVICES})
        assert set(logins) == set(SERVICES)
        login = logins["master"]
        master = registry_of(Auth(login.username, login.password.get_secret_value(), settings), opened)
        assert master.require(job_id)
        assert master.owner(job_id) == "m0"
        eventually(lambda: before.tree._guarded, "the open session knows", 10)  # type: ignore[attr-defined]
        before.tree.create("/jobs/job_1", b"")
        assert master.tree.get("/jobs/job_1")
        alice = Auth(f"alice-{suffix}", admin.create_user(f"alice-{suffix}"), settings)
        refused(lambda: registry_of(alice, opened).require(job_id))
        assert registry_of(alice, opened).next_job_id() == "job_1"
    finally:
        forget_users(settings, suffix)


def test_the_admin_changes_their_own_password(guarded: Guarded, opened: list[ZooKeeperCoordination]) -> None:
    """With another admin than everybody's: nothing is locked, and the old password opens nothing."""
    name = guarded.name("boss")
    rabbit = Management(guarded.settings)
    rabbit.put_user(name, "old word", "administrator")
    settings = guarded.settings.model_copy(
        update={"zookeeper_root": f"{guarded.settings.zookeeper_root}-own"}
    )
    boss = Auth(name, "old word", settings)
    try:
        boss.initialize(names={role: f"{role}2-{guarded.suffix}" for role in SERVICES})
        person = f"alice-{guarded.suffix}"
        alice = Auth(person, boss.create_user(person), settings)
        job_id = submit(alice)
        boss.change_password(name, "new word")
        assert boss.is_authenticated()
        assert not Auth(name, "old word", settings).is_authenticated()
        assert registry_of(Auth(name, "new word", settings), opened).require(job_id)
        assert set(Auth(name, "new word", settings).users()) >= {name, person}
    finally:
        tree = ZooKeeperCoordination(boss.settings)
        for child in tree.children("/"):
            tree.delete(f"/{child}")
        tree.close()


def run_mrq(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command ``mrq``."""
    return subprocess.run(
        [sys.executable, "-m", "mrq.cli", *arguments],
        env=os.environ | environment, input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_manages_users(guarded: Guarded) -> None:
    """Passwords come by standard input, or are printed once; who is no admin gets exit code 4."""
    name = guarded.name("alice")
    word = run_mrq("user", "add", name).stdout.strip()
    assert guarded.auth(name, word).is_authenticated()
    assert f"{name}  " in run_mrq("user", "list").stdout
    as_alice = {"MRQ_USERNAME": name, "MRQ_PASSWORD": word}
    assert run_mrq("whoami", **as_alice).stdout == f"{name} (person)\n"
    eve = run_mrq("user", "add", guarded.name("eve"), **as_alice)
    assert (eve.returncode, repr(name) in eve.stderr, word in eve.stderr) == (4, True, False)
    assert run_mrq("user", "passwd", name, stdin="another word\n").returncode == 0
    assert run_mrq("whoami", **as_alice).returncode == 4
    assert guarded.auth(name, "another word").is_authenticated()
    assert json.loads(run_mrq("user", "delete", name, "--json").stdout) == {"deleted": name}
    assert not guarded.auth(name, "another word").is_authenticated()
    assert run_mrq("user", "delete").returncode == 2
    assert run_mrq("user", "init").returncode == 2


def test_passwords_are_in_no_log_and_no_command_line(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes right or wrong, at the most talkative level."""
    caplog.set_level("DEBUG")
    alice = guarded.auth(guarded.name("alice"), "the-secret-word")
    guarded.admin.create_user(alice.username, "the-secret-word")
    submit(alice)
    broker = RabbitMQBroker(alice.settings)
    refused(lambda: broker.consume(broker.topology.queue("map"), 1, print))
    broker.close()
    guarded.admin.change_password(alice.username, "the-secret-word-2")
    assert not alice.is_authenticated()
    assert "the-secret-word" not in caplog.text
    assert threading.active_count() < 50
