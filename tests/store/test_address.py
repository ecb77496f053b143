"""A store's address: JSON that opens the store, and holds no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrq.config import Settings
from mrq.errors import ConfigurationError
from mrq.store.address import describe, open_store
from mrq.store.folder import FolderStore
from mrq.store.hdfs import HdfsStore


def test_an_hdfs_address_survives_json_without_the_password() -> None:
    """A child gets where HDFS is and who we claim to be, and no more."""
    settings = Settings.load(password="s3cret", hdfs_urls="http://one:1,http://two:2", hdfs_user="me")
    text = json.dumps(describe(settings))
    assert "s3cret" not in text
    store = open_store(json.loads(text))
    assert isinstance(store, HdfsStore)
    assert store.address.urls == ("http://one:1", "http://two:2")
    assert store.address.user == "me"
    store.close()


def test_a_folder_address_survives_json(tmp_path: Path) -> None:
    """A folder's address opens the same files."""
    address = json.loads(json.dumps(describe(tmp_path)))
    first, second = open_store(address), open_store(address)
    first.write("file", b"data")
    assert isinstance(second, FolderStore)
    assert second.read("file") == b"data"


@pytest.mark.parametrize(
    "wrong",
    [{}, {"kind": "ftp"}, {"kind": "folder"}, {"kind": "hdfs", "urls": ["http://one:1"], "x": 1}],
    ids=str,
)
def test_what_is_no_address_is_refused(wrong: dict[str, Any]) -> None:
    """A wrong address is said to be one."""
    with pytest.raises(ConfigurationError, match="no store's address"):
        open_store(wrong)
