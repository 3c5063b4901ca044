"""Boxes of several detectors, or of one on several views of an image, made into one set.

Weighted boxes fusion: Solovyev, Wang and Gabruseva 2021, https://arxiv.org/abs/1910.13302.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.detect.nms import class_nms

FUSIONS = ("wbf", "nms")
"""Ways to fuse: averaging what overlaps, or keeping the best of it."""


def fuse(
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    class_id: Sequence[np.ndarray],
    *,
    how: str = "wbf",
    iou: float = 0.55,
    weights: Sequence[float] | None = None,
    known: Sequence[Sequence[int]] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fuse what several models found in one image.

    Args:
        boxes: ``(n, 4)`` x1, y1, x2, y2 of each model.
        scores: ``(n,)`` of each, 0 to 1.
        class_id: ``(n,)`` of each; one meaning for all.
        how: One of :data:`FUSIONS`. ``"wbf"``: boxes of a class that overlap become their mean, weighted by score, and
            what only some models found loses score. ``"nms"``: the surest stays as it is.
        iou: Overlap above which two boxes are one object.
        weights: How much each model counts; all alike by default.
        known: The classes that each model can find, all by default: a class loses no score for models that do not
            know it.

    Returns:
        Boxes ``(m, 4) float32``, scores ``(m,) float32`` and classes ``(m,) int64``, most confident first.

    Raises:
        UsageError: an unknown way, an overlap outside 0 to 1, weights that do not fit.

    Example:
        >>> one, other = np.array([[0, 0, 10, 10.0]]), np.array([[0, 0, 12, 10.0]])
        >>> boxes, scores, _ = fuse([one, other], [np.array([0.9]), np.array([0.3])], [np.array([0])] * 2)
        >>> boxes.round(2).tolist(), scores.round(2).tolist()
        ([[0.0, 0.0, 10.5, 10.0]], [0.6000000238418579])
    """
    if how not in FUSIONS:
        raise UsageError("no such way to fuse", repr(how), f"use one of: {', '.join(FUSIONS)}")
    if not 0 <= iou <= 1:
        raise UsageError("iou must lie between 0 and 1", iou)
    share = checked_weights(weights, len(boxes))
    all_boxes = np.concatenate([np.asarray(one, np.float64).reshape(-1, 4) for one in boxes])
    all_classes = np.concatenate([np.asarray(one, np.int64) for one in class_id])
    raw = [np.asarray(one, np.float64) for one in scores]
    if how == "nms":
        kept_scores = np.concatenate([one * (w / share.max()) for one, w in zip(raw, share, strict=True)])
        keep = class_nms(all_boxes.astype(np.float32), kept_scores.astype(np.float32), all_classes, iou)
        return all_boxes[keep].astype(np.float32), kept_scores[keep].astype(np.float32), all_classes[keep]
    weighted = np.concatenate([one * w for one, w in zip(raw, share, strict=True)])
    if known is None:
        return _weighted_boxes(all_boxes, weighted, all_classes, iou, lambda _: share)
    own = [frozenset(one) for one in known]
    judges = {
        kind: np.array([w for w, one in zip(share, own, strict=True) if kind in one]) for kind in {*all_classes}
    }
    return _weighted_boxes(all_boxes, weighted, all_classes, iou, judges.__getitem__)


def checked_weights(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """``(count,) float64``.

    Raises:
        UsageError: another number of them, or one that is not positive.
    """
    share = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if share.shape != (count,) or not np.all(np.isfinite(share)) or not np.all(share > 0):
        raise UsageError("each model needs one weight above 0", list(weights or []), f"give {count} numbers")
    return share


def _weighted_boxes(
    boxes: np.ndarray,
    scores: np.ndarray,
    class_id: np.ndarray,
    iou: float,
    weights: Callable[[int], np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The algorithm of section 3 of the paper; ``scores`` are weighted already, ``weights`` are those by class."""
    order = np.argsort(-scores, kind="stable")
    count = len(order)
    # Of each cluster: sum of score times box, sum of scores, number of boxes, the fused box, its class.
    weighed, total, members = np.zeros((count, 4)), np.zeros(count), np.zeros(count)
    fused, kind = np.zeros((count, 4)), np.full(count, -1)
    found = 0
    for index in order:
        box, score = boxes[index], scores[index]
        overlap = np.where(kind[:found] == class_id[index], _iou(fused[:found], box), -1.0)
        best = int(overlap.argmax()) if found else -1
        if best < 0 or overlap[best] <= iou:
            best, found = found, found + 1
            kind[best] = class_id[index]
        weighed[best] += score * box
        total[best] += score
        members[best] += 1
        # A score of 0 has no say in where the box is, unless it is alone.
        fused[best] = weighed[best] / total[best] if total[best] > 0 else box
    # The mean score, lowered where fewer boxes were found than there are models.
    mean = total[:found] / np.maximum(members[:found], 1)
    models = np.array([len(weights(one)) for one in kind[:found].tolist()])
    share = np.array([weights(one).sum() for one in kind[:found].tolist()])
    score = mean * np.minimum(members[:found], models) / share if found else mean
    first = np.argsort(-score, kind="stable")
    return fused[first].astype(np.float32), score[first].astype(np.float32), kind[first]


def _iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    size = np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0)
    shared = size[:, 0] * size[:, 1]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = areas + (box[2] - box[0]) * (box[3] - box[1]) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
