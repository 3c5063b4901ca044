"""Predictions over a view: what is written, what continues, what fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from video_scenes import write_video

from osv_lab.core.errors import InterruptedJobError, UnavailableError, UsageError
from osv_lab.store import predict as module
from osv_lab.store.ingest import ingest
from osv_lab.store.predict import predict


class Bright:
    """A detector of the brightest quarter of an image: known answers, real arrays."""

    ref, provider, class_names, input_size = "bright", "numpy", ("light", "dark"), None

    def __init__(self, task: str = "detect", digest: str = "d1") -> None:
        self.task = task
        self.digest = digest
        self.batches: list[int] = []

    def describe(self) -> dict[str, Any]:
        return {"family": "bright", "task": self.task} | ({"digest": self.digest} if self.digest else {})

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        confidence: float = 0.25,
        iou: float = 0.7,
        max_detections: int = 300,
        classes: Sequence[str | int] | None = None,
    ) -> list[sv.Detections]:
        self.batches.append(len(images))
        return [self.one(image, confidence) for image in images]

    def one(self, image: np.ndarray, confidence: float) -> sv.Detections:
        height, width = image.shape[:2]
        score = float(image.mean() / 255)
        if image.max() == 0:
            raise ValueError("nothing is bright")
        if score < confidence:
            return sv.Detections.empty()
        box = np.array([[0, 0, width / 2, height / 2]], np.float32)
        data: dict[str, Any] = {"class_name": np.array(["light"])}
        mask = None
        if self.task == "segment":
            mask = np.zeros((1, height, width), bool)
            mask[0, : height // 4, : width // 2] = True
        if self.task == "pose":
            data["keypoints"] = np.array(
                [[[width / 4, height / 4, 0.9], [width / 2, height / 2, 0.5]]], np.float32
            )
        if self.task == "obb":
            data["xyxyxyxy"] = np.array(
                [[[0, 0], [width / 2, 0], [width / 2, height / 2], [0, height / 2]]], np.float32
            )
        return sv.Detections(
            xyxy=box, mask=mask, confidence=np.array([score], np.float32), class_id=np.array([0]), data=data
        )


@pytest.fixture
def dataset(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(20):
        cv2.imwrite(str(folder / f"{k:02d}.png"), np.full((40, 60 + k, 3), 60 + 9 * k, np.uint8))
    ingest(folder, dataset_name)
    return fo.load_dataset(dataset_name)


def test_predictions_are_written_with_what_made_them(fo: Any, dataset: Any) -> None:
    detector = Bright()
    report = predict(dataset, detector, confidence=0.3, batch_size=8)

    assert (report.predicted, report.kept, report.problems) == (20, 0, ())
    assert detector.batches == [8, 8, 4]
    assert dataset.count("predictions.detections") == report.detections == report.classes["light"]
    empty = dataset.match(fo.ViewField("predictions.detections").length() == 0)
    assert len(empty) == 20 - report.detections > 0
    sample = dataset.last()
    [found] = sample.predictions.detections
    assert found.bounding_box == pytest.approx([0, 0, 0.5, 0.5])
    assert found.label == "light" and found.confidence == pytest.approx(231 / 255)
    assert sample.predictions.made_by == report.made_by
    assert dataset.info["predictions"]["predictions"][report.made_by]["detector"]["digest"] == "d1"
    assert dataset.count_values("predictions.made_by") == {report.made_by: 20}
    assert "20 images predicted" in report.summary() and report.rows()[0]["what"] == "light"


def test_a_second_run_does_nothing_and_other_settings_or_detectors_do(dataset: Any) -> None:
    predict(dataset, Bright())
    again, other, stricter = Bright(), Bright(digest="d2"), Bright()

    assert predict(dataset, again).kept == 20 and again.batches == []
    assert predict(dataset, again, overwrite=True).predicted == 20
    assert predict(dataset, other).predicted == 20
    assert predict(dataset, stricter, confidence=0.9).predicted == 20
    unknown = Bright(digest="")
    assert [predict(dataset, unknown).predicted for _ in range(2)] == [20, 20]


def test_a_stopped_run_continues(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_EVERY", 4)

    def stop(label: str, done: int, total: int | None) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedJobError, match="run the same again"):
        predict(dataset, Bright(), batch_size=4, progress=stop)
    report = predict(dataset, Bright(), batch_size=4)

    assert report.kept >= 8 and report.kept + report.predicted == 20
    assert len(dataset.exists("predictions")) == 20


def test_broken_images_are_reported_and_the_rest_go_on(dataset: Any) -> None:
    paths = dataset.values("filepath")
    Path(paths[3]).write_bytes(b"no longer an image")
    Path(paths[4]).unlink()
    cv2.imwrite(paths[5], np.zeros((40, 60, 3), np.uint8))
    report = predict(dataset, Bright(), batch_size=8)

    assert report.predicted == 17
    assert [(Path(p.file).name, p.what.split(":")[0]) for p in report.problems] == [
        ("03.png", "not an image"),
        ("04.png", "no such image"),
        ("05.png", "the detector failed"),
    ]
    assert len(dataset.exists("predictions")) == 17


def test_a_detector_that_always_fails_is_an_error(dataset: Any) -> None:
    class Useless(Bright):
        def one(self, image: np.ndarray, confidence: float) -> sv.Detections:
            raise RuntimeError("no kernel image is available")

    with pytest.raises(UnavailableError, match="fails on every image: no kernel image"):
        predict(dataset, Useless(), batch_size=4)


@pytest.mark.parametrize(
    ("task", "kind"),
    [("segment", "Detections"), ("pose", "Keypoints"), ("obb", "Polylines"), ("classify", "Classification")],
)
def test_every_task_has_its_kind_of_field(dataset: Any, task: str, kind: str) -> None:
    predict(dataset, Bright(task), "found")
    found = dataset.last().found

    assert type(found).__name__ == kind
    if task == "segment":
        assert found.detections[0].mask.mean() == pytest.approx(0.5, abs=0.05)
    elif task == "pose":
        np.testing.assert_allclose(found.keypoints[0].points, [(0.25, 0.25), (0.5, 0.5)], atol=1e-6)
    elif task == "obb":
        np.testing.assert_allclose(found.polylines[0].points[0][2], (0.5, 0.5), atol=1e-6)
    else:
        assert found.label == "light" and found.made_by


def test_arguments_are_checked(dataset: Any) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        predict(dataset, Bright(), batch_size=0)
    with pytest.raises(UsageError, match="task is unknown"):
        predict(dataset, Bright("dream"))
    predict(dataset, Bright("pose"), "taken")
    with pytest.raises(UsageError, match="'taken' holds Keypoints"):
        predict(dataset, Bright(), "taken")


def test_videos_are_predicted_frame_by_frame_and_continue(
    fo: Any, dataset_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for k in range(12):
        writer.write(np.full((48, 64, 3), 100 + 10 * k, np.uint8))
    writer.release()
    ingest(tmp_path, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    monkeypatch.setattr(module, "WRITE_EVERY", 4)

    def stop(label: str, done: int, total: int | None) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedJobError):
        predict(dataset, Bright(), batch_size=4, progress=stop)
    report = predict(dataset, Bright(), batch_size=4)

    assert report.field == "frames.predictions"
    assert report.kept >= 4 and report.kept + report.predicted == 12
    assert dataset.count("frames.predictions.detections") == 12
    assert dataset.first().frames[12].predictions.detections[0].confidence > 0.7


def test_a_video_that_ends_early_is_predicted_up_to_there_and_reported(
    fo: Any, dataset_name: str, tmp_path: Path
) -> None:
    whole = write_video(tmp_path / "whole.mp4", 60)
    ingest(tmp_path, dataset_name)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    dataset = fo.load_dataset(dataset_name)
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "broken.mp4"), media_type="video"))
    report = predict(dataset, Bright())

    assert 0 < report.predicted == dataset.count("frames.predictions") < 60
    assert [one.what.split(" (")[0] for one in report.problems][-1].startswith("not a video that can be read")
    early = [one for one in report.problems if "truncated" in one.what]
    assert len(early) == 1 and "of the 60 that its header promises" in early[0].what, report.problems
