"""The table of faults on native servers: what is done, for how long, and what mrq promises under it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.chaos.stage import SESSION_SECONDS
from tests.chaos.strikes import (
    KINDS,
    alarm,
    drain,
    end_session,
    everybody,
    full_disk,
    half_part,
    kill,
    kill_all,
    kill_child,
    kill_helper,
    late,
    leader,
    lose_replies,
    narrow,
    network,
    part,
    refuse,
    reset,
    restart,
    safe_mode,
    service,
    services,
    stop,
)  # fmt: skip
from tests.chaos.traffic import Traffic


@dataclass(frozen=True)
class Fault:
    """One way in which something breaks.

    Attributes:
        name: as tables show it.
        does: what happens.
        promise: what mrq does about it.
        strike: the damage, and its end.
        lasts: seconds, from and to.
        often: how many times in one deck of faults.
        area: what it is about; two faults at once are of two areas, lest one kills what the other has stopped.
    """

    name: str
    does: str
    promise: str
    strike: Callable[[Any, Traffic, Random], Iterator[None]]
    lasts: tuple[float, float] = (0.5, 2.0)
    often: int = 1
    area: str = ""


LONG = (SESSION_SECONDS + 1.5, SESSION_SECONDS + 4)
"""Longer than a session lives."""
AT_ONCE = (0.0, 0.2)
ZOOKEEPERS = ("zookeeper-1", "zookeeper-2", "zookeeper-3")
DATANODES = ("datanode-1", "datanode-2")
MEMORY, DISK = "set_vm_memory_high_watermark", "set_disk_free_limit"
TIME = "Nothing but time is lost."
AGAIN = "What was cut off is tried again; what was done twice counts once."
AWAY = "For that process the server is away: it waits, and goes on."
SUCCEEDED = "Another master claims its jobs and goes on from what is committed."
BACK = "Its tasks go back to their queues, and others run them."
SURVIVES = "Sessions move to the other servers; nothing ends."
WAIT = "Jobs wait, and go on when it is back."

PROCESSES = [
    Fault("worker killed", "kill -9; later a new one starts", BACK, kill("worker"), often=3),
    Fault("all workers killed", "kill -9; later new ones start", "Jobs wait for new ones.", kill_all("worker")),
    Fault("worker stopped", "SIGSTOP, SIGCONT within a session's time", TIME, stop("worker"), often=2),
    Fault("worker stopped for long", "SIGSTOP for longer than a session lives",
          "Its tasks are run by others; what it commits on waking counts if it is first.", stop("worker"), LONG),
    Fault("worker drained", "SIGTERM", "What runs ends and is reported; the exit code is 0.", drain("worker")),
    Fault("worker's session expired", "ZooKeeper ends it while the worker is connected",
          "It registers again, and its tasks go on.", end_session("worker"), AT_ONCE),
    Fault("task's process killed", "kill -9 of a child that runs a task, at most twice in a job",
          "The task runs again. (The third crash of one task would be its own fault.)", kill_child, AT_ONCE, 3),
    Fault("helper of a worker killed", "kill -9 of the process that forks the children",
          "A new helper is started; the tasks are no worse off.", kill_helper, AT_ONCE, 2),
    Fault("master killed", "kill -9; later a new one starts", SUCCEEDED, kill("master"), often=3),
    Fault("all masters killed", "kill -9; later new ones start", "Jobs wait for a new one.", kill_all("master")),
    Fault("master stopped for long", "SIGSTOP for longer than a session lives",
          "Others claim its jobs; when it wakes its epoch is over, and it changes nothing.", stop("master"), LONG, 2),
    Fault("master drained", "SIGTERM", "Another claims its jobs at once; the exit code is 0.", drain("master")),
    Fault("master's session expired", "ZooKeeper ends it while the master is connected",
          "Its jobs are claimed anew, by it or by others.", end_session("master"), AT_ONCE, 2),
    Fault("client's session expired", "ZooKeeper ends it while the client is connected",
          "Its futures are followed in the next session.", end_session("client"), AT_ONCE),
]  # fmt: skip
NETWORK = [
    Fault("connections reset", "those of one process to one kind of server", AGAIN, network(reset), AT_ONCE, 4),
    Fault("all connections to RabbitMQ reset", "those of all masters and workers", AGAIN,
          everybody(reset, "rabbitmq"), AT_ONCE),
    Fault("replies lost", "requests of one process arrive; each answer is thrown away, and the connection reset",
          AGAIN, network(lose_replies), (0.5, 1.5), 4),
    Fault("all replies of HttpFS lost", "the same for all processes", AGAIN, everybody(lose_replies, "httpfs"),
          (0.3, 1.0), 2),
    Fault("all replies of ZooKeeper lost", "the same for all processes", AGAIN,
          everybody(lose_replies, "zookeeper"), (0.3, 1.0), 2),
    Fault("connections refused", "those of one process to one kind of server, the open ones reset", AWAY,
          network(refuse), (1, 3), 2),
    Fault("latency", "up to 0.1 s to and 0.3 s from one kind of server, for one process", TIME, network(late),
          (2, 4), 2),
    Fault("low bandwidth", "40 kB/s each way, to and from one kind of server, for one process", TIME,
          network(narrow), (2, 4), 2),
    Fault("partition", "one process from one kind of server: connections stay open, nothing gets through", AWAY,
          network(part), (1, 6), 3),
    Fault("partition one way", "the same in one direction only", AWAY, network(half_part), (1, 6), 2),
    Fault("master cut off from ZooKeeper", "a partition for longer than a session lives",
          "Others claim its jobs while it goes on; it changes nothing in their epochs.",
          network(part, "master", "zookeeper"), LONG, 2),
    Fault("master cut off from all", "the same, from all servers", SUCCEEDED, network(part, "master", *KINDS), LONG),
    Fault("worker cut off from all", "the same, from all servers",
          "Its tasks are published again, and run by others.", network(part, "worker", *KINDS), LONG),
]  # fmt: skip
SERVERS = [
    Fault("RabbitMQ killed", "kill -9, and a start",
          "Unconfirmed messages are sent again, unacked deliveries come again.", service("rabbitmq")),
    Fault("RabbitMQ restarted", "an orderly stop, and a start", WAIT, restart("rabbitmq"), (0, 1)),
    Fault("RabbitMQ stopped", "SIGSTOP, SIGCONT", WAIT, service("rabbitmq", number=signal.SIGSTOP), (2, 5)),
    Fault("alarm of memory", "RabbitMQ's watermark is set to 0", "Publishing waits until it is lifted.",
          alarm([MEMORY, "0"], [MEMORY, "absolute", "512MB"])),
    Fault("alarm of disk", "RabbitMQ's least free disk is set to 900 TB", "Publishing waits until it is lifted.",
          alarm([DISK, "900000GB"], [DISK, "200MB"])),
    Fault("ZooKeeper's leader killed", "kill -9, and a start", SURVIVES, leader(signal.SIGKILL)),
    Fault("ZooKeeper's leader stopped", "SIGSTOP for longer than a session lives", SURVIVES,
          leader(signal.SIGSTOP), LONG),
    Fault("a ZooKeeper server killed", "kill -9, and a start", SURVIVES, service(*ZOOKEEPERS)),
    Fault("all ZooKeeper servers killed", "kill -9, and a start", WAIT, services(*ZOOKEEPERS)),
    Fault("NameNode killed", "kill -9, and a start", WAIT, service("namenode")),
    Fault("NameNode in safe mode", "by dfsadmin", "What changes files waits until it leaves.", safe_mode, (1, 4)),
    Fault("NameNode stopped", "SIGSTOP, SIGCONT", WAIT, service("namenode", number=signal.SIGSTOP), (1, 4)),
    Fault("a DataNode killed", "kill -9, and a start", "The other one has every block, and takes new ones.",
          service(*DATANODES)),
    Fault("both DataNodes killed", "kill -9, and a start", WAIT, services(*DATANODES)),
    Fault("a DataNode's disk full", "its file system of 512 MB is filled to the last byte",
          "The other DataNode takes the blocks.", full_disk, (1, 4)),
    Fault("HttpFS killed", "kill -9, and a start", WAIT, service("httpfs")),
    Fault("HttpFS stopped", "SIGSTOP, SIGCONT", WAIT, service("httpfs", number=signal.SIGSTOP), (1, 4)),
]  # fmt: skip
AREAS = {"processes": PROCESSES, "network": NETWORK, "servers": SERVERS}
FAULTS = [replace(fault, area=area) for area, faults in AREAS.items() for fault in faults]


@contextmanager
def struck(fault: Fault, stage: Any, traffic: Traffic, draw: Random) -> Iterator[None]:
    """Have a fault for as long as the block lasts."""
    strike = fault.strike(stage, traffic, draw)
    next(strike)
    try:
        yield
    finally:
        next(strike, None)
