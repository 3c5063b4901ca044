"""The changed samples of a diff as a dataset for the App."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from osv_lab.core.progress import Progress
from osv_lab.store.diff import ChangedSample, VersionDiff
from osv_lab.store.diff_objects import OBJECT_CHANGES, change_name, extent
from osv_lab.store.records import Box, Label

if TYPE_CHECKING:
    import fiftyone as fo

CHANGES = "changes"


def view_of(diff: VersionDiff, change: str | None, progress: Progress) -> fo.DatasetView:
    """The view of :meth:`~osv_lab.store.diff.VersionDiff.view`. Its dataset is made anew each time, and not kept."""
    from osv_lab.store.database import connect

    fo = connect()
    name = f"{diff.a}..{diff.b}"
    if fo.dataset_exists(name):
        fo.delete_dataset(name)
    dataset = fo.Dataset(name)
    _fill(dataset, diff, progress)
    view = dataset.view()
    # "added" and "removed" are said of objects and of samples; all objects of such a sample are added or removed too.
    if change in OBJECT_CHANGES and any(diff.objects[change].values()):
        return view.filter_labels(CHANGES, fo.ViewField("change") == change)
    return view.match_tags(change) if change is not None else view


def _fill(dataset: Any, diff: VersionDiff, progress: Progress) -> None:
    from osv_lab.store.bulk import Writer, ensure_digest_index
    from osv_lab.store.schema import LabelSchema
    from osv_lab.store.versions.load import media_folder, new_sample, written
    from osv_lab.store.versions.manifest import open_manifest
    from osv_lab.store.versions.objects import Objects
    from osv_lab.store.versions.registry import find_version

    versions = find_version(diff.a), find_version(diff.b)
    dataset.media_type = versions[1].media
    ensure_digest_index(dataset)  # what the writer writes is declared, so that a sample can be read
    schema = LabelSchema(dataset)
    containers = {CHANGES: "Detections"}
    for version in versions:
        for field, container in version.fields.items():
            if not field.startswith("frames."):
                containers |= {f"{field}_before": container, f"{field}_after": container}
    for field, container in containers.items():
        schema.declare(field, container)
    writer = Writer(dataset, containers)
    manifests = [open_manifest(Objects(), version.tree) for version in versions]
    for done, sample in enumerate(diff.changed):
        sides = []
        for row, manifest, version in zip(sample.rows, manifests, versions, strict=True):
            rows = [row] if row is not None else []
            sides.append(next(written(manifest, media_folder(version.ref, version), version, rows=rows), None))
        path, entry = next(side for side in reversed(sides) if side is not None)
        labels: dict[str, list[Label]] = {CHANGES: list(_boxes(sample))}
        for end, side in zip(("before", "after"), sides, strict=True):
            labels |= {f"{field}_{end}": some for field, some in (side[1].labels if side else {}).items()}
        new = new_sample(path, entry, labels)
        new.tags = [*dict.fromkeys((*new.tags, *sample.changes))]
        new.frames = None if dataset.media_type == "image" else {}
        new.capture = {}
        writer.insert([new])
        progress("show", done + 1, len(diff.changed))
    writer.finish()


def _boxes(sample: ChangedSample) -> Iterable[Box]:
    """A box for each object that differs, where it is now, or was."""
    for found in sample.objects:
        label = found.after if found.after is not None else found.before
        place = extent(label) if label is not None else None
        if label is not None and place is not None:
            attributes: dict[str, Any] = {"change": found.change, "field": found.field}
            if found.iou is not None:
                attributes["iou"] = found.iou
            if found.frame is not None:
                attributes["frame"] = found.frame
            yield Box(change_name(found), place, attributes=attributes)
