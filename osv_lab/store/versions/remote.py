"""Versions to and from a DVC remote: a folder, S3, MinIO, or whatever else DVC reaches.

Files go to where ``dvc push`` would put them. Beside them, under ``osv-versions``, is the ``.dvc`` file of each version: it
is written last, so a version that a remote names is there whole, and a machine that has nothing yet finds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.errors import (
    CheckFailedError,
    InvalidDataError,
    NotFoundError,
    UnavailableError,
    UsageError,
    nearest,
    require_extra,
)
from osv_lab.core.files import write_atomic
from osv_lab.core.privacy import silence
from osv_lab.core.progress import Progress, silent
from osv_lab.core.settings import load_settings
from osv_lab.store.versions.manifest import open_manifest
from osv_lab.store.versions.model import DatasetVersion, VersionList, parse_ref
from osv_lab.store.versions.objects import Object, Objects, accept, folder_of, md5_of, read_tree
from osv_lab.store.versions.registry import find_version, parse_record, register

RECORDS = "osv-versions"
REMOTE_VARIABLE = "OSV_VERSIONS_REMOTE"
_WORKERS = 4


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
        self.fs.makedirs(self.fs.parent(path), exist_ok=True)
        self.fs.put_file(str(source), path)

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
            stated = dict(known[name]) if name in known else {"url": _address(name)}
        with Repo(str(objects.root), config={"remote": {"osv": {**stated, **(options or {})}}}) as project:
            store = project.cloud.get_remote_odb("osv")
            base = store.fs.parent(store.fs.parent(store.path))
            yield Remote(_shown(stated["url"]), store.fs, store.path, base)
    except DvcException as error:
        raise UsageError("not a remote that DVC can use", f"{_shown(str(remote))}: {error}", _fix(error)) from error
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
    return 'pip install "osv-lab[s3]" for s3://' if "dvc-s3" in str(error) or "requires" in str(error) else "check it"


def _address(name: str | None) -> str:
    if name is None:
        return str(load_settings().home / "versions-remote")
    return name if "://" in name else str(Path(name).expanduser().absolute())


def _shown(url: str) -> str:
    """An address fit for a log."""
    parts = urllib.parse.urlsplit(url)
    return url.replace(f"{parts.netloc.rpartition('@')[0]}@", "***@") if "@" in parts.netloc else url


def push(
    version: str | DatasetVersion,
    remote: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> DatasetVersion:
    """Bring a version to a remote. Files that are there are not sent again; a push that was killed goes on.

    Args:
        version: The version, or its reference.
        remote: See :func:`open_remote`.
        options: See :func:`open_remote`.
        progress: Told about files.

    Raises:
        NotFoundError: there is no such version.
        CheckFailedError: a file here is damaged, or the remote has another version of this name.
        UnavailableError: the remote cannot be reached.
    """
    objects = Objects()
    with objects.changing(), open_remote(remote, options) as there:
        found = find_version(version)
        record = there.record(found.dataset, found.name)
        if there.size(record) is not None:
            other = parse_record(there.read(record), record)
            if other.digest != found.digest and other.digest not in found.former:
                raise CheckFailedError(
                    f"the remote has another '{found.ref}'",
                    f"{other.digest[:12]} there, {found.digest[:12]} here",
                    "freeze the data under another name",
                )
        remember(objects, remote, options)
        _send(objects, there, found, progress)
        there.write(objects.record(found.dataset, found.name), record)
    return found


def _send(objects: Objects, there: Remote, version: DatasetVersion, progress: Progress) -> None:
    files = objects.tree(version.tree)

    def send(path: str, oid: str) -> None:
        source = objects.path(oid)
        if not source.is_file():
            raise CheckFailedError("a file of the version is missing here", f"{path} ({oid})", "pull the version")
        if there.size(there.path(oid)) == source.stat().st_size:
            return
        if not objects.check(oid):
            raise CheckFailedError("a file of the version is damaged here", f"{path} ({source})", "pull the version")
        there.write(source, there.path(oid))

    _each(send, list(files.items()), "push", progress)
    send("listing", version.tree)


def pull(
    version: str,
    remote: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> DatasetVersion:
    """Bring a version from a remote, every byte checked. The version exists here when it is complete.

    Args:
        version: Its reference.
        remote: See :func:`open_remote`.
        options: See :func:`open_remote`.
        progress: Told about files.

    Raises:
        NotFoundError: the remote has no such version; the message names those it has.
        CheckFailedError: files there are damaged or missing, and which.
        UsageError: another version of this name is here.
    """
    dataset, name = parse_ref(version)
    objects = Objects()
    with objects.changing(), open_remote(remote, options) as there:
        found = _find_there(there, dataset, name)
        record = objects.record(dataset, name)
        if record.is_file() and find_version(version).digest != found.digest:
            raise UsageError(
                f"another '{version}' is here", find_version(version).summary(), "delete it first, or keep it"
            )
        _fetch(objects, there, found, progress)
        manifest = open_manifest(objects, found.tree)
        if manifest.digest() != found.digest:
            raise CheckFailedError(
                "the remote's version is not what its digest says", f"{version} on {there.url}", "push it again"
            )
        return register(objects, found, replace=True)


def _find_there(there: Remote, dataset: str, name: str) -> DatasetVersion:
    record = there.record(dataset, name)
    if there.size(record) is None:
        refs = [known.ref for known in there.versions()]
        fix = nearest(f"{dataset}@{name}", refs) if refs else "osv version push brings versions there"
        raise NotFoundError("no such version on the remote", f"'{dataset}@{name}' on {there.url}", fix)
    found = parse_record(there.read(record), record)
    if (found.dataset, found.name) != (dataset, name):
        raise InvalidDataError("a record on the remote is of another version", f"{record}: {found.ref}", "push it again")
    return found


def _fetch(objects: Objects, there: Remote, version: DatasetVersion, progress: Progress) -> None:
    """Files that are not here, each checked before it counts as here."""
    damaged: list[str] = []

    def fetch(path: str, oid: str) -> None:
        target = objects.path(oid)
        if target.is_file() and (oid.endswith(".dir") or target.stat().st_size == there.size(there.path(oid))):
            return
        partial = objects.temporary / uuid.uuid4().hex
        try:
            there.fs.get_file(there.path(oid), str(partial))
        except FileNotFoundError:
            damaged.append(f"{path} is missing ({there.path(oid)})")
            return
        if md5_of(partial) != oid.removesuffix(".dir"):
            damaged.append(f"{path} is damaged ({there.path(oid)})")
            return
        accept(objects, partial, Object(oid, partial.stat().st_size))

    def check() -> None:
        if damaged:
            raise CheckFailedError(
                f"{len(damaged)} files of '{version.ref}' on {there.url} cannot be used",
                "; ".join(sorted(damaged)),
                "push the version again from a machine that has it",
            )

    fetch("the version's listing", version.tree)
    check()
    files = read_tree(version.tree, objects.path(version.tree).read_bytes())
    _each(fetch, list(files.items()), "pull", progress)
    check()


def _each(work: Any, items: Sequence[tuple[str, str]], label: str, progress: Progress) -> None:
    progress(label, 0, len(items))
    with ThreadPoolExecutor(_WORKERS) as pool:
        for done, _ in enumerate(pool.map(lambda item: work(*item), items), start=1):
            progress(label, done, len(items))


def list_remote(remote: str | None = None, *, options: Mapping[str, Any] | None = None) -> VersionList:
    """The versions that a remote has."""
    with open_remote(remote, options) as there:
        found = sorted(there.versions(), key=lambda version: (version.dataset, version.created, version.name))
        return VersionList(tuple(found), f"on {there.url}")


def remember(objects: Objects, remote: str | None, options: Mapping[str, Any] | None) -> None:
    """Keep in mind that something was pushed there, so that an erasure reaches it. Secrets are not kept."""
    known = pushed_to(objects)
    kept = {key: value for key, value in (options or {}).items() if not _is_secret(key)}
    address = remote or os.environ.get(REMOTE_VARIABLE)
    # A folder is meant from where the call was made, not from where an erasure will be.
    if address is not None and "://" not in address and Path(address).expanduser().is_dir():
        address = _address(address)
    entry = {"remote": address, "options": kept}
    if entry not in known:
        write_atomic(objects.root / "remotes.json", json.dumps([*known, entry], indent=2))


def _is_secret(key: str) -> bool:
    return any(part in key for part in ("secret", "password", "token", "key"))


def pushed_to(objects: Objects) -> list[dict[str, Any]]:
    """Where versions were pushed to from here."""
    with contextlib.suppress(FileNotFoundError):
        return list(json.loads((objects.root / "remotes.json").read_text("utf-8")))
    return []


