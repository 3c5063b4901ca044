"""Frames by number are the frames that reading from the start gives."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from video_scenes import rotated, write_video

from osv_lab.core.errors import InvalidDataError
from osv_lab.track.decode import VideoSource
from osv_lab.track.seek import FrameReader


def every_frame(path: Path) -> dict[int, np.ndarray]:
    return {frame.number: frame.image for frame in VideoSource(path).frames()}


@pytest.mark.parametrize(
    ("variable", "gop", "bidirectional"), [(False, 12, 0), (True, 12, 0), (False, 60, 3), (True, 200, 2)]
)
def test_any_frame_in_any_order(tmp_path: Path, variable: bool, gop: int, bidirectional: int) -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.integers(1, 4, 90)) / 50 if variable else None
    given = None if times is None else times.tolist()
    path = write_video(tmp_path / "v.mp4", 90, times=given, gop=gop, bidirectional=bidirectional)
    wanted = every_frame(path)
    reader = FrameReader(path)
    assert reader.frames == len(wanted) == 90
    order = list(range(1, 91))
    random.Random(2).shuffle(order)
    for number in [*order, *range(1, 91), 1, 90]:
        (found,) = reader.read([number])
        assert found is not None and np.array_equal(found, wanted[number]), number
    assert reader.read([0, 91, -5]) == [None, None, None]
    pair = reader.read([40, 2])
    assert all(np.array_equal(a, wanted[n]) for a, n in zip(pair, [40, 2], strict=True))
    grid = reader.read(range(1, 91, 8))
    assert all(np.array_equal(a, wanted[n]) for a, n in zip(grid, range(1, 91, 8), strict=True))
    assert reader.keys[0] == 1 and len(reader.keys) == -(-90 // gop)
    reader.close()


def test_frames_are_small_and_upright(tmp_path: Path) -> None:
    path = rotated(write_video(tmp_path / "v.mp4", 12), tmp_path / "turned.mp4", 1)
    wanted = every_frame(path)[5]
    (found,) = FrameReader(path).read([5])
    assert found is not None and np.array_equal(found, wanted)
    (small,) = FrameReader(path, width=40).read([5])
    height, width = wanted.shape[:2]
    assert small is not None and small.shape[:2] == (round(height * 40 / width), 40)
    (same,) = FrameReader(path, width=10_000).read([5])
    assert same is not None and same.shape == wanted.shape


def test_a_cut_file_gives_what_it_has(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", 60)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    reader = FrameReader(path)
    found = reader.read(range(1, 61))
    assert found[0] is not None and found[-1] is None
    path.write_bytes(b"no video")
    with pytest.raises(InvalidDataError, match="not a video that can be read"):
        FrameReader(path)
