"""Keyframes: within the stated error everywhere, as few as can be, and in sight on the same frames."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osv_lab.annotate.keyframes import Path, interpolate, thin
from osv_lab.annotate.objects import Keyframe
from osv_lab.core.errors import InvalidDataError, UsageError


@st.composite
def paths(draw: st.DrawFn) -> tuple[Path, int]:
    """A track in pieces, some of it straight and some of it not, in a task of some length."""
    length = draw(st.integers(1, 40))
    seen = np.array(draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    seen[draw(st.integers(0, length - 1))] = True
    frames = np.flatnonzero(seen | np.roll(seen, 1))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = random.normal(0, draw(st.sampled_from([0.0, 0.2, 3.0])), (len(frames), 4))
    points = np.outer(frames, random.normal(0, 4, 4)) + noise + [0, 0, 50, 80]
    return Path(frames, points, random.random(len(frames)) < draw(st.sampled_from([0.0, 0.1]))), length


@settings(max_examples=200, deadline=None)
@given(paths(), st.sampled_from([0.0, 0.5, 2.0]))
def test_every_frame_comes_back_within_the_tolerance(one: tuple[Path, int], tolerance: float) -> None:
    path, length = one
    back = interpolate(thin(path, length, tolerance), length)
    assert back.frames.tolist() == path.frames.tolist()
    assert back.occluded.tolist() == path.occluded.tolist()
    assert np.abs(back.points - path.points).max() <= tolerance + 1e-9


def test_no_fewer_keyframes_would_do() -> None:
    random = np.random.default_rng(3)
    frames = np.arange(11)
    for _ in range(20):
        points = np.cumsum(random.normal(0, 0.4, (11, 4)), axis=0)
        path = Path(frames, points, frames < 0)
        fewest = next(
            size
            for size in range(12)
            for inner in itertools.combinations(range(1, 10), size)
            if np.abs(_through(points, (0, *inner, 10)) - points).max() <= 0.5
        )
        assert len(thin(path, 11, 0.5)) == fewest + 2


def _through(points: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
    columns = [np.interp(np.arange(len(points)), rows, points[list(rows), k]) for k in range(points.shape[1])]
    return np.stack(columns, axis=1)


def test_two_hundred_tracks_in_linear_motion_take_few_keyframes() -> None:
    random = np.random.default_rng(7)
    keyframes = boxes = 0
    for _ in range(200):
        frames = np.arange(random.integers(0, 100), random.integers(200, 301))
        points = np.outer(frames, random.normal(0, 3, 4)) + random.uniform(0, 500, 4)
        path = Path(frames, points, frames < 0)
        found = thin(path, 300)
        assert np.abs(interpolate(found, 300).points - points).max() <= 0.5
        keyframes, boxes = keyframes + len(found), boxes + len(frames)
    assert keyframes < 0.1 * boxes


def test_a_track_that_ends_is_closed_and_one_at_the_end_runs_on() -> None:
    box = (0.0, 0.0, 5.0, 5.0)
    assert interpolate([Keyframe(2, box)], 6).frames.tolist() == [2, 3, 4, 5]
    two = np.arange(2)
    found = thin(Path(two, np.array([box, box]), two < 0), 6)
    assert [(one.frame, one.outside) for one in found] == [(0, False), (1, False), (2, True)]


def test_toward_a_keyframe_that_is_outside_a_box_still_moves() -> None:
    keyframes = [Keyframe(0, (0.0, 0.0, 4.0, 4.0)), Keyframe(4, (4.0, 0.0, 8.0, 4.0), outside=True)]
    assert interpolate(keyframes, 9).points[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_what_is_no_track_is_refused() -> None:
    one = np.arange(1)
    box = np.array([[0.0, 0.0, 5.0, 5.0]])
    with pytest.raises(UsageError, match="negative"):
        thin(Path(one, box, one < 0), 5, -1)
    with pytest.raises(InvalidDataError, match="range"):
        thin(Path(one + 5, box, one < 0), 5)
    with pytest.raises(InvalidDataError, match="finite"):
        thin(Path(one, box * np.nan, one < 0), 5)
    with pytest.raises(InvalidDataError, match="two keyframes"):
        interpolate([Keyframe(0, (0.0,) * 4), Keyframe(0, (0.0,) * 4)], 5)
