"""Keyframes: within the stated error everywhere, as few as can be, and in sight on the same frames."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osv_lab.annotate.interpolation import interpolate
from osv_lab.annotate.keyframes import thin
from osv_lab.annotate.objects import Keyframe
from osv_lab.core.errors import InvalidDataError, UsageError


@st.composite
def tracks(draw: st.DrawFn, kind: str = "box") -> tuple[list[Keyframe], int]:
    """A track in pieces, some of it straight and some of it not, and the last frame of its job."""
    length = draw(st.integers(1, 40))
    seen = np.array(draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    seen[draw(st.integers(0, length - 1))] = True
    frames = np.flatnonzero(seen | np.roll(seen, 1)).tolist()
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = {"keypoints": 2, "points": 6}.get(kind, 4)
    noise = random.normal(0, draw(st.sampled_from([0.0, 0.2, 3.0])), (len(frames), size))
    points = np.outer(frames, random.normal(0, 4, size)) + noise + [0, 0, 50, 80, 90, 30][:size]
    turns = np.cumsum(random.normal(0, 9, len(frames))) % 360 if kind == "oriented" else np.zeros(len(frames))
    hidden = random.random(len(frames)) < draw(st.sampled_from([0.0, 0.1]))
    found = [
        Keyframe(frame, tuple(points[k].tolist()), float(turns[k]), occluded=bool(hidden[k]))
        for k, frame in enumerate(frames)
    ]
    return found, length - 1


def corners(one: Keyframe) -> list[float]:
    x1, y1, x2, y2 = one.points
    cx, cy, angle = (x1 + x2) / 2, (y1 + y2) / 2, math.radians(one.rotation)
    found = []
    for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        found.append(cx + (x - cx) * math.cos(angle) - (y - cy) * math.sin(angle))
        found.append(cy + (x - cx) * math.sin(angle) + (y - cy) * math.cos(angle))
    return found


@settings(max_examples=120, deadline=None)
@pytest.mark.parametrize("kind", ["box", "keypoints", "points", "oriented"])
@given(data=st.data(), tolerance=st.sampled_from([0.0, 0.5, 2.0]))
def test_every_frame_comes_back_within_the_tolerance(kind: str, data: st.DataObject, tolerance: float) -> None:
    track, last = data.draw(tracks(kind))
    kind = "keypoints" if kind == "points" else kind
    back = list(interpolate(thin(track, kind, last, tolerance), kind, last))
    assert [(one.frame, one.occluded) for one in back] == [(one.frame, one.occluded) for one in track]
    places = corners if kind == "oriented" else lambda one: one.points
    worst = max(np.abs(np.subtract(places(a), places(b))).max() for a, b in zip(back, track, strict=True))
    assert worst <= tolerance + 1e-9


def test_no_fewer_keyframes_would_do() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        points = np.cumsum(random.normal(0, 0.4, (11, 4)), axis=0)
        track = [Keyframe(frame, tuple(points[frame].tolist())) for frame in range(11)]
        fewest = next(
            size
            for size in range(12)
            for inner in itertools.combinations(range(1, 10), size)
            if np.abs(_through(points, (0, *inner, 10)) - points).max() <= 0.5
        )
        assert len(thin(track, "box", 10, 0.5)) == fewest + 2


def _through(points: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
    columns = [np.interp(np.arange(len(points)), rows, points[list(rows), k]) for k in range(points.shape[1])]
    return np.stack(columns, axis=1)


def test_an_outline_is_exact_on_every_frame() -> None:
    random = np.random.default_rng(1)
    track = [Keyframe(k, tuple(random.uniform(0, 90, 2 * int(random.integers(3, 7))).tolist())) for k in range(9)]
    assert list(interpolate(thin(track, "polygon", 8), "polygon", 8)) == track


def test_what_changes_along_a_track_changes_at_a_keyframe() -> None:
    track = [
        Keyframe(k, (0.0, 0.0, 5.0, 5.0), attributes={"open": k in (3, 4, 5)}, z_order=int(k > 6))
        for k in range(9)
    ]
    found = thin(track, "box", 8)
    assert [one.frame for one in found] == [0, 3, 6, 7, 8]
    assert list(interpolate(found, "box", 8)) == track


def test_a_track_that_ends_is_closed() -> None:
    box = (0.0, 0.0, 5.0, 5.0)
    found = thin([Keyframe(0, box), Keyframe(1, box)], "box", 5)
    assert [(one.frame, one.outside) for one in found] == [(0, False), (1, False), (2, True)]
    assert not any(one.outside for one in thin([Keyframe(4, box), Keyframe(5, box)], "box", 5))


def test_what_is_no_track_is_refused() -> None:
    box = (0.0, 0.0, 5.0, 5.0)
    with pytest.raises(UsageError, match="negative"):
        thin([Keyframe(0, box)], "box", 5, -1)
    with pytest.raises(InvalidDataError, match="range"):
        thin([Keyframe(6, box)], "box", 5)
    with pytest.raises(InvalidDataError, match="finite"):
        thin([Keyframe(0, (math.nan, *box[1:]))], "box", 5)
    with pytest.raises(InvalidDataError, match="no frame"):
        thin([], "box", 5)
