"""Servers that are away, and clocks that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from mrq.errors import MrqError
from mrq.ops.checks.finding import Finding, Patient, ago, error, warning
from mrq.ops.checks.management import clock_ahead

ZOOKEEPER, HDFS, RABBITMQ, PAGES = "ZooKeeper", "HDFS", "RabbitMQ", "RabbitMQ's management API"

SKEW = 5.0
"""Seconds by which a clock may differ from ours."""


def unreachable(patient: Patient) -> list[Finding]:
    """Name the servers that can't be asked; ``where`` is the server."""
    settings, servers = patient.settings, patient.servers
    asked: dict[str, tuple[Callable[[], object], tuple[str, ...], str]] = {
        ZOOKEEPER: (lambda: servers.registry.job_ids(), settings.zookeeper_hosts, "ZOOKEEPER_HOSTS"),
        HDFS: (lambda: servers.store.ping(), settings.hdfs_urls, "HDFS_URLS"),
        RABBITMQ: (lambda: servers.broker.depths(), settings.rabbitmq_hosts, "RABBITMQ_HOSTS"),
    }
    if patient.pages is not None:
        url = settings.rabbitmq_management_url or ""
        asked[PAGES] = (patient.pages.queues, (url,), "RABBITMQ_MANAGEMENT_URL")
    with ThreadPoolExecutor(len(asked)) as pool:  # at once: several may be away
        answers = {service: pool.submit(ask) for service, (ask, _, _) in asked.items()}
    found = []
    for service, answer in answers.items():
        failure = answer.exception()
        if isinstance(failure, MrqError):
            _, places, setting = asked[service]
            do = f"see that it runs at {', '.join(places)} (MRQ_{setting}), and that the login is right: mrq whoami"
            found.append(error(service, f"it does not serve us: {type(failure).__name__}: {failure}", do))
        elif failure is not None:
            raise failure
    return found


def clocks(patient: Patient) -> Iterator[Finding]:
    """Compare the clocks of those that tell the time over HTTP with ours."""
    settings = patient.settings
    urls = dict.fromkeys(settings.hdfs_urls, "HDFS")
    if patient.pages is not None:
        urls[settings.rabbitmq_management_url or ""] = PAGES
    for url, service in urls.items():
        try:
            ahead = clock_ahead(url, settings)
        except OSError:
            continue  # `unreachable` has named it, or another gateway serves
        if ahead is not None and abs(ahead) > SKEW:
            yield warning(
                f"{service} at {url}",
                f"its clock is {ago(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this machine's",
                "run an NTP client on both machines",
            )
