"""Events without truth: what was planted is found where it is, and clean tracks raise nothing."""

from __future__ import annotations

import numpy as np
from track_scenes import walk

from osv_lab.track.suspicion import suspicious_events
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
