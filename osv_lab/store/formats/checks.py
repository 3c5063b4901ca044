"""What makes a label unusable, and what is mended: one policy for every format.

* a coordinate that is not a finite number: the label is dropped;
* a box, ring or keypoint outside the image: dropped when wholly outside, else cut at the image's edge and kept, and
  reported when more than :data:`TOLERANCE` was cut (formats whose boxes are meant to leave the image, MOTChallenge
  and CVAT tracks, are not cut);
* no area, or a negative width: dropped. Corners stated in the wrong order (``xmax < xmin``): swapped and kept;
* the same annotation twice in one image: the second is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from osv_lab.store.geometry import XYWH, Point, ring_area

TOLERANCE = 1e-4
"""How far, in image widths or heights, a coordinate may overshoot the image before its cutting is reported."""

SLIVER = 1e-9
"""Relative widths and heights at or below this count as no area."""


def number(value: object) -> float:
    """A finite float of a number or its text.

    Raises:
        ValueError: it is not a finite number (an integer too large for a float included).
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str, bytes)):
        raise ValueError(f"not a number: {_quoted(value)}")
    try:
        result = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"not a number: {_quoted(value)}") from None
    if not math.isfinite(result):
        raise ValueError(f"not a finite number: {_quoted(value)}")
    return result


def whole(value: object) -> int:
    """An integer of a number or its text; ``3.0`` is one.

    Raises:
        ValueError: it is not a whole number.
    """
    result = number(value)
    if result != int(result):
        raise ValueError(f"not a whole number: {_quoted(value)}")
    return int(result)


def _quoted(value: object) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def cut_box(x0: float, y0: float, x1: float, y1: float) -> tuple[XYWH | None, str]:
    """A box from relative corners, cut at the image's edge.

    Returns:
        The box or ``None`` (dropped), and what was wrong (``""``: nothing).
    """
    if not (math.isfinite(x0) and math.isfinite(y0) and math.isfinite(x1) and math.isfinite(y1)):
        return None, "box with a coordinate that is not a finite number"
    if x1 - x0 <= SLIVER or y1 - y0 <= SLIVER:
        inverted = x1 - x0 < -SLIVER or y1 - y0 < -SLIVER
        return None, "box with negative width or height" if inverted else "box without area"
    if x0 >= 1 or y0 >= 1 or x1 <= 0 or y1 <= 0:
        return None, "box outside the image"
    overshoot = max(-x0, -y0, x1 - 1, y1 - 1)
    if overshoot > 0:
        x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)
        if x1 - x0 <= SLIVER or y1 - y0 <= SLIVER:
            return None, "box without area inside the image"
    what = f"box reached {overshoot:.2%} beyond the image and was cut" if overshoot > TOLERANCE else ""
    return (x0, y0, x1 - x0, y1 - y0), what


def ordered_box(x0: float, y0: float, x1: float, y1: float) -> tuple[XYWH | None, str]:
    """:func:`cut_box` for formats that state two corners: corners in the wrong order are swapped."""
    if x1 < x0 or y1 < y0:
        box, what = cut_box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        swapped = "box corners in the wrong order were swapped"
        return box, what if box is None else "; ".join(filter(None, [swapped, what]))
    return cut_box(x0, y0, x1, y1)


def cut_ring(points: Sequence[Point]) -> tuple[tuple[Point, ...] | None, str]:
    """An outline with its points moved onto the image, or ``None`` when nothing is left; and what was wrong."""
    if len(points) < 3:
        return None, f"outline of {len(points)} points"
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        return None, "outline with a coordinate that is not a finite number"
    ring, overshoot = _moved_inside(points)
    if ring_area(ring) <= SLIVER**2:
        return None, "outline without area" if overshoot <= TOLERANCE else "outline outside the image"
    return ring, f"outline reached {overshoot:.2%} beyond the image and was cut" if overshoot > TOLERANCE else ""


def cut_points(points: Sequence[Point]) -> tuple[tuple[Point, ...], str]:
    """Keypoints moved onto the image; those that are not labelled stay ``(nan, nan)``; and what was wrong."""
    moved, overshoot = _moved_inside(points)
    if overshoot <= TOLERANCE:
        return moved, ""
    return moved, f"keypoints reached {overshoot:.2%} beyond the image and were moved to its edge"


def _moved_inside(points: Iterable[Point]) -> tuple[tuple[Point, ...], float]:
    moved: list[Point] = []
    overshoot = 0.0
    for x, y in points:
        if (0 <= x <= 1 and 0 <= y <= 1) or x != x or y != y:
            moved.append((x, y))
        else:
            overshoot = max(overshoot, -x, -y, x - 1, y - 1)
            moved.append((min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)))
    return tuple(moved), overshoot
