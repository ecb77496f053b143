"""A master or worker as a service: connect, run until SIGTERM or SIGINT, drain, end with an exit code."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from types import FrameType

from mrq.config import Settings
from mrq.connect import open_master, open_worker
from mrq.master import Master
from mrq.worker import Worker

log = logging.getLogger(__name__)


def serve(role: str, settings: Settings) -> None:
    """Run a ``"master"`` or a ``"worker"`` until a signal ends it.

    The service runs on a thread of its own, so that a signal is heard whatever the service waits for.

    Raises:
        MrqError: it could not start.
    """
    with ExitStack() as opened:
        service: Master | Worker = (open_master if role == "master" else open_worker)(settings, opened)
        ended = threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                service.run()
            except BaseException as error:  # told to the main thread, which raises it
                failed.append(error)
            finally:
                ended.set()

        def stop(number: int, _frame: FrameType | None) -> None:
            log.info("%s: the %s ends", signal.Signals(number).name, role)
            service.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        thread = threading.Thread(target=run, name=f"mrq-{role}", daemon=True)
        thread.start()
        while not ended.wait(
            1.0
        ):  # a wait without timeout would not let Python's signal handlers run everywhere
            pass
        thread.join()
        if failed:
            raise failed[0]
