"""Evaluate a predictions field against ground truth, into FiftyOne's own evaluation, and report it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.detect.matching import Matching
from osv_lab.detect.metrics import IOU_THRESHOLDS, PrecisionReport, average_precision
from osv_lab.evaluate.arrays import boxes_of
from osv_lab.evaluate.confusion import ConfusionMatrix, Operating, best_operating_point, confusion_matrix
from osv_lab.evaluate.matching import by_image, curves
from osv_lab.evaluate.panel import save_evaluation

MAX_DETECTIONS = 100
"""Predictions per image and class that average precision counts, as COCO does."""

_TASKS = {"Detections": "detect", "Polylines": "obb", "Keypoints": "pose"}


@dataclass(frozen=True)
class ClassScore:
    """One class's scores; NaN where it has no objects (or no predictions, for precision).

    Attributes:
        name: The class.
        ap: Average precision, mean over IoU 0.5 to 0.95.
        ap50: Average precision at IoU 0.5.
        precision: At the report's confidence and IoU.
        recall: At the report's confidence and IoU.
        f1: At the report's confidence and IoU.
        support: Objects in the ground truth.
        predictions: Predictions of any confidence.
    """

    name: str
    ap: float
    ap50: float
    precision: float
    recall: float
    f1: float
    support: int
    predictions: int


@dataclass(frozen=True)
class EvaluationReport(Report):
    """How good predictions are. Numbers are 0 to 1.

    Attributes:
        key: The evaluation key: its name in the App's Model Evaluation panel, and the prefix of its fields.
        dataset: The dataset's name.
        pred_field: The predictions.
        gt_field: The ground truth.
        samples: How many samples were evaluated.
        map50: Mean average precision at IoU 0.5.
        map50_95: Mean over IoU 0.5 to 0.95.
        map75: Mean average precision at IoU 0.75.
        by_size: mAP50-95 of small, medium and large objects (areas under 32², to 96², above, in square pixels).
        confidence: The confidence that precision, recall, F1 and the confusion matrix are taken at.
        iou: The IoU that they are taken at.
        classes: One entry per class.
        confusion: Which class is found as which.
        rule: The matching rule in words.
        notes: What else the user should know.
        duration_s: Seconds spent.
    """

    key: str
    dataset: str
    pred_field: str
    gt_field: str
    samples: int
    map50: float
    map50_95: float
    map75: float
    by_size: Mapping[str, float]
    confidence: float
    iou: float
    classes: tuple[ClassScore, ...]
    confusion: ConfusionMatrix
    rule: str
    notes: tuple[str, ...] = ()
    duration_s: float = field(default=0.0, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        def row(name: str, one: ClassScore | None) -> dict[str, Any]:
            def mean(attribute: str) -> float:
                values = [getattr(score, attribute) for score in self.classes if score.support]
                return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

            value = mean if one is None else lambda attribute: getattr(one, attribute)
            return {
                "class": name,
                "mAP50-95": self.map50_95 if one is None else one.ap,
                "mAP50": self.map50 if one is None else one.ap50,
                "precision": value("precision"),
                "recall": value("recall"),
                "F1": value("f1"),
                "objects": sum(score.support for score in self.classes) if one is None else one.support,
            }

        sizes = [
            {"class": f"all, {size}", "mAP50-95": value}
            for size, value in self.by_size.items()
            if np.isfinite(value)
        ]
        return [row("all", None), *(row(one.name, one) for one in self.classes), *sizes]

    def summary(self) -> str:
        return (
            f"{self.key}: mAP50 {self.map50:.3f}, mAP50-95 {self.map50_95:.3f} on {self.samples} samples "
            f"of {self.dataset}"
        )

    def view(self) -> Any:
        """The samples that were evaluated, as they were then."""
        from osv_lab.store.database import connect

        return connect().load_dataset(self.dataset).load_evaluation_view(self.key)

    def confused(self, label: str, found_as: str) -> Any:
        """The samples with the objects and predictions of one cell of :attr:`confusion`, and only those.

        Args:
            label: The objects' class; ``"(none)"`` for predictions that are no object.
            found_as: The predictions' class; ``"(none)"`` for objects that nothing found.

        Raises:
            UsageError: no such class.

        Example:
            >>> report = evaluate(dataset, "predictions")
            >>> len(report.confused("WBC", "RBC"))              # images with a white cell that was taken for a red one
            3
        """
        ids = [str(one) for one in np.unique(self.confusion.ids_of(label, found_as)) if one]
        return self.view().select_labels(ids=ids, fields=[self.gt_field, self.pred_field])

    def plot(self) -> Any:
        """Average precision, precision and recall by class, as a plotly figure; ``confusion.plot()`` is another."""
        from osv_lab.evaluate.plots import scores_figure

        return scores_figure(self)


def evaluate(
    view: Any,
    pred_field: str = "predictions",
    gt_field: str = "ground_truth",
    key: str = "eval",
    *,
    iou: float = 0.5,
    confidence: float | None = None,
    masks: bool = False,
    progress: Progress = silent,
) -> EvaluationReport:
    """Evaluate predictions by COCO's rule, in FiftyOne: boxes, masks, oriented boxes or keypoints.

    What is compared follows from what the predictions are: boxes of ``Detections`` (their masks where ``masks``),
    oriented boxes of ``Polylines``, keypoints of ``Keypoints``; the report's ``rule`` says by which overlap.

    Matches are written where ``evaluate_detections`` writes them (``<key>_tp``, ``_fp`` and ``_fn`` of samples;
    ``<key>``, ``<key>_id`` and ``<key>_iou`` of objects), so that the App's Model Evaluation panel shows the run. A run
    of the same key is replaced. Samples that nobody labelled are left out.

    Average precision needs the unsure predictions too: predict with ``confidence=0.001``.

    Args:
        view: A ``fiftyone.Dataset`` or view of images.
        pred_field: The predictions, a field of ``fiftyone.Detections``.
        gt_field: The ground truth, likewise.
        key: The evaluation's name.
        iou: Least overlap of a match, for everything but average precision over several IoUs.
        confidence: Where precision, recall, F1 and confusion are taken; by default where mean F1 is greatest.
        masks: Compare the masks of ``Detections``, not their boxes; the truth may also be outlines (``Polylines``).
        progress: Told about samples matched.

    Raises:
        NotFoundError: a field does not exist; the nearest that does is named.
        UsageError: a field of another kind, a key that is no name, or no class in common.
        InvalidDataError: no labelled or no predicted samples.

    Example:
        >>> evaluate(dataset.match_tags("test"), "predictions", key="eval").summary()
        'eval: mAP50 0.621, mAP50-95 0.576 on 6 samples of cells'
    """
    started = time.monotonic()
    if not key.isidentifier():
        raise UsageError("not a name for an evaluation", repr(key), "use letters, digits and '_'")
    if confidence is not None and not 0 <= confidence <= 1:
        raise UsageError("confidence must lie between 0 and 1", confidence)
    check_arguments(view, pred_field, gt_field, iou)
    chosen, notes = evaluable(view, pred_field, gt_field)
    class_names, more = classes_of(chosen, pred_field, gt_field)
    task = "segment" if masks else _TASKS[_kind(view, pred_field)]
    if task != "detect":
        from osv_lab.evaluate.shapes import evaluate_shapes

        return evaluate_shapes(
            chosen, pred_field, gt_field, key, task, notes=[*notes, *more], class_names=class_names, iou=iou,
            confidence=confidence, progress=progress,
        )  # fmt: skip
    predictions = boxes_of(chosen, pred_field, class_names)
    targets = boxes_of(chosen, gt_field, class_names)
    progress("evaluate", 0, 3)
    matching = Matching(predictions, targets, min(iou, *IOU_THRESHOLDS))
    matches = by_image(matching, iou)
    progress("evaluate", 1, 3)
    save_evaluation(
        chosen,
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
    )
    progress("evaluate", 2, 3)
    precision = average_precision(predictions, targets, max_detections=MAX_DETECTIONS, class_names=class_names)
    support = np.bincount(np.concatenate([one.class_id for one in targets]), minlength=len(class_names))
    predicted = np.bincount(np.concatenate([one.class_id for one in predictions]), minlength=len(class_names))
    point = best_operating_point(
        np.concatenate([one.confidence for one in predictions]),
        np.concatenate([one.class_id for one in predictions]),
        np.concatenate([one.target >= 0 for one in matches]),
        support,
        confidence,
    )
    confusion = confusion_matrix(predictions, targets, class_names, iou, point.confidence)
    progress("evaluate", 3, 3)
    return EvaluationReport(
        key=key,
        dataset=str(chosen._dataset.name),
        pred_field=pred_field,
        gt_field=gt_field,
        samples=len(chosen),
        map50=precision.map50,
        map50_95=precision.map50_95,
        map75=precision.map75,
        by_size=dict(precision.by_size),
        confidence=point.confidence,
        iou=iou,
        classes=class_scores(precision, point, class_names, support, predicted),
        confusion=confusion,
        rule=_rule(iou, point.confidence, confidence is None),
        notes=(*notes, *more),
        duration_s=time.monotonic() - started,
    )


def _rule(iou: float, confidence: float, chosen: bool) -> str:
    where = "where mean F1 is greatest" if chosen else "as asked for"
    return (
        f"average precision: COCO, class by class, greedy by confidence, each prediction to the free object with the "
        f"largest IoU of at least 0.50, 0.55, ..., 0.95, 101 recall points, at most {MAX_DETECTIONS} predictions per "
        f"image and class, objects marked iscrowd match any number of predictions and count neither way; "
        f"precision, recall, F1 and confusion: IoU of at least {iou:g}, confidence of at least {confidence:g} ({where})"
    )


def class_scores(
    precision: PrecisionReport,
    point: Operating,
    class_names: list[str],
    support: np.ndarray,
    predicted: np.ndarray,
) -> tuple[ClassScore, ...]:
    """Each class's scores from its average precision and the operating point."""
    by_name = {one.name: one for one in precision.classes}
    return tuple(
        ClassScore(
            name=name,
            ap=by_name[name].ap50_95 if name in by_name else float("nan"),
            ap50=by_name[name].ap50 if name in by_name else float("nan"),
            precision=float(point.precision[number]),
            recall=float(point.recall[number]),
            f1=float(point.f1[number]),
            support=int(support[number]),
            predictions=int(predicted[number]),
        )
        for number, name in enumerate(class_names)
    )


def check_arguments(view: Any, pred_field: str, gt_field: str, iou: float) -> None:
    """Refuse what cannot be evaluated; see :func:`evaluate` for the errors."""
    if not 0 < iou <= 1:
        raise UsageError("iou must lie above 0 and at most at 1", iou)
    if pred_field == gt_field:
        raise UsageError("predictions and ground truth are the same field", repr(gt_field))
    if not len(view):
        raise InvalidDataError("there is nothing to evaluate", "the view is empty")
    if view.media_type != "image":
        raise UsageError("only views of images can be evaluated so far", f"a view of {view.media_type}")
    for name in (pred_field, gt_field):
        schema = view.get_field_schema()
        if name not in schema:
            labels = [one for one, kind in schema.items() if getattr(kind, "document_type", None)]
            raise NotFoundError("no such label field", repr(name), nearest(name, labels))
        kind = _kind(view, name)
        if kind not in _TASKS:
            raise UsageError(f"only fields of {', '.join(_TASKS)} can be evaluated", f"'{name}' holds {kind}")


def _kind(view: Any, field: str) -> str:
    return getattr(getattr(view.get_field(field), "document_type", None), "__name__", "no labels")


def evaluable(view: Any, pred_field: str, gt_field: str) -> tuple[Any, list[str]]:
    """The labelled samples, and notes on what was left out or never predicted."""
    from osv_lab.train.data import labelled

    chosen = labelled(view, gt_field)
    total, count = len(view), len(chosen)
    if not count:
        raise InvalidDataError(
            "there is no ground truth to evaluate against",
            f"none of {total} samples is labelled in '{gt_field}'",
            "evaluate a labelled split",
        )
    notes = []
    if count < total:
        notes.append(f"{total - count} of {total} samples left out: not labelled in '{gt_field}'")
    unpredicted = chosen.values(f"{pred_field}._cls").count(None)
    if unpredicted == count:
        raise InvalidDataError(
            "there are no predictions to evaluate",
            f"'{pred_field}' is empty in all {count} samples",
            "run predict on this view first",
        )
    if unpredicted:
        notes.append(
            f"{unpredicted} of {count} samples have no predictions in '{pred_field}': their objects count as missed"
        )
    return chosen, notes


def classes_of(view: Any, pred_field: str, gt_field: str) -> tuple[list[str], list[str]]:
    """Class names in the dataset's order, and a note on classes that only one side has."""
    dataset = view._dataset
    wanted, found = (
        set(view.distinct(view._get_label_field_path(field, "label")[1])) for field in (gt_field, pred_field)
    )
    if wanted and found and not wanted & found:
        raise UsageError(
            "predictions and ground truth have no class in common",
            f"predicted {', '.join(sorted(found)[:10])}; labelled {', '.join(sorted(wanted)[:10])}",
            "load the detector with class_names=[...] in the dataset's words",
        )
    listed = [
        name for name in dataset.classes.get(gt_field) or dataset.default_classes or () if name in wanted | found
    ]
    notes = [f"predicted and never labelled: {', '.join(sorted(found - wanted))}"] if found - wanted else []
    return [*listed, *sorted((wanted | found) - set(listed))], notes
