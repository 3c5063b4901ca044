"""The object most users need: trackers by name on ``supervision.Detections``, appearance, refinement."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv
from track_scenes import detector_view, walk

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track import ObjectTracker, Tracks, evaluate_sequence, refine
from osv_lab.track.botsort import BotSort
from osv_lab.track.deepsort import DeepSort
from osv_lab.track.settings import DeepSortSettings

ALGORITHMS = ["bytetrack", "botsort", "deepsort"]


def detections(boxes: object, confidence: object, class_id: object = None, **data: object) -> sv.Detections:
    return sv.Detections(
        xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        confidence=np.array(confidence, dtype=np.float32),
        class_id=None if class_id is None else np.array(class_id, dtype=int),
        data={key: np.array(value) for key, value in data.items()},
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_detections_and_arrays_give_the_same_identities(algorithm: str) -> None:
    by_object, by_arrays = ObjectTracker(algorithm), ObjectTracker({"algorithm": algorithm})
    manual = type(by_arrays.tracker)()
    for boxes, confidence in detector_view(walk(10, 60, seed=2)):
        boxes = boxes.astype(np.float32)
        seen = detections(boxes, confidence)
        assert seen.confidence is not None
        tracked = by_object.update(seen)
        ids = by_arrays.update_arrays(boxes, seen.confidence)
        assert np.array_equal(ids, manual.update(boxes, seen.confidence))
        assert tracked.tracker_id is not None
        assert tracked.tracker_id.tolist() == ids[ids != -1].tolist()
        assert np.array_equal(tracked.xyxy, boxes[ids != -1])
        assert seen.tracker_id is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_source_starts_at_one_and_state_goes_on(algorithm: str) -> None:
    first, second = ObjectTracker(algorithm), ObjectTracker(algorithm)
    views = [detections(*view) for view in detector_view(walk(10, 60, seed=3))]
    before = [first.update(view).tracker_id.tolist() for view in views]
    assert min(k for ids in before for k in ids) == 1
    for view in views[:30]:
        second.update(view)
    third = ObjectTracker(algorithm)
    third.restore(second.state())
    assert [third.update(view).tracker_id.tolist() for view in views[30:]] == before[30:]
    first.reset()
    assert [first.update(view).tracker_id.tolist() for view in views] == before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_empty_frames_and_other_fields_pass_through(algorithm: str) -> None:
    tracker = ObjectTracker(algorithm, keep_untracked=True)
    nothing = tracker.update(sv.Detections.empty())
    assert nothing.tracker_id is not None and len(nothing) == 0
    masks = np.zeros((2, 20, 20), bool)
    for _ in range(3):
        seen = detections([[1, 1, 9, 9], [10, 10, 19, 19]], [0.9, 0.8], [0, 1], class_name=["a", "b"])
        seen.mask = masks
        tracked = tracker.update(seen)
    assert tracked.tracker_id.tolist() == [1, 2]
    assert tracked.mask.shape == (2, 20, 20) and tracked.data["class_name"].tolist() == ["a", "b"]
    assert len(tracker.update(sv.Detections(xyxy=np.array([[1.0, 1, 9, 9]])))) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_detector_of_low_scores_leaves_nothing_untracked_and_no_identity_out(algorithm: str) -> None:
    """Scores of 0.3 to 0.6, another one in every frame."""
    tracker = ObjectTracker(algorithm, keep_untracked=True)
    rng = np.random.default_rng(7)
    truth = walk(12, 120, seed=6)
    first = {k: int(truth.frame[truth.track_id == k].min()) for k in np.unique(truth.track_id).tolist()}
    untracked, total = 0, 0
    issued: set[int] = set()
    for number, frame in truth.frames():
        ids = tracker.update(detections(frame.xyxy, rng.uniform(0.3, 0.6, len(frame)))).tracker_id
        settled = np.array([number - first[k] >= 3 for k in frame.track_id.tolist()], dtype=bool)
        untracked += int(np.count_nonzero(ids[settled] == -1))
        total += int(np.count_nonzero(settled))
        issued |= set(ids[ids > 0].tolist())
        assert issued == set(range(1, len(issued) + 1))
    assert total > 500 and untracked == 0
    assert "0.6" in tracker.explain() and "\n" not in tracker.explain()


@pytest.mark.parametrize("algorithm", ["bytetrack", "botsort"])
def test_a_flickering_class_changes_neither_identity_nor_class(algorithm: str) -> None:
    tracker = ObjectTracker(algorithm)
    for k in range(20):
        flicker = k % 5 == 4
        seen = detections([[1, 1, 90, 90]], [0.9], [1 if flicker else 0], class_name=["van" if flicker else "car"])
        tracked = tracker.update(seen)
        assert tracked.tracker_id.tolist() == [1]
        assert tracked.class_id.tolist() == [0] and tracked.data["class_name"].tolist() == ["car"]
        assert tracked.data["detected_class_id"].tolist() == [int(flicker)]


def test_per_class_association_keeps_classes_apart() -> None:
    apart, together = ObjectTracker("botsort", per_class=True), ObjectTracker("botsort")
    for tracker, expected in ((apart, []), (together, [1])):
        for _ in range(5):
            tracker.update(detections([[1, 1, 90, 90]], [0.9], [0]))
        assert tracker.update(detections([[1, 1, 90, 90]], [0.9], [1])).tracker_id.tolist() == expected


def test_filtered_boxes_are_the_tracks() -> None:
    tracker = ObjectTracker("botsort", boxes="filtered")
    rng = np.random.default_rng(0)
    detected, filtered = [], []
    for _ in range(60):
        box = np.array([[50.0, 50, 150, 250]]) + rng.normal(0, 4, 4)
        detected.append(box[0])
        filtered.append(tracker.update(detections(box, [0.9])).xyxy[0])
    assert np.std(filtered, axis=0)[0] < 0.8 * np.std(detected, axis=0)[0]


def test_wrong_options_are_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'bytetrack'"):
        ObjectTracker("bytetracker")
    with pytest.raises(UsageError, match="did you mean 'lost_s'"):
        ObjectTracker("bytetrack", lost=3)
    with pytest.raises(UsageError, match="unknown preset"):
        ObjectTracker("bytetrack", preset="fast")
    with pytest.raises(UsageError, match="needs the image"):
        ObjectTracker("botsort", embedder=lambda image, boxes: boxes).update(detections([[0, 0, 5, 5]], [0.9]))
    with pytest.raises(UsageError, match="does not look"):
        ObjectTracker("bytetrack").update_arrays([[0, 0, 5, 5]], [0.9], embeddings=[[1.0]])
    with pytest.raises(InvalidDataError, match="embeddings do not fit"):
        ObjectTracker("botsort").update_arrays([[0, 0, 5, 5]], [0.9], embeddings=[[1.0], [2.0]])
    with pytest.raises(UsageError, match="hits"):
        DeepSortSettings(hits=0)


def twins(looks: bool, algorithm: str) -> list[list[int]]:
    """Two equal boxes walk towards each other, are hidden for ten frames and come out again.

    They turned back while they were hidden, so that to motion alone they seem to have passed each other.
    """
    tracker = ObjectTracker(algorithm)
    ids = []
    look = np.eye(8)[:2]
    for k in range(50):
        if 20 <= k < 30:
            tracker.update_arrays(np.empty((0, 4)), [], embeddings=np.empty((0, 8)) if looks else None)
            continue
        # 5 pixels from the meeting point when they vanish and when they come back, 1 pixel a frame.
        away = 5 + (19 - k if k < 20 else k - 30)
        boxes = [[200 - away, 100, 240 - away, 200], [200 + away, 100, 240 + away, 200]]
        ids.append(tracker.update_arrays(boxes, [0.9, 0.9], embeddings=look if looks else None).tolist())
    return ids


@pytest.mark.parametrize("algorithm", ["botsort", "deepsort"])
def test_a_scripted_occlusion_keeps_identity_with_appearance_and_loses_it_without(algorithm: str) -> None:
    with_looks, without = twins(True, algorithm), twins(False, algorithm)
    before = with_looks[19]
    assert sorted(before) == [1, 2] and sorted(without[19]) == [1, 2]
    assert with_looks[-1] == before
    assert without[-1] != without[19]


def test_deepsort_finds_again_by_appearance_what_no_longer_overlaps() -> None:
    """A thin object stays away for 20 frames and comes back beside where it was expected."""
    for looks, expected in ((True, 1), (False, 2)):
        tracker = DeepSort()
        for k in range(60):
            if 30 <= k < 50:
                tracker.update(np.empty((0, 4)), [], embeddings=np.empty((0, 3)) if looks else None)
                continue
            left = 100.0 + (14 if k >= 50 else 0)
            ids = tracker.update([[left, 50, left + 10, 150]], [0.9], embeddings=[[0.0, 1, 0]] if looks else None)
        assert ids.tolist() == [expected]


def test_deepsort_does_not_match_what_looks_right_in_the_wrong_place() -> None:
    tracker = DeepSort()
    for _ in range(5):
        ids = tracker.update([[100, 50, 140, 150]], [0.9], embeddings=[[0.0, 1]])
    assert ids.tolist() == [1]
    assert tracker.update([[700, 50, 740, 150]], [0.9], embeddings=[[0.0, 1]]).tolist() == [-1]


def test_botsort_survives_embeddings_that_say_nothing() -> None:
    tracker = BotSort()
    for k in range(10):
        boxes = np.array([[0.0, 0, 20, 40], [100, 0, 120, 40]]) + k
        looks = np.array([[0.0, 0], [np.nan, 1]])
        assert tracker.update(boxes, [0.9, 0.9], embeddings=looks).tolist() == [1, 2]
    assert tracker.update(boxes, [0.9, 0.9]).tolist() == [1, 2]


def test_refinement_helps_each_step_and_invents_nothing() -> None:
    truth = walk(20, 200, seed=5)
    tracker = BotSort()
    found, left = [], []
    for number, (boxes, confidence) in enumerate(detector_view(truth, miss=0.2, false=0.1), start=1):
        ids = tracker.update(boxes, confidence)
        for chosen, into in ((ids > 0, found), (ids < 0, left)):
            names = ids[chosen] if into is found else np.arange(chosen.sum()) + 1
            into.append(Tracks(np.full(chosen.sum(), number), names, boxes[chosen], confidence[chosen]))
    tracks, untracked = Tracks.concatenate(found), Tracks.concatenate(left)
    steps: list[dict[str, object]] = [
        {"backfill": False, "fill_gap_s": 0, "smooth_s": 0},
        {"fill_gap_s": 0, "smooth_s": 0},
        {"smooth_s": 0},
        {},
    ]
    hota = [evaluate_sequence(truth, refine(tracks, untracked, **step)).values()["HOTA"] for step in steps]
    assert hota == sorted(hota) and hota[-1] > hota[0] + 0.03
    plain = refine(tracks, **steps[0])
    assert len(plain) == len(tracks)
    refined = refine(tracks, untracked)
    assert set(refined.track_id.tolist()) == set(tracks.track_id.tolist())
    assert len(refine(Tracks.empty(), Tracks.empty())) == 0
    lengths = np.unique(refine(tracks, least_length=10, fill_gap_s=0).track_id, return_counts=True)[1]
    assert lengths.min() >= 10
    with pytest.raises(UsageError, match="negative"):
        refine(tracks, fill_gap_s=-1)


def test_tracks_that_follow_on_one_another_are_joined_when_they_look_alike() -> None:
    box = np.array([10.0, 10, 50, 90])
    parts = [(1, 1, 0), (2, 20, 5), (3, 40, 10), (4, 20, 2), (5, 40, 900)]
    tracks = Tracks.concatenate(
        Tracks(np.arange(first, first + 10), np.full(10, k), np.tile(box + shift, (10, 1)))
        for k, first, shift in parts
    )
    look, other = np.array([1.0, 0]), np.array([0.0, 1])
    looks = {1: look, 2: look * 3, 3: look, 4: other, 5: look}
    joined = refine(tracks, looks=looks, fill_gap_s=0, smooth_s=0)
    # 4 looks different, 5 is too far away.
    assert {k: joined.frame[joined.track_id == k].min() for k in np.unique(joined.track_id)} == {
        1: 1,
        4: 20,
        5: 40,
    }
    assert len(joined) == len(tracks) and np.count_nonzero(joined.track_id == 1) == 30
    assert set(refine(tracks, looks=looks, stitch_gap_s=0.1).track_id.tolist()) == {1, 2, 3, 4, 5}
    assert set(refine(tracks, looks={1: look}).track_id.tolist()) == {1, 2, 3, 4, 5}
