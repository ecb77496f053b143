"""Logging of the services and verbs: one line a record, for people or as JSON, with job, task and attempt.

    2026-03-01T12:00:00.250Z INFO worker-1 job_7/map/3: done job=job_7 task="map 3" attempt=0

Code that knows of a job, task or attempt says so with ``log.info(…, extra={"job": …})``; the rest needs nothing.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

LEVELS = ("debug", "info", "warning", "error")
FIELDS = ("job", "task", "attempt")
CHATTY = ("pika", "kazoo", "hdfs", "urllib3", "asyncio")
"""Libraries whose news are not ours: only their warnings are shown."""


def set_up(
    level: str = "warning", *, name: str = "mrq", as_json: bool = False, to: TextIO | None = None
) -> None:
    """Send this process's log records to a stream, in place of where they went before.

    Args:
        level: the least that is shown, one of `LEVELS`.
        name: who speaks: the master's or worker's name.
        as_json: one JSON object a line, in place of text.
        to: the stream; by default standard error.
    """
    handler = logging.StreamHandler(to or sys.stderr)
    handler.setFormatter(JsonLines(name) if as_json else Lines(name))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {field: value for field in FIELDS if (value := getattr(record, field, None)) is not None}


class Lines(logging.Formatter):
    """Time, level, name, message, fields. A traceback follows on lines of its own.

    Args:
        name: who speaks.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line; a message of several lines becomes one, so that each line is a record."""
        message = "\\n".join(record.message.splitlines())
        fields = [f"{key}={_quoted(value)}" for key, value in _fields(record).items()]
        return " ".join([_time(record), record.levelname, self._name, message, *fields])


class JsonLines(logging.Formatter):
    """The same as JSON: ``time``, ``level``, ``name``, ``logger``, ``message``, the fields, ``traceback``.

    Args:
        name: who speaks.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "name": self._name,
            "logger": record.name,
            "message": record.getMessage(),
        } | _fields(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text
