"""Cars in a real video, counted over a line by hand and by trackers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support import ROOT, shared_data

from osv_lab.detect import load_detector
from osv_lab.detect.detector import Detector
from osv_lab.track import Line, track_video

DATA = shared_data()


class Recorded:
    """A detector that answers a second pass from memory."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.answers: dict[bytes, list[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.detector, name)

    def predict(self, images: Sequence[np.ndarray], **options: Any) -> list[Any]:
        key = b"".join(hashlib.sha256(picture).digest() for picture in images)
        if key not in self.answers:
            self.answers[key] = self.detector.predict(images, **options)
        return [found[np.arange(len(found))] for found in self.answers[key]]


@pytest.fixture(scope="module")
def detector() -> Recorded:
    assert DATA is not None
    return Recorded(load_detector(DATA / "models" / "yolox_nano_coco.onnx"))


@pytest.mark.skipif(DATA is None, reason="needs the video and its detector, which no clone has")
@pytest.mark.parametrize("tracker", ["botsort", "bytetrack"])
def test_cars_over_a_line_are_as_many_as_by_hand(tracker: str, detector: Recorded) -> None:
    assert DATA is not None
    hand = json.loads((ROOT / "tests" / "data" / "car_detection_hand_count.json").read_text())
    line = Line("line", *map(tuple, hand["line"]), anchor=hand["anchor"])
    # YOLOX-nano has learnt cars from the side: from above it calls them phones, suitcases and buses, the same car
    # several things at a time, and is half sure of each. So every class counts, one box per object, from half on.
    result = track_video(
        DATA / "videos" / "car-detection.mp4",
        detector,
        tracker={"algorithm": tracker, "high": 0.5, "new": 0.5},
        agnostic=True,
        areas=[line],
    )
    counts = result.counts()["line"]
    assert (counts["in"], counts["out"]) == (hand["in"], hand["out"])
    assert len(result.identities) == len(hand["cars"])
    crossed = sorted((event.frame, event.what) for event in result.zone_events)
    expected = sorted((car["crosses_at"], car["direction"]) for car in hand["cars"])
    assert [what for _, what in crossed] == [what for _, what in expected]
    assert max(abs(a - b) for (a, _), (b, _) in zip(crossed, expected, strict=True)) <= 2
    for row, car in zip(result.rows(), hand["cars"], strict=True):
        assert car["first_frame"] <= row["first"] < car["crosses_at"] < row["last"] <= car["last_frame"]
