"""Videos tracked from end to end: what is found, what is written, what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from support import ROOT
from video_scenes import CLASSES, GATE, LOT, SIZE, BrightDetector, image, write_folder, write_video

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.track import ObjectTracker, track_video, writer
from osv_lab.track.mot import read_tracks
from osv_lab.track.source import open_source


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("scene") / "scene.mp4")


def test_a_video_becomes_tracks_files_and_counts(scene: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    result = track_video(
        scene,
        BrightDetector(),
        tmp_path / "out" / "tracked.mp4",
        tracker="bytetrack",
        formats=["mot", "coco", "json"],
        areas=[GATE, LOT],
        progress=lambda *step: steps.append(step),
    )
    assert result.frames == 60 and result.size == SIZE and result.frame_rate == 10
    assert [(row["id"], row["class"], row["first"], row["length"]) for row in result.rows()] == [
        (1, "car", 1, 60),
        (2, "bus", 1, 60),
        (3, "car", 17, 44),  # seen first in frame 16; a second match confirms it
    ]
    counts = result.counts()
    # The bus goes up through the gate; the third box comes down through it.
    assert counts["gate"]["in"] == 1 and counts["gate"]["out"] == 1
    assert counts["gate"]["classes"] == {"bus": {"in": 1, "out": 0}, "car": {"in": 0, "out": 1}}
    assert counts["lot"]["enter"] == 2 and counts["lot"]["leave"] == 2
    assert steps[0] == ("track", 0, 60) and ("track", 60, 60) in steps and steps[-1] == ("write", 4, 4)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "tracked.coco.json",
        "tracked.json",
        "tracked.mp4",
        "tracked.txt",
    ]
    assert "60 frames" in result.summary() and f"({result.codec})" in result.summary()
    assert not result.events and result.to_dict()["counts"] == counts

    mot = read_tracks(result.files["mot"])
    tracks = result.tracks
    assert np.array_equal(mot.frame, tracks.frame) and np.array_equal(mot.track_id, tracks.track_id)
    assert np.abs(mot.xyxy - tracks.xyxy).max() <= 0.0011
    assert set(tracks.class_id[tracks.track_id == 2].tolist()) == {CLASSES.index("bus")}


def test_the_files_say_the_same(scene: Path, tmp_path: Path) -> None:
    result = track_video(scene, BrightDetector(), tmp_path / "a.coco.json", formats=["json"], areas=[GATE])
    coco = json.loads(result.files["coco"].read_text())
    tracks = result.tracks
    assert [item["id"] for item in coco["images"]] == list(range(1, 61))
    assert [item["frame_id"] for item in coco["images"]] == list(range(60))
    assert [item["track_id"] for item in coco["annotations"]] == tracks.track_id.tolist()
    boxes = np.array([item["bbox"] for item in coco["annotations"]])
    assert np.abs(boxes[:, 2:] - (tracks.xyxy[:, 2:] - tracks.xyxy[:, :2])).max() < 0.01
    names = {item["id"]: item["name"] for item in coco["categories"]}
    assert {names[item["category_id"]] for item in coco["tracks"]} == set(CLASSES)
    plain = json.loads(result.files["json"].read_text())
    assert [frame["frame"] for frame in plain["frame_list"]] == list(range(1, 61))
    assert plain["frame_list"][59]["timestamp_s"] == pytest.approx(5.9)
    listed = [(frame["frame"], item["id"]) for frame in plain["frame_list"] for item in frame["objects"]]
    assert listed == list(zip(tracks.frame.tolist(), tracks.track_id.tolist(), strict=True))
    assert plain["counts"]["gate"]["in"] == 1 and len(plain["identities"]) == 3


def test_the_written_video_plays_frame_for_frame(scene: Path, tmp_path: Path) -> None:
    import av

    result = track_video(scene, BrightDetector(), tmp_path / "a.mp4", checkpoint_s=0, areas=[GATE, LOT])
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == result.codec == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p" and stream.average_rate == 10
        assert (tmp_path / "a.mp4").read_bytes().index(b"moov") < (tmp_path / "a.mp4").read_bytes().index(b"mdat")
        frames = list(container.decode(stream))
    assert [round(frame.time, 4) for frame in frames] == [round(k / 10, 4) for k in range(60)]
    drawn = frames[40].to_ndarray(format="bgr24").astype(int)
    # Something is drawn, and what is under it is the frame it belongs to.
    changed = np.abs(drawn - image(41).astype(int)).max(axis=2) > 60
    assert 0.02 < changed.mean() < 0.6
    other = np.abs(drawn - image(31).astype(int)).max(axis=2) > 60
    assert other.mean() > changed.mean()


@pytest.mark.parametrize("size", [(161, 121), (159, 120)])
def test_odd_sides_can_be_written(size: tuple[int, int], tmp_path: Path) -> None:
    import cv2

    folder = tmp_path / "odd"
    folder.mkdir()
    for number in range(1, 4):
        cv2.imwrite(str(folder / f"{number}.png"), image(number, size))
    track_video(folder, BrightDetector(), tmp_path / "a.mkv")
    assert open_source(tmp_path / "a.mkv").size == (size[0] + size[0] % 2, size[1] + size[1] % 2)


def test_what_is_drawn_takes_the_place_of_an_older_file_only_when_it_is_whole(scene: Path, tmp_path: Path) -> None:
    class Breaking(BrightDetector):
        def predict(self, images, **options):  # type: ignore[no-untyped-def]
            if len(self.batches) == 3:
                raise InvalidDataError("the network broke")
            return super().predict(images, **options)

    target = tmp_path / "a.mp4"
    target.write_text("older")
    with pytest.raises(InvalidDataError, match="the network broke") as raised:
        track_video(scene, Breaking(), target)
    assert target.read_text() == "older"
    left_open = [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))]
    assert raised.tb and left_open == [], "what was begun is closed, also while somebody holds the error"


def test_options_reach_detector_and_tracker(scene: Path) -> None:
    detector = BrightDetector()
    tracker = ObjectTracker("bytetrack", frame_rate=10)
    tracker.update_arrays([[0, 0, 9, 9]], [0.9])
    result = tracker.track_video(scene, detector, classes=["bus"], every=3, batch_size=4, max_frames=10)
    assert detector.batches == [4, 4, 2] and result.frames == 10
    assert result.tracks.frame.tolist() == list(range(1, 31, 3))
    assert result.rows()[0]["class"] == "bus" and result.rows()[0]["id"] == 1  # not 2: tracked anew
    assert not result.files and result.codec == ""


def test_without_output_nothing_is_left_on_disk(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = track_video(scene, BrightDetector())
    assert list(tmp_path.iterdir()) == []
    assert len(result.tracks) == 164 and len(result.suspicious()) == 0


def test_agnostic_suppression_goes_across_classes(scene: Path) -> None:
    class Doubtful(BrightDetector):
        def predict(self, images, **options):  # type: ignore[no-untyped-def]
            import supervision as sv

            twice = []
            for found in super().predict(images, **options):
                other = found[np.arange(len(found))]
                other.class_id, other.confidence = 1 - found.class_id, found.confidence - 0.1
                other.data["class_name"] = np.array(CLASSES)[other.class_id]
                twice.append(sv.Detections.merge([found, other]))
            return twice

    free = {"tracker": {"algorithm": "bytetrack", "new_iou": 1.0}}
    assert len(track_video(scene, Doubtful(), **free).identities) == 6
    assert len(track_video(scene, Doubtful(), agnostic=True, **free).identities) == 3


def test_outputs_that_cannot_be(scene: Path, tmp_path: Path) -> None:
    for output, formats, words in (
        (tmp_path / "a.avi", None, "no format for this suffix"),
        (tmp_path / "a.mp4", ["mott"], "did you mean 'mot'"),
        ([tmp_path / "a.mp4", tmp_path / "b.mkv"], None, "two files of one format"),
        (None, ["mot"], "formats without an output"),
        (scene, None, "the output is the source"),
    ):
        with pytest.raises(UsageError, match=words):
            track_video(scene, BrightDetector(), output, formats=formats)
    with pytest.raises(UsageError, match="no such class"):
        track_video(scene, BrightDetector(), classes=["lorry"])
    with pytest.raises(UsageError, match="every"):
        track_video(scene, BrightDetector(), every=0)
    assert scene.stat().st_size > 1000
    result = track_video(scene, BrightDetector(), tmp_path / "folder")
    assert sorted(path.name for path in result.files.values()) == ["scene.mp4", "scene.txt"]


KILLED = """
    import sys
    from video_scenes import GATE, LOT, BrightDetector
    from osv_lab.track import track_video
    options = {"formats": ["mot", "json", "coco"], "areas": [GATE, LOT], "batch_size": 4}
    track_video(sys.argv[1], BrightDetector(wait_s=0.15), sys.argv[2], checkpoint_s=0, **options)
"""


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(scene: Path, tmp_path: Path) -> None:
    options = {"formats": ["mot", "json", "coco"], "areas": [GATE, LOT], "batch_size": 4}
    whole = track_video(scene, BrightDetector(), tmp_path / "whole.mp4", **options)

    target = tmp_path / "killed.mp4"
    work = tmp_path / ".killed.tracking"
    tests = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": tests}
    segments = 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(scene), str(target)], env=environment
        )
        deadline = time.monotonic() + 60
        # Let it get three checkpoints further, and kill it in the middle of what follows.
        while len(list(work.glob("segment-*"))) < segments + 4:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        segments = len(list(work.glob("segment-*"))) - 1
    assert not target.exists() and not (tmp_path / "killed.txt").exists()

    detector = BrightDetector()
    result = track_video(scene, detector, target, **options)
    assert 24 <= result.resumed_at < 60 and sum(detector.batches) == 60 - result.resumed_at
    for kind in ("mot", "json", "coco"):
        assert result.files[kind].read_bytes() == whole.files[kind].read_bytes(), kind
    assert not work.exists()
    before = [frame.image.astype(int) for frame in open_source(whole.files["video"]).frames()]
    after = [frame.image.astype(int) for frame in open_source(result.files["video"]).frames()]
    assert len(before) == len(after) == 60
    assert max(np.abs(a - b).mean() for a, b in zip(before, after, strict=True)) < 3


def test_another_job_does_not_go_on_from_a_killed_one(scene: Path, tmp_path: Path) -> None:
    class Breaking(BrightDetector):
        def predict(self, images, **options):  # type: ignore[no-untyped-def]
            if len(self.batches) == 3:
                raise InvalidDataError("the network broke")
            return super().predict(images, **options)

    target = tmp_path / "a.txt"
    for changed in ({"confidence": 0.3}, {"tracker": "bytetrack"}, {"areas": [GATE]}, {"resume": False}):
        with pytest.raises(InvalidDataError, match="broke"):
            track_video(scene, Breaking(), target, checkpoint_s=0)
        assert track_video(scene, BrightDetector(), target, **changed).resumed_at == 0
    with pytest.raises(InvalidDataError, match="broke"):
        track_video(scene, Breaking(), target, checkpoint_s=0)
    assert track_video(scene, BrightDetector(), target).resumed_at == 24


def test_a_run_stopped_while_it_writes_only_writes_again(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = track_video(scene, BrightDetector(), tmp_path / "whole.mp4", formats=["mot"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writer, "join", lambda *arguments: signal.raise_signal(signal.SIGINT))
        track_video(scene, BrightDetector(), tmp_path / "a.mp4", formats=["mot"])
    assert not (tmp_path / "a.mp4").exists()
    detector = BrightDetector()
    again = track_video(scene, detector, tmp_path / "a.mp4", formats=["mot"])
    assert again.resumed_at == 60 and detector.batches == []
    assert again.files["mot"].read_bytes() == whole.files["mot"].read_bytes()
    assert again.rows() == whole.rows()


def test_every_encoder_there_is_makes_a_video_that_can_be_read(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = writer.encoders()
    assert available[0][1] == "h264"
    for encoder in available:
        monkeypatch.setattr(writer, "_ENCODERS", (encoder,))
        result = track_video(scene, BrightDetector(), tmp_path / f"{encoder[0]}.mp4", checkpoint_s=0)
        assert result.codec == encoder[1]
        written = open_source(result.files["video"])
        frames = list(written.frames())
        assert len(frames) == 60 and not written.events
        assert frames[59].timestamp_s == pytest.approx(5.9, abs=1e-3)


def test_folders_are_read_in_natural_order_and_broken_images_leave_a_hole(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("not an image")
    result = track_video(folder, BrightDetector(), frame_rate=5)
    assert sorted(set(result.tracks.frame.tolist())) == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    assert len(result.identities) == 2 and result.frame_rate == 5
    [event] = result.events
    assert (event.kind, event.frame) == ("unreadable", 7) and "7.png" in event.detail


def test_a_missing_source_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"no such video or folder: 'nowhere\.mp4'"):
        track_video("nowhere.mp4", BrightDetector())
