"""The child's side of what functions print: descriptors 1 and 2 are the pipe to the worker, anew for each task.

What mrq's own code and its libraries log in a child is not the function's: it goes where the worker's log goes.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from typing import TextIO

from mrq.logs import Lines

_OURS = ("mrq", "hdfs", "urllib3")
"""Loggers of the code that runs in a child besides the user's."""


class Streams:
    """Standard output and error of one child.

    Args:
        pipe: the descriptor of the pipe's end to write to.
        log: a descriptor of the worker's log.
    """

    def __init__(self, pipe: int, log: int) -> None:
        self._pipe = pipe
        self._ours: tuple[TextIO, TextIO] | None = None
        handler = logging.StreamHandler(_opened(log))
        handler.setFormatter(Lines("task"))
        for name in _OURS:
            logger = logging.getLogger(name)
            logger.setLevel(logging.WARNING)
            logger.propagate = False
            logger.addHandler(handler)
        # Where records go while nobody has said otherwise; a function's own logging.basicConfig still counts.
        self._last_resort = logging.StreamHandler()
        self._last_resort.setLevel(logging.INFO)
        self._last_resort.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.lastResort = self._last_resort
        logging.getLogger().setLevel(logging.INFO)

    def renew(self) -> None:
        """Have all three ways to write lead to the pipe, whatever the last function did to them."""
        for number in (1, 2):
            os.dup2(self._pipe, number)
        if self._ours is None or (sys.stdout, sys.stderr) != self._ours or any(s.closed for s in self._ours):
            self._ours = sys.stdout, sys.stderr = _opened(1), _opened(2)
            self._last_resort.setStream(sys.stderr)

    def flush(self) -> None:
        """Hand on what functions wrote; they may have closed the streams, or put others in their place."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()


def _opened(number: int) -> TextIO:
    """Return a text stream on a descriptor, which takes any str and hands on each line at once."""
    raw = io.FileIO(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
