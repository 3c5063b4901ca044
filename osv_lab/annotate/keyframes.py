"""Tracks as keyframes: the fewest from which :mod:`osv_lab.annotate.interpolation` brings back every frame."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from osv_lab.annotate.objects import Keyframe
from osv_lab.core.errors import InvalidDataError, UsageError

TOLERANCE: Final = 0.5
"""Pixels: the most by which a side of a box may be off on a frame that is no keyframe."""
_MOST_TURN = 60.0
"""Degrees between two keyframes: CVAT turns the shorter way, so that more would be ambiguous."""


def thin(seen: Sequence[Keyframe], kind: str, last: int, tolerance: float = TOLERANCE) -> tuple[Keyframe, ...]:
    """The keyframes of a track, few enough that a person can work with them.

    Of boxes, upright or turned, and of single points they are the fewest from which every coordinate of every corner
    comes back within ``tolerance``: a shortest path through the graph whose edges are the pairs of frames between which
    the straight line is near enough (Imai and Iri, "Polygonal approximations of a curve", 1988), with the test of an
    edge by intersecting cones of Chan and Chin, "Approximation of polygonal curves with minimum number of line segments
    or minimum error", 1996, with time as the abscissa. Several points stay where they are between keyframes, so these
    are where they move by more. Every frame of an outline is a keyframe, since CVAT moves and drops its vertices
    between keyframes.

    Frames where the object comes into sight, leaves it, or changes in anything else are keyframes in any case, and the
    first frame out of sight is one that is outside.

    Args:
        seen: Where the object is, on every frame on which it is in sight, in order.
        kind: What it is, one of :data:`osv_lab.annotate.objects.KINDS`.
        last: The last frame of the job.
        tolerance: Pixels, at least 0.

    Raises:
        UsageError: a negative tolerance.
        InvalidDataError: no frames, frames out of order or beyond the last, or coordinates that are not finite.

    Example:
        >>> moving = [Keyframe(frame, (frame, 0.0, frame + 50.0, 80.0)) for frame in range(90)]
        >>> [(one.frame, one.outside) for one in thin(moving, "box", 99)]
        [(0, False), (89, False), (90, True)]
    """
    _check(seen, last, tolerance)
    frames = np.array([one.frame for one in seen])
    gaps = np.diff(frames) > 1
    changes = np.array([_state(a) != _state(b) for a, b in itertools.pairwise(seen)], dtype=bool)
    stops = {0, len(seen) - 1, *(np.flatnonzero(gaps | changes) + 1).tolist(), *np.flatnonzero(gaps).tolist()}
    if kind in ("polygon", "polyline"):
        chosen = set(range(len(seen)))
    elif kind == "keypoints" and any(len(one.points) != 2 for one in seen):
        chosen = _held(seen, stops, tolerance)
    else:
        chosen = _straight(seen, frames, stops, tolerance)
    keyframes = []
    for k in sorted(chosen):
        keyframes.append(seen[k])
        frame = seen[k].frame + 1
        if (k + 1 == len(seen) or gaps[k]) and frame <= last:
            keyframes.append(replace(seen[k], frame=frame, outside=True))
    return tuple(keyframes)


def _straight(seen: Sequence[Keyframe], frames: np.ndarray, stops: set[int], tolerance: float) -> set[int]:
    points = np.array([one.points for one in seen], dtype=np.float64)
    allowed = np.full(points.shape[1], float(tolerance))
    if any(one.rotation for one in seen):
        angles = np.unwrap([one.rotation for one in seen], period=360)
        far = max(math.hypot(x2 - x1, y2 - y1) / 2 for x1, y1, x2, y2 in points.tolist())
        # A corner is off by no more than its box is moved and its half diagonal is turned.
        allowed = np.append(allowed / 2, math.degrees(tolerance / 2 / max(far, tolerance)))
        points = np.column_stack((points, angles))
        turned = np.floor(np.abs(angles - angles[0]) / _MOST_TURN)
        stops = stops | set((np.flatnonzero(np.diff(turned)) + 1).tolist())
    chosen = set(stops)
    for first, end in itertools.pairwise(sorted(stops)):
        if frames[end] - frames[first] == end - first:
            chosen.update(_shortest(points, first, end, allowed))
    return chosen


def _held(seen: Sequence[Keyframe], stops: set[int], tolerance: float) -> set[int]:
    chosen = {0}
    held = seen[0].points
    for k, one in enumerate(seen):
        off = len(one.points) != len(held) or any(
            abs(a - b) > tolerance for a, b in zip(one.points, held, strict=True)
        )
        if off or k in stops:
            chosen.add(k)
            held = one.points
    return chosen


def _state(one: Keyframe) -> tuple[object, ...]:
    return one.occluded, one.z_order, dict(one.attributes)


def _shortest(points: np.ndarray, first: int, last: int, tolerance: np.ndarray) -> list[int]:
    """The rows of the fewest keyframes from ``first`` to ``last``, breadth first."""
    came_from = {first: first}
    front = [first]
    while last not in came_from:
        following = []
        for i in front:
            for j in _reach(points, i, last, tolerance):
                if j not in came_from:
                    came_from[j] = i
                    following.append(j)
            if last in came_from:
                break
        front = sorted(following, reverse=True)
    rows = [last]
    while rows[-1] != first:
        rows.append(came_from[rows[-1]])
    return rows


def _reach(points: np.ndarray, i: int, last: int, tolerance: np.ndarray) -> list[int]:
    """The rows to which a straight line from row ``i`` is near enough to all rows between, the farthest first."""
    stop, size = i, 16
    found: list[int] = []
    low, high = np.full(points.shape[1], -np.inf), np.full(points.shape[1], np.inf)
    while stop < last:
        rows = np.arange(stop + 1, min(stop + size, last) + 1)
        steps = (rows - i)[:, None].astype(np.float64)
        away = points[rows] - points[i]
        slope = away / steps
        lows = np.maximum.accumulate(np.vstack((low, (away - tolerance) / steps)))
        highs = np.minimum.accumulate(np.vstack((high, (away + tolerance) / steps)))
        fits = ((lows[:-1] <= slope) & (slope <= highs[:-1])).all(axis=1)
        found += rows[fits].tolist()
        low, high = lows[-1], highs[-1]
        if (low > high).any():
            break
        stop, size = int(rows[-1]), size * 2
    return found[::-1]


def _check(seen: Sequence[Keyframe], last: int, tolerance: float) -> None:
    if not tolerance >= 0:
        raise UsageError("a tolerance is negative", tolerance, "give pixels, 0 or more")
    if not seen:
        raise InvalidDataError("a track is on no frame", "no boxes")
    if any(b.frame <= a.frame for a, b in itertools.pairwise(seen)) or seen[0].frame < 0 or seen[-1].frame > last:
        raise InvalidDataError(
            "the frames of a track are out of order or range", f"{seen[0].frame} to {seen[-1].frame}"
        )
    if not all(math.isfinite(value) for one in seen for value in one.points):
        raise InvalidDataError("a track has coordinates that are not finite", "NaN or infinite")
