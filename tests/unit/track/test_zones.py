"""Lines and zones: who crosses is counted once, who trembles is not counted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track.tracks import Tracks
from osv_lab.track.zones import (
    Line,
    Zone,
    ZoneCounter,
    count_tracks,
    edge_distance,
    inside_polygon,
    parse_line,
    parse_zone,
    signed_distance,
)

SQUARE = Zone("square", ((40, 40), (160, 40), (160, 160), (40, 160)), anchor="center")
LEVEL = Line("level", (0, 100), (200, 100), anchor="center")


def path(points: list[tuple[float, float]], size: float = 20.0, first: int = 1) -> Tracks:
    centre = np.array(points, dtype=float)
    frames = np.arange(first, first + len(points))
    return Tracks(frames, np.ones(len(points)), np.hstack((centre - size / 2, centre + size / 2)))


def whats(tracks: Tracks, *areas: Line | Zone) -> list[tuple[str, int]]:
    return [(event.what, event.frame) for event in count_tracks(tracks, areas)]


def theirs(tracks: Tracks, line: Line) -> int:
    """How many crossings supervision counts."""
    import supervision as sv

    zone = sv.LineZone(sv.Point(*line.start), sv.Point(*line.end), triggering_anchors=[sv.Position.CENTER])
    for _, frame in tracks.frames():
        zone.trigger(sv.Detections(xyxy=frame.xyxy, tracker_id=frame.track_id, class_id=frame.class_id))
    return int(zone.in_count + zone.out_count)


def test_a_crossing_counts_once_in_its_direction_at_its_frame() -> None:
    down = [(50.0, 60.0 + 10 * k) for k in range(10)]
    assert whats(path(down), LEVEL) == [("out", 6)]
    assert whats(path(down[::-1]), LEVEL) == [("in", 7)]
    assert whats(path(down), Line("turned", LEVEL.end, LEVEL.start, anchor="center")) == [("in", 6)]
    assert whats(path(down + down[::-1]), LEVEL) == [("out", 6), ("in", 17)]
    assert whats(path([(x, 60.0) for x in range(0, 200, 10)]), LEVEL) == []


def test_who_trembles_on_the_line_is_not_counted_where_supervision_counts() -> None:
    rng = np.random.default_rng(3)
    still = [(50.0, 100 + value) for value in rng.normal(0, 0.8, 300)]
    assert whats(path(still), LEVEL) == []
    assert theirs(path(still), LEVEL) > 20
    # Who stops on the line and then goes on is counted once, at the end of the trembling.
    through = [(50.0, 60.0 + 5 * k) for k in range(8)] + still + [(50.0, 105.0 + 5 * k) for k in range(8)]
    [(what, frame)] = whats(path(through), LEVEL)
    assert what == "out" and frame > 8


@given(
    st.lists(st.tuples(st.floats(20, 180), st.floats(0, 200)), min_size=2, max_size=40),
    st.sampled_from(["center", "bottom_center"]),
)
def test_directions_are_supervisions(points: list[tuple[float, float]], anchor: str) -> None:
    """Without band and waiting, on paths within the line's ends, both count the same."""
    import supervision as sv

    position = {"center": sv.Position.CENTER, "bottom_center": sv.Position.BOTTOM_CENTER}[anchor]
    line = sv.LineZone(sv.Point(0, 100), sv.Point(200, 100), triggering_anchors=[position])
    ours = ZoneCounter([Line("l", (0, 100), (200, 100), anchor=anchor, band=0, frames=1)])
    counts = {"in": 0, "out": 0}
    for number, frame in path([(x, y + 0.123) for x, y in points]).frames():
        boxes = frame.xyxy.astype(np.float64)
        line.trigger(sv.Detections(xyxy=boxes, tracker_id=frame.track_id, class_id=frame.class_id))
        for event in ours.update(number, number / 10, frame.track_id, boxes):
            counts[event.what] += 1
    assert (counts["in"], counts["out"]) == (line.in_count, line.out_count)


def test_the_way_through_counts_not_the_way_round() -> None:
    short = Line("short", (80, 100), (120, 100), anchor="center", band=0)
    assert whats(path([(100.0, 80 + 5 * k) for k in range(10)]), short) == [("out", 6)]
    round_the_end = [(100.0, 80.0), (140.0, 85.0), (140.0, 115.0), (100.0, 120.0), (100.0, 125.0), (100.0, 130.0)]
    assert whats(path(round_the_end), short) == []
    assert theirs(path(round_the_end), short) == 1
    # Seen again on the other side after some frames out of sight: it has gone through.
    before, after = (
        path([(100.0, 70.0 + 5 * k) for k in range(4)]),
        path([(100.0, 115.0), (100.0, 120.0)], first=9),
    )
    hidden = Tracks.concatenate([before, after])
    assert whats(hidden, short) == [("out", 9)] and theirs(hidden, short) == 0


def test_zones_know_who_enters_stays_and_leaves() -> None:
    through = [(100.0, 10.0 * k) for k in range(21)]
    events = count_tracks(path(through), [SQUARE], frame_rate=10)
    assert [(event.what, event.frame) for event in events] == [("enter", 6), ("leave", 18)]
    assert events[1].dwell_s == pytest.approx(1.2)
    # Who is inside from the first frame on has entered; who is there at the end leaves with the video.
    events = count_tracks(path([(100.0, 100.0)] * 30), [SQUARE], frame_rate=10)
    assert [(event.what, event.frame) for event in events] == [("enter", 1), ("leave", 30)]
    assert events[1].dwell_s == pytest.approx(2.9)
    # Who trembles on the edge does not come and go.
    rng = np.random.default_rng(4)
    edge = [(100.0, 20.0), (100.0, 25.0)] + [(100.0, 40 + value) for value in rng.normal(0, 0.8, 200)]
    assert whats(path(edge), SQUARE) == []


def test_who_vanishes_inside_has_left_when_the_tracker_gives_up() -> None:
    counter = ZoneCounter([SQUARE], lost_s=0.5)
    box = [[90, 90, 110, 110]]
    for number in range(1, 6):
        counter.update(number, number / 10, [4], box, [2])
    assert counter.inside() == {"square": 1}
    events = [
        event for number in range(6, 20) for event in counter.update(number, number / 10, [], np.empty((0, 4)))
    ]
    assert [(event.what, event.frame, event.track_id, event.class_id) for event in events] == [("leave", 5, 4, 2)]
    assert counter.inside() == {"square": 0} and counter.finish() == [] and counter.state() == [{}]


def test_state_survives_json() -> None:
    rng = np.random.default_rng(5)
    tracks = path([tuple(point) for point in rng.uniform(20, 180, (200, 2)).repeat(3, axis=0)])
    whole, part = ZoneCounter([LEVEL, SQUARE], 1.0), ZoneCounter([LEVEL, SQUARE], 1.0)
    events, resumed = [], []
    for number, frame in tracks.frames(600):
        events += whole.update(number, number / 10, frame.track_id, frame.xyxy)
        resumed += part.update(number, number / 10, frame.track_id, frame.xyxy)
        state = json.loads(json.dumps(part.state()))
        part = ZoneCounter([LEVEL, SQUARE], 1.0)
        part.restore(state)
    assert events == resumed and len(events) > 5
    with pytest.raises(InvalidDataError, match="not a state of these zones"):
        ZoneCounter([LEVEL]).restore(state)


def test_geometry() -> None:
    points = np.array([[100.0, 90], [100, 110], [500, 100]])
    assert signed_distance(LEVEL, points).tolist() == [10, -10, 0]
    hollow = ((0, 0), (100, 0), (100, 100), (50, 50), (0, 100))
    points = np.array([[50.0, 20], [50, 80], [10, 60], [150, 50], [-5, 0]])
    assert inside_polygon(hollow, points).tolist() == [True, False, True, False, False]
    assert edge_distance(hollow, points)[[0, 3]] == pytest.approx([20, 50])


@given(st.lists(st.tuples(st.floats(-50, 250), st.floats(-50, 250)), min_size=1, max_size=30))
def test_polygons_agree_with_opencv(points: list[tuple[float, float]]) -> None:
    import cv2

    polygon = ((0.0, 0.0), (200.0, 30.0), (150.0, 200.0), (100.0, 80.0), (20.0, 190.0))
    contour = np.array(polygon, np.float32)
    array = np.array(points)
    distance = edge_distance(polygon, array)
    ours = inside_polygon(polygon, array)
    for point, inside, far in zip(points, ours.tolist(), distance.tolist(), strict=True):
        if far > 0.01:
            assert inside == (cv2.pointPolygonTest(contour, point, False) > 0)
            assert abs(cv2.pointPolygonTest(contour, point, True)) == pytest.approx(far, abs=0.01)


def test_what_is_untracked_or_no_box_is_passed_over() -> None:
    counter = ZoneCounter([SQUARE])
    for number in range(1, 5):
        assert counter.update(number, number, [-1, 3], [[90, 90, 110, 110], [90, 90, np.nan, 110]]) == []
    with pytest.raises(InvalidDataError, match="do not fit"):
        counter.update(5, 5, [1, 2], [[0, 0, 1, 1]])


def test_lines_and_zones_from_words() -> None:
    assert parse_line("gate=0,1,2.5,3") == Line("gate", (0, 1), (2.5, 3))
    assert parse_line("0,1,2,3").name == "0,1,2,3"
    assert parse_zone("lot=0,0,9,0,9,9", "center").polygon == ((0, 0), (9, 0), (9, 9))
    for text in ("gate=0,1,2", "gate=a,b,c,d", "gate=", "gate=0,1,2,3,4,5", "g=5,5,5,5"):
        with pytest.raises(UsageError):
            parse_line(text)
    for text in ("lot=0,0,1,1", "lot=0,0,1,1,2", "lot=nan,0,1,1,2,2", "=0,0,1,1,2,0"):
        with pytest.raises(UsageError):
            parse_zone(text)
    with pytest.raises(UsageError, match="did you mean 'bottom_center'"):
        Line("l", (0, 0), (1, 1), anchor="bottom-center")
    with pytest.raises(UsageError, match="of one name"):
        ZoneCounter([LEVEL, Line("level", (0, 0), (1, 1))])
    with pytest.raises(UsageError, match="band is 0 or more"):
        Line("l", (0, 0), (1, 1), band=-1)
