"""Videos and their tracks to CVAT and back: the double, and the server of ``OSV_CVAT_URL`` if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_films import FRAMES, HEIGHT, WIDTH, busy_film, frame_labels, of_track, tracked_film
from annotation_people import Annotator, looping
from cvat_double.reach import Reachable
from PIL import Image
from scripted_detector import ScriptedDetector

from osv_lab.annotate import AnnotationLoop
from osv_lab.annotate.interpolation import interpolate
from osv_lab.annotate.objects import Keyframe
from osv_lab.annotate.records import Runs
from osv_lab.annotate.webhooks import task_keys
from osv_lab.core.errors import UsageError


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


def test_tracks_are_relabelled_deleted_and_added(loop: AnnotationLoop, films: Any) -> None:
    before = frame_labels(films)
    person = Annotator(loop.connection, loop.send(films, "key", "frames.pred").task)
    first, second = (track_of(person, f"p{number}") for number in range(2))
    # Attributes belong to a label: with another one they are gone, our identity too.
    keyframes = [{**shape, "attributes": []} for shape in first["shapes"]]
    bus = {"label_id": person.labels["bus"], "attributes": [], "shapes": keyframes}
    person.do("update", {**first, **bus}, kind="tracks")
    person.do("delete", second, kind="tracks")
    keyframes = [
        {"type": "rectangle", "frame": 4, "points": [4, 6, 14, 16]},
        {"type": "rectangle", "frame": 8, "points": [8, 6, 18, 16]},
        {"type": "rectangle", "frame": 12, "points": [8, 6, 18, 16], "outside": True},
    ]
    new = {"frame": 4, "label_id": person.labels["car"], "shapes": keyframes, "group": 0, "source": "manual"}
    person.do("create", new, kind="tracks")
    (job,) = loop.status("key").jobs
    assert (job.edited, job.added, job.removed) == (1, 1, 1)
    person.finish()
    report = loop.pull("key")
    assert (report.counts["added"], report.counts["deleted"], report.conflicts) == (8, FRAMES - 4, ())
    after = frame_labels(films)
    relabelled = of_track(after, 1)
    assert {one["label"] for one in relabelled.values()} == {"bus"}
    for number, one in of_track(before, 1).items():
        assert relabelled[number]["bounding_box"] == one["bounding_box"]
        assert relabelled[number]["instance"] == one["instance"]
    assert of_track(after, 2) == {}
    assert of_track(after, 3) == of_track(before, 3)
    added = of_track(after, 4)
    assert sorted(added) == list(range(5, 13))
    assert len({one["instance"]["_id"] for one in added.values()}) == 1
    assert added[7]["bounding_box"] == pytest.approx([6 / WIDTH, 6 / HEIGHT, 10 / WIDTH, 10 / HEIGHT])
    assert loop.pull("key").changed == 0
    assert frame_labels(films) == after


def test_a_split_track_is_two_and_its_boxes_stay(loop: AnnotationLoop, films: Any) -> None:
    before = frame_labels(films)
    person = Annotator(loop.connection, loop.send(films, "key", "frames.pred").task)
    whole = track_of(person, "p0")
    first, last = ({k: v for k, v in one.items() if k != "id"} for one in whole["shapes"])
    share = (20 - first["frame"]) / (last["frame"] - first["frame"])
    there = [a + (b - a) * share for a, b in zip(first["points"], last["points"], strict=True)]
    middle = {**first, "frame": 20, "points": there}
    plain = {k: v for k, v in whole.items() if k not in ("id", "shapes", "frame")}
    person.do("delete", whole, kind="tracks")
    person.do(
        "create",
        {**plain, "frame": first["frame"], "shapes": [first, {**middle, "outside": True}]},
        {**plain, "frame": 20, "shapes": [middle, last]},
        kind="tracks",
    )
    person.finish()
    assert loop.pull("key").conflicts == ()
    after = frame_labels(films)
    assert sorted(of_track(after, 1)) == list(range(1, 21))
    assert of_track(after, 1) == {n: one for n, one in of_track(before, 1).items() if n <= 20}
    split = of_track(after, 4)
    assert sorted(split) == list(range(21, FRAMES + 1))
    for number, one in split.items():
        old = of_track(before, 1)[number]
        assert (one["_id"], one["bounding_box"]) == (old["_id"], old["bounding_box"])
        assert one["instance"] != old["instance"]
    assert loop.pull("key").changed == 0


def test_joined_tracks_are_one_and_their_boxes_stay(loop: AnnotationLoop, films: Any) -> None:
    sample = films.first()
    for number in range(1, FRAMES + 1):
        frame = sample.frames[number]
        frame.pred.detections = [
            one
            for one in frame.pred.detections
            if one.index == (1 if number <= 20 else 2) and not 12 <= number <= 15
        ]
        for one in frame.pred.detections:
            one.bounding_box = [0.1 + number * 0.01, 0.3, 0.1, 0.2]
    sample.save()
    before = frame_labels(films)
    person = Annotator(loop.connection, loop.send(films, "key", "frames.pred").task)
    one, other = track_of(person, "p0"), track_of(person, "p1")
    keyframes = [
        {k: v for k, v in shape.items() if k != "id"} for shape in (*one["shapes"][:-1], *other["shapes"])
    ]
    person.do("delete", one, other, kind="tracks")
    joined = {**{k: v for k, v in one.items() if k != "id"}, "shapes": keyframes}
    person.do("create", joined, kind="tracks")
    person.finish()
    loop.pull("key")
    after = frame_labels(films)
    assert sorted(of_track(after, 1)) == sorted([*of_track(before, 1), *of_track(before, 2)])
    assert of_track(after, 2) == {}
    boxes = {number: one["bounding_box"] for number, one in of_track(after, 1).items()}
    assert boxes == {n: one["bounding_box"] for some in (1, 2) for n, one in of_track(before, some).items()}
    assert len({one["instance"]["_id"] for one in of_track(after, 1).values()}) == 1
    assert loop.pull("key").changed == 0


def test_a_conflict_is_a_clip_with_both_versions_until_it_is_settled(loop: AnnotationLoop, films: Any) -> None:
    person = Annotator(loop.connection, loop.send(films, "key", "frames.pred").task)
    track = track_of(person, "p2")
    keyframes = [{**shape, "points": [value + 3 for value in shape["points"]]} for shape in track["shapes"]]
    person.do("update", {**track, "shapes": keyframes}, kind="tracks")
    person.finish()
    sample = films.first()
    mine = [0.5, 0.5, 0.25, 0.25]
    for number in (7, 8, 9):
        next(one for one in sample.frames[number].pred.detections if one.index == 3).bounding_box = mine
    sample.save()
    report = loop.pull("key")
    assert report.conflicts == (f"sample {sample.id}: bus, geometry, 3 frames from 7 to 9",)
    assert report.counts["edited"] == FRAMES - 3
    view = report.view()
    assert view.values("support") == [[7, 9]]
    assert report.theirs_field == "frames.key_theirs"
    labels = frame_labels(films)
    assert [of_track(labels, 3)[number]["bounding_box"] for number in (7, 8, 9)] == [mine] * 3
    assert {n for n, some in frame_labels(films, "key_theirs").items() if some} == {7, 8, 9}
    assert len(loop.pull("key").conflicts) == 1
    assert frame_labels(films) == labels
    assert len(loop.resolve("key", keep="theirs").conflicts) == 0
    after = of_track(frame_labels(films), 3)
    assert after[8]["bounding_box"][0] == pytest.approx(0.05 + 0.08 + 3 / WIDTH, abs=0.5 / WIDTH)
    assert (loop.pull("key").conflicts, loop.pull("key").changed) == ((), 0)
    films.reload()
    assert not films.has_saved_view("key_conflicts") and not films.has_frame_field("key_theirs")


def test_what_was_changed_here_is_kept(loop: AnnotationLoop, films: Any) -> None:
    person = Annotator(loop.connection, loop.send(films, "key", "frames.pred").task)
    sample = films.first()
    sample.frames[3].pred.detections[0].label = "truck"
    sample.frames[4].pred.detections = [one for one in sample.frames[4].pred.detections if one.index != 2]
    sample.save()
    here = frame_labels(films)
    track = track_of(person, "p2")
    keyframes = [{**shape, "points": [value + 3 for value in shape["points"]]} for shape in track["shapes"]]
    person.do("update", {**track, "shapes": keyframes}, kind="tracks")
    person.finish()
    report = loop.pull("key")
    assert (report.conflicts, report.counts["edited here"], report.counts["deleted here"]) == ((), 1, 1)
    after = frame_labels(films)
    assert after[3][0] == here[3][0]
    assert of_track(after, 2) == of_track(here, 2)
    assert of_track(after, 3)[4]["bounding_box"] != of_track(here, 3)[4]["bounding_box"]


def test_only_the_windows_are_sent_and_touched(loop: AnnotationLoop, films: Any) -> None:
    before = frame_labels(films)
    sample = films.first()
    windows = {sample.id: [(4, 9), (8, 12), (30, 99)]}
    task = loop.send(films, "key", "frames.pred", windows=windows)
    assert (len(task.tasks), task.jobs, task.samples) == (2, 2, 1)
    assert [job.frames for job in loop.status("key").jobs] == [9, FRAMES - 29]
    for number in task.tasks:
        person = Annotator(loop.connection, number)
        person.do("delete", *person.objects("tracks"), kind="tracks")
    person.finish()
    sample = films.first()
    sample.frames[20].pred.detections[0].label = "truck"
    sample.save()
    report = loop.pull("key")
    assert (report.jobs_pulled, report.jobs_open) == (1, 1)
    after = frame_labels(films)
    assert all(after[number] == before[number] for number in range(1, 30) if number != 20)
    assert all(after[number] == [] for number in range(30, FRAMES + 1))
    assert after[20][0]["label"] == "truck"
    Annotator(loop.connection, task.tasks[0]).finish()
    loop.pull("key")
    after = frame_labels(films)
    kept = [number for number, some in after.items() if any(one.get("index") for one in some)]
    assert kept == [*range(1, 4), *range(13, 30)]
    assert loop.pull("key").changed == 0


def test_a_window_of_the_first_frame_alone_has_jobs_that_are_none_of_ours(
    loop: AnnotationLoop, films: Any
) -> None:
    # CVAT takes a last frame of 0 for none at all, so that the task has the whole video.
    before = frame_labels(films)
    loop.send(films, "key", "frames.pred", windows={films.first().id: [(1, 1)]}, segment_size=15)
    assert all(job.edited == job.added == job.removed == 0 for job in loop.status("key").jobs)
    assert loop.pull("key", done="any").changed == 0
    assert frame_labels(films) == before


def test_every_task_of_a_run_is_listened_for_and_no_detector_labels_them(loop: AnnotationLoop, films: Any) -> None:
    windows = {films.first().id: [(4, 9), (30, 35)]}
    task = loop.send(films, "key", "frames.pred", windows=windows)
    assert len(task.tasks) == 2
    assert task_keys(Runs(films), loop.connection.settings.url) == dict.fromkeys(task.tasks, "key")
    with pytest.raises(UsageError, match="clips"):
        loop.predict("key", ScriptedDetector(("car", 0.9, (2.0, 2.0, 20.0, 20.0))))


def test_a_view_of_clips_is_its_windows(fo: Any, loop: AnnotationLoop, films: Any) -> None:
    sample = films.first()
    sample["events"] = fo.TemporalDetections(detections=[fo.TemporalDetection(label="stop", support=[11, 16])])
    sample.save()
    task = loop.send(films.to_clips("events"), "key", "frames.pred")
    assert [job.frames for job in loop.status("key").jobs] == [6]
    person = Annotator(loop.connection, task.task)
    assert sorted(len(one["shapes"]) for one in person.objects("tracks")) == [2, 2, 3]


def test_every_so_many_frames_are_sent(loop: AnnotationLoop, films: Any) -> None:
    before = frame_labels(films)
    task = loop.send(films, "key", "frames.pred", frame_step=4)
    assert [job.frames for job in loop.status("key").jobs] == [10]
    person = Annotator(loop.connection, task.task)
    person.do("delete", track_of(person, "p2"), kind="tracks")
    person.finish()
    loop.pull("key")
    after = frame_labels(films)
    assert sorted(set(of_track(before, 3)) - set(of_track(after, 3))) == list(range(1, FRAMES, 4))
    assert of_track(after, 1) == of_track(before, 1)


def test_jobs_of_a_video_are_pulled_when_they_are_done(loop: AnnotationLoop, films: Any) -> None:
    before = frame_labels(films)
    task = loop.send(films, "key", "frames.pred", segment_size=15)
    jobs = [job.job for job in loop.status("key").jobs]
    assert len(jobs) == 3
    person = Annotator(loop.connection, task.task, jobs[1])
    track = track_of(person, "p0")
    keyframes = [{**shape, "points": [value + 5 for value in shape["points"]]} for shape in track["shapes"]]
    person.do("update", {**track, "shapes": keyframes}, kind="tracks")
    person.finish(jobs[1])
    report = loop.pull("key")
    assert (report.jobs_pulled, report.jobs_open, report.counts["edited"]) == (1, 2, 15)
    after = frame_labels(films)
    moved = {
        n for n, one in of_track(after, 1).items() if one["bounding_box"] != of_track(before, 1)[n]["bounding_box"]
    }
    assert moved == set(range(16, 31))
    person.finish(*jobs)
    report = loop.pull("key")
    assert (report.changed, report.counts["edited"], report.conflicts) == (0, 0, ())
    assert frame_labels(films) == after


def test_deleting_a_frame_moves_no_box(loop: AnnotationLoop, films: Any) -> None:
    before = frame_labels(films)
    task = loop.send(films, "key", "frames.pred")
    loop.connection.call("PATCH", f"/api/tasks/{task.task}/data/meta", body={"deleted_frames": [0, 29]})
    Annotator(loop.connection, task.task).finish()
    report = loop.pull("key")
    assert report.changed == 0
    assert len(report.problems) == 2
    assert frame_labels(films) == before


def test_two_hundred_tracks_are_there_within_half_a_pixel_with_few_keyframes(
    fo: Any, dataset_name: str, tmp_path: Path, told_server: Reachable
) -> None:
    dataset, truth = busy_film(fo, dataset_name, tmp_path, tracks=200, frames=90)
    with looping(dataset) as loop:
        before = frame_labels(dataset)
        task = loop.send(dataset, "key", "frames.pred")
        tracks = Annotator(loop.connection, task.task).objects("tracks")
        assert len(tracks) == 200
        assert sum(len(track["shapes"]) for track in tracks) < 0.1 * len(truth.frame)
        there = []
        for track in tracks:
            keyframes = [
                Keyframe(one["frame"], tuple(one["points"]), outside=one["outside"]) for one in track["shapes"]
            ]
            seen = {one.frame + 1: one.points for one in interpolate(keyframes, "box", 89)}
            there.append((tuple(seen), np.array(list(seen.values()))))
        worst = []
        for number in range(1, 201):
            mine = truth.xyxy[truth.track_id == number]
            frames = tuple(truth.frame[truth.track_id == number].tolist())
            near = [np.abs(boxes - mine).max() for seen, boxes in there if seen == frames]
            worst.append(min(near))
        assert max(worst) <= 0.5 + 1e-6
        Annotator(loop.connection, task.task).finish()
        assert loop.pull("key").counts["untouched"] == len(truth.frame)
        assert frame_labels(dataset) == before


@pytest.fixture
def walk(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    """Two sequences of images, stored out of order, with a track and a detection without a number."""
    dataset = fo.Dataset(dataset_name)
    samples = []
    for number in (3, 1, 5, 2, 4, 6):
        for name in ("left", "right"):
            path = tmp_path / f"{name}{9 - number}.png"
            Image.new("RGB", (WIDTH, HEIGHT), (number * 20, 0, 0)).save(path)
            boxes = [
                fo.Detection(label="dog", bounding_box=[0.1 * number, 0.2, 0.1, 0.3], index=7, confidence=0.5),
                fo.Detection(label="cat", bounding_box=[0.7, 0.7, 0.1, 0.1]),
            ]
            labels = fo.Detections(detections=boxes)
            samples.append(fo.Sample(filepath=str(path), sequence=name, frame_number=number, pred=labels))
    dataset.add_samples(samples, dynamic=True, progress=False)
    return dataset


def test_sequences_of_images_are_tasks_in_frame_order(walk: Any, told_server: Reachable) -> None:
    with looping(walk) as loop:
        task = loop.send(walk, "key", "pred")
        assert (len(task.tasks), task.samples, task.objects) == (2, 12, 24)
        person = Annotator(loop.connection, task.tasks[0])
        frames = loop.connection.get(f"/api/tasks/{task.tasks[0]}/data/meta")["frames"]
        names = [Path(frame["name"]).stem for frame in frames]
        numbers = dict(zip(*walk.values(["id", "frame_number"]), strict=True))
        assert [numbers[name] for name in names] == [1, 2, 3, 4, 5, 6]
        (track,) = person.objects("tracks")
        assert [one["frame"] for one in track["shapes"]] == [0, 5]
        keyframes = [{**one, "points": [value + 2 for value in one["points"]]} for one in track["shapes"]]
        person.do("update", {**track, "shapes": keyframes}, kind="tracks")
        person.finish()
        before = dict(zip(*walk.values(["id", "pred.detections"]), strict=True))
        report = loop.pull("key")
        assert (report.jobs_pulled, report.jobs_open, report.counts["edited"]) == (1, 1, 6)
        walk.reload()
        for sample in walk:
            dog, cat = sample.pred.detections
            moved = 2 / WIDTH if sample.sequence == "left" else 0
            assert dog.bounding_box[0] == pytest.approx(before[sample.id][0].bounding_box[0] + moved)
            assert (dog.index, cat.bounding_box) == (7, [0.7, 0.7, 0.1, 0.1])
        assert loop.pull("key").changed == 0


def test_outlines_and_points_are_tracks_and_masks_go_frame_by_frame(
    fo: Any, films: Any, loop: AnnotationLoop
) -> None:
    sample = films.first()
    for number in range(1, 7):
        ring = [[0.1, 0.1], [0.3, 0.1 + 0.02 * number], [0.2, 0.4]]
        frame = sample.frames[number]
        outline = fo.Polyline(label="road", points=[ring], closed=True, filled=True, index=1)
        turned = [[0.5, 0.5], [0.6, 0.6], [0.55, 0.65], [0.45, 0.55]]
        oriented = fo.Polyline(label="ship", points=[turned], closed=True, filled=False, index=2)
        frame["outlines"] = fo.Polylines(polylines=[outline, oriented])
        frame["joints"] = fo.Keypoints(
            keypoints=[fo.Keypoint(label="person", points=[[0.1, 0.1], [0.2, 0.1 * number]], index=1)]
        )
        mask = np.ones((12, 16), dtype=bool)
        mask[0, : 2 * number] = False
        frame["masks"] = fo.Detections(
            detections=[fo.Detection(label="blob", bounding_box=[0.1, 0.1, 0.1, 0.1], mask=mask, index=1)]
        )
    sample.save()
    tracks = {"outlines": 2, "joints": 1, "masks": 0}
    for field, count in tracks.items():
        before = films._frame_collection.find().sort("frame_number", 1).to_list()
        person = Annotator(loop.connection, loop.send(films, field, f"frames.{field}").task)
        assert (len(person.objects("tracks")), len(person.objects())) == (count, 0 if count else 6)
        report = loop.pull(field, done="any")
        assert (report.changed, report.counts["untouched"], report.problems) == (0, 6 * max(count, 1), ())
        assert films._frame_collection.find().sort("frame_number", 1).to_list() == before
