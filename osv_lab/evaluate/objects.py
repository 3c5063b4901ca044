"""A view's masks, oriented boxes and keypoints as arrays, and how alike predictions and truth are, image by image.

Masks are full pictures, so that only one image's are ever held: what stays of them is their overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.detect.overlaps import KEYPOINT_AREA, overlap_of
from osv_lab.evaluate.arrays import image_sizes
from osv_lab.store.bulk_documents import read_documents
from osv_lab.store.convert.supervision import detections_of
from osv_lab.store.documents import label_documents, labels_of_container
from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox, Polygon

if TYPE_CHECKING:
    import supervision as sv

TASK_FIELDS: Mapping[str, tuple[str, ...]] = {
    "detect": ("Detections",),
    "segment": ("Detections", "Polylines"),
    "pose": ("Keypoints",),
    "obb": ("Polylines",),
    "classify": ("Classification",),
}
"""Which FiftyOne labels hold a task's objects."""


@dataclass(frozen=True)
class Pairs:
    """Predictions and truth of some images, without masks, and how alike they are.

    Attributes:
        predictions: One set per image; see :func:`osv_lab.evaluate.arrays.boxes_of` for what is in it.
        targets: Likewise; ``data["area"]`` in square pixels.
        overlaps: ``(n, m)`` per image.
        left_out: Objects of the truth that the task cannot compare (no mask, no labelled keypoint).
    """

    predictions: list[sv.Detections]
    targets: list[sv.Detections]
    overlaps: list[np.ndarray]
    left_out: int


def read_pairs(view: Any, pred_field: str, gt_field: str, class_names: Sequence[str], task: str) -> Pairs:
    """Both fields' objects and their overlaps.

    Args:
        view: A view of images.
        pred_field: Predictions of the task's kind (:data:`TASK_FIELDS`).
        gt_field: The truth.
        class_names: Class names by class id; objects of other classes are left out.
        task: ``segment``, ``pose`` or ``obb``.
    """
    pairs = Pairs([], [], [], 0)
    left_out = 0
    for (ours, _), (theirs, lost) in zip(
        objects_of(view, pred_field, class_names, task), objects_of(view, gt_field, class_names, task), strict=True
    ):
        pairs.overlaps.append(overlap_of(task, ours, theirs))
        pairs.predictions.append(without_mask(ours))
        pairs.targets.append(without_mask(theirs))
        left_out += lost
    return Pairs(pairs.predictions, pairs.targets, pairs.overlaps, left_out)


def objects_of(
    view: Any, field: str, class_names: Sequence[str], task: str
) -> Iterator[tuple[sv.Detections, int]]:
    """One field's objects, one set per sample in the view's order, and how many of them the task cannot compare."""
    for document, (width, height) in zip(read_documents(view, [field]), image_sizes(view), strict=True):
        container = document.get(field)
        labels, ids = labels_of_container(container), [str(one["_id"]) for one in label_documents(container)]
        crowd = [bool(one.get("iscrowd")) for one in label_documents(container)]
        own = [index for index, label in enumerate(labels) if label.label in set(class_names)]
        kept = [index for index in own if _fits(labels[index], task)]
        yield (
            _set_of(
                [labels[index] for index in kept],
                [ids[index] for index in kept],
                [crowd[index] for index in kept],
                (int(width), int(height)),
                class_names,
                task,
            ),
            len(own) - len(kept),
        )


def task_of_field(view: Any, field: str) -> str:
    """The task whose predictions a field holds: by its kind, and of boxes by whether they have masks.

    Raises:
        UsageError: it holds no labels that can be evaluated.
    """
    kind = getattr(getattr(view.get_field(field), "document_type", None), "__name__", "no labels")
    if kind == "Detections":
        masked = f"{field}.detections.mask"
        return "segment" if any(view.exists(masked).limit(1).values("id")) else "detect"
    for task in ("pose", "obb", "classify"):
        if kind in TASK_FIELDS[task]:
            return task
    raise UsageError("this field cannot be evaluated", f"'{field}' holds {kind}")


def without_mask(detections: sv.Detections) -> sv.Detections:
    """The same without full pictures."""
    detections.mask = None
    return detections


def _fits(label: Label, task: str) -> bool:
    if task == "segment":
        return (isinstance(label, Box) and label.mask is not None) or (isinstance(label, Polygon) and label.closed)
    if task == "obb":
        return isinstance(label, OrientedBox)
    return isinstance(label, Keypoints) and any(x == x for x, _ in label.points)


def _set_of(
    labels: list[Label],
    ids: list[str],
    crowd: list[bool],
    size: tuple[int, int],
    class_names: Sequence[str],
    task: str,
) -> sv.Detections:
    found = detections_of(labels, size, class_names)
    if not labels:
        found.class_id, found.confidence = np.zeros(0, int), np.zeros(0)
    scores = [1.0 if label.confidence is None else label.confidence for label in labels]
    found.confidence = np.array(scores, dtype=float)
    found.data = {key: found.data[key] for key in ("class_name", "keypoints", "xyxyxyxy") if key in found.data}
    found.data |= {"id": np.array(ids, dtype=str), "iscrowd": np.array(crowd, dtype=bool)}
    found.data["area"] = _areas(found, task)
    assert not any(isinstance(label, ImageClass) for label in labels)
    return found


def _areas(found: sv.Detections, task: str) -> np.ndarray:
    """Areas in square pixels: of masks their pixels, of keypoints :data:`KEYPOINT_AREA` of their box."""
    if not len(found):
        return np.zeros(0)
    boxes = np.asarray(found.xyxy, dtype=float)
    sides = boxes[:, 2:] - boxes[:, :2]
    if task == "segment":
        return np.array([float(mask.sum()) for mask in found.mask])
    if task == "obb":
        corners = np.asarray(found.data["xyxyxyxy"], dtype=float)
        sides = np.linalg.norm(np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1]], 1), axis=2)
        return np.asarray(sides.prod(axis=1))
    return np.asarray(KEYPOINT_AREA * sides.prod(axis=1))
