"""How services are, in words."""

import io

from rich.console import Console

from mrq.local.display import Display, table
from mrq.local.health import Health, ServiceHealth, blamed, health_of, line, summarize


def test_dockers_states_become_ours() -> None:
    assert health_of("running", "healthy") is Health.READY
    assert health_of("running", None) is Health.READY
    assert health_of("running", "starting") is Health.STARTING
    assert health_of("running", "unhealthy") is Health.UNHEALTHY
    assert health_of("restarting", "unhealthy") is Health.STARTING
    assert health_of("created", None) is Health.STARTING
    assert health_of("exited", "healthy") is Health.ENDED


def test_the_worst_container_counts() -> None:
    seen = summarize("worker", [Health.READY, Health.STARTING, Health.READY])
    assert seen == ServiceHealth("worker", Health.STARTING, 2, 3)
    assert str(seen) == "worker 2/3 starting"


def test_a_service_without_containers_is_absent() -> None:
    assert summarize("worker", []).health is Health.ABSENT


def test_the_line_names_what_is_waited_for() -> None:
    services = [summarize("rabbitmq", [Health.READY]), summarize("namenode", [Health.STARTING])]
    assert line(services) == "1/2 services ready; waiting for namenode (starting)"
    assert line(services[:1]) == "1/1 services ready"


def test_an_ended_service_is_blamed_before_one_that_starts() -> None:
    services = [
        summarize(name, [Health(health)])
        for name, health in (("a", "starting"), ("b", "ended"), ("c", "ready"))
    ]
    found = blamed(services)
    assert found is not None
    assert found.service == "b"
    assert blamed(services[2:]) is None


def test_elsewhere_than_on_a_terminal_a_line_is_printed_when_something_changes() -> None:
    out = io.StringIO()
    with Display("cluster x", Console(file=out)) as display:
        display.show([summarize("a", [Health.STARTING])])
        display.show([summarize("a", [Health.STARTING])])
        display.show([summarize("a", [Health.READY])])
    assert out.getvalue().splitlines() == [
        "cluster x: 0/1 services ready; waiting for a (starting)",
        "cluster x: 1/1 services ready",
    ]


def test_the_table_has_a_row_for_each_service() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(table("cluster x", [summarize("rabbitmq", [Health.UNHEALTHY])]))
    assert "rabbitmq" in out.getvalue()
    assert "0/1" in out.getvalue()
    assert "unhealthy" in out.getvalue()
