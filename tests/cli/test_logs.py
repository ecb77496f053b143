"""Log records as lines for people and as JSON."""

import io
import json
import logging

import pytest

from mrq import logs


def _logged(**options: bool) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up("info", name="worker-1", to=stream, **options)
    return stream


def test_a_line_has_time_level_name_message_and_fields() -> None:
    stream = _logged()
    logging.getLogger("mrq.worker").info("done", extra={"job": "job_7", "task": "map 3", "attempt": 0})
    time, rest = stream.getvalue().rstrip("\n").split(" ", 1)
    assert time.endswith("Z")
    assert rest == 'INFO worker-1 done job=job_7 task="map 3" attempt=0'


def test_a_message_of_several_lines_is_one_record() -> None:
    stream = _logged()
    logging.getLogger("mrq").warning("one\ntwo")
    assert stream.getvalue().endswith("one\\ntwo\n")


def test_json_lines_carry_the_same_and_a_traceback() -> None:
    stream = _logged(as_json=True)
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("mrq.master").exception("it failed", extra={"job": "job_7"})
    record = json.loads(stream.getvalue())
    assert (record["level"], record["name"], record["logger"]) == ("error", "worker-1", "mrq.master")
    assert (record["message"], record["job"]) == ("it failed", "job_7")
    assert "ValueError: odd" in record["traceback"]
    assert "task" not in record


@pytest.mark.parametrize("library", ["pika", "kazoo"])
def test_libraries_only_warn(library: str) -> None:
    stream = _logged()
    logger = logging.getLogger(f"{library}.anything")
    logger.info("chatter")
    logger.warning("trouble")
    assert len(stream.getvalue().splitlines()) == 1
