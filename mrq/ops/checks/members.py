"""Masters and workers: whether there are any, and whether they fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

import mrq
from mrq.membership import PYTHON
from mrq.ops.checks.finding import Finding, Patient, error, warning

ROLES: tuple[Literal["masters", "workers"], ...] = ("masters", "workers")


def missing(patient: Patient) -> Iterator[Finding]:
    """Say when nobody is there to work."""
    running = patient.running
    for role in ROLES:
        if patient.servers.registry.members(role):
            continue
        what, do = f"no {role} are registered", f"start one: mrq {role[:-1]}"
        if running:
            waiting = ", ".join(record.job_id for record in running[:3])
            yield error(
                role, f"{what}, and {len(running)} jobs wait ({waiting}{', …' * (len(running) > 3)})", do
            )
        else:
            yield warning(role, f"{what}: jobs will wait", do)


def versions(patient: Patient) -> Iterator[Finding]:
    """Say when members, jobs or this program differ in Python or mrq."""
    members = [
        (role, name, info) for role in ROLES for name, info in patient.servers.registry.members(role).items()
    ]
    pythons = Counter(info.python for role, _, info in members if role == "workers")
    for role, name, info in members:
        where = f"{role[:-1]} {name}"
        usual = pythons.most_common(1)[0][0] if pythons else PYTHON
        if role == "workers" and info.python != usual:
            yield error(
                where,
                f"it runs Python {info.python}, most workers {usual}: it refuses their jobs' functions",
                f"start it with Python {usual}",
            )
        if info.mrq != mrq.__version__:
            yield warning(
                where,
                f"it runs mrq {info.mrq}, this is {mrq.__version__}",
                "install the same version of mrq everywhere; start workers first, then masters, then clients",
            )
    for record in patient.running:
        if pythons and record.python not in pythons:
            yield error(
                record.job_id,
                f"it was submitted with Python {record.python}; no worker runs that",
                f"start a worker with Python {record.python}, or mrq cancel {record.job_id} and submit it with another",
            )
