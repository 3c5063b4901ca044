"""An opened DVC remote: a folder, S3, MinIO, or whatever else DVC has a file system for."""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.errors import UnavailableError, UsageError, require_extra
from osv_lab.core.privacy import silence
from osv_lab.core.settings import load_settings
from osv_lab.store.versions.model import DatasetVersion
from osv_lab.store.versions.objects import Objects, folder_of
from osv_lab.store.versions.registry import parse_record

RECORDS = "osv-versions"
REMOTE_VARIABLE = "OSV_VERSIONS_REMOTE"


@dataclass(frozen=True)
class Remote:
    """An opened remote.

    Attributes:
        url: Its address, without secrets.
        fs: DVC's file system for it.
        files: Where DVC keeps files there.
        base: Its top.
    """

    url: str
    fs: Any
    files: str
    base: str

    def path(self, oid: str) -> str:
        """Where an object is there."""
        return str(self.fs.join(self.files, oid[:2], oid[2:]))

    def size(self, path: str) -> int | None:
        """How long a file there is; ``None`` where there is none."""
        try:
            return int(self.fs.info(path)["size"])
        except FileNotFoundError:
            return None

    def record(self, dataset: str, name: str) -> str:
        """The ``.dvc`` file of a version there."""
        return str(self.fs.join(self.base, RECORDS, folder_of(dataset), f"{name}.dvc"))

    def read(self, path: str) -> bytes:
        """A small file's bytes."""
        with self.fs.open(path, "rb") as file:
            return bytes(file.read())

    def write(self, source: Path, path: str) -> None:
        """Put a file there. DVC's file systems do that whole or not at all, where the store can."""
        try:
            self.fs.makedirs(self.fs.parent(path), exist_ok=True)
            self.fs.put_file(str(source), path)
        except FileNotFoundError as error:
            fix = "make the bucket or folder first"
            raise UnavailableError("the remote takes no file", f"{self.url}: {error}", fix) from error

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.remove(path)

    def versions(self) -> Iterator[DatasetVersion]:
        """What it has."""
        top = self.fs.join(self.base, RECORDS)
        if self.fs.exists(top):
            for path in sorted(self.fs.find(top)):
                if path.endswith(".dvc"):
                    yield parse_record(self.read(path), path)


@contextlib.contextmanager
def open_remote(remote: str | None = None, options: Mapping[str, Any] | None = None) -> Iterator[Remote]:
    """Open a remote.

    Args:
        remote: An address (``s3://bucket/folder``), a folder, or the name of a remote of the DVC project. By default
            ``OSV_VERSIONS_REMOTE``, else the project's default remote, else the folder ``versions-remote`` of the lab.
        options: What DVC's configuration of such a remote takes: ``endpointurl`` (MinIO), ``profile``, ``region``, ...
            Credentials are found as DVC and the cloud's own tools find them.

    Raises:
        UnavailableError: DVC, its plugin for this kind of remote, or the remote itself is missing.
        UsageError: not a remote.
    """
    silence()
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError as error:
        raise require_extra("dvc", "versions") from error
    objects = Objects()
    if not (objects.root / ".dvc" / "config").exists():
        with objects.changing():
            pass
    try:
        with Repo(str(objects.root)) as project:
            name = remote or os.environ.get(REMOTE_VARIABLE) or project.config["core"].get("remote")
            known = project.config["remote"]
            stated = dict(known[name]) if name in known else {"url": address_of(name)}
        with Repo(str(objects.root), config={"remote": {"osv": {**stated, **(options or {})}}}) as project:
            store = project.cloud.get_remote_odb("osv")
            base = store.fs.parent(store.fs.parent(store.path))
            yield Remote(_shown(stated["url"]), store.fs, store.path, base)
    except DvcException as error:
        raise UsageError(
            "not a remote that DVC can use", f"{_shown(str(remote))}: {error}", _fix(error)
        ) from error
    except Exception as error:
        if _is_answer_of_cloud(error):
            what = f"{_shown(str(remote or ''))}: {type(error).__name__}: {error}"
            fix = "check address, credentials and network"
            raise UnavailableError("the remote does not answer", what, fix) from error
        raise


def _is_answer_of_cloud(error: BaseException) -> bool:
    """Whether an error came from a cloud's client (each has a family of its own) or the network under it."""
    package = type(error).__module__.partition(".")[0]
    clouds = {"botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs", "azure", "asyncssh"}
    return package in clouds or isinstance(error, (ConnectionError, TimeoutError, PermissionError))


def _fix(error: Exception) -> str:
    return (
        'pip install "osv-lab[s3]" for s3://' if "dvc-s3" in str(error) or "requires" in str(error) else "check it"
    )


def address_of(name: str | None) -> str:
    if name is None:
        return str(load_settings().home / "versions-remote")
    return name if "://" in name else str(Path(name).expanduser().absolute())


def _shown(url: str) -> str:
    """An address fit for a log."""
    parts = urllib.parse.urlsplit(url)
    return url.replace(f"{parts.netloc.rpartition('@')[0]}@", "***@") if "@" in parts.netloc else url
