"""COCO matching of predictions to objects, image by image, as FiftyOne's evaluation does it, on arrays.

FiftyOne 1.22 spends a minute on what takes a second here, most of it on documents. A test holds fields, matches and
curves equal to ``evaluate_detections``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import supervision as sv

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Curves:
    """Precision-recall curves over IoU thresholds.

    Attributes:
        precision: ``(thresholds, classes, 101)``; -1 for a class without objects.
        confidence: ``(thresholds, classes, 101)`` where each precision is reached.
        recall: ``(101,)``.
        largest_recall: ``(thresholds, classes)``.
    """

    precision: np.ndarray
    confidence: np.ndarray
    recall: np.ndarray
    largest_recall: np.ndarray


@dataclass(frozen=True)
class ImageMatches:
    """One image's matching at one IoU.

    Attributes:
        target: ``(n,)`` index of the object each prediction took, or -1.
        iou: ``(n,)`` their IoU, 0 where none.
        order: Indices of predictions, most confident first.
    """

    target: np.ndarray
    iou: np.ndarray
    order: np.ndarray


class Overlaps:
    """Pairs of one image that could match: predictions in order of confidence, and their IoU with each object.

    A crowd's IoU is the intersection over the prediction's own area. Where it is not the boxes' IoU that counts,
    ``overlap`` ``(n, m)`` says how alike they are.
    """

    def __init__(
        self, predictions: sv.Detections, targets: sv.Detections, overlap: np.ndarray | None = None
    ) -> None:
        self.crowd = targets.data["iscrowd"].astype(bool)
        self.order = np.argsort(-predictions.confidence, kind="stable")
        self.class_id = predictions.class_id[self.order]
        same = self.class_id[:, None] == targets.class_id[None]
        if not same.any():
            self.iou = np.zeros(same.shape)
            return
        if overlap is None:
            self.iou = _overlap(predictions.xyxy[self.order], targets.xyxy, self.crowd)
        else:
            self.iou = np.array(overlap, dtype=float)[self.order]
        self.iou[~same] = 0

    def within(self, most: int) -> np.ndarray:
        """Mask of the ``most`` most confident predictions of each class, in this object's order."""
        rank = np.zeros(len(self.class_id), dtype=int)
        for number in np.unique(self.class_id):
            own = self.class_id == number
            rank[own] = np.arange(own.sum())
        return rank < most

    def match(self, least: float) -> np.ndarray:
        """For each prediction in order the object it takes, or -1.

        That is the free object with the largest IoU of at least ``least``; of equal IoUs the later object; a crowd only
        when nothing else will do, and any number of times.
        """
        taken = np.full(len(self.iou), -1)
        free = np.where(self.iou >= least, self.iou, 0)
        ordinary = np.flatnonzero(~self.crowd)[::-1]
        crowds = np.flatnonzero(self.crowd)[::-1]
        for row in np.flatnonzero(free.any(axis=1)):
            for columns in (ordinary, crowds):
                if len(columns) and free[row, best := columns[free[row, columns].argmax()]] > 0:
                    taken[row] = best
                    if columns is ordinary:
                        free[:, best] = 0
                    break
        return taken


def _overlap(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """``(n, m)`` IoU in double precision; of a crowd, the share of the box that lies in it."""
    low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=2)
    own, other = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (boxes, objects))
    whole = np.where(crowd[None], own[:, None], own[:, None] + other[None] - both)
    return np.asarray(np.divide(both, whole, out=np.zeros_like(both), where=whole > 0))


def match_images(overlaps: Sequence[Overlaps], iou: float) -> list[ImageMatches]:
    """Match every image at one IoU."""
    found = []
    for one in overlaps:
        taken = one.match(min(iou, 1 - 1e-10))
        target, overlap = np.full(len(taken), -1), np.zeros(len(taken))
        target[one.order] = taken
        hit = np.flatnonzero(taken >= 0)
        overlap[one.order[hit]] = one.iou[hit, taken[hit]]
        found.append(ImageMatches(target, overlap, one.order))
    return found


def curves(
    overlaps: Sequence[Overlaps],
    predictions: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    classes: int,
    thresholds: Sequence[float],
    most: int,
) -> Curves:
    """Precision-recall curves at several IoU thresholds, sampled at 101 recalls, precision made monotone.

    Args:
        overlaps: One per image.
        predictions: One set per image.
        targets: One set per image.
        classes: How many classes.
        thresholds: IoU thresholds.
        most: Predictions counted per image and class.
    """
    kept = [one.within(most) for one in overlaps]
    scores = np.concatenate(
        [p.confidence[o.order][k] for p, o, k in zip(predictions, overlaps, kept, strict=True)]
    )
    class_id = np.concatenate([one.class_id[k] for one, k in zip(overlaps, kept, strict=True)])
    objects = np.zeros(classes, dtype=int)
    for one in targets:
        np.add.at(objects, one.class_id[~one.data["iscrowd"].astype(bool)], 1)
    shape = (len(thresholds), classes)
    precision, confidence = np.full((*shape, 101), -1.0), np.full((*shape, 101), -1.0)
    largest = np.full(shape, -1.0)
    for row, threshold in enumerate(thresholds):
        taken = [one.match(threshold)[k] for one, k in zip(overlaps, kept, strict=True)]
        true = np.concatenate([t >= 0 for t in taken])
        ignored = np.concatenate(
            [np.append(o.crowd, False)[t] & (t >= 0) for o, t in zip(overlaps, taken, strict=True)]
        )
        for number in np.flatnonzero(objects):
            own = (class_id == number) & ~ignored
            # FiftyOne lists true before false positives, so that among equal confidences they come first.
            order = np.lexsort((~true[own], -scores[own]))
            hits = np.cumsum(true[own][order])
            exact = hits / np.arange(1, len(hits) + 1)
            monotone = np.maximum.accumulate(exact[::-1])[::-1]
            place = np.searchsorted(hits / objects[number], _RECALLS, side="left")
            reached = place < len(hits)
            precision[row, number] = confidence[row, number] = 0
            precision[row, number, reached] = monotone[place[reached]]
            confidence[row, number, reached] = scores[own][order][place[reached]]
            largest[row, number] = hits[-1] / objects[number] if len(hits) else 0
    return Curves(precision, confidence, _RECALLS, largest)
