"""Which versions there are, by their records; adding one, finding one, deleting one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.files import write_atomic
from osv_lab.core.report import plain
from osv_lab.store.versions.model import DatasetVersion, VersionList, check_name, from_meta, parse_ref
from osv_lab.store.versions.objects import Objects


def list_versions(dataset: str | None = None) -> VersionList:
    """The versions of this lab, of one dataset or all, by dataset and age."""
    objects = Objects()
    found = [read_record(path) for path in objects.records()]
    chosen = [version for version in found if dataset in (None, version.dataset)]
    return VersionList(tuple(sorted(chosen, key=lambda version: (version.dataset, version.created, version.name))))


def find_version(version: str | DatasetVersion) -> DatasetVersion:
    """A version by its reference, such as ``blood@v1``.

    Raises:
        UsageError: not a reference.
        NotFoundError: there is no such version; the message names those there are.
    """
    ref = version if isinstance(version, str) else version.ref
    dataset, name = parse_ref(ref)
    path = Objects().record(dataset, name)
    if path.is_file():
        return read_record(path)
    refs = [known.ref for known in list_versions().versions]
    fix = nearest(ref, refs) if refs else f"osv version create {dataset} makes one"
    raise NotFoundError("no such dataset version", repr(ref), f"{fix}; osv version pull brings one from a remote")


def is_version(ref: str) -> bool:
    """Whether there is a version of this reference here."""
    try:
        dataset, name = parse_ref(ref)
    except UsageError:
        return False
    return Objects().record(dataset, name).is_file()


def delete(version: str | DatasetVersion) -> DatasetVersion:
    """Delete a version here. Media that another version needs stay; what remotes and datasets have stays.

    Returns:
        What was deleted. Where it was pushed, :func:`~osv_lab.store.versions.remote.pull` brings it back.

    Raises:
        NotFoundError: there is no such version.
    """
    objects = Objects()
    with objects.changing():
        found = find_version(version)
        # From here it is gone; a process killed later leaves files that the next change sweeps away.
        objects.record(found.dataset, found.name).unlink()
        objects.collect()
    return found


def register(objects: Objects, version: DatasetVersion, *, replace: bool = False) -> DatasetVersion:
    """Make a version exist: write its record, whole or not at all. Its files must be there."""
    record = objects.record(version.dataset, version.name)
    if record.exists() and not replace:
        raise UsageError(
            "the version exists already", repr(version.ref), "choose another name, or delete it first"
        )
    write_atomic(record, record_text(version, objects))
    return version


def record_text(version: DatasetVersion, objects: Objects) -> str:
    """The ``.dvc`` file of a version."""
    import yaml

    files = objects.tree(version.tree)
    size = sum(objects.path(oid).stat().st_size for oid in files.values())
    out = {"md5": version.tree, "size": size, "nfiles": len(files), "hash": "md5", "path": version.name}
    stated = {key: value for key, value in _stated(version).items() if key != "tree"}
    document = {"outs": [out], "meta": {"osv": stated}}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _stated(version: DatasetVersion) -> Mapping[str, Any]:
    return {item.name: plain(getattr(version, item.name)) for item in dataclasses.fields(version)}


def read_record(path: Path) -> DatasetVersion:
    """A version from its ``.dvc`` file.

    Raises:
        InvalidDataError: the file is not one.
    """
    return parse_record(path.read_bytes(), str(path))


def parse_record(data: bytes, where: str) -> DatasetVersion:
    """A version from the content of its ``.dvc`` file."""
    import yaml

    try:
        document = yaml.load(data, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return from_meta(document["meta"], str(document["outs"][0]["md5"]), where)
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise InvalidDataError(
            "not the record of a dataset version", f"{where} ({error})", "pull it again"
        ) from error


def next_name(dataset: str, wanted: str | None) -> str:
    """The given name, or ``v1``, ``v2``, ... after the highest there is.

    Raises:
        UsageError: the name is taken, or cannot be one.
    """
    taken = [version.name for version in list_versions(dataset).versions]
    if wanted is not None:
        if check_name(wanted) in taken:
            raise UsageError(
                "the version exists already", f"{dataset}@{wanted}", "leave the name out for the next"
            )
        return wanted
    numbers = [int(match[1]) for name in taken if (match := re.fullmatch(r"v(\d+)", name))]
    return f"v{max(numbers, default=0) + 1}"
