"""Between keyframes everything is where CVAT 2.54 has it: tracks and what its own code made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from osv_lab.annotate.interpolation import interpolate
from osv_lab.annotate.objects import Keyframe
from osv_lab.core.errors import InvalidDataError

RECORDED = json.loads(Path(__file__).with_name("cvat_interpolation.json").read_text())


@pytest.mark.parametrize("track", RECORDED, ids=lambda track: track["kind"])
def test_frames_are_where_cvat_has_them(track: dict[str, Any]) -> None:
    keyframes = [
        Keyframe(frame, tuple(points), rotation, outside, occluded)
        for frame, points, rotation, outside, occluded in track["keyframes"]
    ]
    found = list(interpolate(keyframes[::-1], track["kind"], track["last"], track["deleted"]))
    found = [one for one in found if one.frame not in track["deleted"]]
    assert [(one.frame, one.occluded) for one in found] == [
        (frame, occluded) for frame, _, _, occluded in track["expected"]
    ]
    for one, (_, points, rotation, _) in zip(found, track["expected"], strict=True):
        assert one.points == pytest.approx(points, abs=1e-9)
        assert one.rotation == pytest.approx(rotation, abs=1e-9)


def test_a_track_that_is_not_closed_runs_to_the_end_of_its_job() -> None:
    box = (0.0, 0.0, 5.0, 5.0)
    assert [one.frame for one in interpolate([Keyframe(2, box)], "box", 5)] == [2, 3, 4, 5]


def test_two_keyframes_on_one_frame_are_refused() -> None:
    with pytest.raises(InvalidDataError, match="two keyframes"):
        list(interpolate([Keyframe(0, (0.0,) * 4), Keyframe(0, (0.0,) * 4)], "box", 5))
