"""What FiftyOne's evaluation is made of: matches image by image, and curves sampled at 101 recalls.

Who takes whom is COCO's rule (:mod:`osv_lab.detect.matching`). FiftyOne 1.22 spends a minute on what takes a second
here, most of it on documents. A test holds fields, matches and curves equal to ``evaluate_detections``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osv_lab.detect.matching import Matching

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


def by_image(matching: Matching, iou: float) -> list[ImageMatches]:
    """What every image's predictions take at one IoU."""
    taken = matching.taken([iou])[0]
    overlap = matching.iou_of(taken)
    target = np.where(taken >= 0, np.append(matching.wanted.row, -1)[taken], -1)
    image = matching.found.image
    order = matching.found.row[np.lexsort((-matching.found.score, image))]
    cuts = np.searchsorted(image, np.arange(1, matching.images))
    columns = (np.split(one, cuts) for one in (target, overlap, order))
    return [ImageMatches(*one) for one in zip(*columns, strict=True)][: matching.images]


def curves(matching: Matching, classes: int, thresholds: Sequence[float], most: int) -> Curves:
    """Precision-recall curves at several IoU thresholds, sampled at 101 recalls, precision made monotone.

    Args:
        matching: Predictions and objects, with class ids from 0.
        classes: How many classes.
        thresholds: IoU thresholds.
        most: Predictions counted per image and class.
    """
    counted = matching.rank < most
    scores, class_id = matching.found.score[counted], matching.found.class_id[counted]
    crowd = matching.wanted.crowd
    objects = np.bincount(matching.wanted.class_id[~crowd], minlength=classes)
    shape = (len(thresholds), classes)
    precision, confidence = np.full((*shape, 101), -1.0), np.full((*shape, 101), -1.0)
    largest = np.full(shape, -1.0)
    for row, taken in enumerate(matching.taken(thresholds)[:, counted]):
        true = taken >= 0
        ignored = true & np.append(crowd, False)[taken]
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
