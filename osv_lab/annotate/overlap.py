"""Additions of both sides that are the same object, or may be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from osv_lab.annotate.changes import Key, Note, key_of
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.properties import same_place
from osv_lab.track.boxes import iou_matrix

SAME_IOU: Final = 0.95
"""Boxes of one class that overlap by as much, with nothing else near, are taken for one object."""
NEAR_IOU: Final = 0.7


def pair_additions(theirs: Sequence[Shape], ours: Sequence[Shape]) -> tuple[dict[Key, Shape], list[Note]]:
    """Which additions on the server are objects that were added here too.

    Two are the same where both say so: the same kind, class and attributes on the same image, points that are the same
    or, for boxes, an IoU of at least :data:`SAME_IOU`; and neither has a second object of its class that overlaps by
    :data:`NEAR_IOU`. Where that cannot be shown, both are objects, and a pair that overlaps by :data:`NEAR_IOU`
    is noted.

    Returns:
        The object here by the key of its twin on the server; and notes about near duplicates.
    """
    twins: dict[Key, Shape] = {}
    notes: list[Note] = []
    left: dict[tuple[str, int, str, str], list[Shape]] = defaultdict(list)
    right: dict[tuple[str, int, str, str], list[Shape]] = defaultdict(list)
    for side, shapes in ((left, theirs), (right, ours)):
        for shape in shapes:
            side[shape.sample, shape.frame, shape.kind, shape.label].append(shape)
    for place, there in left.items():
        here = right.get(place)
        if not here:
            continue
        around, others = extents(there), extents(here)
        iou = iou_matrix(around, others)
        iou[(around[:, None] == others[None]).all(axis=2)] = 1.0
        near = iou >= NEAR_IOU
        alone = (near.sum(axis=0)[None, :] == 1) & (near.sum(axis=1)[:, None] == 1)
        for i, j in np.argwhere(near).tolist():
            a, b = there[i], here[j]
            if alone[i, j] and _identical(a, b, float(iou[i, j])):
                twins[key_of(a)] = b
            else:
                notes.append(Note("near duplicate", a, b, float(iou[i, j])))
    return twins, notes


def _identical(a: Shape, b: Shape, iou: float) -> bool:
    if dict(a.attributes) != dict(b.attributes):
        return False
    return same_place(a.points, a.rotation, b.points, b.rotation) or (a.kind == "box" and iou >= SAME_IOU)


def extents(shapes: Sequence[Shape]) -> np.ndarray:
    """The box around each shape, ``(n, 4)`` float64 ``x1, y1, x2, y2``; a tag is the whole image's."""
    return np.array([extent(shape.kind, shape.points, shape.rotation) for shape in shapes]).reshape(-1, 4)


def extent(kind: str, points: Sequence[float], rotation: float = 0.0) -> tuple[float, float, float, float]:
    """The box around points laid out by ``kind``."""
    if not points:
        return 0.0, 0.0, 1.0, 1.0
    if kind == "mask":
        left, top, right, bottom = points[-4:]
        return left, top, right + 1, bottom + 1
    if rotation % 180:
        return _turned(points, rotation)
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _turned(points: Sequence[float], rotation: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = points[:4]
    angle = np.deg2rad(rotation)
    cos, sin = abs(float(np.cos(angle))), abs(float(np.sin(angle)))
    w, h = abs(x2 - x1), abs(y2 - y1)
    half_w, half_h = (w * cos + h * sin) / 2, (w * sin + h * cos) / 2
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    return cx - half_w, cy - half_h, cx + half_w, cy + half_h
