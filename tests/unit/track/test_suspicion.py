"""Events without truth: what was planted is found where it is, and clean tracks raise nothing."""

from __future__ import annotations

import numpy as np
import pytest
from track_scenes import mot17, walk

from osv_lab.track.boxes import iou_matrix
from osv_lab.track.suspicion import suspicious_events
from osv_lab.track.swaps import find_swaps
from osv_lab.track.tracks import Tracks


def line(identity: int, frames: range, x: float, speed: float, y: float = 100, class_id: int = 0) -> Tracks:
    number = np.array(frames)
    left = x + speed * (number - number[0])
    top = np.full(len(number), y)
    boxes = np.column_stack((left, top, left + 40, top + 100))
    return Tracks(number, np.full(len(number), identity), boxes, class_id=np.full(len(number), class_id))


def kinds(tracks: Tracks) -> list[tuple[str, tuple[int, ...]]]:
    return [(event.kind, event.track_ids) for event in suspicious_events(tracks)]


def test_clean_tracks_raise_nothing() -> None:
    assert suspicious_events(Tracks.empty()) == []
    far_apart = Tracks.concatenate(line(k, range(1, 60), 100 * k, 1.5, 200 * k) for k in range(1, 6))
    assert suspicious_events(far_apart) == []
    crossing = Tracks.concatenate((line(1, range(1, 80), 0, 4), line(2, range(1, 80), 316, -4)))
    assert not [kind for kind, _ in kinds(crossing) if kind in ("swap", "teleport", "flicker")]
    for event in suspicious_events(walk(20, 150)):
        assert 0 <= event.score <= 1 and event.first_frame <= event.last_frame and event.reason


def test_a_teleport_is_found_where_it_is() -> None:
    tracks = Tracks.concatenate((line(1, range(1, 30), 0, 2), line(1, range(30, 60), 700, 2)))
    (event,) = suspicious_events(tracks)
    assert (event.kind, event.first_frame, event.last_frame) == ("teleport", 29, 30)
    assert event.score > 0.8


def test_identities_that_change_places_in_an_overlap_are_found() -> None:
    left, right = line(1, range(1, 80), 0, 4), line(2, range(1, 80), 316, -4)
    both = Tracks.concatenate((left, right))
    identity = np.where(both.frame >= 40, 3 - both.track_id, both.track_id)
    swapped = Tracks(both.frame, identity, both.xyxy)
    events = [event for event in suspicious_events(swapped) if event.kind == "swap"]
    assert len(events) == 1 and events[0].track_ids == (1, 2)
    assert events[0].first_frame <= 40 <= events[0].last_frame


def test_merges_flickers_flips_and_short_tracks_are_found() -> None:
    base = line(9, range(1, 101), 0, 1, 600)
    merge = Tracks.concatenate((line(1, range(1, 50), 0, 2), line(2, range(20, 50), 40, 2)))
    assert ("merge", (1, 2)) in kinds(Tracks.concatenate((base, merge)))
    flicker = line(3, range(1, 60), 0, 2)
    flicker = flicker[flicker.frame % 4 != 0]
    assert kinds(Tracks.concatenate((base, flicker))) == [("flicker", (3,))]
    flips = Tracks.concatenate((line(4, range(1, 30), 0, 2), line(4, range(30, 60), 58, 2, class_id=2)))
    assert kinds(Tracks.concatenate((base, flips))) == [("class_flip", (4,))]
    assert kinds(Tracks.concatenate((base, line(5, range(40, 43), 0, 2)))) == [("short", (5,))]


# -- swaps --------------------------------------------------------------------------------------------------------


def crossing(seed: int, frames: int = 80, jitter: float = 1.5) -> Tracks:
    """Two that pass each other, of sizes, paces and rows of their own, as a detector with jitter would see them."""
    rng = np.random.default_rng(seed)
    number = np.arange(1, frames + 1)
    parts = []
    for identity, way in ((1, 1), (2, -1)):
        pace, height, foot = way * rng.uniform(1, 4), rng.uniform(80, 120), 300 + rng.uniform(-10, 10)
        centre = 400 + pace * (number - 40)
        box = np.column_stack((centre - 20, np.full(frames, foot - height), centre + 20, np.full(frames, foot)))
        parts.append(Tracks(number, np.full(frames, identity), box + rng.normal(0, jitter, box.shape)))
    return Tracks.concatenate(parts)


def exchanged(tracks: Tracks, a: int, b: int, cut: int) -> Tracks:
    """The two go on as each other from a frame on."""
    identity = tracks.track_id.copy()
    later = tracks.frame >= cut
    identity[later & (tracks.track_id == a)] = b
    identity[later & (tracks.track_id == b)] = a
    return Tracks(tracks.frame, identity, tracks.xyxy, tracks.confidence, tracks.class_id)


def found_at(tracks: Tracks, cut: int) -> bool:
    return any(swap.first_frame - 10 <= cut <= swap.last_frame + 10 for swap in find_swaps(tracks))


@pytest.mark.parametrize("hidden", [0, 5])
def test_swaps_of_jittery_crossings_are_found_and_clean_ones_raise_nothing(hidden: int) -> None:
    """Also where the boxes of one are missing while the other passes in front."""
    found = false = 0
    for seed in range(100):
        clean = crossing(seed)
        clean = clean[(clean.track_id == 1) | (np.abs(clean.frame - 40) > hidden // 2) | (hidden == 0)]
        found += found_at(exchanged(clean, 1, 2, 40), 40)
        false += bool(find_swaps(clean))
    assert (found >= 95, false) == (True, 0), (found, false)


def test_boxes_that_bend_together_or_shake_with_the_camera_are_no_swap() -> None:
    rng = np.random.default_rng(0)
    side_by_side = Tracks.concatenate((line(1, range(1, 100), 0, 3), line(2, range(1, 100), 15, 3, 104)))
    shake = np.cumsum(rng.normal(0, 3, (100, 2)), axis=0)[side_by_side.frame]
    turn = 60 * np.sin(side_by_side.frame / 8)[:, None] * np.array([1, 0.2, 1, 0.2])
    moved = side_by_side.xyxy + np.tile(shake, 2) + turn
    assert find_swaps(Tracks(side_by_side.frame, side_by_side.track_id, moved)) == []


def test_tracks_that_no_line_can_be_drawn_through_are_no_swap() -> None:
    assert find_swaps(Tracks.empty()) == []
    still = Tracks.concatenate((line(1, range(1, 30), 0, 0), line(2, range(1, 30), 0, 0)))
    assert find_swaps(still) == []
    assert find_swaps(Tracks([1, 2, 1, 2], [1, 1, 2, 2], [[0, 0, 0, 0]] * 4)) == []


def test_swaps_in_real_overlaps_are_found_and_the_truth_raises_nothing() -> None:
    """MOT17 truth, each overlapping pair exchanged at a frame drawn from its overlaps; generated walks without it."""
    scenes = {name: one.truth for name, one in mot17().items()} or {"walk": walk(40, 200)}
    for name, scene in scenes.items():
        truth = scene[(scene.class_id <= 1) & (scene.confidence > 0)]
        assert find_swaps(truth) == [], name
        overlaps: dict[tuple[int, int], list[int]] = {}
        for number, frame in truth.frames():
            near = np.argwhere(np.triu(iou_matrix(frame.xyxy, frame.xyxy) > 0.2, k=1))
            for a, b in frame.track_id[near].tolist():
                overlaps.setdefault((min(a, b), max(a, b)), []).append(number)
        rng = np.random.default_rng(0)
        found = []
        for (a, b), when in sorted(overlaps.items()):
            cut = int(rng.choice(when))
            both = truth[np.isin(truth.track_id, (a, b)) & (np.abs(truth.frame - cut) < 60)]
            # Five boxes on either side, or nobody can tell.
            sides = [(both.track_id == one) & ((both.frame >= cut) == late) for one in (a, b) for late in (0, 1)]
            if min(map(np.count_nonzero, sides)) >= 5:
                found.append(found_at(exchanged(both, a, b, cut), cut))
        assert len(found) >= 10 and np.mean(found) > 0.8, (name, np.mean(found), len(found))
