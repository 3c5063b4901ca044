"""A small open data set for the demo, downloaded only when someone asks for it.

Nothing here runs by itself: the lab opens no connection to another machine unless the user says so
(``osv demo --download``). What arrives is pinned to one commit and checked file by file against a digest, however
the host packs it, so a changed or truncated download is refused.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any
from urllib.parse import urlsplit

from osv_lab.core.digests import file_digest, set_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, nearest
from osv_lab.core.files import atomic_path
from osv_lab.core.progress import Progress, silent

CONNECT_TIMEOUT_S = 3.0
"""How long a machine without a network waits before it is told so."""


@dataclass(frozen=True, slots=True)
class OpenDataset:
    """A data set that may be downloaded.

    Attributes:
        url: Where it is, over HTTPS: a zip archive.
        root: The folder in the archive that holds the data.
        digest: :func:`tree_digest` of that folder.
        files: How many files it has.
        max_bytes: Most bytes that are downloaded.
        licence: Its licence, and whose work it is.
    """

    url: str
    root: str
    digest: str
    files: int
    max_bytes: int
    licence: str


_BCCD = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"

OPEN_DATASETS: Mapping[str, OpenDataset] = MappingProxyType(
    {
        # 364 microscope photos of blood, 640 x 480, with 4,888 boxes of three classes in Pascal VOC XML.
        "bccd": OpenDataset(
            url=f"https://codeload.github.com/Shenggan/BCCD_Dataset/zip/{_BCCD}",
            root=f"BCCD_Dataset-{_BCCD}/BCCD",
            digest="59eb0d826c422ae58c4c46f2dac8de1af80c371950dbf0593d8aeb0c8f74f265",
            files=732,
            max_bytes=40 * 2**20,
            licence="MIT, (c) 2017 shenggan",
        )
    }
)
"""What can be downloaded, by name."""


def fetch_open_dataset(
    folder: str | Path, name: str = "bccd", *, timeout_s: float = 120.0, progress: Progress = silent
) -> Path:
    """Download a small open data set; what was downloaded before is checked and used again.

    Args:
        folder: Where to keep it.
        name: One of :data:`OPEN_DATASETS`.
        timeout_s: Longest time for the download. Without a network the answer comes after three seconds.
        progress: Told about bytes, then about files.

    Returns:
        The folder with the data, to be given to :func:`osv_lab.store.ingest.ingest`.

    Raises:
        NotFoundError: no such data set.
        UnavailableError: it cannot be downloaded here.
        InvalidDataError: what arrived is not the data set.
    """
    from osv_lab.store.archive import extract

    if name not in OPEN_DATASETS:
        raise NotFoundError("no such open data set", repr(name), nearest(name, OPEN_DATASETS))
    dataset = OPEN_DATASETS[name]
    archive = Path(folder) / f"{name}-{dataset.digest[:12]}.zip"
    if not archive.is_file():
        with atomic_path(archive) as temporary:
            _download(dataset, temporary, timeout_s, progress)
            _verified(dataset, extract(temporary, archive.parent, progress=progress)[0])
    return _verified(dataset, extract(archive, archive.parent, progress=progress)[0])


def tree_digest(root: Path) -> tuple[str, int]:
    """One digest of all files below a folder, their relative paths included; and how many there are."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return set_digest(f"{path.relative_to(root).as_posix()} {file_digest(path)}" for path in files), len(files)


def _verified(dataset: OpenDataset, extracted: Path) -> Path:
    root = extracted / dataset.root
    digest, files = tree_digest(root) if root.is_dir() else ("", 0)
    if digest != dataset.digest:
        raise InvalidDataError(
            "this is not the data set that was expected",
            f"{files} of {dataset.files} files, digest {digest[:12] or 'none'} instead of {dataset.digest[:12]}",
            f"delete {extracted} and try again, or give your own data with --source",
        )
    return root


def _download(dataset: OpenDataset, target: Path, timeout_s: float, progress: Progress) -> None:
    parts = urlsplit(dataset.url)
    host = parts.hostname or ""
    if parts.scheme != "https":
        raise UnavailableError("downloads are made over HTTPS only", dataset.url, "use another source")
    if "https" not in urllib.request.getproxies() or urllib.request.proxy_bypass(host):
        _reach(host, parts.port or 443)
    request = urllib.request.Request(dataset.url, headers={"User-Agent": "osv-lab"})
    deadline = time.monotonic() + timeout_s
    opener = urllib.request.build_opener(_HttpsOnly)
    try:
        with opener.open(request, timeout=min(timeout_s, 15)) as response, open(target, "wb") as file:
            _copy(response, file, dataset, deadline, progress)
    except (OSError, http.client.HTTPException) as error:
        raise _unavailable(host, getattr(error, "reason", None) or error) from None


def _copy(response: Any, file: IO[bytes], dataset: OpenDataset, deadline: float, progress: Progress) -> None:
    declared = response.headers.get("Content-Length", "")
    total = int(declared) if declared.isdecimal() else None
    done = 0
    while chunk := response.read(2**16):
        done += len(chunk)
        if done > dataset.max_bytes:
            raise InvalidDataError(
                "the download is larger than the data set", f"over {dataset.max_bytes:,} bytes", "try again later"
            )
        if time.monotonic() > deadline:
            raise TimeoutError("the download takes too long")
        file.write(chunk)
        progress("downloading", done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def _reach(host: str, port: int) -> None:
    """Fail soon where there is no network; a resolver may otherwise think about it for half a minute."""
    outcome: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
            outcome.put(None)
        except OSError as error:
            outcome.put(error)

    threading.Thread(target=connect, name="reach", daemon=True).start()
    error: OSError | None = TimeoutError(f"no answer within {CONNECT_TIMEOUT_S:g} s")
    with contextlib.suppress(queue.Empty):
        error = outcome.get(timeout=CONNECT_TIMEOUT_S)
    if error is not None:
        raise _unavailable(host, error)


def _unavailable(host: str, reason: object) -> UnavailableError:
    return UnavailableError(
        "the open data set cannot be downloaded", f"{host}: {reason}", "leave --download out, or give --source"
    )


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to plain HTTP."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"redirected to {newurl[:80]}, which is not HTTPS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
