"""A version back as a dataset, as files of any format, or as its own bytes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.digests import file_digest, set_digest
from osv_lab.core.errors import CheckFailedError, InvalidDataError, NotFoundError, UsageError
from osv_lab.core.files import write_atomic
from osv_lab.core.progress import Progress, silent, tracked
from osv_lab.core.settings import load_settings
from osv_lab.store.memory import collecting_only_new
from osv_lab.store.versions.content import Entry
from osv_lab.store.versions.create import safe_name, view_entries
from osv_lab.store.versions.manifest import SAMPLES, Manifest, Row, open_manifest
from osv_lab.store.versions.model import DatasetVersion
from osv_lab.store.versions.objects import Objects, folder_of
from osv_lab.store.versions.registry import find_version
from osv_lab.store.versions.shards import read_media

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.store.bulk import NewSample
    from osv_lab.store.export import ExportReport

INFO = "osv_version"
"""Where a dataset made of a version says so: ``{"ref": ..., "digest": ...}``."""

_BATCH = 500


def load_version(
    version: str | DatasetVersion, dataset: str | None = None, *, progress: Progress = silent
) -> fo.SampleCollection:
    """A version as FiftyOne data.

    Args:
        version: The version, or its reference (``blood@v1``).
        dataset: The name of a fresh dataset to make of it, to be changed at will. By default the answer is a view on
            the lab's own copy of the version, a dataset of the name ``blood@v1``, made when it is first asked for.
        progress: Told about samples.

    Raises:
        NotFoundError: there is no such version.
        UsageError: a dataset of the given name exists.
        CheckFailedError: the lab's own copy was changed since, or media in the store are damaged.
    """
    found = find_version(version)
    if dataset is not None:
        return make_dataset(found, dataset, progress=progress)
    from osv_lab.store.database import connect

    fo = connect()
    if not fo.dataset_exists(found.ref):
        return make_dataset(found, found.ref, progress=progress).view()
    copy = fo.load_dataset(found.ref, reload=True)
    if version_of(copy) != found:
        raise CheckFailedError(
            "the lab's copy of a version is not what it was",
            f"dataset {found.ref!r}",
            f"keep the changes by renaming that dataset, or delete it; or load_version({found.ref!r}, dataset=NAME)",
        )
    return copy.view()


def version_of(view: fo.SampleCollection) -> DatasetVersion | None:
    """The version that a view shows whole and unchanged, or ``None``. Only the lab's own copies are looked at."""
    dataset = getattr(view, "_root_dataset", None) or view
    stated = dataset.info.get(INFO) or {}
    if stated.get("ref") != dataset.name:
        return None
    try:
        found = find_version(dataset.name)
    except (NotFoundError, UsageError):
        return None
    if stated.get("digest") != found.digest or len(view) != found.samples:
        return None
    entries = view_entries(view, list(found.fields))
    return found if set_digest(entry.key for entry in entries) == found.digest else None


def restore(version: str | DatasetVersion, *, overwrite: bool = False, progress: Progress = silent) -> fo.Dataset:
    """Make the dataset again as it was when the version was frozen, under its old name.

    Args:
        version: The version, or its reference.
        overwrite: Put it in place of the dataset of that name, with all that this one has beyond the version.
        progress: Told about samples.

    Raises:
        NotFoundError: there is no such version.
        UsageError: the dataset exists, and ``overwrite`` was not given.
    """
    found = find_version(version)
    return make_dataset(found, found.dataset, overwrite=overwrite, progress=progress)


def export_version(
    version: str | DatasetVersion,
    folder: str | Path,
    format: str = "yolo",
    *,
    progress: Progress = silent,
    **options: Any,
) -> ExportReport:
    """Write a version as YOLO, COCO, Pascal VOC or CVAT files; options as for :func:`osv_lab.store.export.export`."""
    from osv_lab.store.export import export

    found = find_version(version)
    view = load_version(found, progress=progress)
    options = {
        "fields": [name for name in found.fields if view.has_field(name) or name.startswith("frames.")]
    } | options
    return export(view, folder, format, progress=progress, **options)


def rebuild(version: str | DatasetVersion, folder: str | Path, *, progress: Progress = silent) -> Path:
    """Write a version's bytes into a new folder: ``media/``, ``samples.jsonl``, ``version.json``. Needs no database.

    The same version gives the same files on any machine.

    Args:
        version: The version, or its reference.
        folder: Absent or empty. It appears when it is complete.
        progress: Told about files.

    Raises:
        CheckFailedError: media in the store are damaged; the message names the shard.
    """
    import json

    from osv_lab.store.formats.writing import new_folder

    found = find_version(version)
    manifest = open_manifest(Objects(), found.tree)
    with new_folder(folder) as partial:
        for _ in written(manifest, partial / "media", found, progress):
            pass
        (partial / SAMPLES).write_bytes(manifest.samples.read_bytes())
        stated = {**found.to_dict(), "ref": found.ref}
        (partial / "version.json").write_text(json.dumps(stated, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return Path(folder)


def media_folder(name: str, version: DatasetVersion) -> Path:
    """Where the media of a dataset made of a version are: one folder per dataset and content."""
    return load_settings().media_dir / "versions" / f"{folder_of(name)}-{version.digest[:12]}"


def written(
    manifest: Manifest,
    folder: Path,
    version: DatasetVersion,
    progress: Progress = silent,
    rows: Iterable[Row] | None = None,
) -> Iterator[tuple[Path, Entry]]:
    """Write media files that are not there yet; each sample with its file."""
    entries = manifest.entries(rows)
    for row, entry in tracked(entries, f"write {version.ref}", progress, len(manifest) if rows is None else None):
        # The manifest may have come from elsewhere: nothing is ever written outside the folder.
        if entry.name != safe_name(entry.name):
            raise InvalidDataError(
                "a version's media has a name that is no file name", repr(entry.name), "drop it"
            )
        path = folder / entry.name
        if not (path.is_file() and path.stat().st_size == row.size and file_digest(path) == entry.media):
            write_atomic(path, read_media(manifest.objects, entry.media, manifest.place(row)))
        yield path, entry


def make_dataset(
    version: DatasetVersion, name: str, *, overwrite: bool = False, progress: Progress = silent
) -> fo.Dataset:
    """A dataset of a version, which appears under its name when it is complete."""
    from osv_lab.store.database import connect, database_errors

    fo = connect()
    if fo.dataset_exists(name) and not overwrite:
        raise UsageError("the dataset exists already", repr(name), "choose another name, or overwrite it")
    manifest = open_manifest(Objects(), version.tree)
    # Not persistent: FiftyOne itself removes what a killed process leaves.
    dataset = fo.Dataset(f"{name} {uuid.uuid4().hex[:8]}")
    try:
        with database_errors(), collecting_only_new():
            _fill(dataset, version, manifest, media_folder(name, version), progress)
        if overwrite and fo.dataset_exists(name):
            fo.delete_dataset(name)
        dataset.name = name
        dataset.persistent = True
    except BaseException:
        dataset.delete()
        raise
    return dataset


def _fill(
    dataset: fo.Dataset, version: DatasetVersion, manifest: Manifest, folder: Path, progress: Progress
) -> None:
    import fiftyone as fo

    from osv_lab.store.bulk import Writer, ensure_digest_index
    from osv_lab.store.bulk_read import batches
    from osv_lab.store.bulk_values import declare_capture

    dataset.media_type = version.media
    media = [row.media for row in manifest]
    if len(set(media)) == len(media):
        ensure_digest_index(dataset)
    else:
        dataset.add_sample_field("content_digest", fo.StringField)
        dataset.add_sample_field("labelled", fo.BooleanField)
    declare_fields(dataset, version)
    writer = Writer(dataset, version.fields)
    for batch in batches(written(manifest, folder, version, progress), _BATCH):
        if any(entry.capture for _, entry in batch):
            declare_capture(dataset)
        writer.insert([new_sample(path, entry) for path, entry in batch])
    if version.class_list:
        dataset.default_classes = list(version.class_list)
    skeletons = {
        name: fo.KeypointSkeleton(labels=list(names), edges=[]) for name, names in version.skeletons.items()
    }
    if skeletons:
        dataset.skeletons = skeletons
    dataset.info[INFO] = {"ref": version.ref, "digest": version.digest}
    dataset.save()
    writer.finish()


def declare_fields(dataset: fo.Dataset, version: DatasetVersion) -> None:
    """Give a new dataset the label fields of a version, those without a label too."""
    from osv_lab.store.schema import LabelSchema

    schema, frame_schema = LabelSchema(dataset), LabelSchema(dataset, frames=True)
    for name, container in version.fields.items():
        of = frame_schema if name.startswith("frames.") else schema
        of.declare(name.removeprefix("frames."), container)


def new_sample(path: Path, entry: Entry, labels: Mapping[str, Any] | None = None) -> NewSample:
    """A sample of a version as one to insert."""
    from osv_lab.store.bulk import NewSample, absolute

    return NewSample(
        filepath=absolute(path),
        digest=entry.media,
        metadata=entry.metadata,
        labels=entry.labels if labels is None else labels,
        frames=entry.frames,
        tags=[*([entry.split] if entry.split else []), *entry.tags],
        labelled=entry.labelled,
        values=entry.values,
        capture=entry.capture,
    )
