"""Videos tracked from end to end: what is found, what is written, what a kill leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, shared_data
from video_scenes import CLASSES, SIZE, BrightDetector, image, write_folder, write_video

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.detect import load_detector
from osv_lab.detect.detector import Detector
from osv_lab.track import Line, ObjectTracker, Zone, track_video, writer
from osv_lab.track.mot import read_tracks
from osv_lab.track.source import Frame, VideoEvent, open_source

GATE = Line("gate", (0, 60), (160, 60), anchor="center")
LOT = Zone("lot", ((0, 0), (80, 0), (80, 119), (0, 119)), anchor="center")


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
    with pytest.raises(InvalidDataError, match="the network broke"):
        track_video(scene, Breaking(), target)
    assert target.read_text() == "older"


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
    from video_scenes import BrightDetector
    from test_video import GATE, LOT
    from osv_lab.track import track_video
    options = {"formats": ["mot", "json", "coco"], "areas": [GATE, LOT], "batch_size": 4}
    track_video(sys.argv[1], BrightDetector(wait_s=0.15), sys.argv[2], checkpoint_s=0, **options)
"""


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(scene: Path, tmp_path: Path) -> None:
    options = {"formats": ["mot", "json", "coco"], "areas": [GATE, LOT], "batch_size": 4}
    whole = track_video(scene, BrightDetector(), tmp_path / "whole.mp4", **options)

    target = tmp_path / "killed.mp4"
    work = tmp_path / ".killed.tracking"
    tests = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
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


class Endless:
    """A source of as many frames as are wanted, without a file."""

    name, frame_rate, size, live = "endless", 10.0, SIZE, False

    def __init__(self, length: int) -> None:
        self.length: int | None = length
        self.events: deque[VideoEvent] = deque()
        self.pictures = [image(number) for number in range(1, 61)]

    def frames(self, start: int = 1) -> Iterator[Frame]:
        for number in range(start, (self.length or 0) + 1):
            yield Frame(number, number / 10, self.pictures[(number - 1) % 60].copy())

    def fingerprint(self) -> dict[str, object]:
        return {"endless": self.length}

    def close(self) -> None: ...


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    import psutil

    used: dict[int, int] = {}

    def watch(label: str, done: int, total: int | None) -> None:
        if label == "track":
            used[done] = psutil.Process().memory_info().rss

    result = track_video(
        Endless(3000), BrightDetector(), tmp_path / "a.txt", formats=["video"], areas=[GATE, LOT], progress=watch
    )
    assert result.frames == 3000 and len(result.identities) > 100
    grown = (used[3000] - used[1000]) / 2**20
    assert grown < 8, f"{grown:.1f} MB from frame 1,000 to 3,000"


def test_a_source_that_hangs_is_left_and_what_there_is_is_kept() -> None:
    class Hanging(Endless):
        live = True

        def frames(self, start: int = 1) -> Iterator[Frame]:
            yield from super().frames(start)
            time.sleep(30)

    result = track_video(Hanging(12), BrightDetector(), stall_s=0.3)
    assert result.frames == 12 and [event.kind for event in result.events] == ["ended"]
    assert "hangs" in result.summary()


def test_what_a_killed_recording_had_is_not_lost(tmp_path: Path) -> None:
    class Live(Endless):
        live = True

        def frames(self, start: int = 1) -> Iterator[Frame]:
            for frame in super().frames(start):
                time.sleep(0.01)
                yield frame

    class Breaking(BrightDetector):
        def predict(self, images, **options):  # type: ignore[no-untyped-def]
            if len(self.batches) == 10:
                raise InvalidDataError("the power went")
            return super().predict(images, **options)

    for again in (1, 2):
        with pytest.raises(InvalidDataError, match="power"):
            track_video(
                Live(30), Breaking(), tmp_path / "today.mp4", formats=["mot"], checkpoint_s=0, areas=[GATE]
            )
        result = track_video(Live(30), BrightDetector(), tmp_path / "today.mp4", formats=["mot"], areas=[GATE])
        assert result.resumed_at == 0 and result.rows()[0]["id"] == 1
        assert result.events[0].kind == "recovered" and f"today-{again}.mp4" in result.events[0].detail
        assert len(list(open_source(tmp_path / f"today-{again}.mp4").frames())) == 10
        assert read_tracks(tmp_path / f"today-{again}.txt").last_frame >= 10
    assert len(list(tmp_path.iterdir())) == 6


def test_a_live_source_loses_frames_rather_than_time() -> None:
    class Hurrying(Endless):
        live = True

    result = track_video(Hurrying(300), BrightDetector(wait_s=0.02))
    [event] = result.events
    assert event.kind == "dropped" and result.frames < 300
    assert result.frames + int(event.detail.split()[0]) == 300


class Recorded:
    """A detector that answers a second pass from memory."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.answers: dict[bytes, list[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.detector, name)

    def predict(self, images: Sequence[np.ndarray], **options: Any) -> list[Any]:
        key = b"".join(hashlib.sha256(picture).digest() for picture in images)
        if key not in self.answers:
            self.answers[key] = self.detector.predict(images, **options)
        return [found[np.arange(len(found))] for found in self.answers[key]]


def test_cars_over_a_line_are_as_many_as_by_hand() -> None:
    data = shared_data()
    if data is None:
        return  # the scene above is counted against its own truth
    detector = Recorded(load_detector(data / "models" / "yolox_nano_coco.onnx"))
    for tracker in ("botsort", "bytetrack"):
        count_cars(data / "videos" / "car-detection.mp4", detector, tracker)


def count_cars(video: Path, detector: Recorded, tracker: str) -> None:
    hand = json.loads((ROOT / "tests" / "data" / "car_detection_hand_count.json").read_text())
    line = Line("line", *map(tuple, hand["line"]), anchor=hand["anchor"])
    # YOLOX-nano has learnt cars from the side: from above it calls them phones, suitcases and buses, the same car
    # several things at a time, and is half sure of each. So every class counts, one box per object, from half on.
    result = track_video(
        video,
        detector,
        tracker={"algorithm": tracker, "high": 0.5, "new": 0.5},
        agnostic=True,
        areas=[line],
    )
    counts = result.counts()["line"]
    assert (counts["in"], counts["out"]) == (hand["in"], hand["out"])
    assert len(result.identities) == len(hand["cars"])
    crossed = sorted((event.frame, event.what) for event in result.zone_events)
    expected = sorted((car["crosses_at"], car["direction"]) for car in hand["cars"])
    assert [what for _, what in crossed] == [what for _, what in expected]
    assert max(abs(a - b) for (a, _), (b, _) in zip(crossed, expected, strict=True)) <= 2
    for row, car in zip(result.rows(), hand["cars"], strict=True):
        assert car["first_frame"] <= row["first"] < car["crosses_at"] < row["last"] <= car["last_frame"]


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
