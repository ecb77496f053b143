"""Queues: consumers, dead letters, what is orphaned, and a broker that takes nothing more."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mrq.broker.topology import DEAD, PHASES
from mrq.errors import BrokerUnavailable, ConfigurationError
from mrq.ops.checks.finding import Finding, Patient, error, info, warning
from mrq.ops.checks.management import Pages
from mrq.ports import Message


def depths(patient: Patient) -> Iterator[Finding]:
    """Name queues that nobody consumes though there are workers, or messages."""
    workers = patient.servers.registry.members("workers")
    for name, depth in patient.servers.broker.depths().items():
        queue = patient.topology.queue(name)
        if name == DEAD or depth.consumers:
            continue
        if workers:
            yield error(
                queue,
                f"nobody consumes it, though {len(workers)} workers are registered; {depth.ready} messages wait",
                "see the workers' logs for RabbitMQ; that all have the same MRQ_RABBITMQ_PREFIX; restart a worker",
            )
        elif depth.ready:
            yield error(
                queue, f"{depth.ready} messages wait, and nobody consumes it", "start a worker: mrq worker"
            )


def dead_letters(patient: Patient) -> Iterator[Finding]:
    """Say when there are dead letters."""
    number = patient.servers.broker.depths()[DEAD].ready
    if number:
        yield warning(
            patient.topology.queue(DEAD),
            f"{number} dead letters: workers died of them, or refused them",
            "mrq dlq list",
        )


def orphans(patient: Patient) -> Iterator[Finding]:
    """Name private queues that nobody consumes, and queues of another version."""
    prefix = patient.settings.rabbitmq_prefix
    ours = {queue.name for queue in patient.topology.queues()}
    base = re.sub(r"\.v\d+$", "", prefix)
    other = re.compile(rf"{re.escape(base)}\.v\d+\.({'|'.join((*PHASES, DEAD))}|private\..+)")
    for queue in _pages(patient).queues():
        name = str(queue["name"])
        if name.startswith(f"{prefix}.private."):
            if queue.get("consumers") == 0:  # absent in the first seconds
                yield warning(name, "a private queue without a consumer", _how_to_delete(patient, name))
        elif name not in ours and other.fullmatch(name):
            yield info(
                name,
                f"a queue of another version: this one's begin with {prefix}; {queue.get('messages', 0)} messages",
                f"when nothing of that version runs any more: {_how_to_delete(patient, name)}",
            )


def alarms(patient: Patient) -> Iterator[Finding]:
    """Name nodes of RabbitMQ that are short of memory or disk, or cut off."""
    for node in _pages(patient).nodes():
        where = f"RabbitMQ node {node['name']}"
        if not node.get("running", True):
            yield error(where, "it does not run", "start it, or have the cluster forget it")
        if node.get("mem_alarm"):
            yield error(
                where, "it is short of memory, so publishing is blocked", "see vm_memory_high_watermark"
            )
        if node.get("disk_free_alarm"):
            yield error(
                where, "it is short of disk, so publishing is blocked", "free disk; see disk_free_limit"
            )
        if node.get("partitions"):
            yield error(
                where, f"it is cut off from {', '.join(node['partitions'])}", "mend the network; restart it"
            )


def blocked(patient: Patient) -> Iterator[Finding]:
    """Publish a report of no job, which no queue takes, and see whether the broker confirms it."""
    message = Message(exchange=patient.topology.events, routing_key="doctor", type="report", body=b"{}")
    broker = patient.servers.broker
    try:
        broker.publish([message]).result(patient.settings.operation_timeout + 5)
    except BrokerUnavailable as failure:
        yield error(
            "RabbitMQ", f"it confirms no message: {failure}", "look for an alarm: rabbitmqctl list_alarms"
        )


def _pages(patient: Patient) -> Pages:
    if patient.pages is None:
        raise ConfigurationError(
            "set MRQ_RABBITMQ_MANAGEMENT_URL, as in http://127.0.0.1:15672, to have it looked at"
        )
    return patient.pages


def _how_to_delete(patient: Patient, name: str) -> str:
    return f"rabbitmqctl delete_queue --vhost {patient.settings.rabbitmq_vhost} {name}"
