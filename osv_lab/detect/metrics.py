"""COCO's mean average precision on arrays (``pycocotools.cocoeval``, Lin et al. 2014, https://arxiv.org/abs/1405.0312).

- Per image and class, the ``max_detections`` most confident predictions are matched (:mod:`osv_lab.detect.matching`).
- A prediction matched to an object that is ignored (outside the size range, or a crowd), or unmatched and itself
  outside the size range, counts neither way.
- Precision is made monotone and sampled at the recalls 0, 0.01, ..., 1; average precision is the mean of the samples.
- A class without targets counts in no mean; sizes are areas in pixels: small under 32², medium to 96², large above.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.core.report import Report
from osv_lab.detect.matching import Matching

if TYPE_CHECKING:
    import supervision as sv

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""COCO's ten thresholds, 0.5 to 0.95."""

SIZES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Ranges of box area in square pixels, both ends included, as in COCO."""

MATCHING_RULE = (
    "COCO: greedy by confidence per image and class, IoU at least the threshold, 101-point interpolation"
)

RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls that precision is sampled at."""


@dataclass(frozen=True)
class ClassPrecision:
    """One class's average precision; NaN where the class has no targets.

    Attributes:
        class_id: The class.
        name: Its name, or its id as text.
        targets: How many targets it has (crowds not counted).
        predictions: How many predictions were counted.
        ap50_95: Average precision, mean over the IoU thresholds.
        ap50: Average precision at IoU 0.5.
        recall: Largest recall, mean over the IoU thresholds.
    """

    class_id: int
    name: str
    targets: int
    predictions: int
    ap50_95: float
    ap50: float
    recall: float


@dataclass(frozen=True)
class PrecisionReport(Report):
    """Mean average precision. Numbers are 0 to 1, NaN where there are no targets.

    Attributes:
        map50_95: Mean over classes and the IoU thresholds (0.5 to 0.95 unless others were asked for).
        map50: Mean over classes at IoU 0.5 (NaN when that is not among the thresholds).
        map75: Mean over classes at IoU 0.75 (NaN when that is not among the thresholds).
        recall: Mean largest recall at ``max_detections``.
        by_size: ``map50_95`` of small, medium and large targets.
        classes: One entry per class that has targets or predictions.
        images: How many images were compared.
        targets: How many targets they have.
        predictions: How many predictions were counted.
        max_detections: Predictions counted per image and class.
        rule: The matching rule in words.
    """

    map50_95: float
    map50: float
    map75: float
    recall: float
    by_size: Mapping[str, float]
    classes: tuple[ClassPrecision, ...]
    images: int
    targets: int
    predictions: int
    max_detections: int
    rule: str = field(default=MATCHING_RULE)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The mean, then one row per class."""
        mean = {
            "class": "all",
            "targets": self.targets,
            "predictions": self.predictions,
            "mAP50": self.map50,
            "mAP50-95": self.map50_95,
            "recall": self.recall,
        }
        return [
            mean,
            *(
                {
                    "class": one.name,
                    "targets": one.targets,
                    "predictions": one.predictions,
                    "mAP50": one.ap50,
                    "mAP50-95": one.ap50_95,
                    "recall": one.recall,
                }
                for one in self.classes
            ),
        ]

    def summary(self) -> str:
        """The two usual numbers and what they are of."""
        means = f"mAP50 {self.map50:.3f}, mAP50-95 {self.map50_95:.3f}"
        return f"{means} on {self.images} images with {self.targets} objects"


@dataclass(frozen=True, slots=True)
class Matches:
    """The counted predictions of one class over all images, in order of confidence, for one size range.

    Attributes:
        image: ``(n,)`` the image of each.
        true: ``(thresholds, n)`` whether it took a target.
        ignored: ``(thresholds, n)`` whether it counts neither way.
        targets: ``(images,)`` targets of each image.
    """

    image: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    targets: np.ndarray


def average_precision(
    predictions: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    *,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    max_detections: int = 100,
    class_names: Sequence[str] | None = None,
    overlaps: Sequence[np.ndarray] | None = None,
) -> PrecisionReport:
    """Mean average precision of predictions, as COCO computes it.

    Args:
        predictions: One set per image, with ``confidence`` and ``class_id``.
        targets: One set per image, in the same order, with ``class_id``. ``data["iscrowd"]`` marks crowds;
            ``data["area"]`` gives areas other than the boxes'.
        iou_thresholds: The thresholds that are averaged over.
        max_detections: Predictions counted per image and class, the most confident first.
        class_names: Names for the report.
        overlaps: Per image ``(n, m)`` how alike predictions and targets are, where it is not their boxes' IoU; see
            :mod:`osv_lab.detect.overlaps`.

    Raises:
        UsageError: the two do not have the same number of images, or something is missing in them.

    Example:
        >>> import supervision as sv
        >>> truth = sv.Detections(np.array([[10, 10, 30, 30], [40, 40, 60, 60]]), class_id=np.array([0, 0]))
        >>> found = sv.Detections(truth.xyxy[:1] + 1, confidence=np.array([0.9]), class_id=np.array([0]))
        >>> report = average_precision([found], [truth])
        >>> round(report.map50, 2), round(report.map50_95, 2)
        (0.5, 0.35)
    """
    found = match_by_class(
        predictions, targets, iou_thresholds=iou_thresholds, max_detections=max_detections, overlaps=overlaps
    )
    thresholds = np.asarray(iou_thresholds, dtype=np.float64)
    ids = list(found)
    precision = np.full((len(SIZES), len(ids), len(thresholds)), np.nan)
    recall = np.full((len(ids), len(thresholds)), np.nan)
    counts = []
    for column, by_size in enumerate(found.values()):
        for row, matches in enumerate(by_size.values()):
            if matches.targets.any():
                precision[row, column], largest = _curve(matches)
                if row == 0:
                    recall[column] = largest
        counts.append((int(by_size["all"].targets.sum()), len(by_size["all"].image)))

    def at(iou: float) -> int | None:
        hit = np.flatnonzero(np.isclose(thresholds, iou))
        return int(hit[0]) if len(hit) else None

    fifty, seventy_five = at(0.5), at(0.75)
    names = class_names or ()
    classes = tuple(
        ClassPrecision(
            class_id=int(class_id),
            name=names[class_id] if 0 <= class_id < len(names) else str(class_id),
            targets=counts[column][0],
            predictions=counts[column][1],
            ap50_95=_mean(precision[0, column]),
            ap50=float(precision[0, column, fifty]) if fifty is not None else float("nan"),
            recall=_mean(recall[column]),
        )
        for column, class_id in enumerate(ids)
    )
    return PrecisionReport(
        map50_95=_mean(precision[0]),
        map50=_mean(precision[0, :, fifty]) if fifty is not None else float("nan"),
        map75=_mean(precision[0, :, seventy_five]) if seventy_five is not None else float("nan"),
        recall=_mean(recall),
        by_size={name: _mean(precision[row]) for row, name in enumerate(SIZES) if name != "all"},
        classes=classes,
        images=len(targets),
        targets=sum(count for count, _ in counts),
        predictions=sum(count for _, count in counts),
        max_detections=max_detections,
    )


def match_by_class(
    predictions: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    *,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    max_detections: int = 100,
    overlaps: Sequence[np.ndarray] | None = None,
) -> dict[int, dict[str, Matches]]:
    """What average precision is computed from: per class id, and size of :data:`SIZES`, which predictions are right.

    Arguments and errors as for :func:`average_precision`.
    """
    thresholds = np.asarray(iou_thresholds, dtype=np.float64)
    if not len(thresholds) or not np.all((thresholds > 0) & (thresholds <= 1)):
        raise UsageError("IoU thresholds must lie between 0 and 1", list(iou_thresholds))
    matching = Matching(predictions, targets, thresholds.min(), overlaps)
    found, wanted = matching.found, matching.wanted
    # By class, then the most confident first; of equals, as their images and places in them are.
    order = np.lexsort((matching.rank, found.image, -found.score, found.class_id))
    order = order[matching.rank[order] < max_detections]
    ids = np.union1d(found.class_id, wanted.class_id)
    edges = np.searchsorted(found.class_id[order], [*ids, ids[-1] + 1] if len(ids) else [])
    matched: dict[int, dict[str, Matches]] = {int(class_id): {} for class_id in ids}
    for size, (low, high) in SIZES.items():
        skipped = wanted.crowd | (wanted.area < low) | (wanted.area > high)
        taken = matching.taken(thresholds, skipped)[:, order]
        took = taken >= 0
        true = took & ~np.append(skipped, False)[taken]
        outside = (found.area < low) | (found.area > high)
        ignored = (took & ~true) | (~took & outside[order])
        for class_id, (begin, end) in zip(matched, itertools.pairwise(edges), strict=True):
            own = wanted.image[~skipped & (wanted.class_id == class_id)]
            matched[class_id][size] = Matches(
                found.image[order[begin:end]],
                true[:, begin:end],
                ignored[:, begin:end],
                np.bincount(own, minlength=matching.images),
            )
    return matched


def _curve(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and largest recall per threshold, from matches in order of confidence."""
    hits = np.cumsum(matches.true, axis=1, dtype=np.float64)
    misses = np.cumsum(~matches.true & ~matches.ignored, axis=1, dtype=np.float64)
    averages, largest = np.zeros(len(hits)), np.zeros(len(hits))
    targets = matches.targets.sum()
    for row, (hit, miss) in enumerate(zip(hits, misses, strict=True)):
        if not len(hit):
            continue
        recall = hit / targets
        precision = hit / (hit + miss + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, RECALLS, side="left")
        reached = at < len(precision)
        averages[row] = precision[at[reached]].sum() / len(RECALLS)
        largest[row] = recall[-1]
    return averages, largest


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
