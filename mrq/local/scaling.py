"""`Scaling`: how many masters and workers run. What leaves is idle first, and drains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mrq.errors import ConfigurationError
from mrq.local import variables
from mrq.local.engine import hostname
from mrq.local.health import Health, ServiceHealth
from mrq.local.network import LOOK_EVERY, ROLES, Network
from mrq.local.victims import Candidate, choose_victims
from mrq.records import MemberInfo
from mrq.registry import Registry, Role

MEMBERS: dict[str, Role] = {"master": "masters", "worker": "workers"}


class Scaling:
    """Adds and removes masters and workers of a network.

    Args:
        network: theirs.
        registry: where they register.
    """

    def __init__(self, network: Network, registry: Registry) -> None:
        self._network = network
        self._engine = network.engine
        self._registry = registry

    def scale(self, wanted: Mapping[str, int], timeout: float) -> None:
        """Have so many run of each role, all of them registered.

        Args:
            wanted: by role, ``master`` or ``worker``; a role that is not named is left alone.
            timeout: seconds for new ones to register. Draining takes as long as the tasks that run.

        Raises:
            ConfigurationError: a number is less than 1.
            Unavailable: one did not register in time; the message has its last log lines.
        """
        for role, number in wanted.items():
            if not isinstance(number, int) or number < 1:
                raise ConfigurationError(f"n_{role}s must be a whole number from 1, not {number!r}")
        for role, number in wanted.items():
            self._shrink(role, number)
        self._grow(wanted)
        self._wait_registered(list(wanted), timeout)

    def _shrink(self, role: str, keep: int) -> None:
        containers = {container.id: container for container in self._engine.containers(role)}
        members = self._members(role)
        candidates = [_candidate(container, members) for container in containers.values()]
        victims = [containers[candidate.id] for candidate in choose_victims(candidates, keep)]
        leaving = [victim for victim in victims if victim.status == "running"]
        if leaving:
            self._network.display.say(
                f"cluster {self._network.name}: {len(leaving)} {role}s drain: {', '.join(map(hostname, leaving))}"
            )
        self._engine.stop(victims, variables.drain_timeout(self._network.values) + variables.GRACE)

    def _grow(self, wanted: Mapping[str, int]) -> None:
        """Start what is missing; compose is told of every role, for it would end those it is not told of."""
        there = {role: len(self._engine.containers(role)) for role in ROLES}
        if all(there[role] >= number for role, number in wanted.items()):
            return
        numbers = {role: max(there[role], wanted.get(role, 0)) for role in ROLES}
        scales = [word for role, number in numbers.items() for word in ("--scale", f"{role}={number}")]
        roles = [role for role, number in numbers.items() if number]
        self._network.compose().run(
            "up",
            "-d",
            "--no-build",
            "--no-recreate",
            "--no-deps",
            *scales,
            *roles,
            what="start masters and workers",
        )

    def _wait_registered(self, roles: list[str], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self._network.display as display:
            while True:
                seen = [self._registered(role) for role in roles]
                display.show(seen)
                missing = [one for one in seen if one.health is not Health.READY]
                if not missing:
                    return
                if time.monotonic() > deadline:
                    raise self._network.unhealthy(missing[0], timeout)
                time.sleep(LOOK_EVERY)

    def _registered(self, role: str) -> ServiceHealth:
        hosts = {hostname(container) for container in self._engine.containers(role)}
        registered = hosts & self._members(role).keys()
        health = Health.READY if registered == hosts else Health.STARTING
        return ServiceHealth(role, health, len(registered), len(hosts))

    def _members(self, role: str) -> dict[str, MemberInfo]:
        """Return the registered members by hostname."""
        members = self._registry.members(MEMBERS[role])
        return {info.hostname: info for info in members.values()}


def _candidate(container: Any, members: Mapping[str, MemberInfo]) -> Candidate:
    info = members.get(hostname(container))
    return Candidate(
        id=container.id,
        created=container.attrs["Created"],
        running=container.status in ("running", "restarting", "created", "paused"),
        state=info.state if info else None,
        jobs=info.jobs if info else 0,
    )
