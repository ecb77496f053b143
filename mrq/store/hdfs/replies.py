"""What HDFS refuses, as the errors of `mrq.errors`. Pure: a status code and a body in, an exception out.

HttpFS answers every ``IOException`` with 500, WebHDFS with 403; so it is the exception's name in the body
(WebHDFS REST API, "Error Responses") that counts, and the code only where there is none.
"""

from __future__ import annotations

import json
import re

from requests.exceptions import ConnectionError

from mrq.errors import AuthenticationFailed, MrqError, StoreError, StoreFull, StoreNotFound, StoreUnavailable

_FULL = re.compile(r"DSQuotaExceeded|NSQuotaExceeded|QuotaByStorageType|No space left")
_NO_PLACE = re.compile(r"could only be (?:written|replicated) to 0")
_NO_DATANODE = re.compile(r"There are 0 datanode")
_PAST_THE_END = re.compile(
    r"out of the range \[|Premature EOF from inputStream after skipping|Cannot seek after EOF"
)
_TRY_AGAIN = re.compile(
    r"StandbyException|RetriableException|ConnectException|ConnectTimeoutException|SocketTimeoutException"
    r"|SocketException|NoRouteToHostException|UnknownHostException|NotReplicatedYetException"
    r"|LeaseExpiredException|AlreadyBeingCreatedException|RecoveryInProgressException"
    r"|BlockMissingException|Could not obtain block"
    r"|Filesystem closed|Unable to close file"
)
_SAFE_MODE = re.compile(r"SafeModeException|is in safe mode")
_FINAL = {
    "FileAlreadyExistsException",
    "FSLimitException",
    "HadoopIllegalArgumentException",
    "IllegalArgumentException",
    "InvalidPathException",
    "InvalidPathNameException",
    "MaxDirectoryItemsExceededException",
    "ParentNotDirectoryException",
    "PathComponentTooLongException",
    "PathIsNotEmptyDirectoryException",
    "UnsupportedOperationException",
}


class TryAgain(ConnectionError):
    """A refusal that another gateway, or some time, may turn into an answer.

    It passes for a lost connection, which is what hdfs's client goes to the next gateway for.

    Attributes:
        last: what to raise when the deadline passes.
    """

    def __init__(self, message: str, last: type[MrqError] = StoreUnavailable) -> None:
        super().__init__(message)
        self.last = last


class PastTheEnd(StoreError):
    """A read from beyond the end of a file."""


def refusal(code: int, body: bytes) -> MrqError | TryAgain:
    """Return what a reply other than 2xx stands for.

    Args:
        code: the HTTP status.
        body: JSON with a ``RemoteException``; a web server's or a proxy's page has none.
    """
    name, text = _remote_exception(body)
    line = text.strip().splitlines()[0][:500] if text.strip() else f"HTTP status {code}"
    everything = f"{name}: {text}"
    if _SAFE_MODE.search(everything):
        return TryAgain(f"HDFS is in safe mode, and takes no changes until it has found its blocks ({line})")
    if _FULL.search(everything):
        return StoreFull(f"{line}; delete old jobs' files, raise the quota, or add DataNodes")
    if _NO_PLACE.search(everything):
        return _no_place(line, everything)
    if _PAST_THE_END.search(everything):
        return PastTheEnd(line)
    if _TRY_AGAIN.search(everything):
        return TryAgain(f"{name}: {line}" if name else line)
    return _by_name(code, name, line)


def _by_name(code: int, name: str, line: str) -> MrqError | TryAgain:
    if name == "AccessControlException" and "(is not a directory)" in line:
        return StoreNotFound(line)  # somebody looked for a file below a file
    if name == "FileNotFoundException":
        return StoreNotFound(line)
    if name.split("$")[-1] in _FINAL:
        return StoreError(line)
    if (
        name in ("AccessControlException", "AuthorizationException")
        or code == 401
        or (code == 403 and not name)
    ):
        return AuthenticationFailed(f"{line}; look at hdfs_user, and at who owns hdfs_root")
    if code >= 500 or code in (408, 429):
        return TryAgain(f"{name}: {line}" if name else line)
    return StoreError(
        line if name else f"{line} (status {code}; is hdfs_urls the address of HttpFS or WebHDFS?)"
    )


def _no_place(line: str, everything: str) -> TryAgain:
    """Tell DataNodes that are away from DataNodes that are full, as far as the NameNode knows itself.

    For a while it takes a DataNode that has died for one that is full; so time is what tells.
    """
    if _NO_DATANODE.search(everything):
        return TryAgain(f"no DataNode is there ({line})")
    return TryAgain(
        f"no DataNode takes a block ({line}); if their disks are full delete old jobs' files or "
        "add DataNodes, and if they are down start them again",
        StoreFull,
    )


def _remote_exception(body: bytes) -> tuple[str, str]:
    """Return the exception's name and message; of a page that is not HDFS's only the title."""
    text = body.decode(errors="replace")
    try:
        remote = json.loads(text)["RemoteException"]
        return str(remote["exception"]), str(remote["message"])
    except (ValueError, KeyError, TypeError):
        title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
        return "", title[1] if title else text
