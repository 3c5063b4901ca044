"""ByteTrack and BoT-SORT: what must hold on any input."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from track_scenes import detector_view, walk

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track.botsort import BotSort
from osv_lab.track.bytetrack import ByteTrack
from osv_lab.track.settings import BotSortSettings, ByteTrackSettings

TRACKERS = [ByteTrack, BotSort]


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_detector_with_low_scores_leaves_nothing_untracked(kind: type[ByteTrack]) -> None:
    truth = walk(12, 120, seed=6)
    tracker = kind()
    untracked, total = 0, 0
    constant = np.random.default_rng(1).uniform(0.3, 0.6, 13)
    for number, frame in truth.frames():
        ids = tracker.update(frame.xyxy, constant[frame.track_id])
        settled = np.array(
            [number - truth.frame[truth.track_id == k].min() >= 2 for k in frame.track_id], dtype=bool
        )
        untracked += int(np.count_nonzero(ids[settled] == -1))
        total += int(np.count_nonzero(settled))
    assert total > 500 and untracked == 0
    assert "best scores are about 0.5" in tracker.explain() or "best scores are about 0.6" in tracker.explain()
    assert "as set" in ByteTrack(ByteTrackSettings.published()).explain()


def test_boxes_alone_tell_how_the_camera_moved() -> None:
    """A camera that shakes by up to most of a box's width between two frames."""
    columns, rows = np.meshgrid(np.arange(5) * 200.0 + 50, np.arange(2) * 200.0 + 50)
    place = np.column_stack((columns.ravel(), rows.ravel()))
    place = np.vstack((place, place + np.array([[40.0, 0.0]])))
    changes = {}
    for follow_camera in (True, False):
        noise = np.random.default_rng(1)
        tracker = BotSort(BotSortSettings(follow_camera=follow_camera))
        ids = []
        for k in range(80):
            shake = 0.0 if k < 10 else noise.uniform(-11.5, 11.5)
            corner = place + np.array([[shake, 0.0]]) + noise.normal(0, 0.3, place.shape)
            boxes = np.hstack((corner, corner + np.array([[30.0, 80.0]])))
            ids.append(tracker.update(boxes, np.full(len(boxes), 0.9)))
        changes[follow_camera] = int(np.count_nonzero(np.diff(ids, axis=0)))
    assert changes[True] == 0 < changes[False]


def boxes_of(seed: int, frames: int = 60) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    return detector_view(walk(8, frames, seed=seed), seed=seed + 1)


@pytest.mark.parametrize("kind", TRACKERS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_identities_are_unique_in_a_frame_and_none_is_skipped(kind: type[ByteTrack], seed: int) -> None:
    tracker = kind()
    issued: set[int] = set()
    for boxes, confidence in boxes_of(seed):
        ids = tracker.update(boxes, confidence)
        used = ids[ids != -1]
        assert len(np.unique(used)) == len(used)
        assert (used > 0).all()
        issued |= set(used.tolist())
        assert issued == set(range(1, len(issued) + 1))


@pytest.mark.parametrize("kind", TRACKERS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_the_order_of_detections_does_not_matter(kind: type[ByteTrack], seed: int) -> None:
    first, second = kind(), kind()
    rng = np.random.default_rng(seed)
    for boxes, confidence in boxes_of(seed):
        confidence = confidence.round(2)
        order = rng.permutation(len(boxes))
        assert np.array_equal(
            first.update(boxes, confidence)[order], second.update(boxes[order], confidence[order])
        )


@pytest.mark.parametrize("kind", TRACKERS)
def test_reset_and_restore_repeat_exactly(kind: type[ByteTrack]) -> None:
    frames = boxes_of(5)
    tracker = kind()
    once = [tracker.update(*frame, class_id=np.zeros(len(frame[1]), int)).tolist() for frame in frames]
    tracker.reset()
    again = [tracker.update(*frame, class_id=np.zeros(len(frame[1]), int)).tolist() for frame in frames[:30]]
    assert again == once[:30]
    other = kind()
    other.restore(tracker.state())
    assert [other.update(*frame).tolist() for frame in frames[30:]] == once[30:]
    with pytest.raises(InvalidDataError, match="not a state of this tracker"):
        other.restore({**tracker.state(), "algorithm": "sort"})
    with pytest.raises(InvalidDataError, match="damaged"):
        other.restore({**tracker.state(), "tracks": [1, 2, 3]})


def test_many_objects_are_tracked_as_few_are() -> None:
    """Above a number of pairs overlaps are found by a sweep; the result does not change."""
    from osv_lab.track import association

    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 1500, (180, 2))
    speed = rng.normal(0, 2, (180, 2))
    results = []
    for limit in (10**9, 0):
        before, association.SPARSE_PAYS = association.SPARSE_PAYS, limit
        try:
            tracker = ByteTrack()
            noise = np.random.default_rng(4)
            results.append(
                [
                    tracker.update(
                        np.hstack((corner + k * speed, corner + k * speed + 40)) + noise.normal(0, 1, (180, 4)),
                        noise.uniform(0.2, 1, 180),
                    ).tolist()
                    for k in range(20)
                ]
            )
        finally:
            association.SPARSE_PAYS = before
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", TRACKERS)
def test_empty_frames_and_improper_boxes_are_survived(kind: type[ByteTrack]) -> None:
    tracker = kind()
    none = np.empty((0, 4)), np.empty(0)
    assert tracker.update(*none).tolist() == []
    tracker.reset()
    box, bad = [10.0, 10, 50, 90], [[np.nan, 0, 5, 5], [5, 5, 5, 9], [9, 9, 2, 2], [0, 0, np.inf, 5]]
    assert tracker.update([box, *bad], [0.9] * 5).tolist() == [1, -1, -1, -1, -1]
    for _ in range(3):
        assert tracker.update([], []).tolist() == []
    assert tracker.update([[np.nan] * 4, box], [0.9, 0.9]).tolist() == [-1, 1]
    assert tracker.update([box, box], [np.nan, 0.9]).tolist() == [-1, 1]
    assert np.isfinite(tracker.tracks).all()


def test_ten_thousand_detections_are_tracked() -> None:
    grid = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2) * 20.0
    boxes = np.hstack((grid, grid + 15))
    tracker = ByteTrack()
    first = tracker.update(boxes, np.full(10_000, 0.9))
    assert sorted(first.tolist()) == list(range(1, 10_001))
    assert np.array_equal(tracker.update(boxes + 1, np.full(10_000, 0.9)), first)


def test_wrong_input_is_an_error_and_changes_nothing() -> None:
    tracker = ByteTrack()
    tracker.update([[0, 0, 10, 10]], [0.9], timestamp=1.0)
    before = tracker.state()
    with pytest.raises(InvalidDataError, match="do not fit together"):
        tracker.update([[0, 0, 10, 10]], [0.9, 0.8], timestamp=1.1)
    with pytest.raises(InvalidDataError, match="confidence above 1"):
        tracker.update([[0, 0, 10, 10]], [90.0], timestamp=1.1)
    with pytest.raises(InvalidDataError, match="class ids"):
        tracker.update([[0, 0, 10, 10]], [0.9], [1, 2], timestamp=1.1)
    with pytest.raises(InvalidDataError, match="frames out of order"):
        tracker.update([[0, 0, 10, 10]], [0.9], timestamp=0.9)
    with pytest.raises(UsageError, match="without a timestamp"):
        tracker.update([[0, 0, 10, 10]], [0.9])
    with pytest.raises(InvalidDataError, match="warp"):
        tracker.update([[0, 0, 10, 10]], [0.9], timestamp=1.1, warp=np.zeros((2, 3)))
    after = tracker.state()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert tracker.update([[0, 0, 10, 10]], [0.9], timestamp=1.1).tolist() == [1]
    with pytest.raises(UsageError, match="high is not between"):
        ByteTrackSettings(high=60)
    with pytest.raises(UsageError, match="low is above high"):
        ByteTrackSettings(high=0.6, low=0.7)
    with pytest.raises(UsageError, match="frame rate"):
        ByteTrack(frame_rate=0)


def test_a_stream_that_stalls_forgets_what_may_have_left() -> None:
    tracker = ByteTrack(frame_rate=10)
    box = [[10.0, 10, 50, 90]]
    assert [tracker.update(box, [0.9], timestamp=k / 10).tolist() for k in range(3)] == [[1], [1], [1]]
    assert tracker.update(box, [0.9], timestamp=0.9).tolist() == [1]
    assert tracker.update(box, [0.9], timestamp=60.0).tolist() == [-1]
    assert tracker.update(box, [0.9], timestamp=60.1).tolist() == [2]
    assert tracker.tracks.shape[1] == 1


def test_timestamps_give_what_frames_give_and_bridge_dropped_ones() -> None:
    step, start = np.array([6.0, 0, 6, 0]), np.array([0.0, 0, 30, 80])
    plain, timed = ByteTrack(frame_rate=25), ByteTrack(frame_rate=25)
    for k in range(20):
        box = [start + k * step]
        assert plain.update(box, [0.9]).tolist() == timed.update(box, [0.9], timestamp=k / 25).tolist() == [1]
    # Five frames are dropped: with timestamps the filter moves on as far as the object did, which leaves no overlap
    # with where it was.
    assert timed.update([start + 26 * step], [0.9], timestamp=26 / 25).tolist() == [1]
    assert plain.update([start + 26 * step], [0.9]).tolist() == [-1]


def test_the_class_of_a_track_is_voted() -> None:
    tracker = ByteTrack()
    for k in range(20):
        flicker = 7 if k % 4 == 0 else 2
        ids = tracker.update([[10, 10, 50, 90], [200, 10, 240, 90]], [0.9, 0.8], [flicker, 5])
        assert ids.tolist() == [1, 2]
    assert tracker.classes() == {1: 2, 2: 5}


def test_heights_tell_people_apart_whose_widths_are_hidden() -> None:
    """A short and a tall object side by side exchange their horizontal places in one step: heights decide."""
    boxes = np.array([[100.0, 100, 140, 200], [108.0, 120, 148, 200]])
    moved = np.array([[108.0, 100, 148, 200], [100.0, 120, 140, 200]])
    for power, expected in ((2.0, [1, 2]), (0.0, [2, 1])):
        tracker = BotSort(BotSortSettings(height_power=power))
        assert [tracker.update(boxes, [0.9, 0.9]).tolist() for _ in range(3)][-1] == [1, 2]
        assert tracker.update(moved, [0.9, 0.9]).tolist() == expected
    dense, sparse = overlaps_of(boxes, moved)
    assert np.array_equal(dense, sparse) and dense[0, 0] > dense[0, 1] > 0


def overlaps_of(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """The weighed overlaps in both forms."""
    from osv_lab.track.association import DenseOverlaps, SparseOverlaps

    dense = DenseOverlaps(first.T, second.T, height_power=2.0)
    sparse = SparseOverlaps(first.T, second.T, height_power=2.0)
    full = np.zeros(dense.iou.shape)
    full[sparse.rows, sparse.columns] = sparse.iou
    return [dense.iou, full]


def test_a_weak_box_moves_a_track_less() -> None:
    places = {}
    for weak_noise in (1.0, 4.0):
        tracker = BotSort(BotSortSettings(weak_noise=weak_noise))
        for _ in range(10):
            tracker.update([[100, 100, 140, 200]], [0.9])
        tracker.update([[100, 100, 140, 188]], [0.3])
        places[weak_noise] = tracker.current()[1][0, 3]
    assert 200 > places[4.0] > places[1.0] + 1
