"""The store over a folder when the disk, or a process that shares it, lets it down."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrq.errors import StoreError, StoreFull
from mrq.store.folder import FolderStore


def fail_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the end of every write fail."""

    def replace(*paths: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_full_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The error says so and what to do; no draft is left to fill the disk more."""
    fail_with(number, monkeypatch)
    with pytest.raises(StoreFull, match=r"write folder/file: .*make room"):
        FolderStore(tmp_path).write("folder/file", b"data")
    assert list((tmp_path / "writing").iterdir()) == []


def test_any_other_failure_of_the_disk_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No OSError gets out."""
    fail_with(errno.EIO, monkeypatch)
    with pytest.raises(StoreError, match="write file"):
        FolderStore(tmp_path).write("file", b"data")


def test_a_write_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """Neither a part of the file nor a draft is there."""

    def pieces() -> Iterator[bytes]:
        yield b"data"
        raise ValueError

    store = FolderStore(tmp_path)
    with pytest.raises(ValueError, match=r"^$"):
        store.write("file", pieces())
    assert store.status("file") is None
    assert list((tmp_path / "writing").iterdir()) == []


def test_a_rename_that_was_killed_halfway_is_finished_by_the_next(tmp_path: Path) -> None:
    """Linked but not unlinked: the file is both source and target, so asking again says True."""
    store = FolderStore(tmp_path)
    store.write("source", b"data")
    os.link(tmp_path / "files" / "source", tmp_path / "files" / "target")
    assert store.rename("source", "target")
    assert [entry.name for entry in store.list("")] == ["target"]


def test_a_folder_that_another_makes_meanwhile_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target's folder was not there when the file was to be put into it, and is there right after."""
    store, really = FolderStore(tmp_path), os.replace

    def replace(source: Path, target: Path) -> None:
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True)
            raise FileNotFoundError
        really(source, target)

    monkeypatch.setattr(os, "replace", replace)
    store.write("folder/file", b"data")
    assert store.read("folder/file") == b"data"


RACER = """
import sys
from pathlib import Path
from mrq.store.folder import FolderStore

store, me = FolderStore(Path(sys.argv[1])), sys.argv[2]
sys.stdin.readline()
for turn in range(50):
    store.write(f"attempts/{turn}-{me}", me.encode())
    print(turn, store.rename(f"attempts/{turn}-{me}", f"results/{turn}"))
"""


def test_processes_race_for_a_name_and_one_wins(tmp_path: Path) -> None:
    """Of three processes that commit the same fifty names, each name has one winner, whose content is there."""
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=here,
        )
        for number in range(3)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate(timeout=30)[0].splitlines() for racer in racers]
    store = FolderStore(tmp_path)
    for turn in range(50):
        winners = [number for number, lines in enumerate(told) if f"{turn} True" in lines]
        assert [store.read(f"results/{turn}")] == [str(number).encode() for number in winners]
