"""Clips of a dataset tracked: what is found, what continues, what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from track_scenes import detector_view, walk
from tracks_store_scenes import Blocks, blank_video, content, film

from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError
from osv_lab.evaluate.suspicious import suspicious
from osv_lab.evaluate.tracking import evaluate_tracks
from osv_lab.lab import Lab
from osv_lab.store.ingest import ingest
from osv_lab.store.synthetic_video import SyntheticVideo, render_video
from osv_lab.store.tracks import read_tracks, track, write_tracks
from osv_lab.track.metrics import evaluate_sequence
from osv_lab.track.mot import read_tracks as read_mot


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
        ("1", "not a video that can be read"),
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
