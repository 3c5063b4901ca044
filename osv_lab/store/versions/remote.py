"""Versions to and from a DVC remote: a folder, S3, MinIO, or whatever else DVC reaches.

Files go to where ``dvc push`` would put them. Beside them, under ``osv-versions``, is each version's ``.dvc`` file,
written last: a version that a remote names is there whole, and a machine that has nothing yet finds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from osv_lab.core.errors import (
    CheckFailedError,
    InvalidDataError,
    NotFoundError,
    UsageError,
    nearest,
)
from osv_lab.core.files import write_atomic
from osv_lab.core.progress import Progress, silent
from osv_lab.store.versions.manifest import open_manifest
from osv_lab.store.versions.model import DatasetVersion, VersionList, parse_ref
from osv_lab.store.versions.objects import Object, Objects, accept, md5_of, read_tree
from osv_lab.store.versions.places import REMOTE_VARIABLE, Remote, address_of, open_remote
from osv_lab.store.versions.registry import find_version, parse_record, register

_WORKERS = 4


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
        send_files(objects, there, found, progress)
        there.write(objects.record(found.dataset, found.name), record)
    return found


def send_files(objects: Objects, there: Remote, version: DatasetVersion, progress: Progress) -> None:
    """Send what a remote does not have of a version's files, its listing last; each checked before it goes."""
    files = objects.tree(version.tree)

    def send(path: str, oid: str) -> None:
        source = objects.path(oid)
        if not source.is_file():
            raise CheckFailedError("a file of the version is missing here", f"{path} ({oid})", "pull the version")
        if there.size(there.path(oid)) == source.stat().st_size:
            return
        if not objects.check(oid):
            raise CheckFailedError(
                "a file of the version is damaged here", f"{path} ({source})", "pull the version"
            )
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
        raise InvalidDataError(
            "a record on the remote is of another version", f"{record}: {found.ref}", "push it again"
        )
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
        address = address_of(address)
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
