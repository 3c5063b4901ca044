"""Non-maximum suppression on arrays, equal to Ultralytics' and torchvision's to the last kept index.

Classes are kept apart by shifting each class's boxes by a multiple of 7,680 pixels, in float32, as Ultralytics does;
the arithmetic is theirs as well, so that ties and thresholds fall the same way.
"""

from __future__ import annotations

import numpy as np

CLASS_OFFSET = 7680.0
"""Pixels between the boxes of neighbouring classes; larger than any network input."""

MAX_CANDIDATES = 30_000
"""More candidates than this are cut to the most confident before suppression."""


def nms(boxes: np.ndarray, scores: np.ndarray, iou: float, max_keep: int | None = None) -> np.ndarray:
    """Greedy suppression of axis-aligned boxes.

    Args:
        boxes: ``(n, 4) float32`` x1, y1, x2, y2.
        scores: ``(n,) float32``.
        iou: Boxes that overlap a kept one by more than this are dropped.
        max_keep: Stop after this many.

    Returns:
        Indices of the kept boxes, most confident first; of equal scores the earlier index comes first.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], np.float32)
        >>> nms(boxes, np.array([0.5, 0.9, 0.8], np.float32), 0.5).tolist()
        [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) == 0:
        return order
    limit = len(order) if max_keep is None else max_keep
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T)
    areas = (x2 - x1) * (y2 - y1)
    # The comparison is in double, as in torchvision: a float32 threshold would decide ties differently.
    threshold = np.float64(iou)
    alive = np.arange(len(order))
    kept: list[int] = []
    while len(alive) and len(kept) < limit:
        first, rest = alive[0], alive[1:]
        kept.append(first)
        width = np.minimum(x2[rest], x2[first]) - np.maximum(x1[rest], x1[first])
        height = np.minimum(y2[rest], y2[first]) - np.maximum(y1[rest], y1[first])
        near = (width > 0) & (height > 0)
        if not near.any():
            alive = rest
            continue
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = intersection / (areas[first] + areas[rest] - intersection)
        alive = rest[~(overlap > threshold)]
    return order[np.array(kept, dtype=np.intp)]


def class_nms(
    boxes: np.ndarray, scores: np.ndarray, class_id: np.ndarray, iou: float, max_keep: int | None = None
) -> np.ndarray:
    """:func:`nms` within each class. Returns indices, most confident first."""
    if len(scores) > MAX_CANDIDATES:
        top = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        return np.asarray(top[class_nms(boxes[top], scores[top], class_id[top], iou, max_keep)])
    offset = class_id.astype(np.float32)[:, None] * np.float32(CLASS_OFFSET)
    return nms(boxes.astype(np.float32, copy=False) + offset, scores, iou, max_keep)


def rotated_nms(
    boxes: np.ndarray, scores: np.ndarray, class_id: np.ndarray, iou: float, max_keep: int | None = None
) -> np.ndarray:
    """Suppression of oriented boxes within each class, as Ultralytics does it.

    A box goes when *any* more confident one overlaps it, kept or not ("fast NMS", Bolya et al. 2019,
    https://arxiv.org/abs/1904.02689), and the overlap is :func:`probiou`.

    Args:
        boxes: ``(n, 5) float32`` centre x, centre y, width, height, angle in radians.
        scores: ``(n,) float32``.
        class_id: ``(n,)``.
        iou: Boxes that overlap a more confident one by more than this are dropped.
        max_keep: Keep at most this many.

    Returns:
        Indices of the kept boxes, most confident first.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    shifted = boxes[order].astype(np.float32)
    shifted[:, :2] += class_id[order].astype(np.float32)[:, None] * np.float32(CLASS_OFFSET)
    keep = np.ones(len(order), dtype=bool)
    # Rows in blocks: the full matrix of thousands of candidates would take gigabytes.
    for start in range(0, len(order), 1024):
        block = slice(start, start + 1024)
        overlap = probiou(shifted[: start + 1024], shifted[block])
        earlier = np.arange(len(overlap))[:, None] < np.arange(start, start + overlap.shape[1])[None]
        keep[block] = ~((overlap > np.float64(iou)) & earlier).any(axis=0)
    return np.asarray(order[keep][:max_keep])


def probiou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Probabilistic IoU of oriented boxes: one minus the Hellinger distance of their Gaussians.

    Llerena et al. 2021, https://arxiv.org/abs/2106.06072.

    Args:
        first: ``(n, 5)`` centre x, centre y, width, height, angle in radians.
        second: ``(m, 5)``.

    Returns:
        ``(n, m)``, 0 to 1.
    """
    eps = np.float32(1e-7)
    a1, b1, c1 = (value[:, None] for value in _covariance(first))
    a2, b2, c2 = (value[None] for value in _covariance(second))
    dx = second[None, :, 0] - first[:, None, 0]
    dy = first[:, None, 1] - second[None, :, 1]
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    determinant = a * b - c * c
    t1 = ((a * dy * dy + b * dx * dx) / (determinant + eps)) * np.float32(0.25)
    t2 = ((c * dx * dy) / (determinant + eps)) * np.float32(0.5)
    root = np.sqrt(np.maximum(a1 * b1 - c1 * c1, 0) * np.maximum(a2 * b2 - c2 * c2, 0))
    t3 = np.log(determinant / (4 * root + eps) + eps) * np.float32(0.5)
    distance = np.clip(t1 + t2 + t3, eps, np.float32(100))
    return np.asarray(1 - np.sqrt(1 - np.exp(-distance) + eps))


def _covariance(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return a * cos**2 + b * sin**2, a * sin**2 + b * cos**2, (a - b) * cos * sin
