"""Labels in pixels, moved by an affine map and cut off at a frame.

A coordinate is a distance from the image's top-left corner, so that a pixel's centre is at (0.5, 0.5) and an image of w
pixels ends at w. A map is a 2x3 matrix on such points. Whatever a label is made of is mapped as points: the corners of
a box, the rings of an outline, keypoints; a mask is warped by nearest neighbour.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from osv_lab.store.geometry import box_ring, mask_rings, paste_mask, pixel_window, ring_area
from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox, Polygon
from osv_lab.store.transforms.clip import Frame, cut_line, cut_ring

Matrix: TypeAlias = np.ndarray

MIN_VISIBLE = 0.1
"""A label of which a smaller share of its area is left inside the frame is dropped: nobody would draw it."""

_LEAST_PX = 1.0


@dataclass(slots=True)
class Shape:
    """A label, its geometry in pixels.

    Attributes:
        label: The label it came from, for all that is not geometry.
        field: The label field it belongs to.
        outline: Rings ``(k, 2)``: the four corners of a box or oriented box, the rings of a polygon; empty for others.
        points: Keypoints ``(k, 2)``, NaN where not labelled, or ``None``.
        mask: Bool ``(h, w)``, the part of the image under the mask's window, or ``None``.
        at: Top-left pixel of the mask's window.
    """

    label: Label
    field: str
    outline: list[np.ndarray]
    points: np.ndarray | None = None
    mask: np.ndarray | None = None
    at: tuple[int, int] = (0, 0)

    @property
    def bounds(self) -> Frame | None:
        """The axis-aligned box around it, or ``None`` for the class of an image or keypoints without a known point."""
        parts = [*self.outline] if self.outline else [self.points] if self.points is not None else []
        known = [part[~np.isnan(part).any(axis=1)] for part in parts]
        if not known or not sum(map(len, known)):
            return None
        stacked = np.concatenate(known)
        (x0, y0), (x1, y1) = stacked.min(axis=0), stacked.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)


def to_shape(label: Label, size: tuple[int, int], field: str = "") -> Shape:
    """A label in pixels.

    Args:
        label: The label.
        size: Image ``(width, height)``, pixels.
        field: Its field.
    """
    scale = np.array(size, dtype=np.float64)
    if isinstance(label, Box):
        shape = Shape(label, field, [np.array(box_ring(label.xywh)) * scale])
        if label.mask is not None:
            x0, y0, x1, y1 = pixel_window(label.xywh, size)
            shape.mask, shape.at = paste_mask(label.mask, label.xywh, size)[y0:y1, x0:x1], (x0, y0)
        return shape
    if isinstance(label, Polygon):
        return Shape(
            label, field, [np.array(ring, dtype=np.float64).reshape(-1, 2) * scale for ring in label.rings]
        )
    if isinstance(label, OrientedBox):
        return Shape(label, field, [np.array(label.corners) * scale])
    if isinstance(label, Keypoints):
        outline = [np.array(box_ring(label.xywh)) * scale] if label.xywh is not None else []
        return Shape(label, field, outline, np.array(label.points, dtype=np.float64).reshape(-1, 2) * scale)
    return Shape(label, field, [])


def to_label(shape: Shape, size: tuple[int, int]) -> Label:
    """The inverse of :func:`to_shape` for an image of a size."""
    label, (width, height) = shape.label, size
    rings = [ring / (width, height) for ring in shape.outline]
    if isinstance(label, Box):
        x, y, w, h = _xywh(rings[0])
        if shape.mask is None:
            return dataclasses.replace(label, xywh=(x, y, w, h))
        # The mask's window may be smaller than the pixels that the box touches.
        x0, y0, x1, y1 = pixel_window((x, y, w, h), size)
        mask = np.zeros((y1 - y0, x1 - x0), dtype=bool)
        left, top = shape.at[0] - x0, shape.at[1] - y0
        part = shape.mask[max(-top, 0) :, max(-left, 0) :]
        top, left = max(top, 0), max(left, 0)
        part = part[: mask.shape[0] - top, : mask.shape[1] - left]
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return dataclasses.replace(label, xywh=(x, y, w, h), mask=mask)
    if isinstance(label, Polygon):
        return dataclasses.replace(label, rings=tuple(_pairs(ring) for ring in rings))
    if isinstance(label, OrientedBox):
        a, b, c, d = _pairs(rings[0])
        return dataclasses.replace(label, corners=(a, b, c, d))
    if isinstance(label, Keypoints) and shape.points is not None:
        points = _pairs(shape.points / (width, height))
        return dataclasses.replace(label, points=points, xywh=_xywh(rings[0]) if rings else None)
    return label


def _pairs(points: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in points)


def _xywh(ring: np.ndarray) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
    return x0, y0, x1 - x0, y1 - y0


# -- maps ---------------------------------------------------------------------------------------------------


def matrix(
    a: float = 1.0, b: float = 0.0, tx: float = 0.0, c: float = 0.0, d: float = 1.0, ty: float = 0.0
) -> Matrix:
    """The map ``(x, y) -> (a x + b y + tx, c x + d y + ty)``; by default nothing moves."""
    return np.array([[a, b, tx], [c, d, ty]], dtype=np.float64)


def after(second: Matrix, first: Matrix) -> Matrix:
    """The map that does ``first``, then ``second``."""
    whole = np.vstack([first, [0.0, 0.0, 1.0]])
    product: Matrix = second @ whole
    return product


def about(centre: tuple[float, float], turn: Matrix) -> Matrix:
    """A map about a point instead of the corner."""
    x, y = centre
    return after(matrix(tx=x, ty=y), after(turn, matrix(tx=-x, ty=-y)))


def moved(points: np.ndarray, m: Matrix) -> np.ndarray:
    """Points ``(k, 2)`` under a map."""
    result: np.ndarray = points @ m[:, :2].T + m[:, 2]
    return result


def for_opencv(m: Matrix) -> Matrix:
    """A map as OpenCV wants it, which counts from the centre of the first pixel."""
    return after(matrix(tx=-0.5, ty=-0.5), after(m, matrix(tx=0.5, ty=0.5)))


# -- labels under a map -------------------------------------------------------------------------------------


def warp(
    shapes: Iterable[Shape], m: Matrix, frame: Frame, flips: Mapping[str, Sequence[str]] | None = None
) -> list[Shape]:
    """Labels under a map, cut off at a frame; those that are hardly in it any more are left out.

    Args:
        shapes: The labels.
        m: The map.
        frame: What is visible afterwards.
        flips: Keypoint names per field. Where the map mirrors, points named left and right change places.
    """
    found = (_warp(shape, m, frame, flips or {}) for shape in shapes)
    return [shape for shape in found if shape is not None]


def _warp(shape: Shape, m: Matrix, frame: Frame, flips: Mapping[str, Sequence[str]]) -> Shape | None:
    label = shape.label
    if isinstance(label, ImageClass):
        return shape
    rings = [moved(ring, m) for ring in shape.outline]
    if isinstance(label, Keypoints):
        return _keypoints(shape, rings, m, frame, flips.get(shape.field, ()))
    if isinstance(label, Polygon):
        return _polygon(shape, label, rings, frame)
    if isinstance(label, OrientedBox):
        return _oriented(shape, rings[0], frame)
    if shape.mask is not None:
        return _masked(shape, rings[0], m, frame)
    cut = _cut_box(rings[0], frame)
    return None if cut is None else dataclasses.replace(shape, outline=[cut])


def _cut_box(corners: np.ndarray, frame: Frame) -> np.ndarray | None:
    """The axis-aligned box around corners as a ring, inside the frame."""
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    ax, ay = max(x0, frame[0]), max(y0, frame[1])
    bx, by = min(x1, frame[2]), min(y1, frame[3])
    if bx - ax <= 0 or by - ay <= 0 or (bx - ax) * (by - ay) < MIN_VISIBLE * (x1 - x0) * (y1 - y0):
        return None
    # A label thinner than a pixel can be one that was drawn so; one that was cut to it is a sliver.
    if (min(bx - ax, x1 - x0) < _LEAST_PX <= x1 - x0) or (min(by - ay, y1 - y0) < _LEAST_PX <= y1 - y0):
        return None
    return np.array([(ax, ay), (bx, ay), (bx, by), (ax, by)])


def _masked(shape: Shape, corners: np.ndarray, m: Matrix, frame: Frame) -> Shape | None:
    import cv2

    cut = _cut_box(corners, frame)
    if cut is None or shape.mask is None:
        return None
    (x0, y0), (x1, y1) = np.floor(cut.min(axis=0) + 1e-6), np.ceil(cut.max(axis=0) - 1e-6)
    left, top = int(x0), int(y0)
    window = max(int(x1) - left, 1), max(int(y1) - top, 1)
    local = after(matrix(tx=-left, ty=-top), after(m, matrix(tx=shape.at[0], ty=shape.at[1])))
    mask = cv2.warpAffine(shape.mask.astype(np.uint8), for_opencv(local), window, flags=cv2.INTER_NEAREST) > 0
    before = shape.mask.sum() * abs(np.linalg.det(m[:, :2]))
    if not mask.any() or mask.sum() < MIN_VISIBLE * before:
        return None
    if _is_axis_aligned(m):
        return dataclasses.replace(shape, outline=[cut], mask=mask, at=(left, top))
    # A turned box grows; what is left of the mask says how far the object really reaches.
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    mask = mask[top:bottom, left:right]
    at = int(x0) + int(left), int(y0) + int(top)
    ring = np.array(box_ring((at[0], at[1], mask.shape[1], mask.shape[0])), dtype=np.float64)
    return dataclasses.replace(shape, outline=[ring], mask=mask, at=at)


def _is_axis_aligned(m: Matrix) -> bool:
    return bool(abs(m[0, 1]) + abs(m[1, 0]) < 1e-9 or abs(m[0, 0]) + abs(m[1, 1]) < 1e-9)


def _polygon(shape: Shape, label: Polygon, rings: list[np.ndarray], frame: Frame) -> Shape | None:
    if not label.closed:
        parts = [part for ring in rings for part in cut_line(ring, frame)]
        return dataclasses.replace(shape, outline=parts) if parts else None
    cut = [ring for ring in (cut_ring(ring, frame) for ring in rings) if len(ring) >= 3]
    before = sum(ring_area(_pairs(ring)) for ring in rings if len(ring) >= 3)
    after_cut = sum(ring_area(_pairs(ring)) for ring in cut)
    if not cut or after_cut <= 0 or after_cut < MIN_VISIBLE * before:
        return None
    return dataclasses.replace(shape, outline=cut)


def _oriented(shape: Shape, corners: np.ndarray, frame: Frame) -> Shape | None:
    """Still a rectangle: shear and unequal scaling make a parallelogram of it, the frame may cut a corner off."""
    import cv2

    cut = cut_ring(corners, frame)
    area = ring_area(_pairs(corners))
    if len(cut) < 3 or ring_area(_pairs(cut)) < max(MIN_VISIBLE * area, 1e-9):
        return None
    inside = len(cut) == 4 and np.allclose(np.sort(cut, axis=0), np.sort(corners, axis=0), atol=1e-6)
    if inside and _is_rectangle(corners):
        return dataclasses.replace(shape, outline=[corners])
    fitted = cv2.boxPoints(cv2.minAreaRect(cut.astype(np.float32))).astype(np.float64)
    # The corner nearest to the old first one stays the first, and the turn goes the same way round.
    if _turn(fitted) * _turn(corners) < 0:
        fitted = fitted[::-1]
    first = int(np.linalg.norm(fitted - corners[0], axis=1).argmin())
    return dataclasses.replace(shape, outline=[np.roll(fitted, -first, axis=0)])


def _turn(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _is_rectangle(corners: np.ndarray) -> bool:
    a, b = corners[1] - corners[0], corners[3] - corners[0]
    lengths = math.hypot(*a) * math.hypot(*b)
    return bool(np.allclose(corners[0] + corners[2], corners[1] + corners[3], atol=1e-3)) and abs(a @ b) <= max(
        1e-6 * lengths, 1e-9
    )


def _keypoints(
    shape: Shape, rings: list[np.ndarray], m: Matrix, frame: Frame, names: Sequence[str]
) -> Shape | None:
    label = shape.label
    assert isinstance(label, Keypoints) and shape.points is not None
    points = moved(shape.points, m)
    with np.errstate(invalid="ignore"):
        out = (points < frame[:2]).any(axis=1) | (points > frame[2:]).any(axis=1)
    points[out] = np.nan
    visible, scores = list(label.visible), list(label.scores)
    for k in np.flatnonzero(out):
        if visible:
            visible[k] = 0
    if np.linalg.det(m[:, :2]) < 0 and (order := mirrored(names)) and len(order) == len(points):
        points = points[order]
        visible = [visible[k] for k in order] if visible else []
        scores = [scores[k] for k in order] if scores else []
    box = _cut_box(rings[0], frame) if rings else None
    if np.isnan(points).all() or (rings and box is None):
        return None
    label = dataclasses.replace(label, visible=tuple(visible), scores=tuple(scores))
    return dataclasses.replace(shape, label=label, outline=[box] if box is not None else [], points=points)


def mirrored(names: Sequence[str]) -> list[int]:
    """For each keypoint the one it is in a mirrored image, by ``left`` and ``right`` in the names; ``[]`` without.

    Example:
        >>> mirrored(["nose", "left_eye", "right_eye"])
        [0, 2, 1]
    """
    lowered = [name.lower() for name in names]
    if not any("left" in name for name in lowered):
        return []
    swapped = [n.replace("left", "\0").replace("right", "left").replace("\0", "right") for n in lowered]
    return [lowered.index(name) if name in lowered else k for k, name in enumerate(swapped)]


def outlines_of(shape: Shape) -> list[np.ndarray]:
    """Rings to draw: the mask's where there is one, else the outline."""
    if shape.mask is None:
        return shape.outline
    height, width = shape.mask.shape
    rings = mask_rings(shape.mask, (shape.at[0], shape.at[1], width, height))
    return [np.array(ring) for ring in rings]
