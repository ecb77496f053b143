"""What every store promises, tried on each: a local folder, HDFS through HttpFS, and HDFS with redirects.

The real ones are where ``MRQ_HDFS_URLS`` (HttpFS) and ``MRQ_TEST_NAMENODE_URL`` (WebHDFS) say.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from mrq.config import Settings
from mrq.errors import MrqError, StoreError, StoreNotFound, StoreUnavailable
from mrq.ports import FileStatus, Store
from mrq.store.address import describe, open_store
from mrq.store.hdfs import HdfsStore

NAMENODE = os.environ.get("MRQ_TEST_NAMENODE_URL", "http://127.0.0.1:9870")
REAL = [pytest.mark.real, pytest.mark.timeout(120)]
KINDS = ["folder", pytest.param("hdfs", marks=REAL), pytest.param("webhdfs", marks=REAL)]


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(describe(tmp_path_factory.mktemp("store")))
        return
    direct: dict[str, Any] = (
        {"hdfs_direct": True, "hdfs_urls": NAMENODE} if request.param == "webhdfs" else {}
    )
    root = f"/mrq-test-{secrets.token_hex(6)}"
    settings = Settings.load(hdfs_root=root, connect_timeout=5, operation_timeout=20, **direct)
    store = open_store(json.loads(json.dumps(describe(settings))))
    assert isinstance(store, HdfsStore)
    try:
        store.ping()
    except MrqError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no HDFS: {error}")
    yield store
    store.delete("")
    store.close()


@pytest.fixture
def store(opened: Store) -> Iterator[Store]:
    """An empty store."""
    yield opened
    for entry in opened.list(""):
        opened.delete(entry.name)


def test_what_was_written_is_read(store: Store) -> None:
    """Bytes come back as they went in, and write tells how many there were."""
    assert store.write("jobs/1/input", b"some bytes") == 10
    assert store.read("jobs/1/input") == b"some bytes"


def test_a_file_may_be_empty(store: Store) -> None:
    """An empty file is there, has no bytes and reads as none."""
    assert store.write("empty", b"") == 0
    assert store.status("empty") == FileStatus("empty", 0)
    assert store.read("empty") == b""
    assert store.read("empty", 5, 5) == b""


def test_an_iterable_may_be_empty(store: Store) -> None:
    """A stream without any piece makes an empty file."""
    assert store.write("empty", iter(())) == 0
    assert store.read("empty") == b""


def test_a_large_file_comes_back_whole(store: Store) -> None:
    """5 MB are the same bytes afterwards, and so is a range in their middle."""
    data = secrets.token_bytes(5_000_000)
    assert store.write("large", data) == len(data)
    assert store.read("large") == data
    assert store.read("large", 2_500_000, 1_000_000) == data[2_500_000:3_500_000]


def test_a_stream_is_written_as_it_comes(store: Store) -> None:
    """Pieces of all sizes, empty ones too, are joined."""
    pieces = [b"a", b"", b"b" * 100_000, b"c" * 2_000_000, b"d"]
    assert store.write("streamed", (piece for piece in pieces)) == 2_100_002
    assert store.read("streamed") == b"".join(pieces)


@pytest.mark.parametrize("error", [ValueError("mine"), OSError("mine"), StoreNotFound("mine")], ids=repr)
def test_what_an_iterable_raises_comes_out_unchanged(store: Store, error: Exception) -> None:
    """A reader's own error is no failure of the store it writes to."""

    def pieces() -> Iterator[bytes]:
        yield b"x" * 1000
        raise error

    with pytest.raises(type(error)) as raised:
        store.write("broken", pieces())
    assert raised.value is error


def test_a_file_may_be_made_from_others_as_they_are_read(store: Store) -> None:
    """A stream may read from the very store that it is written to."""
    store.write("a", b"first ")
    store.write("b", b"second")
    store.write("both", (store.read(name) for name in ("a", "b")))
    assert store.read("both") == b"first second"


def test_writing_again_replaces(store: Store) -> None:
    """The last write is what is read."""
    store.write("file", b"long content")
    store.write("file", b"short")
    assert store.read("file") == b"short"


def test_a_folder_is_not_replaced_by_a_file(store: Store) -> None:
    """A write to a folder's name is refused."""
    store.make_dirs("folder")
    with pytest.raises(StoreError):
        store.write("folder", b"data")


def test_a_file_holds_no_other(store: Store) -> None:
    """What would be below a file can't be made, and isn't there."""
    store.write("file", b"data")
    with pytest.raises(StoreError):
        store.write("file/below", b"data")
    with pytest.raises(StoreError):
        store.make_dirs("file/below")
    assert store.status("file/below") is None
    assert store.list("file/below") == []
    assert not store.delete("file/below")
    with pytest.raises(StoreNotFound):
        store.read("file/below")


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (0, 3, b"012"),
        (4, 3, b"456"),
        (4, None, b"456789"),
        (9, 1, b"9"),
        (9, 100, b"9"),
        (10, None, b""),
        (10, 1, b""),
        (11, None, b""),
        (1000, 5, b""),
        (0, 0, b""),
        (5, 0, b""),
    ],
)
def test_a_range_ends_where_the_file_does(
    store: Store, offset: int, length: int | None, expected: bytes
) -> None:
    """A range gives what the file has of it, and nothing beyond its end."""
    store.write("digits", b"0123456789")
    assert store.read("digits", offset, length) == expected


def test_a_negative_range_is_a_mistake(store: Store) -> None:
    """It is the caller's fault, and said at once."""
    with pytest.raises(ValueError, match="negative"):
        store.read("file", -1)
    with pytest.raises(ValueError, match="negative"):
        store.read("file", 0, -1)


@pytest.mark.parametrize("range_", [(0, None), (5, 5), (0, 0)], ids=str)
def test_what_is_not_there_is_not_read(store: Store, range_: tuple[int, int | None]) -> None:
    """Neither a missing file nor a folder can be read."""
    store.make_dirs("folder")
    for path in ("missing", "missing/too", "folder"):
        with pytest.raises(StoreNotFound, match=path):
            store.read(path, *range_)


def test_a_status_tells_name_length_and_kind(store: Store) -> None:
    """Files and folders are told apart; None stands for nothing."""
    store.write("folder/file", b"12345")
    assert store.status("folder/file") == FileStatus("file", 5)
    assert store.status("folder") == FileStatus("folder", 0, is_dir=True)
    assert store.status("folder/other") is None
    assert store.status("other/file") is None


def test_a_list_is_sorted_and_shallow(store: Store) -> None:
    """Entries come by name as text, without what is deeper."""
    for name in ("10", "9", "B", "a", "ä", "sub/deeper"):
        store.write(f"folder/{name}", name.encode())
    assert store.list("folder") == [
        FileStatus("10", 2),
        FileStatus("9", 1),
        FileStatus("B", 1),
        FileStatus("a", 1),
        FileStatus("sub", 0, is_dir=True),
        FileStatus("ä", 2),
    ]


def test_a_list_of_one_or_none(store: Store) -> None:
    """A folder with one file, an empty one and a missing one each have their list."""
    store.write("one/one", b"1")
    store.make_dirs("none")
    assert store.list("one") == [FileStatus("one", 1)]
    assert store.list("none") == []
    assert store.list("missing") == []


def test_a_file_has_no_list(store: Store) -> None:
    """Listing a file is refused."""
    store.write("file", b"data")
    with pytest.raises(StoreError):
        store.list("file")


def test_making_a_folder_twice_is_fine(store: Store) -> None:
    """Folders are made with their parents, and stay as they are when made again."""
    store.make_dirs("a/b/c")
    store.write("a/b/file", b"data")
    store.make_dirs("a/b")
    assert [entry.name for entry in store.list("a/b")] == ["c", "file"]


def test_deleting_tells_whether_it_was_there(store: Store) -> None:
    """The first delete of a file does it, the second finds nothing."""
    store.write("file", b"data")
    assert store.delete("file")
    assert not store.delete("file")
    assert store.status("file") is None


def test_a_folder_is_deleted_with_all_in_it(store: Store) -> None:
    """Deletion is recursive, and leaves the neighbours alone."""
    store.write("job_1/map/0", b"data")
    store.write("job_1/reduce/0", b"data")
    store.write("job_10/map/0", b"data")
    assert store.delete("job_1")
    assert store.status("job_1/map/0") is None
    assert store.read("job_10/map/0") == b"data"


def test_a_rename_moves(store: Store) -> None:
    """The source is gone, the target has its content; the target's folders are made."""
    store.write("attempts/map-1", b"result")
    assert store.rename("attempts/map-1", "map_results/deep/1")
    assert store.status("attempts/map-1") is None
    assert store.read("map_results/deep/1") == b"result"


def test_the_first_rename_wins(store: Store) -> None:
    """A target that is there stays what it is, and so does the source."""
    store.write("first", b"1")
    store.write("second", b"2")
    assert store.rename("first", "target")
    assert not store.rename("second", "target")
    assert store.read("target") == b"1"
    assert store.read("second") == b"2"


def test_a_rename_done_again_is_done(store: Store) -> None:
    """Who asks again, because the answer was lost, hears that it is done."""
    store.write("source", b"data")
    assert store.rename("source", "target")
    assert store.rename("source", "target")


def test_a_rename_of_nothing_fails(store: Store) -> None:
    """Neither source nor target is there."""
    with pytest.raises(StoreNotFound, match="source"):
        store.rename("source", "target")
    with pytest.raises(StoreNotFound, match="source"):
        store.rename("source", "folder/target")


def test_a_rename_to_itself_changes_nothing(store: Store) -> None:
    """The name is taken, by the file itself."""
    store.write("file", b"data")
    assert not store.rename("file", "file")
    assert store.read("file") == b"data"


def test_nothing_is_moved_into_a_folder(store: Store) -> None:
    """A folder of the target's name is a mistake, and nothing happens to it."""
    store.write("source", b"data")
    store.make_dirs("target")
    with pytest.raises(StoreError, match="folder"):
        store.rename("source", "target")
    assert store.list("target") == []
    assert store.read("source") == b"data"


def test_nothing_is_moved_below_a_file(store: Store) -> None:
    """A target whose parent is a file is refused."""
    store.write("source", b"data")
    store.write("file", b"data")
    with pytest.raises(StoreError):
        store.rename("source", "file/target")


def test_one_of_four_renames_wins_a_race(store: Store) -> None:
    """Twenty times, four threads commit different files to one name: one wins, and its content is there."""
    gate = Barrier(4)

    def commit(number: int, target: str) -> bool:
        gate.wait(30)
        return store.rename(f"attempts/{target}-{number}", f"results/{target}")

    with ThreadPoolExecutor(4) as pool:
        for target in map(str, range(20)):
            for number in range(4):
                store.write(f"attempts/{target}-{number}", b"%d" % number)
            won = list(pool.map(commit, range(4), [target] * 4))
            assert won.count(True) == 1
            assert store.read(f"results/{target}") == b"%d" % won.index(True)


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "in  side",
        "per%cent",
        "%41",
        "a+b",
        "#1",
        "#LATEST",
        "a?b=c&d",
        "semi;colon",
        "comma,equals=",
        "quote'\"",
        "ÄÖÜ-łódź",
        "日本語",
        "emoji-🐘",
        "[x]{y}",
        "~tilde",
        "*",
        ".hidden",
        "_-.",
        "a" * 255,
    ],
)
def test_odd_names_are_names(store: Store, name: str) -> None:
    """Whatever is allowed in a name arrives as it is, in every operation."""
    path = f"folder {name}"[:255] + f"/{name}"
    store.write("source", b"data")
    store.write(path, b"data")
    assert store.read(path, 1, 2) == b"at"
    assert store.status(path) == FileStatus(name, 4)
    assert store.list(path.rpartition("/")[0]) == [FileStatus(name, 4)]
    assert not store.rename("source", path)
    assert store.delete(path)
    assert store.rename("source", path)
    assert store.read(path) == b"data"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/absolute",
        "a//b",
        "a/",
        "..",
        "a/../b",
        ".",
        "./a",
        "a\0b",
        "a\nb",
        "a:b",
        "a\\b",
        "x" * 256,
        "\ud800",
        "e\u0301",
        " a",
        "a ",
    ],
    ids=ascii,
)
def test_a_path_that_leads_astray_is_refused(store: Store, path: str) -> None:
    """Nothing is sent for a path that is absolute, leaves the root or does not fit HDFS."""
    with pytest.raises(StoreError, match="is no path"):
        store.write(path, b"data")
    with pytest.raises(StoreError, match="is no path"):
        store.read(path)
    with pytest.raises(StoreError, match="is no path"):
        store.rename(path, "fine")
    with pytest.raises(StoreError, match="is no path"):
        store.rename("fine", path)
    if path:
        for operation in (store.status, store.list, store.make_dirs, store.delete):
            with pytest.raises(StoreError, match="is no path"):
                operation(path)
    assert store.list("") == []


def test_threads_share_a_store(store: Store) -> None:
    """Eight threads write, move, read, list and delete at once without noticing each other."""

    def work(number: int) -> bytes:
        for turn in range(4):
            store.write(f"draft/{number}", b"%d-%d" % (number, turn) * 1000)
            assert store.rename(f"draft/{number}", f"done-{number}/{turn}")
        assert [entry.name for entry in store.list(f"done-{number}")] == ["0", "1", "2", "3"]
        content = b"".join(store.read(f"done-{number}/{turn}", 0, 3) for turn in range(4))
        assert store.delete(f"done-{number}")
        return content

    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(work, range(8)))
    assert contents == [b"".join(b"%d-%d" % (number, turn) for turn in range(4)) for number in range(8)]


def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    """Closing twice is fine; using it afterwards is not."""
    for address in (describe(tmp_path), describe(Settings.load())):
        closed = open_store(address)
        closed.close()
        closed.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            closed.read("file")
