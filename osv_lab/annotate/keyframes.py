"""Tracks of boxes as keyframes, the fewest that keep a stated error; and back, as CVAT interpolates.

CVAT's rules: between two keyframes a box goes straight, and turns the shorter way; whether it is occluded holds from a
keyframe to the next; from a keyframe that is outside to the next it is out of sight; and a track whose last keyframe is
not outside runs to the end of the task.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from osv_lab.annotate.objects import Keyframe
from osv_lab.core.errors import InvalidDataError, UsageError

TOLERANCE: Final = 0.5
"""Pixels: the most by which a side of a box may be off on a frame that is no keyframe."""


@dataclass(frozen=True, eq=False, slots=True)
class Path:
    """A track of boxes, frame by frame, where it is in sight.

    Attributes:
        frames: Ascending, from 0, int64 ``(n,)``.
        points: ``x1, y1, x2, y2`` in absolute pixels, float64 ``(n, 4)``.
        occluded: bool ``(n,)``.
    """

    frames: np.ndarray
    points: np.ndarray
    occluded: np.ndarray


def thin(path: Path, length: int, tolerance: float = TOLERANCE) -> tuple[Keyframe, ...]:
    """The fewest keyframes from which every side of every box comes back within ``tolerance``.

    A shortest path through the graph whose edges are the pairs of frames between which the straight line is near
    enough: Imai and Iri, "Polygonal approximations of a curve", 1988, with the test of an edge by intersecting cones of
    Chan and Chin, "Approximation of polygonal curves with minimum number of line segments or minimum error", 1996,
    with time as the abscissa. Frames where the box comes into sight, leaves it or changes between occluded and not are
    keyframes in any case, and the first frame out of sight is one that is outside.

    Args:
        path: The track.
        length: Frames of the task.
        tolerance: Pixels, at least 0.

    Raises:
        UsageError: a negative tolerance.
        InvalidDataError: no frames, frames out of order or beyond the task, or coordinates that are not finite.

    Example:
        >>> frames = np.arange(100)
        >>> moving = np.stack([frames, frames, frames + 50, frames + 80], axis=1) * 1.0
        >>> [one.frame for one in thin(Path(frames, moving, frames < 0), 100)]
        [0, 99]
    """
    _check(path, length, tolerance)
    frames, points, occluded = path.frames, path.points, path.occluded
    gaps = np.diff(frames) > 1
    forced = np.flatnonzero(gaps | (occluded[1:] != occluded[:-1])) + 1
    ends = {0, len(frames) - 1, *forced.tolist(), *np.flatnonzero(gaps).tolist()}
    stops = sorted(ends)
    chosen = {stops[0]}
    for first, last in itertools.pairwise(stops):
        if frames[last] - frames[first] == last - first:
            chosen.update(_shortest(points, first, last, tolerance))
        chosen.add(last)
    keyframes = []
    for k in sorted(chosen):
        frame, place = int(frames[k]), tuple(points[k].tolist())
        keyframes.append(Keyframe(frame, place, occluded=bool(occluded[k])))
        last_in_sight = k + 1 == len(frames) or gaps[k]
        if last_in_sight and frame + 1 < length:
            keyframes.append(Keyframe(frame + 1, place, outside=True, occluded=bool(occluded[k])))
    return tuple(keyframes)


def interpolate(keyframes: Sequence[Keyframe], length: int) -> Path:
    """Where a track of boxes is on every frame, as CVAT has it.

    Args:
        keyframes: In any order, one per frame.
        length: Frames of the task.

    Raises:
        InvalidDataError: two keyframes on one frame, boxes that turn, or points that are no box.
    """
    ordered = sorted(keyframes, key=lambda keyframe: keyframe.frame)
    at = np.array([keyframe.frame for keyframe in ordered], dtype=np.int64)
    if len(at) and (np.diff(at) <= 0).any():
        raise InvalidDataError("two keyframes on one frame", f"frame {int(at[1:][np.diff(at) <= 0][0])}")
    if any(len(keyframe.points) != 4 or keyframe.rotation for keyframe in ordered):
        raise InvalidDataError("a track is not of upright boxes", "other points, or a rotation")
    points = np.array([keyframe.points for keyframe in ordered], dtype=np.float64).reshape(-1, 4)
    outside = np.array([keyframe.outside for keyframe in ordered], dtype=bool)
    occluded = np.array([keyframe.occluded for keyframe in ordered], dtype=bool)
    frames = np.arange(at[0] if len(at) else length, length)
    left = np.searchsorted(at, frames, side="right") - 1
    in_sight = ~outside[left]
    frames, left = frames[in_sight], left[in_sight]
    right = np.minimum(left + 1, max(len(at) - 1, 0))
    share = (frames - at[left]) / np.maximum(at[right] - at[left], 1)
    return Path(frames, points[left] + (points[right] - points[left]) * share[:, None], occluded[left])


def _shortest(points: np.ndarray, first: int, last: int, tolerance: float) -> list[int]:
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


def _reach(points: np.ndarray, i: int, last: int, tolerance: float) -> list[int]:
    """The rows to which a straight line from row ``i`` is near enough to all rows between, the farthest first."""
    stop, size = i, 16
    found: list[int] = []
    low, high = np.full(4, -np.inf), np.full(4, np.inf)
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


def _check(path: Path, length: int, tolerance: float) -> None:
    if not tolerance >= 0:
        raise UsageError("a tolerance is negative", tolerance, "give pixels, 0 or more")
    frames = path.frames
    if not len(frames):
        raise InvalidDataError("a track is on no frame", "no boxes")
    if (np.diff(frames) <= 0).any() or frames[0] < 0 or frames[-1] >= length:
        raise InvalidDataError("the frames of a track are out of order or range", f"{frames[0]} to {frames[-1]}")
    if not np.isfinite(path.points).all():
        raise InvalidDataError("a track has coordinates that are not finite", "NaN or infinite")
