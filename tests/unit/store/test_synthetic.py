"""The synthetic data set: known truth, the same everywhere, resumable."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import yaml

from osv_lab.core.errors import UsageError
from osv_lab.store import scenes
from osv_lab.store.synthetic import DEMO, MIN_VISIBILITY, render_dataset, render_video


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_layout_and_counts(tmp_path: Path) -> None:
    report = render_dataset(tmp_path / "parts", 20, (96, 128))
    assert dict(report.images) == {"train": 14, "val": 3, "test": 3}
    assert sum(row["images"] for row in report.rows()) == 20
    described = yaml.safe_load(report.data_yaml.read_text())
    assert described["names"] == dict(enumerate(scenes.CLASSES))
    lines = 0
    for split, count in report.images.items():
        images = sorted((report.folder / described[split]).iterdir())
        assert len(images) == count
        for image in images:
            assert cv2.imread(str(image)).shape == (128, 96, 3)
            label = report.folder / "labels" / split / f"{image.stem}.txt"
            for line in label.read_text().splitlines():
                class_id, x, y, w, h = map(float, line.split())
                assert 0 <= class_id < 5
                assert w > 0
                assert h > 0
                assert x - w / 2 > -1e-6
                assert x + w / 2 < 1 + 1e-6
                assert y - h / 2 > -1e-6
                assert y + h / 2 < 1 + 1e-6
                lines += 1
    assert lines == sum(report.objects.values()) > 20


def test_same_pixels_in_another_process(tmp_path: Path) -> None:
    render_dataset(tmp_path / "one", 6, (96, 96), seed=7)
    code = "import sys; from osv_lab.store.synthetic import render_dataset; render_dataset(sys.argv[1], 6, (96, 96), 7)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "two")], check=True)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    render_dataset(tmp_path / "other", 6, (96, 96), seed=8)
    assert tree(tmp_path / "one") != tree(tmp_path / "other")


def test_an_interrupted_run_continues_and_a_finished_one_stays(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill_at_four(label: str, done: int, total: int | None, /) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        render_dataset(tmp_path / "parts", 8, (96, 96), progress=kill_at_four)
    assert not (tmp_path / "parts" / "data.yaml").exists()
    # What a killed write leaves behind.
    (tmp_path / "parts" / "images" / "train" / ".train_00004-abc.jpg").write_bytes(b"half")
    report = render_dataset(tmp_path / "parts", 8, (96, 96))
    assert report.rendered == 4
    render_dataset(tmp_path / "whole", 8, (96, 96))
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    assert render_dataset(tmp_path / "parts", 8, (96, 96)).rendered == 0


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        render_dataset(tmp_path, 6, (96, 96))
    render_dataset(tmp_path / "parts", 6, (96, 96))
    with pytest.raises(UsageError, match="other parameters"):
        render_dataset(tmp_path / "parts", 6, (96, 96), seed=1)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 2}, "three images or more"),
        ({"n": {"train": 1, "vall": 1}}, "did you mean 'val'"),
        ({"size": (10, 96)}, "at least 64"),
        ({"labels": "boxs"}, "did you mean 'boxes'"),
        ({"classes": ["gera"]}, "did you mean 'gear'"),
        ({"classes": ["gear", "gear"]}, "name each part once"),
        ({"labels": "keypoints", "classes": ["washer"]}, "no such part with keypoints"),
        ({"max_parts": 0}, "at least 1"),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        render_dataset(tmp_path / "x", **{"n": 6, "size": (96, 96), **arguments})  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_truth_is_what_was_drawn() -> None:
    rng = np.random.default_rng(3)
    bench = np.full((200, 200, 3), 40, np.float32)
    low = scenes.Part("gear", (80, 100), 40, 0.3, (250, 250, 250))
    high = scenes.Part("knob", (120, 100), 40, 0.0, (10, 10, 250))
    image, (below, above) = scenes.draw(bench, [low, high])
    assert above.visibility == 1
    assert 0.5 < below.visibility < 0.95
    assert not (below.mask & above.mask).any()
    changed = np.abs(image - bench).max(axis=2) > 90
    assert changed[above.mask].mean() > 0.9
    x1, y1, x2, y2 = above.box
    outline = scenes.outline_of(high)[0]
    assert np.allclose([x1, y1, x2, y2], [*outline.min(0), *outline.max(0)], atol=1.5)
    polygon = above.polygon
    filled = cv2.fillPoly(np.zeros((200, 200), np.uint8), [polygon.astype(np.int32)], 1).astype(bool)
    assert (filled & above.mask).sum() / (filled | above.mask).sum() > 0.95
    photo = scenes.develop(rng, image, blur=1, noise=3)
    assert photo.dtype == np.uint8


def test_no_part_is_hidden_more_than_promised() -> None:
    from osv_lab.store.synthetic import _render

    for number in range(25):
        _, instances = _render(np.random.default_rng([1, number]), (128, 128), scenes.CLASSES, 5)
        assert all(instance.visibility >= MIN_VISIBILITY for instance in instances)


@pytest.mark.parametrize(("labels", "values"), [("oriented", 8), ("keypoints", 4 + 9)])
def test_other_kinds_of_labels(tmp_path: Path, labels: str, values: int) -> None:
    report = render_dataset(tmp_path / labels, 8, (96, 96), labels=labels)  # type: ignore[arg-type]
    rows = [
        line.split() for path in report.folder.glob("labels/*/*.txt") for line in path.read_text().splitlines()
    ]
    assert rows
    assert all(len(row) == values + 1 for row in rows)
    assert all(-1e-6 <= float(value) <= (2 if labels == "keypoints" else 1) for row in rows for value in row[1:])
    if labels == "keypoints":
        assert yaml.safe_load(report.data_yaml.read_text())["kpt_shape"] == [3, 3]
        assert report.classes == ("bolt", "bracket")


def test_polygons_lie_on_the_masks(tmp_path: Path) -> None:
    report = render_dataset(tmp_path / "outlines", 6, (96, 96), labels="polygons")
    rows = [
        line.split() for path in report.folder.glob("labels/*/*.txt") for line in path.read_text().splitlines()
    ]
    assert all(len(row) >= 7 and len(row) % 2 == 1 for row in rows)


def test_ultralytics_reads_the_set(tmp_path: Path) -> None:
    from ultralytics.data.utils import check_det_dataset, verify_image_label

    report = render_dataset(tmp_path / "parts", 8, (96, 96))
    described = check_det_dataset(str(report.data_yaml))
    assert described["nc"] == 5
    for image in Path(described["train"]).iterdir():
        label = image.parent.parent.parent / "labels" / "train" / f"{image.stem}.txt"
        checked = verify_image_label((str(image), str(label), "", False, 5, 0, 0, False))
        assert checked[0] == str(image), checked[-1]


def test_the_demo_recipe_is_one_the_trainer_takes() -> None:
    from osv_lab.train.recipe import Recipe

    recipe = Recipe.from_dict(
        {
            "model": DEMO.model,
            "epochs": DEMO.epochs,
            "imgsz": DEMO.imgsz,
            "batch": DEMO.batch,
            **DEMO.train_args,
        }
    )
    assert recipe.epochs == DEMO.epochs


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_video_and_truth_agree(tmp_path: Path, suffix: str) -> None:
    video = render_video(tmp_path / f"parts{suffix}", 40, size=(160, 128), n_parts=4)
    reader = cv2.VideoCapture(str(video.path))
    frames = []
    while True:
        there, frame = reader.read()
        if not there:
            break
        frames.append(frame)
    assert len(frames) == 40
    assert frames[0].shape == (128, 160, 3)
    assert len(video.tracks) == 4
    assert video.meetings
    for meeting in video.meetings:
        assert meeting.first <= meeting.last
    # A part hides under the beam, and is seen before and after.
    shares = [point.visibility for point in video.tracks[0].points]
    assert min(shares) < 0.6
    assert shares[0] > 0.1

    rows = [line.split(",") for line in video.mot.read_text().splitlines()]
    assert len(rows) == sum(len(track.points) for track in video.tracks)
    assert all(len(row) == 9 for row in rows)
    assert [int(row[0]) for row in rows] == sorted(int(row[0]) for row in rows)
    truth = json.loads(video.truth.read_text())
    assert truth["codec"] == video.codec
    assert [track["label"] for track in truth["tracks"]] == [track.label for track in video.tracks]


def test_video_is_the_same_again(tmp_path: Path) -> None:
    one = render_video(tmp_path / "one.avi", 8, size=(128, 96), n_parts=2)
    two = render_video(tmp_path / "two.avi", 8, size=(128, 96), n_parts=2)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.mot.read_text() == two.mot.read_text()


def test_video_plays_in_browsers_without_any_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    video = render_video(tmp_path / "parts.mp4", 6, size=(128, 96), n_parts=2)
    with av.open(str(video.path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (video.codec, 128, 96)
        assert len(list(container.decode(stream))) == 6
    assert video.codec in ("h264", "vp9")
    assert video.codec in video.summary()


@pytest.mark.parametrize("arguments", [{"n_frames": 1}, {"size": (127, 96)}, {"n_parts": 1}, {"fps": 0}])
def test_videos_that_cannot_be(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        render_video(tmp_path / "x.mp4", **arguments)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"use \.mp4 or \.avi"):
        render_video(tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())
