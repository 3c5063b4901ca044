"""Writes a dataset or view as files other tools read, and says what those files cannot hold."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.progress import Progress, silent, tracked
from osv_lab.core.report import Report
from osv_lab.store.formats.write import WRITERS, write_source
from osv_lab.store.formats.writing import Link
from osv_lab.store.memory import collecting_only_new
from osv_lab.store.records import FIELDS, Problem, Record

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True)
class ExportReport(Report):
    """What an export wrote and what the format could not say.

    Attributes:
        format: The variant written (``yolo-segment``, ``coco``, ...).
        folder: Where.
        images: Media written per split (``""``: samples without a split).
        labels: Labels written per kind (``box``, ``mask``, ``polygon``, ``oriented_box``, ``keypoints``, ``class``).
        losses: What the format cannot say, with how often it occurred. Empty: the files say all that the store does.
        problems: Samples and labels that could not be written, each with the reason.
        notes: What else to know about the files.
        classes: Class names by id.
        fields: The label fields written.
        seconds: How long it took.
    """

    format: str
    folder: Path
    images: Mapping[str, int]
    labels: Mapping[str, int]
    losses: Mapping[str, int]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    fields: tuple[str, ...]
    seconds: float = field(compare=False)

    def rows(self) -> list[dict[str, Any]]:
        """One row per count: media, labels, losses, problems."""
        lines = [("written", f"images, {split or 'no split'}", count) for split, count in self.images.items()]
        lines += [("written", f"labels, {kind}", count) for kind, count in self.labels.items()]
        lines += [("cannot be said", what, count) for what, count in self.losses.items()]
        lines += [(problem.consequence, f"{problem.file}: {problem.what}", 1) for problem in self.problems]
        rows: list[dict[str, Any]] = [{"what": what, "of": of, "count": count} for what, of, count in lines]
        return [*rows, *({"what": "note", "of": note, "count": None} for note in self.notes)]

    def summary(self) -> str:
        """One line: how much, where, and whether anything was lost."""
        images, labels = sum(self.images.values()), sum(self.labels.values())
        text = f"{self.format}: {images} images, {labels} labels in {self.folder} ({self.seconds:.1f} s)"
        if self.losses:
            text += f"; not said: {', '.join(f'{what} ({count})' for what, count in self.losses.items())}"
        if self.problems:
            text += f"; {len(self.problems)} problems"
        return text


def export(
    view: fo.SampleCollection,
    folder: str | os.PathLike[str],
    format: str,
    fields: Sequence[str] | str | None = None,
    classes: Sequence[str] | None = None,
    *,
    link: Link | bool = "hard",
    overwrite: bool = False,
    progress: Progress = silent,
) -> ExportReport:
    """Write samples and labels as YOLO, COCO, Pascal VOC or CVAT files.

    The folder appears when it is complete: an export that was interrupted leaves nothing under its name. Splits are
    the sample tags ``train``, ``val`` and ``test``.

    Args:
        view: A dataset or view.
        folder: Absent or empty, unless ``overwrite``.
        format: One of :data:`~osv_lab.store.formats.write.WRITERS`: ``yolo`` and ``cvat`` take the variant that fits
            the labels, ``yolo-detect`` and the like are that variant.
        fields: Label fields. By default the ground truth fields of ingested data, or the only label field.
        classes: Class names by id; labels of other classes are left out and counted. By default the dataset's own
            class list, then names as they appear.
        link: How media get there: ``hard`` link, ``symlink`` or ``copy``; ``True`` is ``hard``, ``False`` is ``copy``.
        overwrite: Replace what is in the folder.
        progress: Told about every sample.

    Raises:
        NotFoundError: no such field.
        UsageError: unknown format, an occupied folder, or no way to choose the fields.
        InvalidDataError: nothing could be written.

    Example:
        >>> report = export(dataset, "cells_yolo", "yolo")
        >>> print(report.summary())
        yolo-detect: 20 images, 30 labels in .../cells_yolo (... s)
    """
    from osv_lab.store.database import connect

    connect()
    if format not in WRITERS:
        raise UsageError("unknown export format", repr(format), nearest(format, WRITERS))
    started = time.monotonic()
    chosen = _fields(view, fields)
    total = len(view)
    if not total:
        raise InvalidDataError("nothing to export", f"{view.name or 'the view'} has no samples", "check the view")
    if isinstance(link, bool):
        link = "hard" if link else "copy"
    names = tuple(classes) if classes is not None else _class_names(view, chosen)
    with collecting_only_new():
        variant, written = write_source(
            tracked(_records(view, chosen), f"export as {format}", progress, total),
            folder,
            format,
            names,
            only=classes is not None,
            link=link,
            skeletons=_skeletons(view, chosen, names),
            overwrite=overwrite,
        )
    return ExportReport(
        format=variant,
        folder=Path(folder).expanduser().absolute(),
        images=dict(written.images),
        labels=dict(written.labels),
        losses=dict(written.losses),
        problems=tuple(written.problems),
        notes=tuple(written.notes),
        classes=written.classes,
        fields=chosen,
        seconds=time.monotonic() - started,
    )


def _records(view: fo.SampleCollection, fields: Sequence[str]) -> Iterator[Record]:
    from osv_lab.store.bulk import iter_records

    return (record for _, record in iter_records(view, fields))


def _label_fields(view: fo.SampleCollection) -> dict[str, str]:
    """Label fields that files can hold, with the class of label, of samples and frames."""
    known = ("Detections", "Detection", "Polylines", "Polyline", "Keypoints", "Keypoint", "Classification")
    schemas = {"": view.get_field_schema()}
    if view.media_type == "video":
        schemas["frames."] = view.get_frame_field_schema() or {}
    found = {}
    for prefix, schema in schemas.items():
        for name, stated in schema.items():
            kind = getattr(getattr(stated, "document_type", None), "__name__", "")
            if kind in known:
                found[prefix + name] = kind
    return found


def _fields(view: fo.SampleCollection, fields: Sequence[str] | str | None) -> tuple[str, ...]:
    present = _label_fields(view)
    if fields is not None:
        asked = [fields] if isinstance(fields, str) else list(fields)
        for name in asked:
            if name not in present and f"frames.{name}" not in present:
                raise NotFoundError("no such label field", repr(name), nearest(name, present or ["(none)"]))
        return tuple(name if name in present else f"frames.{name}" for name in asked)
    own = dict.fromkeys(FIELDS.values())
    chosen = [name for name in present if name.removeprefix("frames.") in own]
    if chosen:
        return tuple(chosen)
    if len(present) == 1:
        return tuple(present)
    if not present:
        return ()
    raise UsageError(
        "which labels to export is not clear", f"label fields {', '.join(present)}", "name them: fields=[...]"
    )


def _class_names(view: fo.SampleCollection, fields: Sequence[str]) -> tuple[str, ...]:
    dataset = view._dataset
    for name in fields:
        if dataset.classes.get(name):
            return tuple(dataset.classes[name])
    return tuple(dataset.default_classes or ())


def _skeletons(
    view: fo.SampleCollection, fields: Sequence[str], classes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Keypoint names per class: FiftyOne knows one skeleton per field."""
    dataset = view._dataset
    for name in fields:
        skeleton = dataset.skeletons.get(name) or dataset.skeletons.get(name.removeprefix("frames."))
        skeleton = skeleton or dataset.default_skeleton
        if skeleton is not None and skeleton.labels and _label_fields(view).get(name) in ("Keypoints", "Keypoint"):
            return {label: tuple(skeleton.labels) for label in classes}
    return {}
