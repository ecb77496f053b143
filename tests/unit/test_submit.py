"""Submission: the files of a job that was submitted stay as they are, whatever still arrives."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mrq import layout
from mrq.config import Settings
from mrq.coordination.embedded import EmbeddedCoordination, EmbeddedTree
from mrq.registry import Registry
from mrq.store.folder import FolderStore
from mrq.submit import Options, Submitter
from tests.jobs import WORDS, add_up, count_characters


class Lossy(FolderStore):
    """A store whose every write was sent twice: the first time it did not get through, but some of it is under way."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.under_way: list[tuple[str, bytes]] = []

    def write(self, path: str, data: bytes | Iterable[bytes]) -> int:
        whole = data if isinstance(data, bytes) else b"".join(data)
        self.under_way.append((path, whole[: len(whole) // 2]))
        return super().write(path, whole)

    def arrive(self) -> None:
        """What was under way arrives, in part, as HttpFS takes it when the connection then ends."""
        for path, part in self.under_way:
            super().write(path, part)


def test_what_arrives_late_of_a_write_that_was_done_again_spoils_no_file_of_the_job(tmp_path: Path) -> None:
    store = Lossy(tmp_path)
    tree = EmbeddedCoordination(EmbeddedTree())
    with ThreadPoolExecutor(2) as pool:
        submitter = Submitter(Registry(tree), store, Settings(inline_bytes=0), pool)
        options = Options(requested_n_workers=2)
        job_id = submitter.submit(WORDS, count_characters, add_up, options)
    files = [layout.code(job_id), layout.input_file(job_id)]
    before = [store.read(path) for path in files]
    store.arrive()
    assert [store.read(path) for path in files] == before
    tree.close()
