"""Everything that mrq raises.

    MrqError
    ├── ConfigurationError            a setting is wrong; nothing was sent
    ├── AuthenticationFailed          a server refused the username or the password
    ├── Unavailable                   a server did not answer by the deadline
    │   ├── BrokerUnavailable         RabbitMQ
    │   ├── CoordinationUnavailable   ZooKeeper
    │   └── StoreUnavailable          HDFS
    ├── StoreError                    HDFS answered, and refused
    │   ├── StoreNotFound             no such file
    │   └── StoreFull                 no space is left
    ├── NodeError                     ZooKeeper answered, and refused
    │   ├── NodeExists, NodeMissing   the node is there, or isn't
    │   ├── VersionConflict           somebody else wrote the node first
    │   └── SessionLost               the session is over; so is what it owned
    ├── Unroutable                    RabbitMQ has no queue for a message
    ├── BadMessage                    not a message, znode or file of this mrq
    │   └── BadSignature              a file that the job's key does not vouch for
    ├── NotShippable                  a function or a value does not pickle
    └── JobError                      carries ``job_id``
        ├── UnknownJob                no job of that id
        ├── VersionMismatch           client and workers run different Pythons or mrqs
        ├── Detached                  the client was closed; the job goes on without it
        └── TaskError                 carries ``task`` and ``attempts`` too
            ├── PoisonTaskError       the task ended its process, again and again
            ├── TaskTimeoutError      the task ran longer than ``task_timeout``
            ├── TaskMemoryError       the task needed more than its ``memory_limit``
            ├── TooManySkipped        more bad records than ``max_skipped``
            └── RemoteError           the user's exception, when it can't be pickled

What a user's function raises comes back as its own type; its ``__cause__`` is a `RemoteTraceback`.
"""

from __future__ import annotations


class MrqError(Exception):
    """The root: ``except MrqError`` catches all that mrq raises by itself."""


class ConfigurationError(MrqError):
    """A setting or an argument is wrong."""


class AuthenticationFailed(MrqError):
    """A server refused the username or the password."""


class Unavailable(MrqError):
    """A server did not answer by the deadline."""


class BrokerUnavailable(Unavailable):
    """RabbitMQ did not answer or confirm by the deadline."""


class CoordinationUnavailable(Unavailable):
    """ZooKeeper did not answer by the deadline."""


class StoreUnavailable(Unavailable):
    """HDFS did not answer by the deadline."""


class StoreError(MrqError):
    """HDFS answered, and refused."""


class StoreNotFound(StoreError):
    """There is no such file or folder in the store."""


class StoreFull(StoreError):
    """The store has no space left."""


class NodeError(MrqError):
    """ZooKeeper answered, and refused."""


class NodeExists(NodeError):
    """The node to create is there already."""


class NodeMissing(NodeError):
    """The node (or its parent) is not there."""


class VersionConflict(NodeError):
    """The node was written by somebody else since it was read."""


class SessionLost(NodeError):
    """The session has expired: its ephemeral nodes, and so its jobs, belong to others now."""


class Unroutable(MrqError):
    """RabbitMQ returned a mandatory message: no queue is bound for it."""


class BadMessage(MrqError):
    """Bytes that are not a message, a record or a file of this version of mrq."""


class BadSignature(BadMessage):
    """A file whose keyed digest is wrong: not written with the job's key, moved, or damaged."""


class NotShippable(MrqError):
    """A function or a value that does not pickle, so that it can't travel."""


class JobError(MrqError):
    """Something about one job.

    Attributes:
        job_id: the job.
    """

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class UnknownJob(JobError):
    """There is no job of that id (any more)."""


class VersionMismatch(JobError):
    """Client and workers run different minor versions of Python, or different mrqs."""


class Detached(JobError):
    """The client was closed, or gave up on the servers, before the job ended; ``attach`` finds it again."""


class TaskError(JobError):
    """Something about one task of a job.

    Attributes:
        task: the task, as in ``"map 3"``.
        attempts: how often it was tried.
    """

    def __init__(self, message: str, *, job_id: str, task: str, attempts: int) -> None:
        super().__init__(message, job_id=job_id)
        self.task = task
        self.attempts = attempts


class PoisonTaskError(TaskError):
    """The task ended the process it ran in, on every attempt."""


class TaskTimeoutError(TaskError):
    """The task ran longer than the job's ``task_timeout``."""


class TaskMemoryError(TaskError):
    """The task needed more memory than its ``memory_limit``; its ``__cause__`` is the function's traceback."""


class TooManySkipped(TaskError):
    """The tasks of the job left out more bad records together than ``max_skipped`` allows."""


class RemoteError(TaskError):
    """Stands for an exception of the user's that could not be pickled; the message holds its repr."""


class RemoteTraceback(Exception):
    """The traceback of a user's exception as text, set as its ``__cause__``.

    Outside `MrqError` on purpose: it is never raised, only shown.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
