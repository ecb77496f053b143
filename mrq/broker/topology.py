"""The names and arguments of all exchanges and queues, and what may be published to them. Pure data.

    tasks   (topic)   --map.#-->      map     (quorum)  --too many deliveries, rejected--> dlx
                      --shuffle.#-->  shuffle (quorum)  --"-->  dlx
                      --reduce.#-->   reduce  (quorum)  --"-->  dlx
    dlx     (topic)   --#-->          dead    (quorum)
    events  (direct)  --job id-->     private queues of masters
    control (fanout)  ------------->  private queues of workers

A name carries the version of the layout (``mrq.v1.map``), since a queue can't be given other arguments later:
a change here needs a new prefix. A dead letter keeps its routing key, so that a master can bind ``dlx`` with
``*.<job>``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mrq.config import MOST_INLINE_BYTES, Settings
from mrq.errors import BadMessage, Unroutable
from mrq.ports import Message

MAX_BODY_BYTES = 4096
"""The longest message body: messages carry references, not data; but reports may carry a small result, too."""
MAX_REPORT_BYTES = MAX_BODY_BYTES + MOST_INLINE_BYTES * 4 // 3 + 4
"""Likewise, with a result as base64."""

DEAD_DELIVERIES = 2**31 - 1
"""Of the dead letters: as good as no limit. Looking at one is a delivery, and beyond the limit it would be dropped;
RabbitMQ 3.10 counts those of basic.get, too, however they end."""

PHASES = ("map", "shuffle", "reduce")
DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue and its one binding.

    Attributes:
        name: as the broker knows it.
        short: as people know it: map, shuffle, reduce, dead.
        exchange: what it is bound to.
        binding: by which routing keys.
        arguments: for its declaration; two declarations must agree on them.
    """

    name: str
    short: str
    exchange: str
    binding: str
    arguments: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Topology:
    """All exchanges and queues below one prefix.

    Attributes:
        prefix: what every name begins with.
        delivery_limit: redeliveries of a task before it goes to the dead letters. Always set: RabbitMQ before 4.0
            has no limit of its own.
    """

    prefix: str
    delivery_limit: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Topology:
        """Take prefix and limit from the settings."""
        return cls(settings.rabbitmq_prefix, settings.delivery_limit)

    @property
    def tasks(self) -> str:
        """The topic exchange for tasks, see `task_key`."""
        return f"{self.prefix}.tasks"

    @property
    def events(self) -> str:
        """The direct exchange for reports; the routing key is the job."""
        return f"{self.prefix}.events"

    @property
    def control(self) -> str:
        """The fanout exchange for cancellations."""
        return f"{self.prefix}.control"

    @property
    def dead_letters(self) -> str:
        """The topic exchange for dead letters; the routing key is the task's."""
        return f"{self.prefix}.dlx"

    def queue(self, name: str) -> str:
        """Return the full name of a queue called map, shuffle, reduce or dead.

        Raises:
            ValueError: there is no such queue.
        """
        name = getattr(name, "value", name)
        if name not in (*PHASES, DEAD):
            raise ValueError(f"there is no queue {name!r}; there are {', '.join(PHASES)} and {DEAD}")
        return f"{self.prefix}.{name}"

    @staticmethod
    def task_key(phase: str, job_id: str) -> str:
        """Return the routing key of a job's tasks of a phase."""
        return f"{getattr(phase, 'value', phase)}.{job_id}"

    def exchanges(self) -> tuple[Exchange, ...]:
        """Return all exchanges."""
        return (
            Exchange(self.tasks, "topic"),
            Exchange(self.events, "direct"),
            Exchange(self.control, "fanout"),
            Exchange(self.dead_letters, "topic"),
        )

    def queues(self) -> tuple[Queue, ...]:
        """Return all durable queues; ``dead`` comes first, lest a dead letter find no queue."""
        quorum: dict[str, str | int] = {"x-queue-type": "quorum"}
        tasks = quorum | {
            "x-delivery-limit": self.delivery_limit,
            "x-dead-letter-exchange": self.dead_letters,
        }
        return (
            Queue(
                self.queue(DEAD), DEAD, self.dead_letters, "#", quorum | {"x-delivery-limit": DEAD_DELIVERIES}
            ),
            *(Queue(self.queue(phase), phase, self.tasks, f"{phase}.#", tasks) for phase in PHASES),
        )

    def check(self, messages: Iterable[Message]) -> None:
        """Refuse what must not be published.

        Raises:
            BadMessage: a body is too long.
            Unroutable: an exchange is none of ours.
        """
        names = {exchange.name for exchange in self.exchanges()}
        for message in messages:
            what = f"the {message.type} message {message.message_id}"
            most = MAX_REPORT_BYTES if message.type == "report" else MAX_BODY_BYTES
            if len(message.body) > most:
                raise BadMessage(
                    f"{what} has {len(message.body)} bytes, more than {most}:"
                    " messages carry references, not data"
                )
            if message.exchange not in names:
                raise Unroutable(
                    f"there is no exchange {message.exchange!r} for {what} with the routing key"
                    f" {message.routing_key!r}; there are {', '.join(sorted(names))}"
                )
