"""How alike a prediction and an object are, 0 to 1, for everything that is not an axis-aligned box.

Masks by their pixels, oriented boxes by the area that they share, keypoints by COCO's object keypoint similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.core.errors import UsageError

if TYPE_CHECKING:
    import supervision as sv

COCO_SIGMAS = tuple(
    sigma / 10
    for sigma in (0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89)
)  # fmt: skip
"""How far apart people place each of COCO's 17 keypoints, as a share of the object's size."""

KEYPOINT_AREA = 0.53
"""Area of a person over the area of its box, on average; Ultralytics takes it where no mask says the area."""

_TOUCHING = 1e-7  # Pixels: edges nearer than this lie on each other.


def mask_iou(first: np.ndarray, second: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """IoU of masks by their pixels.

    Args:
        first: ``(n, h, w) bool``.
        second: ``(m, h, w) bool``.
        crowd: ``(m,) bool``: masks of the second of which the share of the first's own area that lies in them counts.

    Returns:
        ``(n, m) float64``; 0 where both are empty.
    """
    own = first.reshape(len(first), -1).sum(axis=1).astype(np.float64) if len(first) else np.zeros(0)
    both = np.zeros((len(first), len(second)))
    areas = np.zeros(len(second))
    for column, mask in enumerate(second):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            continue
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        areas[column] = mask[window].sum()
        both[:, column] = (first[(slice(None), *window)] & mask[window]).sum(axis=(1, 2))
    return _over(both, own, areas, crowd)


def oriented_iou(first: np.ndarray, second: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """IoU of oriented boxes, exact: the intersection's area by Green's theorem over both outlines.

    Args:
        first: ``(n, 4, 2)`` corners in order round the box; any convex quadrilateral.
        second: ``(m, 4, 2)``.
        crowd: As for :func:`mask_iou`.

    Returns:
        ``(n, m) float64``.

    Example:
        >>> square = np.array([[[0, 0], [2, 0], [2, 2], [0, 2]]], float)
        >>> turned = np.array([[[1, -0.41421356], [2.41421356, 1], [1, 2.41421356], [-0.41421356, 1]]])
        >>> round(float(oriented_iou(square, turned)[0, 0]), 4)          # an octagon: 1 / sqrt(2)
        0.7071
    """
    first, second = (np.asarray(one, np.float64).reshape(-1, 4, 2) for one in (first, second))
    first, second = _counterclockwise(first), _counterclockwise(second)
    low = np.maximum(first.min(axis=1)[:, None], second.min(axis=1)[None])
    high = np.minimum(first.max(axis=1)[:, None], second.max(axis=1)[None])
    row, column = np.nonzero((high > low).all(axis=2))
    centre = first[row].mean(axis=1, keepdims=True)
    ours, theirs = first[row] - centre, second[column] - centre
    both = np.zeros((len(first), len(second)))
    # Where two edges lie on each other, only the first outline's counts.
    area = _area_inside(ours, theirs, closed=True) + _area_inside(theirs, ours, closed=False)
    both[row, column] = np.maximum(area, 0)
    return _over(both, _area(first), _area(second), crowd)


def probabilistic_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How alike oriented boxes are as Gaussian distributions: one less their Hellinger distance.

    Llerena, Zeni, Kristen and Jung, "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object
    Detection", 2021, https://arxiv.org/abs/2106.06072. Ultralytics' validator matches oriented boxes by it. It is
    mostly larger than the boxes' IoU: 0.6 to 0.7 where that is 0.5. Of corners that make no rectangle, as where a box
    was cut at the image's edge, the smallest rectangle round them is taken, as there.

    Args:
        first: ``(n, 4, 2)`` corners in order round the box.
        second: ``(m, 4, 2)``.

    Returns:
        ``(n, m) float64``.
    """
    tiny = 1e-7
    corners = (np.asarray(one, np.float64).reshape(-1, 4, 2) for one in (first, second))
    centres, spreads = zip(*map(_gaussian, corners), strict=True)
    apart = centres[0][:, None] - centres[1][None]
    a, b, c = (spreads[0][:, None, k] + spreads[1][None, :, k] for k in range(3))
    whole = a * b - c**2
    own, other = (np.maximum(one[:, 0] * one[:, 1] - one[:, 2] ** 2, 0) for one in spreads)
    distance = 0.25 * (a * apart[..., 1] ** 2 + b * apart[..., 0] ** 2) / (whole + tiny)
    distance -= 0.5 * c * apart[..., 0] * apart[..., 1] / (whole + tiny)
    distance += 0.5 * np.log(whole / (4 * np.sqrt(own[:, None] * other[None]) + tiny) + tiny)
    return np.asarray(1 - np.sqrt(1 - np.exp(-distance.clip(tiny, 100)) + tiny))


def _gaussian(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres ``(n, 2)``, and variances and covariance ``(n, 3)`` of a uniform spread over the boxes."""
    corners = _rectangles(corners)
    along, across = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1]
    variance = (along**2 + across**2) / 12
    covariance = (along[:, 0] * along[:, 1] + across[:, 0] * across[:, 1]) / 12
    return corners.mean(axis=1), np.concatenate([variance, covariance[:, None]], axis=1)


def _rectangles(corners: np.ndarray) -> np.ndarray:
    """The same with the smallest rectangle round whatever is none."""
    import cv2

    diagonals = np.linalg.norm(corners[:, :2] - corners[:, 2:], axis=2)
    middles = corners[:, 0] + corners[:, 2] - corners[:, 1] - corners[:, 3]
    bent = (np.abs(np.diff(diagonals, axis=1)[:, 0]) > 0.01) | (np.abs(middles).max(axis=1, initial=0) > 0.01)
    found = corners.copy()
    for row in np.flatnonzero(bent):
        found[row] = cv2.boxPoints(cv2.minAreaRect(corners[row].astype(np.float32)))
    return found


def keypoint_similarity(
    first: np.ndarray, second: np.ndarray, area: np.ndarray, sigmas: Sequence[float] | None = None
) -> np.ndarray:
    """Object keypoint similarity, as COCO defines it (https://cocodataset.org/#keypoints-eval).

    Args:
        first: ``(n, k, 2+)`` predicted points, pixels.
        second: ``(m, k, 3)`` the objects' points, pixels; the third number is 0 where a point is not labelled.
        area: ``(m,)`` the objects' areas in square pixels.
        sigmas: ``(k,)``; by default COCO's for 17 points, else ``1 / k`` each, as Ultralytics has it.

    Returns:
        ``(n, m) float64``; 0 for an object without a labelled point.

    Raises:
        UsageError: predictions, objects and sigmas differ in their number of points.
    """
    points = second.shape[1] if len(second) else first.shape[1] if len(first) else 0
    spread = np.asarray(sigmas if sigmas is not None else default_sigmas(points), np.float64)
    counts = {len(spread), *(one.shape[1] for one in (first, second) if len(one))}
    if len(counts) > 1:
        raise UsageError("keypoints cannot be compared", f"objects of {sorted(counts)} points")
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    away = ((first[:, None, :, :2].astype(np.float64) - second[None, :, :, :2]) ** 2).sum(axis=3)
    error = away / (2 * spread) ** 2 / (area[None, :, None] + np.spacing(1)) / 2
    labelled = second[None, :, :, 2] > 0
    count = labelled.sum(axis=2)
    similarity = (np.exp(-error) * labelled).sum(axis=2) / np.maximum(count, 1)
    return np.asarray(similarity)


def default_sigmas(points: int) -> tuple[float, ...]:
    """COCO's sigmas for 17 keypoints, else ``1 / points`` each."""
    return COCO_SIGMAS if points == len(COCO_SIGMAS) else (1 / points,) * points


def overlap_of(task: str, predictions: sv.Detections, targets: sv.Detections) -> np.ndarray:
    """How alike one image's predictions and targets are, by the task's own measure.

    Args:
        task: ``segment``, ``pose`` or ``obb``.
        predictions: With ``mask``, ``data["keypoints"]`` or ``data["xyxyxyxy"]`` as the task asks.
        targets: Likewise; of keypoints with ``data["area"]``, and with ``data["iscrowd"]`` where there are crowds.

    Returns:
        ``(n, m) float64``.
    """
    crowd = targets.data.get("iscrowd")
    if not len(predictions) or not len(targets):
        return np.zeros((len(predictions), len(targets)))
    if task == "segment":
        return mask_iou(np.asarray(predictions.mask), np.asarray(targets.mask), crowd)
    if task == "obb":
        return oriented_iou(predictions.data["xyxyxyxy"], targets.data["xyxyxyxy"], crowd)
    return keypoint_similarity(predictions.data["keypoints"], targets.data["keypoints"], targets.data["area"])


def _over(both: np.ndarray, own: np.ndarray, other: np.ndarray, crowd: np.ndarray | None) -> np.ndarray:
    whole = own[:, None] + other[None] - both
    if crowd is not None:
        whole = np.where(np.asarray(crowd, bool)[None], own[:, None], whole)
    return np.asarray(np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)).clip(0, 1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _signed_area(corners: np.ndarray) -> np.ndarray:
    return np.asarray(_cross(corners, np.roll(corners, -1, axis=1)).sum(axis=1) / 2)


def _area(corners: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(_signed_area(corners - corners.mean(axis=1, keepdims=True))))


def _counterclockwise(corners: np.ndarray) -> np.ndarray:
    backwards = _signed_area(corners - corners.mean(axis=1, keepdims=True)) < 0
    return np.asarray(np.where(backwards[:, None, None], corners[:, ::-1], corners))


def _area_inside(outline: np.ndarray, region: np.ndarray, *, closed: bool) -> np.ndarray:
    """What the parts of an outline inside a convex region add to the area of the intersection (Green's theorem).

    Args:
        outline: ``(p, 4, 2)`` counterclockwise.
        region: ``(p, 4, 2)`` counterclockwise.
        closed: Whether edges that lie on the region's border are inside.
    """
    start, end = outline[:, :, None], np.roll(outline, -1, axis=1)[:, :, None]
    corner = region[:, None]
    edge = np.roll(region, -1, axis=1)[:, None] - corner
    length = np.linalg.norm(edge, axis=-1, keepdims=True)
    edge = np.divide(edge, length, out=np.zeros_like(edge), where=length > 0)
    # Distances to each border, positive inside, at both ends of each edge of the outline.
    first, last = _cross(edge, start - corner), _cross(edge, end - corner)
    climb = last - first
    along = (np.abs(climb) < _TOUCHING) | (length[..., 0] == 0)
    kept = first >= -_TOUCHING if closed else first > _TOUCHING
    kept |= length[..., 0] == 0
    at = np.divide(-first, climb, out=np.zeros_like(first), where=~along)
    enters = np.where(~along & (climb > 0), at, 0).max(axis=2).clip(0, 1)
    leaves = np.where(~along & (climb < 0), at, 1).min(axis=2).clip(0, 1)
    inside = (leaves > enters) & (~along | kept).all(axis=2)
    start, step = start[:, :, 0], end[:, :, 0] - start[:, :, 0]
    part = _cross(start + enters[..., None] * step, start + leaves[..., None] * step) / 2
    return np.asarray(np.where(inside, part, 0).sum(axis=1))
