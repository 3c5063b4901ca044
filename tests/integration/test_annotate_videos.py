"""Videos and their tracks to CVAT and back: the double, and the server of ``OSV_CVAT_URL`` if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_films import FRAMES, HEIGHT, WIDTH, frame_labels, of_track, tracked_film
from annotation_people import Annotator, looping
from cvat_double.reach import Reachable

from osv_lab.annotate import AnnotationLoop


@pytest.fixture
def films(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    return tracked_film(fo, dataset_name, tmp_path)


@pytest.fixture
def loop(films: Any, told_server: Reachable) -> Iterator[AnnotationLoop]:
    with looping(films) as found:
        yield found


def track_of(person: Annotator, plate: str) -> dict[str, Any]:
    """A track on the server by one of its attributes."""
    (found,) = [
        one for one in person.objects("tracks") if any(value["value"] == plate for value in one["attributes"])
    ]
    return found


def test_untouched_tracks_come_back_to_the_last_bit(loop: AnnotationLoop, films: Any) -> None:
    before = frame_labels(films)
    task = loop.send(films, "key", "frames.pred")
    assert (task.samples, task.objects, task.jobs) == (1, 3 * FRAMES - 4 + 1, 1)
    person = Annotator(loop.connection, task.task)
    assert [len(one["shapes"]) for one in person.objects("tracks")] == [2, 5, 4]
    assert len(person.objects()) == 1
    assert all(one.edited == one.added == one.removed == 0 for one in loop.status("key").jobs)
    person.finish()
    report = loop.pull("key")
    assert (report.counts["untouched"], report.changed, report.problems) == (task.objects, 0, ())
    assert frame_labels(films) == before


def test_a_moved_keyframe_moves_its_neighbourhood_and_nothing_else(loop: AnnotationLoop, films: Any) -> None:
    before = frame_labels(films)
    person = Annotator(loop.connection, loop.send(films, "key", "frames.pred").task)
    track = track_of(person, "p0")
    box = {**track["shapes"][0], "outside": False}
    del box["id"]
    held = [{**box, "frame": frame, "points": [8.0 + frame, 12.0, 30.0, 36.0]} for frame in (10, 20)]
    moved = {**box, "frame": 15, "points": [40.0, 50.0, 60.0, 80.0]}
    first, last = track["shapes"]
    person.do("update", {**track, "shapes": [first, held[0], moved, held[1], last]}, kind="tracks")
    person.finish()
    loop.pull("key")
    after = frame_labels(films)
    assert {n: o for n, o in after.items() if 1 < n < FRAMES} != {
        n: o for n, o in before.items() if 1 < n < FRAMES
    }
    assert of_track(after, 2) == of_track(before, 2)
    assert of_track(after, 3) == of_track(before, 3)
    mine = of_track(after, 1)
    # Frame 15 of the task is frame 16 of the video.
    assert mine[16]["bounding_box"] == pytest.approx([40 / WIDTH, 50 / HEIGHT, 20 / WIDTH, 30 / HEIGHT])
    assert mine[14]["bounding_box"][0] == pytest.approx((18 + 0.6 * 22) / WIDTH)
    assert (mine[16].get("confidence"), mine[16]["osv_source"]) == (None, "manual")
    assert mine[16]["instance"] == of_track(before, 1)[16]["instance"]
    assert {one["index"] for one in mine.values()} == {1}
    assert loop.pull("key").changed == 0
    assert frame_labels(films) == after
