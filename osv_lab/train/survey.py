"""What a dataset offers to a training, before one starts: tasks, classes, splits, sizes, and their flaws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from osv_lab.core.errors import OsvError
from osv_lab.core.report import Report
from osv_lab.core.settings import SPLITS
from osv_lab.train.data import class_names, label_field, labelled, trainable
from osv_lab.train.rules import Task

FEW_IMAGES = 20
"""Of fewer validation images a metric says little."""
FEW_OBJECTS = 10
SIZES = (320, 416, 512, 640, 960, 1280)


@dataclass(frozen=True)
class DataSurvey(Report):
    """What there is to train on.

    Attributes:
        field: The label field.
        task: What its labels are for.
        classes: Class names, in the order that the model will have them.
        images: Labelled images by split; ``""`` for those in none.
        objects: Objects by class and split.
        imgsz: A side of the network's input that keeps the usual image as it is, in pixels; ``None`` where sizes are
            not known.
        notes: What will be left out.
        warnings: What will make the result worse, or training impossible.
    """

    field: str
    task: Task
    classes: tuple[str, ...]
    images: Mapping[str, int]
    objects: Mapping[str, Mapping[str, int]]
    imgsz: int | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {"class": name, **{split: self.objects[name].get(split, 0) for split in SPLITS}}
            for name in self.classes
        ]

    def summary(self) -> str:
        splits = ", ".join(f"{split} {self.images[split]:,}" for split in SPLITS if self.images.get(split))
        splits = splits or f"{sum(self.images.values()):,} in no split"
        return f"{self.task}: {len(self.classes)} classes; images: {splits}"


def survey(view: Any, task: Task | None = None, gt_field: str = "ground_truth") -> DataSurvey:
    """Look at what a training on this view would see. Nothing is written.

    Args:
        view: A ``fiftyone.Dataset`` or view of images.
        task: What is to be trained; by default the first that the labels serve.
        gt_field: The label field.

    Raises:
        NotFoundError, UsageError: the field is not there or holds labels for another task.
        InvalidDataError: there is nothing to train on.

    Example:
        >>> survey(dataset).summary()
        'detect: 2 classes; images: train 10, val 4, test 6'
    """
    task = task or tasks_of(view, gt_field)[0]
    field = label_field(view, task, gt_field)
    _, notes = trainable(view, field)
    classes = class_names(view, field)
    chosen = labelled(view, field)
    images: Counter[str] = Counter()
    objects: dict[str, Counter[str]] = {name: Counter() for name in classes}
    _, path = chosen._get_label_field_path(field, "label")
    for tags, labels in zip(*chosen.values(["tags", path]), strict=True):
        split = next((one for one in SPLITS if one in (tags or ())), "")
        images[split] += 1
        for label in labels if isinstance(labels, list) else [labels]:
            if label is not None:
                objects[label][split] += 1
    return DataSurvey(
        field=field,
        task=task,
        classes=tuple(classes),
        images=dict(images),
        objects={name: dict(counts) for name, counts in objects.items()},
        imgsz=_size(chosen),
        notes=tuple(notes),
        warnings=tuple(_warnings(images, objects)),
    )


def tasks_of(view: Any, gt_field: str = "ground_truth") -> tuple[Task, ...]:
    """The tasks that the view's labels can serve, the likeliest first; ``detect`` where there are none."""
    found: list[Task] = []
    for task in get_args(Task):
        try:
            field = label_field(view, task, gt_field)
        except OsvError:
            continue
        # Boxes may have masks: their values decide. Outlines may be oriented boxes: the user does.
        boxes = field == gt_field and not _outlines(view, field)
        if boxes and (task == "obb" or (task == "segment" and not _has_masks(view, field))):
            continue
        found.append(task)
    return tuple(found) or ("detect",)


def _outlines(view: Any, field: str) -> bool:
    return getattr(view.get_field(field).document_type, "__name__", "") == "Polylines"


def _has_masks(view: Any, field: str) -> bool:
    from osv_lab.store.database import connect

    one = connect().ViewField
    masked = one(f"{field}.detections").filter((one("mask") != None) | (one("mask_path") != None))  # noqa: E711
    return bool(view.match(masked.length() > 0).limit(1).count())


def _size(view: Any) -> int | None:
    """The smallest usual input that is no smaller than the usual image's longer side."""
    sides = [
        max(one)
        for one in zip(*view.limit(500).values(["metadata.width", "metadata.height"]), strict=True)
        if all(one)
    ]
    if not sides:
        return None
    usual = sorted(sides)[len(sides) // 2]
    return next((size for size in SIZES if size >= usual), SIZES[-1])


def _warnings(images: Mapping[str, int], objects: Mapping[str, Mapping[str, int]]) -> Sequence[str]:
    warnings = []
    if any(images.get(split) for split in SPLITS):
        if not images.get("val"):
            warnings.append("no labelled image is in the val split: a fifth of the train split will validate")
        elif images["val"] < FEW_IMAGES:
            warnings.append(f"only {images['val']} images validate: metrics will be uncertain")
        if not images.get("test"):
            warnings.append("no labelled image is in the test split: there will be nothing to compare models on")
    split = "train" if images.get("train") else ""
    for name, counts in objects.items():
        if not counts.get(split):
            warnings.append(f"'{name}' has no object to learn from")
        elif counts[split] < FEW_OBJECTS:
            warnings.append(f"'{name}' has only {counts[split]} objects to learn from")
    return warnings
