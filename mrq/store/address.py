"""A store's address as JSON: how a worker's child opens the store without the cluster's credentials.

child's input = json.dumps(describe(settings))        # no password is in it
store = open_store(json.loads(child's input))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrq.errors import ConfigurationError

if TYPE_CHECKING:  # neither is needed to open a store of the other kind
    from mrq.config import Settings
    from mrq.ports import Store


@dataclass(frozen=True, slots=True)
class HdfsAddress:
    """What it takes to talk to HDFS; see `mrq.config.Settings` for each.

    Attributes:
        urls: HttpFS gateways, or NameNodes when ``direct``.
        user: the ``user.name`` that is claimed.
        root: the folder that the store's paths are below.
        direct: whether the URLs redirect to DataNodes.
        rewrite: ``from=to`` pairs of DataNodes' ``host:port``, comma-separated.
        tls: whether the URLs must be ``https``.
        ca_file: the certificates to trust; None for the usual ones.
        connect_timeout: how long `ping` tries, in seconds.
        operation_timeout: how long any other operation tries, in seconds.
    """

    urls: tuple[str, ...]
    user: str = "mrq"
    root: str = "/mrq"
    direct: bool = False
    rewrite: str = ""
    tls: bool = False
    ca_file: str | None = None
    connect_timeout: float = 15.0
    operation_timeout: float = 30.0

    def __post_init__(self) -> None:
        allowed = ("https://",) if self.tls else ("http://", "https://")
        for url in self.urls:
            if not url.startswith(allowed):
                raise ConfigurationError(f"hdfs_urls: {url!r} must begin with {' or '.join(allowed)}")
        if not self.urls or not self.root.startswith("/"):
            raise ConfigurationError(
                "HDFS needs one URL at least (hdfs_urls) and an absolute folder (hdfs_root)"
            )
        self.rewrites()

    def rewrites(self) -> dict[str, str]:
        """Return ``rewrite`` taken apart.

        Raises:
            ConfigurationError: it has another form.
        """
        pairs = [pair.strip().split("=") for pair in self.rewrite.split(",") if pair.strip()]
        if any(len(pair) != 2 or not all(":" in side for side in pair) for pair in pairs):
            raise ConfigurationError(
                f"hdfs_datanode_rewrite: {self.rewrite!r} is not host:port=host:port, ..."
            )
        return {old.strip(): new.strip() for old, new in pairs}

    @classmethod
    def of(cls, settings: Settings) -> HdfsAddress:
        """Pick from the settings what concerns HDFS."""
        return cls(
            urls=settings.hdfs_urls,
            user=settings.hdfs_user,
            root=settings.hdfs_root,
            direct=settings.hdfs_direct,
            rewrite=settings.hdfs_datanode_rewrite,
            tls=settings.tls,
            ca_file=str(settings.tls_ca_file) if settings.tls_ca_file else None,
            connect_timeout=settings.connect_timeout,
            operation_timeout=settings.operation_timeout,
        )


def describe(store: Settings | Path) -> dict[str, Any]:
    """Return the JSON-able address of the HDFS that the settings name, or of a store in a local folder."""
    if isinstance(store, Path):
        return {"kind": "folder", "root": str(store)}
    return {"kind": "hdfs"} | asdict(HdfsAddress.of(store))


def open_store(address: Mapping[str, Any]) -> Store:
    """Open the store of an address that `describe` made. Nothing is sent yet.

    Raises:
        ConfigurationError: it is no such address.
    """
    fields = dict(address)
    kind = fields.pop("kind", None)
    try:
        if kind == "folder":
            from mrq.store.folder import FolderStore

            return FolderStore(Path(fields["root"]))
        if kind == "hdfs":
            from mrq.store.hdfs import HdfsStore

            return HdfsStore(HdfsAddress(**(fields | {"urls": tuple(fields["urls"])})))
    except (KeyError, TypeError) as error:
        raise ConfigurationError(f"{address!r} is no store's address: {error}") from error
    raise ConfigurationError(f"{address!r} is no store's address: its kind is neither 'folder' nor 'hdfs'")
