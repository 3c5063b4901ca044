"""What predictions say about labels, as numbers: one row per label, and one per prediction that no label explains.

Everything is per image and vectorised over its labels (n) and predictions (m); the largest array is ``(n, m)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

FREE = 0.5
"""A prediction that overlaps no label by this IoU is not explained by one."""


@dataclass(frozen=True)
class ImageBoxes:
    """The labels and predictions of one image. Boxes are ``xyxy`` in pixels.

    Attributes:
        sample: The sample's id.
        size: Width and height in pixels.
        boxes: Labels, ``(n, 4)``.
        classes: Their classes, ``(n,)`` int.
        ids: Their ids, ``(n,)``.
        found: Predictions, ``(m, 4)``.
        found_classes: ``(m,)`` int; -1 for a class that no label has.
        confidence: ``(m,)``, 0 to 1.
    """

    sample: str
    size: tuple[float, float]
    boxes: np.ndarray
    classes: np.ndarray
    ids: np.ndarray
    found: np.ndarray
    found_classes: np.ndarray
    confidence: np.ndarray

    def with_labels(self, boxes: np.ndarray, classes: np.ndarray) -> ImageBoxes:
        """The same image with other labels."""
        return replace(self, boxes=boxes, classes=classes, ids=np.full(len(boxes), "", object))


@dataclass(frozen=True)
class ClassSizes:
    """How large objects of each class are: medians and robust spreads of log width and height, ``(k, 2)`` each."""

    middle: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, images: list[ImageBoxes], classes: int) -> ClassSizes:
        """Sizes of the labels of some images."""
        sizes = np.concatenate([_log_size(one.boxes) for one in images])
        number = np.concatenate([one.classes for one in images])
        middle, spread = np.zeros((classes, 2)), np.ones((classes, 2))
        for k in range(classes):
            if len(own := sizes[number == k]):
                middle[k] = np.median(own, axis=0)
                spread[k] = 1.4826 * np.median(np.abs(own - middle[k]), axis=0) + 0.05
        return cls(middle, spread)

    def deviations(self, boxes: np.ndarray) -> np.ndarray:
        """How far boxes are from each class's usual size, in spreads: ``(n, k, 2)``."""
        return np.asarray((_log_size(boxes)[:, None] - self.middle) / self.spread)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(n, m)`` intersection over union of ``xyxy`` boxes.

    Example:
        >>> iou(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]])).round(3).tolist()
        [[0.333]]
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=2)
    own, other = (np.prod(np.maximum(one[:, 2:] - one[:, :2], 0), axis=1) for one in (a, b))
    return np.asarray(both / np.maximum(own[:, None] + other[None] - both, 1e-9))


@dataclass(frozen=True)
class Evidence:
    """What is known of one image's labels and unexplained predictions.

    Attributes:
        labels: One row per label, ``(n, LABEL_COLUMNS)``.
        missing: One row per unexplained prediction, ``(k, 8)``.
        which: The places of those predictions.
        suggested: Per label the place of the prediction it would be replaced by, -1 without one.
    """

    labels: np.ndarray
    missing: np.ndarray
    which: np.ndarray
    suggested: np.ndarray


def gather(image: ImageBoxes, sizes: ClassSizes, least: float = 0.05) -> Evidence:
    """The evidence of one image.

    Args:
        image: Its boxes.
        sizes: How large objects usually are.
        least: Confidence below which a prediction is not suggested as a label.
    """
    n, m = len(image.boxes), len(image.found)
    overlap = iou(image.boxes, image.found)
    same = image.classes[:, None] == image.found_classes[None]
    top = overlap.max(axis=0, initial=0)
    free = top < FREE
    support = _best(image.confidence, overlap > 0.5)
    # Other errors of the image: where its annotator left much out, one more missing box says little.
    unexplained = float(image.confidence[free & (image.confidence > 0.25)].sum())
    image_columns = [n, unexplained, unexplained / (n + 1), float((support < 0.2).sum()) / (n + 1)]
    deviation = sizes.deviations(image.boxes)
    rows = np.arange(n)
    own = deviation[rows, image.classes]
    likelihood = -0.5 * np.minimum(deviation**2, 25).sum(axis=2) - np.log(sizes.spread).sum(axis=1)
    rivals = likelihood.copy()
    rivals[rows, image.classes] = -np.inf
    rival = rivals.max(axis=1, initial=-100)
    agreeing = np.where(same, image.confidence * overlap, 0)
    columns: list[Any] = [
        image.classes,
        *_placement(image, overlap, agreeing),
        *(_best(image.confidence, ~same & (overlap > t)) for t in (0.3, 0.5, 0.7)),
        *(_best(image.confidence, same & (overlap > t)) for t in (0.3, 0.5, 0.7, 0.85)),
        agreeing[:, free].max(axis=1, initial=0),
        (image.confidence * (overlap > 0.3)).sum(axis=1),
        overlap.max(axis=1, initial=0),
        own[:, 0],
        own[:, 1],
        likelihood[rows, image.classes] - rival,
        (iou(image.boxes, image.boxes) - np.eye(n)).max(axis=1, initial=0),
        _to_border(image.boxes, image.size),
        *(np.full(n, value) for value in image_columns),
    ]
    which = np.flatnonzero(free & (image.confidence >= least) & (image.found_classes >= 0))
    among = iou(image.found[which], image.found)
    surer = image.confidence[None] > image.confidence[which][:, None]
    usual = sizes.deviations(image.found[which])[np.arange(len(which)), image.found_classes[which]]
    # Nothing of the image as a whole: where an annotator left much out, each missing box is as missing.
    missing: list[Any] = [
        image.found_classes[which],
        image.confidence[which],
        top[which],
        np.where(same, overlap, 0).max(axis=0, initial=0)[which],
        np.where(surer, among, 0).max(axis=1, initial=0),
        *usual.T,
        _to_border(image.found[which], image.size),
    ]
    likely = np.where(agreeing.max(axis=1, initial=0) > 0, agreeing.argmax(axis=1) if m else -1, -1)
    other = np.where(same | (overlap <= 0.3), 0, image.confidence * overlap)
    likely_other = np.where(other.max(axis=1, initial=0) > 0, other.argmax(axis=1) if m else -1, -1)
    return Evidence(
        np.stack([np.asarray(one, float) for one in columns], axis=1),
        np.stack([np.asarray(one, float) for one in missing], axis=1),
        which,
        np.stack([likely, likely_other], axis=1),
    )


def _placement(image: ImageBoxes, overlap: np.ndarray, agreeing: np.ndarray) -> list[np.ndarray]:
    """How each label lies to the prediction of its class that fits it best."""
    n, m = overlap.shape
    if not n or not m:
        return [np.zeros(n)] * 3 + [np.full(n, np.nan)] * 5
    rows, best = np.arange(n), agreeing.argmax(axis=1)
    value = agreeing[rows, best]
    other = image.found[best]
    size, found_size = (np.maximum(one[:, 2:] - one[:, :2], 1e-6) for one in (image.boxes, other))
    centre, found_centre = ((one[:, 2:] + one[:, :2]) / 2 for one in (image.boxes, other))
    away = np.abs(centre - found_centre) / np.sqrt(size * found_size)
    larger = np.abs(np.log(found_size / size))
    # The overlap of that prediction with the nearest other label.
    others = overlap[:, best].T.copy()
    others[rows, rows] = 0
    relative = np.column_stack([away, larger, others.max(axis=1)])
    relative[value == 0] = np.nan
    sure = np.where(value > 0, image.confidence[best], 0)
    return [value, sure, np.where(value > 0, overlap[rows, best], 0), *relative.T]


def _best(confidence: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(where, confidence, 0).max(axis=1, initial=0))


def _log_size(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1)))


def _to_border(boxes: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    width, height = size
    sides = [boxes[:, 0], boxes[:, 1], width - boxes[:, 2], height - boxes[:, 3]]
    return np.asarray(np.min(np.stack(sides), axis=0) / max(size))
