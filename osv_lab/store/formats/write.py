"""Writes records in any format that has a writer: ``write_source(records, folder, "coco")``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from osv_lab.core.errors import InvalidDataError, UsageError, nearest
from osv_lab.store.formats import coco_write, cvat_write, voc_write, yolo_write
from osv_lab.store.formats.files import shown
from osv_lab.store.formats.writing import ClassList, Link, Written, new_folder
from osv_lab.store.records import Record

WRITERS = (
    "yolo", "yolo-detect", "yolo-segment", "yolo-pose", "yolo-obb", "yolo-classify", "coco", "voc", "cvat",
    "cvat-images", "cvat-video",
)  # fmt: skip
"""What can be written. ``yolo`` and ``cvat`` take the variant that fits the first labels."""

_LOOKED_AT = 2000
"""Records looked at to choose a variant."""


def write_source(
    records: Iterable[Record],
    folder: str | os.PathLike[str],
    format: str,
    classes: Sequence[str] = (),
    *,
    only: bool = False,
    link: Link = "hard",
    skeletons: Mapping[str, tuple[str, ...]] | None = None,
    overwrite: bool = False,
) -> tuple[str, Written]:
    """Write records into a new folder, which appears when it is complete.

    Args:
        records: Images or videos with their labels.
        folder: Absent or empty, unless ``overwrite``.
        format: One of :data:`WRITERS`.
        classes: Class names in the order of their ids; other names follow as they appear.
        only: Leave labels of other classes out instead.
        link: How media get there: ``hard``, ``symlink`` or ``copy``; a way that is impossible falls to the next.
        skeletons: Keypoint names per class.
        overwrite: Replace what is in the folder.

    Returns:
        The variant written, and what was written and lost.

    Raises:
        UsageError: unknown format, or the folder is not empty.
        InvalidDataError: no record could be written.
    """
    if format not in WRITERS:
        raise UsageError("unknown export format", repr(format), nearest(format, WRITERS))
    variant, records = _variant(format, records)
    known = ClassList(classes, only)
    with new_folder(folder, overwrite) as partial:
        written = _write(variant, records, partial, known, link, skeletons or {})
        if not written.images:
            why = f"{written.problems[0].file}: {written.problems[0].what}" if written.problems else "no images"
            raise InvalidDataError("nothing to export", why, f"does format {variant!r} fit the data?")
    return variant, written


def _write(
    variant: str, records: Iterable[Record], folder: Path, classes: ClassList, link: Link,
    skeletons: Mapping[str, tuple[str, ...]],
) -> Written:  # fmt: skip
    match variant:
        case "yolo-detect":
            return yolo_write.write(records, folder, classes, "detect", link)
        case "yolo-segment":
            return yolo_write.write(records, folder, classes, "segment", link)
        case "yolo-pose":
            return yolo_write.write(records, folder, classes, "pose", link, skeletons)
        case "yolo-obb":
            return yolo_write.write(records, folder, classes, "obb", link)
        case "yolo-classify":
            return yolo_write.write(records, folder, classes, "classify", link)
        case "coco":
            return coco_write.write(records, folder, classes, link, skeletons)
        case "voc":
            return voc_write.write(records, folder, classes, link)
        case "cvat-images":
            return cvat_write.write_images(records, folder, classes, link, skeletons)
        case "cvat-video":
            return cvat_write.write_video(records, folder, classes, link, skeletons)
        case _:
            raise UsageError("unknown export format", shown(variant), nearest(variant, WRITERS))


def _variant(format: str, records: Iterable[Record]) -> tuple[str, Iterable[Record]]:
    """The variant of ``yolo`` or ``cvat`` that says most of the first records."""
    if format not in ("yolo", "cvat"):
        return format, records
    iterator = iter(records)
    first = list(itertools.islice(iterator, _LOOKED_AT))
    chained = itertools.chain(first, iterator)
    if format == "cvat":
        return ("cvat-video" if first and first[0].frames is not None else "cvat-images"), chained
    kinds = {label.kind for record in first for label in record.labels}
    for task, of_task in (
        ("pose", {"keypoints"}), ("obb", {"oriented_box"}), ("segment", {"polygon", "mask"}), ("detect", {"box"}),
        ("classify", {"class"}),
    ):  # fmt: skip
        if kinds & of_task:
            return f"yolo-{task}", chained
    return "yolo-detect", chained
