"""Boxes: overlap of two sets and conversions between forms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def iou_matrix(first: Floats, second: Floats) -> Floats:
    """Intersection over union of every pair.

    Args:
        first: (n, 4) boxes as x1, y1, x2, y2.
        second: (m, 4) boxes.

    Returns:
        (n, m), 0 to 1; 0 for boxes without area.

    Example:
        >>> iou_matrix(np.array([[0., 0, 2, 2]]), np.array([[1., 0, 3, 2], [9, 9, 9, 9]])).round(3).tolist()
        [[0.333, 0.0]]
    """
    # Corner-major copies, so that every step runs over long contiguous rows.
    a, b = np.ascontiguousarray(first.T), np.ascontiguousarray(second.T)
    side = np.minimum(a[2:, :, None], b[2:, None, :])
    side -= np.maximum(a[:2, :, None], b[:2, None, :])
    np.maximum(side, 0.0, out=side)
    overlap: Floats = side[0] * side[1]
    size_a, size_b = a[2:] - a[:2], b[2:] - b[:2]
    union = (size_a[0] * size_a[1])[:, None] + size_b[0] * size_b[1]
    union -= overlap
    # A box without area overlaps nothing, so its union with another such box must not divide 0 by 0.
    np.maximum(union, np.finfo(np.float64).tiny, out=union)
    overlap /= union
    return overlap


def to_xywh(xyxy: Floats) -> Floats:
    """(n, 4) corners to centre x, centre y, width, height."""
    size = xyxy[:, 2:] - xyxy[:, :2]
    return np.concatenate((xyxy[:, :2] + size / 2, size), axis=1)


def to_xyxy(xywh: Floats) -> Floats:
    """(n, 4) centre x, centre y, width, height to corners."""
    half = xywh[:, 2:] / 2
    return np.concatenate((xywh[:, :2] - half, xywh[:, :2] + half), axis=1)
