"""Every head of Ultralytics, decoded from an ONNX file, equals Ultralytics' own predict on the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv

from osv_lab.detect import load_detector

SIZE = 160
SCORE = 0.5  # Above the scores that every cell has anyway.

HEADS = [
    ("yolo11n", {}, "ultralytics"),
    ("yolo11n-seg", {}, "ultralytics"),
    ("yolo11n-pose", {}, "ultralytics"),
    ("yolo11n-obb", {}, "ultralytics"),
    ("yolo11n", {"dynamic": False, "batch": 2}, "ultralytics"),
    ("yolo11n", {"nms": True, "conf": 0.5}, "ultralytics-nms"),
    ("yolo26n-seg", {"nms": False}, "ultralytics-nms"),
]


def assert_same(ours: sv.Detections, theirs: sv.Detections, *, pixels: float = 1e-3, score: float = 1e-6) -> None:
    """The same detections in the same order."""
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=pixels)
    np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=score)
    np.testing.assert_array_equal(ours.class_id, theirs.class_id)


@pytest.mark.parametrize(("name", "options", "family"), HEADS, ids=lambda value: str(value) or "default")
def test_equals_ultralytics(
    name: str, options: dict[str, Any], family: str, images: list[np.ndarray], exported: Callable[..., Path]
) -> None:
    from ultralytics import YOLO

    path = exported(name, **options)
    detector = load_detector(path, border=0)
    assert detector.describe()["family"] == family
    theirs = YOLO(path, task=detector.task)
    ours = detector.predict(images, confidence=SCORE)
    found = 0
    for image, one in zip(images, ours, strict=True):
        result = theirs.predict(image, imgsz=SIZE, conf=SCORE, verbose=False, retina_masks=True)[0]
        expected = sv.Detections.from_ultralytics(result)
        assert_same(one, expected)
        found += len(one)
        assert list(one.data["class_name"]) == list(expected.data["class_name"])
        if detector.task == "segment" and len(one):
            both = (one.mask & expected.mask).sum(axis=(1, 2))
            either = (one.mask | expected.mask).sum(axis=(1, 2))
            assert (both / either).min() > 0.99
        if detector.task == "pose":
            np.testing.assert_allclose(one.data["keypoints"], result.keypoints.data.numpy(), atol=1e-2)
        if detector.task == "obb":
            np.testing.assert_allclose(one.data["xyxyxyxy"], expected.data["xyxyxyxy"], atol=1e-2)
    assert found > 20, "the models must answer, or nothing was tested"


def test_images_are_placed_as_by_ultralytics_validator(tmp_path: Path) -> None:
    """``rect`` and ``pad=0.5`` of its data set: where an image lies decides what is found at its edges."""
    import cv2
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset

    from osv_lab.detect.detector import BORDER
    from osv_lab.detect.preprocess import place

    sizes = [(640, 480), (480, 640), (333, 100), (64, 64), (500, 499), (1000, 31)]
    for number, (width, height) in enumerate(sizes):
        folder = tmp_path / "images" / str(number)
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "empty.png"), np.zeros((height, width, 3), np.uint8))
        for imgsz in (160, 320):
            data = {"names": {0: "thing"}, "channels": 3}
            dataset = YOLODataset(
                img_path=str(folder), data=data, task="detect", imgsz=imgsz, rect=True, pad=0.5,
                augment=False, batch_size=1, stride=32, hyp=get_cfg(), cache=False,
            )  # fmt: skip
            expected = dataset[0]["img"].shape[1:]
            placed = place((width, height), (imgsz, imgsz), "center", stride=32, border=BORDER)
            assert (placed.input_size[1], placed.input_size[0]) == tuple(expected), (width, height, imgsz)


def test_classifier_equals_ultralytics(images: list[np.ndarray], exported: Callable[..., Path]) -> None:
    from ultralytics import YOLO

    path = exported("yolo11n-cls")
    detector = load_detector(path)
    assert (detector.task, detector.input_size) == ("classify", (SIZE, SIZE))
    for image, one in zip(images, detector.predict(images, confidence=0.0005, max_detections=5), strict=True):
        expected = YOLO(path, task="classify").predict(image, imgsz=SIZE, verbose=False)[0].probs
        assert one.class_id.tolist() == expected.top5
        np.testing.assert_allclose(one.confidence, expected.top5conf.numpy(), atol=1e-6)
        assert one.xyxy[0].tolist() == [0, 0, image.shape[1], image.shape[0]]


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_weights_equal_ultralytics(name: str, images: list[np.ndarray], weights: Callable[[str], Path]) -> None:
    from ultralytics import YOLO

    detector = load_detector(weights(name), imgsz=SIZE, border=0)
    theirs = YOLO(weights(name))
    found = 0
    for image, one in zip(images, detector.predict(images, confidence=SCORE), strict=True):
        result = theirs.predict(image, imgsz=SIZE, conf=SCORE, verbose=False)[0]
        # torch's convolutions differ in the last bits between batch sizes.
        assert_same(one, sv.Detections.from_ultralytics(result), pixels=1.0, score=1e-4)
        found += len(one)
    assert found > 20


def test_end_to_end_takes_images_too_thin_for_its_top_k(exported: Callable[..., Path]) -> None:
    detector = load_detector(exported("yolo26n-seg", nms=False))
    thin = np.full((40, 900, 3), 90, np.uint8)
    assert len(detector.predict([thin], confidence=0.0)[0]) > 0
