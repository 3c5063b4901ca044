"""COCO's mean average precision on arrays.

The matching rule is COCO's (``pycocotools.cocoeval``, Lin et al. 2014, https://arxiv.org/abs/1405.0312), boxes only:

- Per image and class, the ``max_detections`` most confident predictions are matched in order of confidence, each to
  the still free target with the largest IoU of at least the threshold (of equal IoUs the later target). Targets that
  are ignored (outside the size range, or crowds) are only taken when no other will do; a crowd may be taken many
  times, and its IoU is the intersection over the prediction's own area.
- A prediction matched to an ignored target, or unmatched and itself outside the size range, counts neither way.
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
        >>> report = average_precision([found], [truth])                # doctest: +SKIP
        >>> report.map50                                                # doctest: +SKIP
        0.87
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
    predicted, truth = _flatten(predictions, "predictions"), _flatten(targets, "targets")
    if len(predictions) != len(targets):
        raise UsageError(
            "predictions and targets must be of the same images", f"{len(predictions)} and {len(targets)} sets"
        )
    if overlaps is not None and [len(one) for one in predictions] != [len(one) for one in overlaps]:
        raise UsageError("overlaps are not of these predictions", f"{len(overlaps)} images")
    thresholds = np.asarray(iou_thresholds, dtype=np.float64)
    if not len(thresholds) or not np.all((thresholds > 0) & (thresholds <= 1)):
        raise UsageError("IoU thresholds must lie between 0 and 1", list(iou_thresholds))
    matched = {}
    for class_id in np.union1d(predicted["class_id"], truth["class_id"]).astype(int):
        found = _most_confident(_select(predicted, predicted["class_id"] == class_id), max_detections)
        wanted = _select(truth, truth["class_id"] == class_id)
        matched[int(class_id)] = _match(found, wanted, thresholds, len(targets), overlaps)
    return matched


_Table = dict[str, np.ndarray]


def _flatten(sets: Sequence[sv.Detections], what: str) -> _Table:
    """All images' boxes in one table of columns: image, row in it, xyxy, class_id, score, crowd, area."""
    image, row, xyxy, class_id, score, crowd, area = [], [], [], [], [], [], []
    for index, one in enumerate(sets):
        count = len(one.xyxy)
        if count and one.class_id is None:
            raise UsageError(f"{what} need class ids", f"image {index} has none")
        if count and one.confidence is None and what == "predictions":
            raise UsageError(f"{what} need confidences", f"image {index} has none")
        if not count:
            continue
        boxes = np.asarray(one.xyxy, dtype=np.float64).reshape(-1, 4)
        image.append(np.full(count, index))
        row.append(np.arange(count))
        xyxy.append(boxes)
        class_id.append(one.class_id)
        score.append(one.confidence if one.confidence is not None else np.ones(count))
        flags = one.data.get("iscrowd")
        crowd.append(np.zeros(count, bool) if flags is None else np.asarray(flags).astype(bool))
        sizes = one.data.get("area")
        area.append(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) if sizes is None else np.asarray(sizes, float))
    if not image:
        return {
            "image": np.zeros(0, int),
            "row": np.zeros(0, int),
            "xyxy": np.zeros((0, 4)),
            "class_id": np.zeros(0, int),
            "score": np.zeros(0),
            "crowd": np.zeros(0, bool),
            "area": np.zeros(0),
        }
    return {
        "image": np.concatenate(image),
        "row": np.concatenate(row),
        "xyxy": np.concatenate(xyxy),
        "class_id": np.concatenate(class_id).astype(int),
        "score": np.concatenate(score).astype(np.float64),
        "crowd": np.concatenate(crowd),
        "area": np.concatenate(area),
    }


def _select(table: _Table, rows: np.ndarray) -> _Table:
    return {name: column[rows] for name, column in table.items()}


def _most_confident(table: _Table, count: int) -> _Table:
    """Each image's ``count`` most confident rows; rows ordered by image, then confidence."""
    order = np.lexsort((-table["score"], table["image"]))
    table = _select(table, order)
    image = table["image"]
    first = np.searchsorted(image, image)
    return _select(table, np.arange(len(image)) - first < count)


def _match(
    found: _Table,
    wanted: _Table,
    thresholds: np.ndarray,
    images: int,
    overlaps: Sequence[np.ndarray] | None = None,
) -> dict[str, Matches]:
    """Match one class over all images, for each size range of :data:`SIZES`.

    Predictions of all images are matched at once, rank by rank: the most confident of every image, then the second of
    every image, and so on, for all thresholds together.
    """
    wanted = _select(wanted, np.argsort(wanted["image"], kind="stable"))
    predictions, count = len(found["score"]), len(thresholds)
    # Pairs of a prediction and a target of the same image, prediction by prediction.
    start = np.searchsorted(wanted["image"], found["image"], side="left")
    stop = np.searchsorted(wanted["image"], found["image"], side="right")
    width = stop - start
    prediction = np.repeat(np.arange(predictions), width)
    first_pair = np.concatenate([[0], np.cumsum(width)])
    target = start[prediction] + np.arange(len(prediction)) - first_pair[prediction]
    if overlaps is None:
        iou = _pair_iou(found["xyxy"][prediction], wanted["xyxy"][target], wanted["crowd"][target])
    else:
        iou = _looked_up(overlaps, found["image"][prediction], found["row"][prediction], wanted["row"][target])
    # Only pairs that reach the lowest threshold can ever match. COCO compares with 1 - 1e-10 at most.
    limits = np.minimum(thresholds, 1 - 1e-10)
    near = iou >= limits.min()
    prediction, target, iou = prediction[near], target[near], iou[near]

    image_start = np.searchsorted(found["image"], found["image"])
    rank = np.arange(predictions) - image_start
    by_rank = np.argsort(rank[prediction], kind="stable")
    prediction, target, iou = prediction[by_rank], target[by_rank], iou[by_rank]
    ranks = rank[prediction]
    edges = np.flatnonzero(np.diff(ranks, prepend=-1, append=-1)) if len(ranks) else np.zeros(0, int)

    order = np.argsort(-found["score"], kind="mergesort")
    results = {}
    for size, (low, high) in SIZES.items():
        ignored_target = wanted["crowd"] | (wanted["area"] < low) | (wanted["area"] > high)
        # COCO sorts ignored targets last: "the later of equal IoUs" is by that order.
        position = np.empty(len(ignored_target), int)
        position[np.lexsort((np.arange(len(ignored_target)), ignored_target))] = np.arange(len(ignored_target))
        taken = np.zeros((count, len(ignored_target)), bool)
        true = np.zeros((count, predictions), bool)
        ignored = np.zeros((count, predictions), bool)
        for begin, end in itertools.pairwise(edges):
            block = slice(begin, end)
            _match_rank(
                prediction[block], target[block], iou[block], limits, ignored_target, wanted["crowd"], position,
                taken, true, ignored,
            )  # fmt: skip
        outside = (found["area"] < low) | (found["area"] > high)
        ignored |= ~true & ~ignored & outside[None]
        counted = np.bincount(wanted["image"][~ignored_target], minlength=images)
        results[size] = Matches(found["image"][order], true[:, order], ignored[:, order], counted)
    return results


def _match_rank(
    prediction: np.ndarray,
    target: np.ndarray,
    iou: np.ndarray,
    limits: np.ndarray,
    ignored_target: np.ndarray,
    crowd: np.ndarray,
    position: np.ndarray,
    taken: np.ndarray,
    true: np.ndarray,
    ignored: np.ndarray,
) -> None:
    """Give one prediction per image its target. The pairs given are those predictions'; the last three are written."""
    # Best last: a target that counts before one that is ignored, then the larger IoU, then the later target.
    best_last = np.lexsort((position[target], iou, ~ignored_target[target], prediction))
    prediction, target, iou = prediction[best_last], target[best_last], iou[best_last]
    for row, limit in enumerate(limits):
        open_pairs = (iou >= limit) & (~taken[row, target] | crowd[target])
        candidates = prediction[open_pairs]
        if not len(candidates):
            continue
        last = np.append(candidates[1:] != candidates[:-1], True)
        chosen, given = candidates[last], target[open_pairs][last]
        taken[row, given] = True
        true[row, chosen] = ~ignored_target[given]
        ignored[row, chosen] = ignored_target[given]


def _looked_up(
    overlaps: Sequence[np.ndarray], image: np.ndarray, prediction: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """The given overlap of each pair; pairs are ordered by image."""
    found = np.zeros(len(image))
    edges = np.flatnonzero(np.diff(image, prepend=-1, append=-1)) if len(image) else np.zeros(0, int)
    for begin, end in itertools.pairwise(edges):
        block = slice(begin, end)
        found[block] = overlaps[image[begin]][prediction[block], target[block]]
    return found


def _pair_iou(first: np.ndarray, second: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU of pairs of boxes; over the first box's own area where the second is a crowd."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=1)
    own = np.prod(first[:, 2:] - first[:, :2], axis=1)
    other = np.prod(second[:, 2:] - second[:, :2], axis=1)
    union = np.where(crowd, own, own + other - intersection)
    return np.asarray(np.divide(intersection, union, out=np.zeros(len(union)), where=union > 0))


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
