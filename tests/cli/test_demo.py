"""The demo, for real: on an embedded cluster, in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from mrq.demo import REDUCERS, SPLITS, WORD, Corpus

FILES = 20


def _demo(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mrq.cli", "demo", "--limit", str(FILES), *options],
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def expected() -> Counter[str]:
    return Counter(word for text in Corpus.find(FILES) for word in WORD.findall(text))


def test_the_demo_prints_the_most_frequent_words_and_a_summary(expected: Counter[str]) -> None:
    done = _demo("--check")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    shown = {row[1]: int(row[2].replace(",", "")) for row in rows if len(row) == 3 and row[0].isdigit()}
    assert len(shown) == 20
    assert all(expected[word] == count for word, count in shown.items())
    assert min(shown.values()) == sorted(expected.values())[-20]
    summary = done.stdout.splitlines()[-1]
    assert f"{SPLITS + 2 * REDUCERS} tasks, {expected.total():,} records" in summary
    assert f"of {FILES} files" in summary
    assert summary.endswith("equal to a plain evaluation")


def test_where_there_is_no_terminal_progress_is_plain_lines() -> None:
    done = _demo("--workers", "1")
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    for line in (f"map     {SPLITS}/{SPLITS} tasks", f"shuffle {REDUCERS}/{REDUCERS} tasks"):
        assert line in done.stdout.splitlines()


def test_as_json_standard_output_is_one_document(expected: Counter[str]) -> None:
    done = _demo("--json", "--check")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["top"][0] == list(expected.most_common(1)[0])
    assert document["distinct"] == len(expected)
    assert document["records"] == expected.total()
    assert document["files"] == FILES
    assert document["checked"] is True
    assert "map" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_demo_and_every_process_of_its(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mrq.cli", "demo"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout
        assert next(line for line in demo.stdout if line.startswith("map"))
        helpers = _children(demo.pid)
        demo.send_signal(number)
        rest = demo.stdout.read()
    assert (demo.returncode, "Traceback" in rest) == (code, False), rest
    assert helpers
    deadline = time.monotonic() + 5.0
    while any(Path(f"/proc/{pid}").exists() for pid in helpers):
        assert time.monotonic() < deadline, helpers
        time.sleep(0.05)


def _children(pid: int) -> list[str]:
    return [
        child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
    ]


def test_the_corpus_is_the_standard_library_without_what_is_not_its_own() -> None:
    corpus = Corpus.find()
    names = {path.name for path in corpus.paths}
    assert {"argparse.py", "typing.py", "decoder.py"} <= names
    assert len(corpus) > 300
    assert corpus.n_bytes > 5_000_000
    assert not any("site-packages" in path.parts for path in corpus.paths)
    assert len(list(Corpus.find(3))) == 3
