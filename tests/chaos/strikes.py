"""Strikes: generators that do some damage, yield while it lasts, and mend it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.chaos.proxy import Door
from tests.chaos.stage import Stage
from tests.chaos.traffic import Traffic

Strike = Callable[[Stage, Traffic, Random], Iterator[None]]

# ------------------------------------------------------------ masters, workers and their children


def kill(role: str) -> Strike:
    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        stage.kill(draw.choice(stage.alive(role)))
        yield
        stage.start(role)

    return strike


def kill_all(role: str) -> Strike:
    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        names = stage.alive(role)
        for name in names:
            stage.kill(name)
        yield
        for _ in names:
            stage.start(role)

    return strike


def drain(role: str) -> Strike:
    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        stage.drain(draw.choice(stage.serving(role)))
        yield
        stage.start(role)

    return strike


def stop(role: str) -> Strike:
    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        process = stage.cluster.processes[draw.choice(stage.alive(role))]
        process.send_signal(signal.SIGSTOP)
        yield
        process.send_signal(signal.SIGCONT)

    return strike


def kill_child(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
    """The third crash of one task would be the task's fault, so no job is hit more than twice."""
    for run in traffic.in_flight():
        pids = [int(name.split(".")[1]) for name in stage.left(run.work.traces)]
        alive = [pid for pid in pids if pid in stage.children()]
        if alive and stage.children_killed[run.future.job_id] < 2:
            stage.children_killed[run.future.job_id] += 1
            with suppress(ProcessLookupError):
                os.kill(alive[-1], signal.SIGKILL)
            break
    yield


def kill_helper(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
    helpers = stage.helpers(draw.choice(stage.alive("worker")))
    for pid in helpers[:1]:  # a worker that has just begun has none
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


# ------------------------------------------------------------ the network

KINDS = ("rabbitmq", "zookeeper", "httpfs")
Spoil = Callable[[Door, Random], None]


def network(spoil: Spoil, who: str = "", *kinds: str) -> Strike:
    """Spoil the ways of one process to servers of the kinds, by default to those of one kind."""

    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        lanes = [lane for name, lane in sorted(stage.lanes.items()) if name.startswith(who)]
        lane = draw.choice(lanes or [stage.lanes["client"]])
        doors = lane.to(*(kinds or (draw.choice(KINDS),)))
        for door in doors:
            spoil(door, draw)
        yield
        for door in doors:
            door.clear()

    return strike


def everybody(spoil: Spoil, kind: str) -> Strike:
    """Spoil the ways of all processes to servers of a kind."""

    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        doors = [door for lane in list(stage.lanes.values()) for door in lane.to(kind)]
        for door in doors:
            spoil(door, draw)
        yield
        for door in doors:
            door.clear()

    return strike


def reset(door: Door, draw: Random) -> None:
    door.reset()


def late(door: Door, draw: Random) -> None:
    door.up.latency, door.down.latency = draw.uniform(0, 0.1), draw.uniform(0, 0.3)


def narrow(door: Door, draw: Random) -> None:
    door.up.rate, door.down.rate = 40_000, 40_000


def part(door: Door, draw: Random) -> None:
    door.up.held = door.down.held = True


def half_part(door: Door, draw: Random) -> None:
    way = door.up if draw.random() < 0.5 else door.down
    way.held = True


def lose_replies(door: Door, draw: Random) -> None:
    door.down.cuts = True


def refuse(door: Door, draw: Random) -> None:
    door.shut = True
    door.reset()


def end_session(role: str) -> Strike:
    """Have ZooKeeper end the session of a process that is connected."""

    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        stage.end_session(draw.choice(stage.alive(role) if role != "client" else ["client"]))
        yield

    return strike


# ------------------------------------------------------------ the servers


def service(*names: str, number: int = signal.SIGKILL) -> Strike:
    """Kill one of the services, or stop it, and start it again."""

    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        yield from signalled(stage, [draw.choice(names)], number)

    return strike


def services(*names: str) -> Strike:
    """Kill all of the services."""

    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        yield from signalled(stage, list(names), signal.SIGKILL)

    return strike


def restart(name: str) -> Strike:
    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        stage.servers.down(name)
        yield
        stage.servers.up(name)

    return strike


def leader(number: int) -> Strike:
    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        yield from signalled(stage, [stage.zookeeper_leader()], number)

    return strike


def signalled(stage: Stage, names: list[str], number: int) -> Iterator[None]:
    for name in names:
        stage.signal(name, number)
    yield
    if number == signal.SIGSTOP:
        for name in names:
            stage.signal(name, signal.SIGCONT)
    stage.servers.up(*names)


def alarm(order: list[str], off: list[str]) -> Strike:
    def strike(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
        stage.rabbitmqctl(*order)
        yield
        stage.rabbitmqctl(*off)

    return strike


def safe_mode(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
    stage.dfsadmin("-safemode", "enter")
    yield
    stage.dfsadmin("-safemode", "leave")


def full_disk(stage: Stage, traffic: Traffic, draw: Random) -> Iterator[None]:
    filler = stage.disk / "filler"
    fill(filler)
    yield
    filler.unlink()
    stage.servers.up(stage.disk.parent.name)


def fill(filler: Path) -> None:
    with suppress(OSError), filler.open("wb", buffering=0) as file:  # until there is no space left
        while True:
            file.write(bytes(2**20))
