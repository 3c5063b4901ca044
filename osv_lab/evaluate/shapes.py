"""Evaluate masks, oriented boxes and keypoints: COCO's average precision with the task's own overlap."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.detect.matching import Matching
from osv_lab.detect.metrics import IOU_THRESHOLDS, average_precision
from osv_lab.detect.overlaps import probabilistic_iou
from osv_lab.evaluate.confusion import best_operating_point, confusion_matrix
from osv_lab.evaluate.detection import MAX_DETECTIONS, EvaluationReport, class_scores
from osv_lab.evaluate.matching import by_image, curves
from osv_lab.evaluate.objects import TASK_FIELDS, read_pairs
from osv_lab.evaluate.panel import save_evaluation

if TYPE_CHECKING:
    import supervision as sv

OVERLAPS = {
    "segment": "IoU of masks by their pixels, outlines drawn in the image's own pixels",
    "obb": "IoU of oriented boxes by the exact area that they share",
    "pose": "object keypoint similarity over the object's labelled points, sigmas COCO's for 17 points and 1/k for k "
    "others, the object's area taken as 0.53 of its box, as Ultralytics has it; COCO takes the annotated area",
}
"""What an overlap is, by task."""


def evaluate_shapes(
    view: Any,
    pred_field: str,
    gt_field: str,
    key: str,
    task: str,
    *,
    notes: list[str],
    class_names: list[str],
    iou: float = 0.5,
    confidence: float | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """As :func:`osv_lab.evaluate.detection.evaluate`, which calls it, for what is not a box.

    Args:
        view: The labelled samples.
        pred_field: Predictions of a kind that the task has.
        gt_field: The truth; of masks it may be outlines.
        key: The evaluation's name.
        task: ``segment``, ``pose`` or ``obb``.
        notes: What the user should know already.
        class_names: By class id.
        iou: Least overlap of a match, for everything but average precision.
        confidence: Where precision, recall, F1 and confusion are taken; by default where mean F1 is greatest.
        progress: Told of the steps.

    Raises:
        UsageError: a field holds another kind of label.
    """
    started = time.monotonic()
    _check_fields(view, (pred_field, gt_field), task)
    progress("evaluate", 0, 3)
    pairs = read_pairs(view, pred_field, gt_field, class_names, task)
    predictions, targets = pairs.predictions, pairs.targets
    progress("evaluate", 1, 3)
    matching = Matching(predictions, targets, min(iou, *IOU_THRESHOLDS), pairs.overlaps)
    matches = by_image(matching, iou)
    save_evaluation(
        view,
        key,
        pred_field,
        gt_field,
        iou=iou,
        thresholds=IOU_THRESHOLDS,
        most=MAX_DETECTIONS,
        classes=class_names,
        predictions=predictions,
        targets=targets,
        matches=matches,
        curves=curves(matching, len(class_names), IOU_THRESHOLDS, MAX_DETECTIONS),
        masks=task == "segment",
    )
    progress("evaluate", 2, 3)
    precision = average_precision(
        predictions,
        targets,
        max_detections=MAX_DETECTIONS,
        class_names=class_names,
        overlaps=pairs.overlaps,
    )
    support = np.bincount(np.concatenate([one.class_id for one in targets]), minlength=len(class_names))
    predicted = np.bincount(np.concatenate([one.class_id for one in predictions]), minlength=len(class_names))
    point = best_operating_point(
        np.concatenate([one.confidence for one in predictions]),
        np.concatenate([one.class_id for one in predictions]),
        np.concatenate([one.target >= 0 for one in matches]),
        support,
        confidence,
    )
    confusion = confusion_matrix(predictions, targets, class_names, iou, point.confidence, pairs.overlaps)
    progress("evaluate", 3, 3)
    if task == "obb":
        notes = [*notes, _by_probabilistic_iou(predictions, targets)]
    if pairs.left_out:
        notes = [
            *notes,
            f"{pairs.left_out} objects of '{gt_field}' left out: they have nothing to compare {task} by",
        ]
    return EvaluationReport(
        key=key,
        dataset=str(view._dataset.name),
        pred_field=pred_field,
        gt_field=gt_field,
        samples=len(view),
        map50=precision.map50,
        map50_95=precision.map50_95,
        map75=precision.map75,
        by_size=dict(precision.by_size),
        confidence=point.confidence,
        iou=iou,
        classes=class_scores(precision, point, class_names, support, predicted),
        confusion=confusion,
        rule=f"overlap: {OVERLAPS[task]}; average precision: COCO, class by class, greedy by confidence, overlap of at "
        f"least 0.50, 0.55, ..., 0.95, 101 recall points, at most {MAX_DETECTIONS} predictions per image and class; "
        f"precision, recall, F1 and confusion: overlap of at least {iou:g}, confidence of at least "
        f"{point.confidence:g}",
        notes=tuple(notes),
        duration_s=time.monotonic() - started,
    )


def _by_probabilistic_iou(predictions: list[sv.Detections], targets: list[sv.Detections]) -> str:
    """What Ultralytics' validator would say, whose overlap is another."""
    overlaps = [
        probabilistic_iou(one.data["xyxyxyxy"], other.data["xyxyxyxy"])
        if len(one) and len(other)
        else np.zeros((len(one), len(other)))
        for one, other in zip(predictions, targets, strict=True)
    ]
    found = average_precision(predictions, targets, max_detections=300, overlaps=overlaps)
    return (
        f"by probabilistic IoU, which Ultralytics' validator takes and which is mostly larger: "
        f"mAP50 {found.map50:.3f}, mAP50-95 {found.map50_95:.3f}"
    )


def _check_fields(view: Any, fields: tuple[str, str], task: str) -> None:
    for name in fields:
        kind = getattr(getattr(view.get_field(name), "document_type", None), "__name__", "no labels")
        if kind not in TASK_FIELDS[task]:
            expected = " or ".join(TASK_FIELDS[task])
            raise UsageError(
                f"predictions and truth of the task '{task}' are fields of {expected}", f"'{name}' holds {kind}"
            )
