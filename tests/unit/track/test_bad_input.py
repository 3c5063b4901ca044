"""Whatever a detector, a clock or an embedder may hand over: a clear error that changes nothing, or a clean result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, OsvError
from osv_lab.track import ObjectTracker
from osv_lab.track.appearance import Gallery
from osv_lab.track.botsort import BotSort
from osv_lab.track.compiled import available
from osv_lab.track.deepsort import DeepSort

ALGORITHMS = ["bytetrack", "botsort", "deepsort"]
BOX = [10.0, 10.0, 50.0, 90.0]
LOOK = [1.0, 0.0]
FAR = 1e12

# What comes with an update, and what is said about it.
ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "more confidences than boxes": ({"confidence": [0.9, 0.8]}, "do not fit"),
    "no confidences": ({"confidence": []}, "do not fit"),
    "boxes of three numbers": ({"xyxy": [[1.0, 2, 3]]}, "do not fit together"),
    "boxes without rows": ({"xyxy": BOX}, "do not fit together"),
    "a batch of boxes": ({"xyxy": [[BOX]]}, "do not fit together"),
    "confidences as a column": ({"confidence": [[0.9]]}, "do not fit together"),
    "a confidence in per cent": ({"confidence": [90.0]}, "confidence above 1"),
    "an infinite confidence": ({"confidence": [np.inf]}, "confidence above 1"),
    "more classes than boxes": ({"class_id": [1, 2]}, "class ids"),
    "the same timestamp": ({"timestamp": 0.3}, "frames out of order"),
    "an earlier timestamp": ({"timestamp": 0.1}, "frames out of order"),
    "a timestamp that is no number": ({"timestamp": np.nan}, "timestamp that is no number"),
    "an infinite timestamp": ({"timestamp": np.inf}, "timestamp that is no number"),
    "no timestamp any more": ({"timestamp": None}, "without a timestamp"),
    "a warp of another shape": ({"warp": np.eye(2)}, "warp of the wrong shape"),
    "a warp with NaN": ({"warp": [[1, 0, np.nan], [0, 1, 0]]}, "no camera motion"),
    "an infinite warp": ({"warp": [[1, 0, 0], [0, 1, np.inf]]}, "no camera motion"),
    "a warp onto a line": ({"warp": [[1, 0, 0], [1, 0, 0]]}, "no camera motion"),
    "embeddings of other boxes": ({"embeddings": [LOOK, LOOK]}, "embeddings"),
    "one embedding for all": ({"embeddings": LOOK}, "embeddings"),
    "embeddings of another length": ({"embeddings": [[1.0, 0, 0]]}, "embeddings"),
}

NONE = -1
# What comes with an update, and the identities of the detections.
RESULTS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "nothing": ({"xyxy": [], "confidence": []}, []),
    "nothing, in shape": ({"xyxy": np.empty((0, 4)), "confidence": np.empty(0), "class_id": np.empty(0)}, []),
    "NaN boxes": ({"xyxy": [[np.nan] * 4, BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "half a NaN": ({"xyxy": [[np.nan, 10, 50, 90], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "infinite boxes": ({"xyxy": [[-np.inf, 0, np.inf, 9], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "boxes at infinity": ({"xyxy": [[np.inf] * 4, BOX, [-np.inf] * 4], "confidence": [0.9] * 3}, [NONE, 1, NONE]),
    "no width": ({"xyxy": [[10, 10, 10, 90], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "no height": ({"xyxy": [[10, 90, 50, 90], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "corners exchanged": ({"xyxy": [[50, 90, 10, 10], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "huge boxes": ({"xyxy": [[-1e200, -1e200, 1e200, 1e200], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "huge coordinates": ({"xyxy": [[FAR, FAR, FAR + 9, FAR + 9], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "one huge coordinate": ({"xyxy": [[0, 0, 9, FAR], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "tiny boxes": ({"xyxy": [[5, 5, 5 + 1e-12, 5 + 1e-12], BOX], "confidence": [0.9, 0.9]}, [NONE, 1]),
    "no confidence at all": ({"xyxy": [BOX, BOX], "confidence": [np.nan, 0.9]}, [NONE, 1]),
    "negative confidence": ({"xyxy": [BOX, BOX], "confidence": [-0.5, 0.9]}, [NONE, 1]),
    "the same box thrice": ({"xyxy": [BOX] * 3, "confidence": [0.9, 0.8, 0.7]}, [1, NONE, NONE]),
    "embeddings of zeros and NaN": (
        {"xyxy": [BOX, BOX], "confidence": [0.9, 0.2], "embeddings": [[0, 0], [np.nan, 1]]}, [1, NONE],
    ),
    "no embeddings this time": ({"embeddings": None}, [1]),
    "a hundred frames dropped": ({"xyxy": [], "confidence": [], "timestamp": 60.0}, []),
}  # fmt: skip


def settled(algorithm: str) -> tuple[ObjectTracker, dict[str, Any]]:
    """A tracker that follows one object, and its next update."""
    tracker = ObjectTracker(algorithm, frame_rate=10)
    usual: dict[str, Any] = {"xyxy": [BOX], "confidence": [0.9]}
    if algorithm != "bytetrack":
        usual["embeddings"] = [LOOK]
    for k in range(4):
        tracker.update_arrays(**usual, timestamp=k / 10)
    return tracker, {**usual, "timestamp": 0.4}


def same(first: Any, second: Any) -> bool:
    return bool(np.array_equal(first, second, equal_nan=isinstance(first, np.ndarray) and first.dtype.kind == "f"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", list(ERRORS))
def test_what_cannot_be_is_a_clear_error_and_changes_nothing(algorithm: str, case: str) -> None:
    tracker, usual = settled(algorithm)
    change, said = ERRORS[case]
    if algorithm == "bytetrack" and "embeddings" in change:
        said = "does not look"
    before = tracker.state()
    with pytest.raises(OsvError, match=said):
        tracker.update_arrays(**{**usual, **change})
    after = tracker.state()
    assert before.keys() == after.keys() and all(same(before[key], after[key]) for key in before)
    assert tracker.update_arrays(**usual).tolist() == [1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", list(RESULTS))
def test_what_may_be_gives_a_clean_result(algorithm: str, case: str) -> None:
    tracker, usual = settled(algorithm)
    change, expected = RESULTS[case]
    update = {**usual, **change}
    if algorithm == "bytetrack":
        update.pop("embeddings", None)
    elif "embeddings" not in change:
        update["embeddings"] = np.tile(LOOK, (len(update["confidence"]), 1)).reshape(-1, 2)
    assert tracker.update_arrays(**update).tolist() == expected
    assert np.isfinite(tracker.tracker.tracks).all()
    if update["timestamp"] < 1:
        following = {**usual, "timestamp": update["timestamp"] + 0.1}
        assert tracker.update_arrays(**following).tolist() == [1]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.skipif(not available(), reason="needs Numba"))]
)
def test_boxes_that_cannot_be_are_left_out_without_a_warning(algorithm: str, compiled: bool) -> None:
    boxes = [[np.inf] * 4, [-np.inf, 0, np.inf, 9], [FAR, FAR, FAR + 9, FAR + 9], [np.nan] * 4, BOX]
    tracker = ObjectTracker(algorithm, compiled=compiled)
    confirmed = 3 if algorithm == "deepsort" else 1
    found = [tracker.update_arrays(boxes, [0.9] * 5).tolist() for _ in range(confirmed)]
    assert found[-1] == [NONE] * 4 + [1]
    assert tracker.tracker.tracks.shape[1] == 1, "no track begins on them, not even a tentative one"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ten_thousand_detections_in_a_frame(algorithm: str) -> None:
    grid = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2) * 20.0
    boxes = np.hstack((grid, grid + 15))
    tracker = ObjectTracker(algorithm)
    confirmed = 3 if algorithm == "deepsort" else 1
    for k in range(confirmed + 1):
        ids = tracker.update_arrays(boxes + k, np.full(10_000, 0.9))
    assert sorted(ids.tolist()) == list(range(1, 10_001))


@pytest.mark.parametrize("algorithm", ["botsort", "deepsort"])
def test_embeddings_may_come_and_go(algorithm: str) -> None:
    """Frames without them, while tracks begin and end."""
    tracker = ObjectTracker(algorithm, frame_rate=10, lost_s=0.2)
    for k in range(40):
        boxes = [BOX] if 10 <= k < 20 else [BOX, [200.0, 10, 240, 90], [300.0 + k, 10, 340 + k, 90]]
        looks = np.eye(4)[: len(boxes)] if (k // 5) % 2 else None
        ids = tracker.update_arrays(boxes, [0.9] * len(boxes), embeddings=looks)
    assert ids.tolist() == [1, 4, 5]


def test_an_error_is_one_line_that_says_what_to_do() -> None:
    tracker, usual = settled("botsort")
    with pytest.raises(InvalidDataError) as caught:
        tracker.update_arrays(**{**usual, "timestamp": 0.1})
    assert "0.1 s after 0.3 s" in str(caught.value) and "reset()" in str(caught.value)


@pytest.mark.parametrize("kind", [DeepSort, BotSort])
def test_a_track_that_starts_in_a_frame_without_embeddings_is_given_one_later(kind: type[Any]) -> None:
    tracker = kind()
    boxes, looks = np.array([BOX, [200.0, 10, 240, 90]]), np.eye(2)
    tracker.update(boxes[:1], [0.9], embeddings=looks[:1])
    tracker.update(boxes, [0.9, 0.9])
    for _ in range(3):
        ids = tracker.update(boxes, [0.9, 0.9], embeddings=looks)
    assert ids.tolist() == [1, 2]
    assert tracker.gallery.count.tolist() == [4, 4]


def test_a_gallery_takes_no_more_room_than_the_tracks_that_lived_at_one_time() -> None:
    rng = np.random.default_rng(0)
    gallery, known = Gallery(3), np.empty((0, 8), np.float32)
    for _ in range(200):
        new = rng.normal(size=(rng.integers(0, 6), 8)).astype(np.float32)
        gallery.begin(len(known), new)
        known = np.concatenate((known, new))
        keep = rng.random(len(known)) < 0.7
        gallery.keep(keep)
        known = known[keep]
        again = Gallery(3)
        again.restore(gallery.state())
        for one in (gallery, again):
            assert np.array_equal(one.latest(np.arange(len(known))), known)
    assert gallery.vectors is not None and len(gallery.vectors) <= 64
