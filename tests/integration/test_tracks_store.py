"""Tracks in the store: what is written, what continues, what an evaluation says and leaves alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from track_scenes import detector_view, disturb, mot17, walk

from osv_lab.core.errors import InterruptedJobError, InvalidDataError, NotFoundError, UnavailableError, UsageError
from osv_lab.evaluate.suspicious import suspicious
from osv_lab.evaluate.tracking import evaluate_tracks
from osv_lab.lab import Lab
from osv_lab.store import bulk, bulk_tracks
from osv_lab.store.ingest import ingest
from osv_lab.store.synthetic_video import SyntheticVideo, render_video
from osv_lab.store.tracks import read_tracks, track, write_tracks
from osv_lab.track.metrics import evaluate_sequence, evaluate_sequences
from osv_lab.track.mot import read_tracks as read_mot
from osv_lab.track.tracks import Tracks

SIZE = (960, 540)


class Blocks:
    """A detector of bright rectangles on black: what is there, exactly."""

    ref, provider, class_names, input_size, task = "blocks", "numpy", ("block",), None, "detect"

    def __init__(self, digest: str = "d1") -> None:
        self.digest, self.images = digest, 0

    def describe(self) -> dict[str, Any]:
        return {"family": "blocks", "digest": self.digest}

    def predict(self, images: Sequence[np.ndarray], *, confidence: float = 0.25, **_: Any) -> list[sv.Detections]:
        self.images += len(images)
        return [self.one(image) for image in images]

    def one(self, image: np.ndarray) -> sv.Detections:
        found = cv2.connectedComponentsWithStats((image[:, :, 1] > 90).astype(np.uint8))[2][1:]
        found = found[found[:, cv2.CC_STAT_AREA] > 50]
        if not len(found):
            return sv.Detections.empty()
        boxes = np.hstack((found[:, :2], found[:, :2] + found[:, 2:4])).astype(np.float32)
        scores = np.full(len(boxes), 0.9, np.float32)
        return sv.Detections(xyxy=boxes, confidence=scores, class_id=np.zeros(len(boxes), int))


def film(path: Path, frames: int = 30, seed: int = 0) -> Path:
    """A video of three blocks that slide along lanes of their own, each seed's at another pace."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for number in range(frames):
        image = np.zeros((120, 160, 3), np.uint8)
        for lane in range(3):
            left = 5 + round(number * (1 + lane + seed) / 2)
            image[10 + 36 * lane : 34 + 36 * lane, left : left + 20] = 220
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name in range(3):
        film(folder / f"film{name}.avi", seed=name)
    return folder


@pytest.fixture
def videos(fo: Any, dataset_name: str, films: Path) -> Any:
    ingest(films, dataset_name)
    return fo.load_dataset(dataset_name)


def blank_video(fo: Any, name: str, frames: int = 0, fields: dict[str, Tracks] | None = None) -> Any:
    """A video dataset whose media nobody opens: size and length are known."""
    dataset = fo.Dataset(name)
    metadata = fo.VideoMetadata(
        frame_width=SIZE[0], frame_height=SIZE[1], frame_rate=25.0, total_frame_count=frames or None
    )
    dataset.add_sample(fo.Sample(filepath="/nowhere/scene.mp4", metadata=metadata))
    for field, tracks in (fields or {}).items():
        write_tracks(dataset.first(), tracks, field)
    return dataset


def content(dataset: Any, field: str = "tracks") -> list[Any]:
    """Frame number, index, label and rounded box of every label, sample by sample."""
    # Straight from the database: documents of every label would take most of this module's time.
    label = f"frames.{field}.detections"
    paths = ["filepath", "frames.frame_number", f"{label}.index", f"{label}.label", f"{label}.bounding_box"]
    found = []
    for filepath, numbers, *columns in zip(*dataset.values(paths), strict=True):
        for number, *labels in zip(numbers, *columns, strict=True):
            rows = zip(*(column or [] for column in labels), strict=True)
            found += [(filepath, number, index, name, np.round(box, 6).tolist()) for index, name, box in rows]
    return sorted(found)


def test_every_video_is_tracked_with_identities_of_its_own(videos: Any) -> None:
    report = track(videos, Blocks(), batch_size=4)

    assert (len(report.clips), report.kept, report.problems) == (3, 0, ())
    assert report.field == "frames.tracks" and [one.frames for one in report.clips] == [30, 30, 30]
    for sample in videos:
        assert len(sample.frames) == 30
        by_frame = [sample.frames[number].tracks.detections for number in range(1, 31)]
        assert [sorted(one.index for one in labels) for labels in by_frame] == [[1, 2, 3]] * 30
        lane = {(one.index, round(one.bounding_box[1] * 120)) for labels in by_frame for one in labels}
        assert len(lane) == 3, "an identity stays on its lane"
        assert {one.label for labels in by_frame for one in labels} == {"block"}
        instances = {(one.index, one.instance.id) for labels in by_frame for one in labels}
        assert len(instances) == 3, "one instance per track"
        assert {sample.frames[number].tracks.made_by for number in range(1, 31)} == {report.made_by}
    assert videos.info["tracks"]["frames.tracks"][report.made_by]["tracker"] == {"algorithm": "botsort"}
    assert "3 clips tracked into 'frames.tracks'" in report.summary() and report.rows()[0]["tracks"] == 3
    assert len(report.view()) == 3


def test_a_second_run_does_nothing_and_another_tracker_or_detector_does(videos: Any) -> None:
    track(videos, Blocks())
    again = Blocks()
    assert track(videos, again).kept == 3 and again.images == 0
    before = content(videos)
    assert len(track(videos, again, overwrite=True).clips) == 3
    videos.reload()
    assert content(videos) == before
    assert len(track(videos, again, "bytetrack").clips) == 3
    assert len(track(videos, Blocks("d2"), {"algorithm": "bytetrack", "lost_s": 2}).clips) == 3


def test_documents_equal_the_sdks(fo: Any, dataset_name: str) -> None:
    """Field by field: what the bulk route writes is what FiftyOne would write."""
    tracks = Tracks([1, 1, 3], [4, 9, 4], [[96, 54, 192, 108], [0, 0, 96, 54], [96, 54, 288, 108]], [0.5, 1, 0.25])
    ours = blank_video(fo, dataset_name, 3, {"tracks": tracks})
    theirs = fo.Dataset(f"{dataset_name}-sdk")
    try:
        sample = fo.Sample(filepath="/nowhere/scene.mp4", metadata=ours.first().metadata.copy())
        maker = ours.first().frames[1].tracks.made_by
        instances = {4: fo.Instance(), 9: fo.Instance()}
        for number in (1, 2, 3):
            found = [
                fo.Detection(
                    label="object",
                    bounding_box=[x1 / 960, y1 / 540, (x2 - x1) / 960, (y2 - y1) / 540],
                    confidence=score,
                    index=index,
                    instance=instances[index],
                )
                for frame, index, (x1, y1, x2, y2), score in zip(
                    tracks.frame.tolist(),
                    tracks.track_id.tolist(),
                    tracks.xyxy,
                    tracks.confidence.tolist(),
                    strict=True,
                )
                if frame == number
            ]
            sample.frames[number] = fo.Frame(tracks=fo.Detections(detections=found, made_by=maker))
        theirs.add_sample(sample, dynamic=True)
        assert plain(ours._frame_collection) == plain(theirs._frame_collection)
        paths, expected = ours.get_frame_field_schema(flat=True), theirs.get_frame_field_schema(flat=True)
        # FiftyOne declares instances only where attributes are declared as they are met.
        known = {path: type(one) for path, one in expected.items() if ".instance" not in path}
        assert {path: type(paths[path]) for path in known} == known
    finally:
        theirs.delete()


def plain(collection: Any) -> list[Any]:
    """Documents with ids and times reduced to their type, the links of a track kept as numbers."""
    links: dict[Any, int] = {}

    def shape(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            if value.get("_cls") == "Instance":
                return links.setdefault(value["_id"], len(links))
            return {name: shape(item, name) for name, item in sorted(value.items())}
        if isinstance(value, list):
            return [shape(item) for item in value]
        return value if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__

    return [shape(document) for document in collection.find().sort("frame_number", 1)]


def test_a_result_goes_in_and_comes_out_to_the_last_bit(fo: Any, dataset_name: str) -> None:
    sequences = mot17()
    scene = next(iter(sequences.values())).truth.between(1, 60) if sequences else None
    tracks = walk(8, 60) if scene is None else scene
    if scene is None:
        boxes = np.round(tracks.xyxy, 2)
        tracks = Tracks(tracks.frame, tracks.track_id, boxes, tracks.confidence, np.ones(len(tracks), int))
    dataset = blank_video(fo, dataset_name)
    write_tracks(dataset.first(), tracks, "frames.result")
    for where in (dataset, dataset.first()):
        found = read_tracks(where, "result")
        for name in ("frame", "track_id", "xyxy", "confidence", "class_id"):
            np.testing.assert_array_equal(getattr(found, name), getattr(tracks, name))


def test_a_shorter_result_replaces_all_of_a_longer_one(fo: Any, dataset_name: str) -> None:
    dataset = blank_video(fo, dataset_name)
    write_tracks(dataset.first(), Tracks(range(1, 21), [1] * 20, [[0, 0, 9, 9]] * 20), "result")
    write_tracks(dataset.first(), Tracks([1, 4], [7, 7], [[0, 0, 9, 9]] * 2), "result")
    assert read_tracks(dataset, "result").frame.tolist() == [1, 4]
    assert dataset.count("frames") == 20


def test_labels_of_a_person_are_not_replaced(fo: Any, videos: Any) -> None:
    sample = videos.first()
    sample.frames[3] = fo.Frame(
        mine=fo.Detections(detections=[fo.Detection(label="car", bounding_box=[0, 0, 1, 1])])
    )
    sample.save()
    with pytest.raises(UsageError, match="no tracker made"):
        track(videos, Blocks(), field="mine")
    with pytest.raises(UsageError, match="no tracker made"):
        write_tracks(sample, Tracks.empty(), "mine")
    videos.reload()
    assert videos.count("frames.mine.detections") == 1
    assert len(track(videos, Blocks(), field="mine", overwrite=True).clips) == 3


def test_broken_and_truncated_videos_are_reported_and_the_rest_go_on(videos: Any, tmp_path: Path) -> None:
    track(videos, Blocks())
    paths = [str(tmp_path / f"{k}.avi") for k in range(3)]
    film(Path(paths[0]), seed=5)
    Path(paths[1]).write_bytes(b"no video at all")
    film(Path(paths[2]), frames=12, seed=6)
    before = content(videos.skip(1).limit(1))
    videos.set_values("filepath", paths)
    report = track(videos, Blocks("d2"), batch_size=4)

    assert [(one.name, one.frames) for one in report.clips] == [("0", 30), ("2", 12)]
    assert [(one.file, one.what.split(":")[0]) for one in report.problems] == [
        ("1", "the video cannot be opened"),
        ("2", "it ends early"),
    ]
    after = content(videos.skip(1).limit(1))
    assert [row[1:] for row in after] == [row[1:] for row in before], "the old tracks stay"
    assert max(row[1] for row in content(videos.skip(2))) == 12, "nothing of the longer tracks is left"
    assert "2 problems" in report.summary()


def test_frames_that_the_detector_cannot_take_are_frames_without_detections(videos: Any) -> None:
    class Picky(Blocks):
        def predict(self, images: Sequence[np.ndarray], **options: Any) -> list[sv.Detections]:
            if any(self.images + k == 7 for k in range(len(images))):
                self.images += len(images) == 1
                raise RuntimeError("cannot take it")
            return super().predict(images, **options)

    report = track(videos.limit(1), Picky(), batch_size=4)
    assert [one.frames for one in report.clips] == [30]
    assert "1 frames without detections (8): the detector failed: cannot take it" in report.problems[0].what

    class Useless(Blocks):
        def one(self, image: np.ndarray) -> sv.Detections:
            raise RuntimeError("no kernel image is available")

    with pytest.raises(UnavailableError, match="no kernel image"):
        track(videos, Useless("d3"))


def test_tracks_from_detections_that_are_there_decode_nothing(fo: Any, dataset_name: str) -> None:
    truth = walk(10, 80)
    dataset = blank_video(fo, dataset_name, 80)
    frames = {}
    for number, (boxes, scores) in enumerate(detector_view(truth, false=0), start=1):
        frames[number] = fo.Frame(
            detections=fo.Detections(
                detections=[
                    fo.Detection(
                        label="person",
                        bounding_box=[x1 / 960, y1 / 540, (x2 - x1) / 960, (y2 - y1) / 540],
                        confidence=float(score),
                    )
                    for (x1, y1, x2, y2), score in zip(boxes, scores, strict=True)
                ]
            )
        )
    sample = dataset.first()
    sample.frames.update(frames)
    sample.save()
    report = track(dataset, from_field="frames.detections", tracker="bytetrack")
    plainly = evaluate_sequence(truth, read_tracks(dataset)).values()["HOTA"]
    refined = track(dataset, from_field="detections", tracker="bytetrack", field="refined", refine=True)

    assert report.source == "frames.detections" and report.clips[0].frames == 80
    assert plainly > 0.7
    assert evaluate_sequence(truth, read_tracks(dataset, "refined")).values()["HOTA"] > plainly
    assert refined.clips[0].boxes > report.clips[0].boxes
    assert len(read_tracks(dataset.filter_labels("frames.tracks", fo.ViewField("index") == 2), "tracks")) == int(
        np.count_nonzero(read_tracks(dataset).track_id == 2)
    )
    with pytest.raises(NotFoundError, match=r"did you mean 'frames\.detections'"):
        track(dataset, from_field="detection", field="x")
    with pytest.raises(UsageError, match="one of the two"):
        track(dataset, field="x")


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    """Two MOTChallenge sequences of frame images with truth, the second with a frame missing."""
    for name, seed in (("A-01", 0), ("B-02", 1)):
        folder = tmp_path / "mot" / name
        (folder / "img1").mkdir(parents=True)
        (folder / "gt").mkdir()
        capture = cv2.VideoCapture(str(film(tmp_path / f"{name}.avi", 20, seed)))
        rows = []
        for number in range(1, 21):
            image = capture.read()[1]
            boxes = Blocks().one(image).xyxy
            rows += [
                f"{number},{k + 1},{x1},{y1},{x2 - x1},{y2 - y1},1,1,1" for k, (x1, y1, x2, y2) in enumerate(boxes)
            ]
            cv2.imwrite(str(folder / "img1" / f"{number:06d}.png"), image)
        (folder / "gt" / "gt.txt").write_text("\n".join(rows))
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate=25\nseqLength=20\nimWidth=160\nimHeight=120\nimExt=.png\n"
        )
    return tmp_path / "mot"


def test_image_sequences_are_tracked_and_evaluated_in_order(fo: Any, dataset_name: str, sequences: Path) -> None:
    ingest(sequences, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    (sequences / "B-02" / "img1" / "000009.png").write_bytes(b"broken")
    shuffled = dataset.shuffle(seed=3)
    report = track(shuffled, Blocks(), "bytetrack", frame_rate=25)

    assert report.field == "tracks" and sorted(one.name for one in report.clips) == ["A-01", "B-02"]
    assert [(one.file, "frames without detections (9)" in one.what) for one in report.problems] == [("B-02", True)]
    assert track(dataset, Blocks(), "bytetrack", frame_rate=25).kept == 2
    first = dataset.match(fo.ViewField("sequence") == "A-01").sort_by("frame_number")
    assert {tuple(sorted(one)) for one in first.values("tracks.detections.index")} == {(1, 2, 3)}
    assert len({one.instance.id for sample in first for one in sample.tracks.detections}) == 3

    scores = evaluate_tracks(dataset, "tracks", "ground_truth")
    assert set(scores.scores.sequences) == {"A-01", "B-02"}
    assert scores.scores.sequences["A-01"].values()["HOTA"] > 0.9
    assert scores.scores.sequences["B-02"].clear.fn >= 3
    assert len(dataset.match(fo.ViewField("track_eval_hota") > 0.9).match_tags("A-01")) == 20
    frames = scores.view("missed").values("frame_number")
    assert frames == [] or set(frames) <= set(range(1, 21))
    events = dataset.match(fo.ViewField("track_eval_events.classifications.label").contains("missed"))
    assert set(events.values("sequence")) == {"B-02"} and 9 in events.values("frame_number")
    assert evaluate_tracks(dataset.group_by("sequence", order_by="frame_number"), "tracks", "ground_truth").rows()
    assert suspicious(dataset, "tracks").tracks == 6
    with pytest.raises(UsageError, match="only videos have clips"):
        scores.clips()


def test_images_of_no_sequence_have_no_tracks(fo: Any, dataset_name: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    ingest(tmp_path, dataset_name)
    with pytest.raises(UsageError, match="no field 'sequence'"):
        track(fo.load_dataset(dataset_name), Blocks())


# -- evaluation ---------------------------------------------------------------------------------------------------


def test_evaluation_through_the_store_is_the_evaluation_of_the_files(fo: Any, dataset_name: str) -> None:
    """The official scores, to the last bit, under MOTChallenge's protocol where its data is there."""
    found = mot17()
    pairs: dict[str, tuple[Tracks, Tracks]] = {}
    for name, sequence in list(found.items())[-1:]:
        truth = sequence.truth.between(1, 80)
        pairs[name] = truth, disturb(truth[truth.confidence != 0])
    if not found:
        scene = walk(14, 100)
        class_id, mark = np.where(scene.track_id % 5 == 0, 7, 1), (scene.track_id % 4 != 0).astype(float)
        pairs["scene"] = Tracks(scene.frame, scene.track_id, scene.xyxy, mark, class_id), disturb(scene)
    [(truth, predicted)] = pairs.values()
    corner = predicted.xyxy[:, :2].round(2)
    boxes = np.hstack((corner, corner + (predicted.xyxy[:, 2:] - corner).round(2)))
    predicted = Tracks(predicted.frame, predicted.track_id, boxes)
    wanted = evaluate_sequences({"scene": (truth, predicted)}, benchmark="mot17")

    dataset = blank_video(fo, dataset_name, 0, {"ground_truth": truth, "tracks": predicted})
    report = evaluate_tracks(dataset, benchmark="mot17")

    assert report.scores.combined.values() == wanted.combined.values()
    sample = dataset.first()
    assert sample.track_eval_hota == wanted.combined.values()["HOTA"]
    assert sample.track_eval_idsw == wanted.combined.clear.switches
    counts = dataset.count_values("frames.tracks.detections.track_eval")
    clear = wanted.combined.clear
    assert (
        counts["tp"] + counts["idsw"] == clear.tp and counts["fp"] == clear.fp and counts["idsw"] == clear.switches
    )
    true = dataset.count_values("frames.ground_truth.detections.track_eval")
    assert true["fn"] == clear.fn and sum(true.values()) == len(truth) and true["ignored"] > 0
    assert "mot17 preprocessing" in report.rule and "HOTA" in report.summary()


@pytest.fixture
def judged(fo: Any, dataset_name: str) -> tuple[Any, Tracks, Tracks]:
    truth = walk(12, 100)
    predicted = disturb(truth)
    return blank_video(fo, dataset_name, 0, {"ground_truth": truth, "tracks": predicted}), truth, predicted


def test_every_mistake_is_where_the_app_shows_it(fo: Any, judged: tuple[Any, Tracks, Tracks]) -> None:
    dataset, truth, predicted = judged
    report = evaluate_tracks(dataset)
    wanted = evaluate_sequence(truth, predicted)

    told = [(e.kind, e.first_frame, e.last_frame, e.truth, e.predicted, e.previous) for e in report.events]
    assert sorted(told, key=str) == sorted(
        ((e.kind, e.first_frame, e.last_frame, e.truth_id, e.predicted_id, e.previous_id) for e in wanted.events),
        key=str,
    )
    kept = dataset.first().track_eval_events.detections
    assert sorted((d.label, *d.support) for d in kept) == sorted(row[:3] for row in told)
    switches = [d for d in kept if d.label == "switch"]
    assert len(switches) == wanted.clear.switches > 0
    for event in switches:
        labels = dataset.first().frames[event.support[1]].tracks.detections
        [marked] = [one for one in labels if one.index == event.predicted]
        assert marked.track_eval == "idsw" and marked.track_eval_index == event.truth
        [true] = [
            d for d in dataset.first().frames[event.support[1]].ground_truth.detections if d.index == event.truth
        ]
        assert true.track_eval_id == marked.id and true.track_eval_iou == marked.track_eval_iou
    assert len(report.clips("switch")) == len(switches)
    assert report.view("switch").first().track_eval_events.detections[0].label == "switch"
    assert sum(one.switches for one in report.tracks) == wanted.clear.switches
    assert (
        len(report.track_rows()) == 12
        and report.track_rows()[0]["coverage"] <= report.track_rows()[-1]["coverage"]
    )
    assert {row["kind"] for row in report.event_rows("merge")} <= {"merge"}
    assert report.to_dict()["scores"]["combined"]["HOTA"] == wanted.values()["HOTA"]


def test_a_second_evaluation_replaces_the_first_and_labels_stay_as_they_are(fo: Any, dataset_name: str) -> None:
    truth = walk(6, 50)
    predicted = disturb(truth)
    dataset = blank_video(fo, dataset_name, 0, {"ground_truth": truth, "tracks": predicted})
    labels = content(dataset, "ground_truth"), content(dataset)
    dataset.clone_frame_field("tracks", "copy")
    evaluate_tracks(dataset, key="one")
    second = evaluate_tracks(dataset, "copy", iou=0.9, key="one")

    wanted = evaluate_sequence(truth, predicted, iou=0.9)
    assert second.scores.combined.values() == pytest.approx(wanted.values(), rel=1e-6)
    assert dataset.list_runs() == ["one"]
    assert not dataset.has_field("frames.tracks.detections.one"), "nothing of the first is left"
    assert len(dataset.first().one_events.detections) == len(wanted.events)
    assert (content(dataset, "ground_truth"), content(dataset)) == labels
    np.testing.assert_array_equal(read_tracks(dataset).xyxy, read_tracks(dataset, "copy").xyxy)
    # A killed evaluation has noted its run and written half of it.
    bulk_tracks.set_sample_values(dataset, clip_of(dataset), {"one_hota": -1.0})
    assert evaluate_tracks(dataset, key="one") and dataset.first().one_hota > 0

    dataset.add_sample_field("mine_hota", fo.FloatField)
    with pytest.raises(UsageError, match="mine_hota"):
        evaluate_tracks(dataset, key="mine")
    [(_, record)] = bulk.iter_records(dataset, ["frames.ground_truth"])
    assert not any(label.attributes for some in (record.frames or {}).values() for label in some)


def clip_of(dataset: Any) -> Any:
    from osv_lab.store.clips import clips_of

    return clips_of(dataset)[0]


def test_classes_together_and_one_by_one(fo: Any, dataset_name: str) -> None:
    scene = walk(6, 60)
    truth = Tracks(scene.frame, scene.track_id, scene.xyxy, class_id=np.where(scene.track_id % 2, 1, 3))
    mistaken = Tracks(
        scene.frame, scene.track_id, scene.xyxy, class_id=np.where(scene.track_id > 4, 1, truth.class_id)
    )
    dataset = blank_video(fo, dataset_name, 0, {"ground_truth": truth, "tracks": mistaken})
    together = evaluate_tracks(dataset)
    apart = evaluate_tracks(dataset, per_class=True)
    cars = evaluate_tracks(dataset, classes=["car"])

    wrong = int(np.count_nonzero(scene.track_id == 6))
    assert together.scores.combined.values()["HOTA"] == pytest.approx(1)
    assert together.notes == (
        f"{wrong} of {len(scene)} matched boxes have another class: per_class=True counts them as wrong",
    )
    assert set(apart.classes) == {"car", "pedestrian"} and apart.notes == ()
    assert (apart.scores.combined.clear.fp, apart.scores.combined.clear.fn) == (wrong, wrong)
    assert apart.classes["car"].clear.fn == wrong and apart.classes["car"].clear.fp == 0
    assert [row["sequence"] for row in apart.rows()] == ["scene", "all", "class car", "class pedestrian"]
    assert cars.scores.combined.values() == apart.classes["car"].values()


def test_indices_counted_per_class_are_identities_per_class(fo: Any, dataset_name: str) -> None:
    """FiftyOne's own rule, and CVAT's: car 1 and bus 1 are two tracks."""
    dataset = blank_video(fo, dataset_name, 3)
    sample = dataset.first()
    for number in (1, 2, 3):
        sample.frames[number] = fo.Frame(
            ground_truth=fo.Detections(
                detections=[
                    fo.Detection(label=name, index=1, bounding_box=[left, 0.1, 0.1, 0.1])
                    for name, left in (("car", 0.1), ("bus", 0.6))
                ]
            )
        )
    sample.save()
    write_tracks(sample, read_tracks(sample, "ground_truth"), "tracks", class_names={14: "bus", 3: "car"})
    report = evaluate_tracks(dataset)
    assert report.scores.combined.values()["HOTA"] == pytest.approx(1)
    assert sorted((one.track, one.label) for one in report.tracks) == [(1, "bus"), (1, "car")]


def test_truth_on_key_frames_only(fo: Any, dataset_name: str) -> None:
    scene = walk(5, 60)
    dataset = blank_video(fo, dataset_name, 60, {"tracks": scene})
    sample = dataset.first()
    for number, frame in scene[scene.frame % 10 == 0].frames(60):
        if number % 10 == 0:
            sample.frames[number]["ground_truth"] = fo.Detections(
                detections=[
                    fo.Detection(
                        label="object",
                        index=int(index),
                        bounding_box=[x1 / 960, y1 / 540, (x2 - x1) / 960, (y2 - y1) / 540],
                    )
                    for index, (x1, y1, x2, y2) in zip(frame.track_id, frame.xyxy, strict=True)
                ]
            )
    sample.save()
    assert evaluate_tracks(dataset).scores.combined.clear.fp > 0
    assert evaluate_tracks(dataset, only_labelled_frames=True).scores.combined.values()["HOTA"] == pytest.approx(1)


def test_what_cannot_be_evaluated_is_named(fo: Any, judged: tuple[Any, Tracks, Tracks]) -> None:
    dataset = judged[0]
    with pytest.raises(NotFoundError, match=r"did you mean 'frames\.tracks'"):
        evaluate_tracks(dataset, "frames.track")
    with pytest.raises(UsageError, match="the same field"):
        evaluate_tracks(dataset, "tracks", "frames.tracks")
    with pytest.raises(UsageError, match="did you mean 'mot17'"):
        evaluate_tracks(dataset, benchmark="mot71")
    with pytest.raises(UsageError, match="not a name"):
        evaluate_tracks(dataset, key="no name")
    dataset.clone_frame_field("tracks", "boxes")
    dataset.set_values("frames.boxes.detections.index", [[[None] * len(f) for f in s] for s in
                       dataset.values("frames.boxes.detections.index")])  # fmt: skip
    with pytest.raises(InvalidDataError, match="labels without index"):
        evaluate_tracks(dataset, "boxes")
    dataset._frame_collection.update_one({"frame_number": 1}, {"$set": {"tracks.made_by": bulk_tracks.UNFINISHED}})
    with pytest.raises(InvalidDataError, match="half written"):
        evaluate_tracks(dataset)


# -- without truth ------------------------------------------------------------------------------------------------


def line(identity: int, frames: range, x: float, speed: float, y: float = 100, class_id: int = 1) -> Tracks:
    number = np.array(frames)
    left, top = x + speed * (number - number[0]), np.full(len(number), y)
    boxes = np.column_stack((left, top, left + 40, top + 100))
    return Tracks(number, np.full(len(number), identity), boxes, class_id=np.full(len(number), class_id))


def test_planted_faults_are_written_and_clean_tracks_are_not(fo: Any, dataset_name: str) -> None:
    crossing = Tracks.concatenate((line(1, range(1, 80), 0, 4), line(2, range(1, 80), 316, -4)))
    swapped = np.where(crossing.frame >= 40, 3 - crossing.track_id, crossing.track_id)
    flicker = line(5, range(1, 80), 0, 2, 400)
    planted = Tracks.concatenate(
        (
            Tracks(crossing.frame, swapped, crossing.xyxy, class_id=crossing.class_id),
            line(3, range(1, 40), 500, 2),
            line(3, range(40, 80), 800, 2),
            flicker[flicker.frame % 4 != 0],
            line(6, range(1, 80), 300, 1, 250),
            line(7, range(30, 60), 330, 1, 250),
            line(8, range(40, 43), 700, 1, 420),
        )
    )
    dataset = blank_video(fo, dataset_name, 0, {"tracks": planted, "clean": crossing})
    report = suspicious(dataset)

    kinds = {one.kind: one for one in report.events}
    assert set(kinds) == {"swap", "teleport", "flicker", "merge", "short"}
    assert kinds["swap"].tracks == (1, 2) and kinds["swap"].first_frame <= 40 <= kinds["swap"].last_frame
    assert (kinds["teleport"].tracks, kinds["teleport"].first_frame) == ((3,), 39)
    assert kinds["teleport"].first_s == pytest.approx(38 / 25)
    stored = dataset.first().suspicious_events.detections
    assert sorted((d.label, *d.support) for d in stored) == sorted(
        (one.kind, one.first_frame, one.last_frame) for one in report.events
    )
    assert all(0 <= d.confidence <= 1 and d.reason and d.tracks for d in stored)
    assert dataset.first().suspicious_count == len(report.events)
    assert dataset.first().suspicious_score == pytest.approx(sum(one.score for one in report.events))
    assert len(report.clips()) == len({(one.first_frame, one.last_frame, one.kind) for one in report.events})
    assert report.view("teleport").count("suspicious_events.detections") == 1 and "teleport" in report.summary()

    clean = suspicious(dataset, "clean")
    assert clean.events == () and dataset.first().suspicious_events.detections == []


def test_a_class_that_flips_is_told_by_name(fo: Any, dataset_name: str) -> None:
    flipping = Tracks.concatenate((line(4, range(1, 40), 0, 2), line(4, range(40, 70), 78, 2, class_id=3)))
    dataset = blank_video(fo, dataset_name, 0, {"tracks": flipping})
    assert dataset.distinct("frames.tracks.detections.label") == ["pedestrian"], "one class per track"
    [event] = suspicious(dataset).events
    assert event.kind == "class_flip" and event.reason == "1 changes among classes car, pedestrian"


# -- kills --------------------------------------------------------------------------------------------------------

# Children of one process that has imported everything. Only writing is slowed down, so that kills fall into it.
SCRIPT = """
import os, signal, sys, time
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from test_tracks_store import Blocks
from osv_lab.store import bulk_tracks, database, tracks
import fiftyone, fiftyone.core.odm, pymongo, cv2
name, *delays = sys.argv[3:]
bulk_tracks.FRAME_BATCH = 4
write = bulk_tracks.Writer.set_frame_labels
def slow(*args):
    time.sleep(0.02)
    write(*args)
bulk_tracks.Writer.set_frame_labels = slow
for delay in delays:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        dataset = database.connect().load_dataset(name)
        os.write(tell, b".")
        tracks.track(dataset, Blocks("new"), "bytetrack")
        os._exit(0)
    os.read(ready, 1)
    time.sleep(float(delay))
    os.kill(child, signal.SIGKILL)
    print("KILLED" if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else "FINISHED", flush=True)
"""


def test_kill_9_while_tracking_and_writing(fo: Any, videos: Any) -> None:
    track(videos, Blocks("old"))
    old = content(videos)
    tests = Path(__file__).resolve().parent
    delays = [f"{0.1 * k:.2f}" for k in range(1, 9)]
    command = [sys.executable, "-c", SCRIPT, str(tests), str(tests.parent), videos.name, *delays]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.splitlines().count("KILLED") >= 3, answer.stdout

    report = track(videos, Blocks("new"), "bytetrack")
    assert len(report.clips) + report.kept == 3 and not report.problems
    videos.reload()
    found = content(videos)
    assert len(found) == len({row[:3] for row in found}) == 3 * 30 * 3, "nothing doubled, nothing lost"
    assert videos.distinct("frames.tracks.made_by") == [report.made_by]
    assert videos.count("frames") == 90
    assert [row[:2] for row in found] == [row[:2] for row in old]


def test_a_run_that_is_stopped_continues(videos: Any) -> None:
    def stop(label: str, done: int, total: int | None) -> None:
        assert total == 90
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedJobError, match="run the same again"):
        track(videos, Blocks(), progress=stop)
    report = track(videos, Blocks())
    assert (report.kept, len(report.clips)) == (1, 2)


def test_the_lab_tracks_evaluates_and_suspects(dataset_name: str, tmp_path: Path) -> None:
    """The three methods on a rendered video whose tracks are known."""
    video: SyntheticVideo = render_video(tmp_path / "parts.mp4", 40)
    lab = Lab(dataset_name)
    lab.upload_data(video.path)
    truth = read_mot(video.mot)
    names = {number: f"part{number}" for number in range(1, 9)}
    write_tracks(lab.dataset.first(), truth, "ground_truth", class_names=names)
    lab.dataset.clone_frame_field("ground_truth", "detections")
    report = lab.track(from_field="frames.detections", tracker="bytetrack")
    scores = lab.evaluate_tracks()

    assert report.clips[0].tracks >= len(video.tracks) - 1
    assert scores.scores.combined.values()["HOTA"] > 0.8
    assert lab.suspicious_tracks().tracks == report.clips[0].tracks
    assert replace(scores, duration_s=0.0) == scores
