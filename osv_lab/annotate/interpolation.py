"""Where a track is between its keyframes, as CVAT has it.

Boxes go straight, and turn the shorter way. A single point goes straight; several stay where they are until the next
keyframe. Outlines are matched by their length and then reduced, which moves and drops vertices. Whether an object is
occluded, its attributes and its depth hold from a keyframe to the next. From a keyframe that is outside to the next it
is out of sight, and a track whose last keyframe is not outside runs to the end.

Read off CVAT 2.54, ``cvat/apps/dataset_manager/annotation.py`` (``TrackManager.get_interpolated_shapes``), with which
its web client agrees; ``tests/unit/annotate/test_interpolation.py`` has what that computes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from osv_lab.annotate.objects import Keyframe
from osv_lab.core.errors import InvalidDataError

_Points: TypeAlias = Sequence[tuple[float, float]]


def interpolate(
    keyframes: Sequence[Keyframe], kind: str, last: int, deleted: Collection[int] = ()
) -> Iterator[Keyframe]:
    """Where a track is on every frame on which it is in sight, in order.

    Args:
        keyframes: In any order, one per frame.
        kind: What the track is of, one of :data:`osv_lab.annotate.objects.KINDS` or CVAT's word.
        last: The last frame of the job.
        deleted: Frames that were deleted in CVAT: their keyframes do not count.

    Raises:
        InvalidDataError: two keyframes on one frame.

    Example:
        >>> track = [Keyframe(0, (0.0, 0.0, 8.0, 8.0)), Keyframe(4, (4.0, 0.0, 12.0, 8.0), outside=True)]
        >>> [(one.frame, one.points[0]) for one in interpolate(track, "box", 9)]
        [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    """
    ordered = sorted((one for one in keyframes if one.frame not in deleted), key=lambda one: one.frame)
    for left, right in itertools.zip_longest(ordered, ordered[1:]):
        if right is not None and right.frame == left.frame:
            raise InvalidDataError("two keyframes on one frame", f"frame {left.frame}")
        if left.outside or left.frame > last:
            continue
        yield left
        for frame in range(left.frame + 1, min(right.frame if right is not None else last + 1, last + 1)):
            if right is None:
                yield replace(left, frame=frame)
            else:
                yield between(left, right, kind, frame)


def between(left: Keyframe, right: Keyframe, kind: str, frame: int) -> Keyframe:
    """Where a track is on a frame between two keyframes."""
    share = (frame - left.frame) / (right.frame - left.frame)
    points, rotation = left.points, left.rotation
    if kind in ("polygon", "polyline"):
        points = _outline(left.points, right.points, share, closed=kind == "polygon")
    elif kind != "keypoints" or len(left.points) == len(right.points) == 2:
        points = tuple(a + (b - a) * share for a, b in zip(left.points, right.points, strict=True))
        rotation = (left.rotation + _turn(left.rotation, right.rotation) * share + 360) % 360
    return replace(left, frame=frame, points=points, rotation=rotation)


def _turn(left: float, right: float) -> float:
    """Degrees from one angle to the other, the shorter way."""
    difference = (right - left + 180) % 360 - 180
    return 1.0 if difference <= -180 else difference


def _outline(left: Sequence[float], right: Sequence[float], share: float, *, closed: bool) -> tuple[float, ...]:
    ends = 2 if closed else 0
    here, there = _pairs([*left, *left[:ends]]), _pairs([*right, *right[:ends]])
    if not (_length(here) and _length(there)):
        return tuple(left)
    matching = _match(_shares(here), _shares(there))
    moved = [
        (x + (there[j][0] - x) * share, y + (there[j][1] - y) * share)
        for (x, y), some in zip(here, matching, strict=True)
        for j in some
    ]
    reduced = [value for point in _reduce(moved, matching, here, there) for value in point]
    return tuple(reduced[: len(reduced) - ends])


def _match(here: Sequence[float], there: Sequence[float]) -> list[list[int]]:
    """For each vertex of one outline those of the other, by their share of its length: no vertex is left out."""
    matching = [[_nearest(value, there)] for value in here]
    taken = {some[0] for some in matching}
    for j, value in enumerate(there):
        if j not in taken:
            matching[_nearest(value, here)].append(j)
    return [sorted(some) for some in matching]


def _reduce(
    moved: _Points, matching: Sequence[Sequence[int]], here: _Points, there: _Points
) -> list[tuple[float, float]]:
    """Without vertices that are too near to the one before, in stretches where one outline has more of them."""
    starts = [0]
    for some in matching:
        starts.append(starts[-1] + len(some))
    reduced: list[tuple[float, float]] = []

    def one_by_one(first: int, last: int) -> None:
        if starts[first] == starts[last]:
            reduced.append(moved[starts[first]])
        else:
            stretch = here[first : last + 1]
            reduced.extend(
                _thinned(moved[starts[first] : starts[last] + 1], _length(stretch) / (2 * len(stretch)))
            )

    opened: int | None = None
    for i, some in enumerate(matching):
        if len(some) > 1:
            if opened is not None:
                one_by_one(opened, i - 1)
                opened = None
            stretch = there[some[0] : some[-1] + 1]
            reduced.extend(_thinned(moved[starts[i] : starts[i + 1]], _length(stretch) / (2 * len(stretch))))
        elif opened is None:
            opened = i
        elif some[0] != matching[opened][0]:
            one_by_one(opened, i - 1)
            opened = i
    if opened is not None:
        one_by_one(opened, len(matching) - 1)
    return reduced


def _thinned(points: _Points, least: float) -> list[tuple[float, float]]:
    kept = [points[0]]
    for point in points[1:-1]:
        if _apart(kept[-1], point) >= least:
            kept.append(point)
    kept.append(points[-1])
    if len(kept) == 2 and _apart(*kept) < least:
        return [((kept[0][0] + kept[1][0]) / 2, (kept[0][1] + kept[1][1]) / 2)]
    return kept


def _pairs(values: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    # Not math.dist, whose last digit differs: distances are compared with a half or a quarter of themselves.
    return math.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2)


def _length(points: _Points) -> float:
    return sum(_apart(a, b) for a, b in itertools.pairwise(points))


def _shares(points: _Points) -> list[float]:
    """How much of the outline's length lies before each vertex, 0 to 1."""
    whole, passed = _length(points), 0.0
    found = [0.0]
    for a, b in itertools.pairwise(points):
        passed += _apart(a, b)
        found.append(passed / whole)
    return found


def _nearest(value: float, among: Sequence[float]) -> int:
    return min(range(len(among)), key=lambda i: abs(value - among[i]))
