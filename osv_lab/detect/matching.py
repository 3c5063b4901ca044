"""COCO's matching of predictions to objects, over all images at once: the one place where it is decided who takes what.

Per image and class, predictions choose in order of confidence, each the still free object with the largest IoU of at
least the threshold (of equal IoUs the later object). Objects that are ignored (outside a size range, or crowds) are
only taken when no other will do; a crowd may be taken many times, and its IoU is the intersection over the
prediction's own area (``pycocotools.cocoeval``, Lin et al. 2014, https://arxiv.org/abs/1405.0312).

A less sure prediction never changes what a surer one takes, so that one matching serves every confidence threshold.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.core.errors import UsageError

if TYPE_CHECKING:
    import supervision as sv


@dataclass(frozen=True, slots=True)
class Table:
    """Boxes of all images, one under the other, in the order of the images.

    Attributes:
        image: ``(n,)`` the image of each.
        row: ``(n,)`` its place in the image.
        xyxy: ``(n, 4) float64``.
        class_id: ``(n,)``.
        score: ``(n,)`` confidence; 1 where there is none.
        crowd: ``(n,)`` bool.
        area: ``(n,)`` in square pixels.
    """

    image: np.ndarray
    row: np.ndarray
    xyxy: np.ndarray
    class_id: np.ndarray
    score: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


def table_of(sets: Sequence[sv.Detections], what: str) -> Table:
    """All images' boxes as columns. ``data["iscrowd"]`` marks crowds; ``data["area"]`` gives areas but the boxes'.

    Args:
        sets: One set per image.
        what: ``"predictions"``, which need confidences, or what errors shall call them.

    Raises:
        UsageError: class ids or confidences are missing.
    """
    for index, one in enumerate(sets):
        if len(one.xyxy) and one.class_id is None:
            raise UsageError(f"{what} need class ids", f"image {index} has none")
        if len(one.xyxy) and one.confidence is None and what == "predictions":
            raise UsageError(f"{what} need confidences", f"image {index} has none")
    full = [one for one in sets if len(one.xyxy)]
    counts = [len(one.xyxy) for one in sets]

    def column(values: list[np.ndarray], kind: type, width: tuple[int, ...] = ()) -> np.ndarray:
        return np.concatenate([np.zeros((0, *width), kind), *(np.asarray(one, kind) for one in values)])

    xyxy = column([np.asarray(one.xyxy).reshape(-1, 4) for one in full], np.float64, (4,))
    boxes = np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1)
    if any("area" in one.data for one in full):
        own = np.split(boxes, np.cumsum([len(one.xyxy) for one in full])[:-1])
        boxes = column([one.data.get("area", area) for one, area in zip(full, own, strict=True)], np.float64)
    return Table(
        image=np.repeat(np.arange(len(sets)), counts),
        row=column([np.arange(count) for count in counts], np.int64),
        xyxy=xyxy,
        class_id=column([one.class_id for one in full], np.int64),
        score=column([np.ones(len(o.xyxy)) if o.confidence is None else o.confidence for o in full], np.float64),
        crowd=column([one.data.get("iscrowd", np.zeros(len(one.xyxy), bool)) for one in full], bool),
        area=boxes,
    )


class Matching:
    """Predictions and objects of the same images, and who takes whom at any threshold.

    Args:
        predictions: One set per image, with ``confidence`` and ``class_id``.
        targets: One set per image, in the same order.
        least: The lowest IoU that will be asked for, above 0.
        overlaps: Per image ``(n, m)`` how alike predictions and targets are, where it is not their boxes' IoU; see
            :mod:`osv_lab.detect.overlaps`.

    Attributes:
        found: The predictions.
        wanted: The targets.
        rank: ``(n,)`` place of each prediction among those of its image and class, the most confident first.
        images: How many.

    Raises:
        UsageError: the two are not of the same images, or something is missing in them.
    """

    def __init__(
        self,
        predictions: Sequence[sv.Detections],
        targets: Sequence[sv.Detections],
        least: float,
        overlaps: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.found, self.wanted = table_of(predictions, "predictions"), table_of(targets, "targets")
        self.images = len(targets)
        if len(predictions) != len(targets):
            raise UsageError(
                "predictions and targets must be of the same images",
                f"{len(predictions)} and {len(targets)} sets",
            )
        if overlaps is not None and [len(one) for one in predictions] != [len(one) for one in overlaps]:
            raise UsageError("overlaps are not of these predictions", f"{len(overlaps)} images")
        found, wanted = _groups(self.found, self.wanted)
        order = np.lexsort((-self.found.score, found))
        self.rank = np.empty(len(found), np.int64)
        self.rank[order] = np.arange(len(found)) - np.searchsorted(found[order], found[order])
        # Pairs of a prediction and an object of one image and class, that overlap enough.
        ordered = np.argsort(wanted, kind="stable")
        start = np.searchsorted(wanted[ordered], found, side="left")
        width = np.searchsorted(wanted[ordered], found, side="right") - start
        prediction = np.repeat(np.arange(len(found)), width)
        first = np.concatenate([[0], np.cumsum(width)])
        target = ordered[start[prediction] + np.arange(len(prediction)) - first[prediction]]
        if overlaps is None:
            iou = pair_iou(self.found.xyxy[prediction], self.wanted.xyxy[target], self.wanted.crowd[target])
        else:
            iou = _looked_up(overlaps, self.found, self.wanted, prediction, target)
        near = iou >= min(least, 1 - 1e-10)
        self._prediction, self._target, self._iou = prediction[near], target[near], iou[near]

    def taken(self, thresholds: Sequence[float] | np.ndarray, ignored: np.ndarray | None = None) -> np.ndarray:
        """``(thresholds, n) int32`` the row of :attr:`wanted` that each prediction takes, or -1.

        Args:
            thresholds: Least IoU of a match, none below ``least``.
            ignored: ``(m,)`` objects that are only taken when no other will do; crowds by default.
        """
        # COCO compares with 1 - 1e-10 at most.
        limits = np.minimum(np.asarray(thresholds, dtype=np.float64), 1 - 1e-10)
        crowd = self.wanted.crowd
        ignored = crowd if ignored is None else ignored
        # Rank by rank, and of each prediction the best last: an object that counts before one that is ignored, then the
        # larger IoU, then the later object.
        rank = self.rank[self._prediction]
        order = np.lexsort((self._target, self._iou, ~ignored[self._target], self._prediction, rank))
        prediction, target, iou = self._prediction[order], self._target[order], self._iou[order]
        edges = np.flatnonzero(np.diff(rank[order], prepend=-1, append=-1)) if len(order) else np.zeros(0, int)
        result = np.full((len(limits), len(self.found)), -1, np.int32)
        for row, limit in enumerate(limits):
            free = np.ones(len(crowd), bool)
            for begin, end in itertools.pairwise(edges):
                block = slice(begin, end)
                open_pairs = (iou[block] >= limit) & free[target[block]]
                candidates, offered = prediction[block][open_pairs], target[block][open_pairs]
                last = np.append(candidates[1:] != candidates[:-1], True) if len(candidates) else np.zeros(0, bool)
                result[row, candidates[last]] = offered[last]
                free[offered[last]] = crowd[offered[last]]
        return result

    def iou_of(self, taken: np.ndarray) -> np.ndarray:
        """``(n,)`` overlap of each prediction with the object that it takes, 0 where none.

        Args:
            taken: ``(n,)`` one row of :meth:`taken`.
        """
        overlap = np.zeros(len(taken))
        chosen = taken[self._prediction] == self._target
        overlap[self._prediction[chosen]] = self._iou[chosen]
        return overlap


def _groups(found: Table, wanted: Table) -> tuple[np.ndarray, np.ndarray]:
    """One number per image and class, of predictions and of objects; ordered by image."""
    classes, numbers = np.unique(np.concatenate([found.class_id, wanted.class_id]), return_inverse=True)
    ours, theirs = numbers[: len(found)], numbers[len(found) :]
    return found.image * len(classes) + ours, wanted.image * len(classes) + theirs


def _looked_up(
    overlaps: Sequence[np.ndarray], found: Table, wanted: Table, prediction: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """The given overlap of each pair; pairs are ordered by image."""
    values = np.zeros(len(prediction))
    image = found.image[prediction]
    edges = np.flatnonzero(np.diff(image, prepend=-1, append=-1)) if len(image) else np.zeros(0, int)
    for begin, end in itertools.pairwise(edges):
        block = slice(begin, end)
        values[block] = overlaps[image[begin]][found.row[prediction[block]], wanted.row[target[block]]]
    return values


def pair_iou(first: np.ndarray, second: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU of pairs of boxes; over the first box's own area where the second is a crowd."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=1)
    own = np.prod(first[:, 2:] - first[:, :2], axis=1)
    other = np.prod(second[:, 2:] - second[:, :2], axis=1)
    union = np.where(crowd, own, own + other - intersection)
    return np.asarray(np.divide(intersection, union, out=np.zeros(len(union)), where=union > 0))
