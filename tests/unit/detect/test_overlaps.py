"""Overlaps of masks, oriented boxes and keypoints, and average precision by them, against pycocotools and by pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from osv_lab.core.errors import UsageError
from osv_lab.detect.metrics import average_precision
from osv_lab.detect.overlaps import keypoint_similarity, mask_iou, oriented_iou, overlap_of, probabilistic_iou
from osv_lab.detect.postprocess import oriented_corners

SIZE = 96


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """``(n, 5)`` centre, width, height, radians."""
    columns = [rng.uniform(20, 76, (count, 2)), rng.uniform(6, 40, (count, 2)), rng.uniform(0, 7, (count, 1))]
    return np.concatenate(columns, axis=1)


def drawn(corners: np.ndarray, scale: int = 1) -> np.ndarray:
    found = np.zeros((len(corners), SIZE * scale, SIZE * scale), np.uint8)
    for mask, one in zip(found, corners, strict=True):
        cv2.fillPoly(mask, [np.round(one * scale * 256 - 128).astype(np.int32)], 1, shift=8)
    return found.astype(bool)


@given(seed=st.integers(0, 2**32 - 1))
def test_oriented_iou_is_symmetric_and_invariant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = oriented_corners(boxes(rng, 4)), oriented_corners(boxes(rng, 3))
    found = oriented_iou(first, second)
    assert found.shape == (4, 3) and found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found, oriented_iou(second, first).T, atol=1e-9)
    np.testing.assert_allclose(found, oriented_iou(first[:, ::-1], np.roll(second, 2, axis=1)), atol=1e-9)
    turn = rng.uniform(0, 7)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    np.testing.assert_allclose(found, oriented_iou(first @ matrix, second @ matrix), atol=1e-6)
    np.testing.assert_allclose(np.diag(oriented_iou(first, first)), 1, atol=1e-6)


def test_oriented_iou_by_pixels() -> None:
    rng = np.random.default_rng(51)
    first, second = oriented_corners(boxes(rng, 30)), oriented_corners(boxes(rng, 30))
    by_pixels = mask_iou(drawn(first, 8), drawn(second, 8))
    np.testing.assert_allclose(oriented_iou(first, second), by_pixels, atol=0.02)
    assert (by_pixels > 0.3).sum() > 10


def test_probabilistic_iou_is_ultralytics() -> None:
    import torch
    from ultralytics.utils.metrics import batch_probiou

    rng = np.random.default_rng(51)
    first, second = (
        np.concatenate(
            [rng.uniform(0, 60, (n, 2)), rng.uniform(3, 60, (n, 2)), rng.uniform(-1.5, 1.5, (n, 1))], axis=1
        ).astype(np.float32)
        for n in (40, 30)
    )
    ours = probabilistic_iou(oriented_corners(first), oriented_corners(second))
    np.testing.assert_allclose(ours, batch_probiou(torch.from_numpy(first), torch.from_numpy(second)), atol=1e-5)
    exact = oriented_iou(oriented_corners(first), oriented_corners(second))
    assert ours[exact > 0.4].mean() > exact[exact > 0.4].mean() + 0.1
    # A box cut at the image's edge is no rectangle; the smallest one round it counts.
    cut = np.array([[[156.3, 32.0], [90.5, 30.7], [91.2, 0.0], [157.0, 0.0]]])
    whole = cv2.boxPoints(cv2.minAreaRect(cut[0].astype(np.float32)))[None]
    other = oriented_corners(np.array([[120, 15, 60, 30, 0.2]], np.float32))
    np.testing.assert_allclose(probabilistic_iou(cut, other), probabilistic_iou(whole, other), atol=1e-6)
    assert probabilistic_iou(np.zeros((0, 4, 2)), oriented_corners(second)).shape == (0, 30)


def test_oriented_iou_of_touching_and_nested_boxes() -> None:
    square = np.array([[[0, 0], [4, 0], [4, 4], [0, 4]]], float)
    inner = np.array([[[1, 1], [3, 1], [3, 3], [1, 3]]], float)
    half = np.array([[[0, 0], [2, 0], [2, 4], [0, 4]]], float)  # Three edges on the square's.
    beside = square + np.array([4, 0])
    found = oriented_iou(square, np.concatenate([square, inner, half, beside]))
    np.testing.assert_allclose(found, [[1, 0.25, 0.5, 0]], atol=1e-9)
    np.testing.assert_allclose(oriented_iou(inner, square, np.array([True])), [[1.0]])
    assert oriented_iou(np.zeros((0, 4, 2)), square).shape == (0, 1)


def scenes(task: str) -> tuple[list[sv.Detections], list[sv.Detections]]:
    """Predictions near and far from known objects of two classes."""
    rng = np.random.default_rng(7)
    predictions, targets = [], []
    for _ in range(12):
        truth = boxes(rng, int(rng.integers(1, 5)))
        found = np.concatenate([truth + rng.normal(0, 1.2, truth.shape) * [1, 1, 1, 1, 0.05], boxes(rng, 2)])
        classes = rng.integers(0, 2, len(truth))
        guesses = np.concatenate([np.where(rng.random(len(truth)) < 0.8, classes, 1 - classes), [0, 1]])
        for rows, ids, kept in ((truth, classes, targets), (found, guesses, predictions)):
            corners = oriented_corners(rows).clip(0, SIZE)
            area = drawn(corners).sum(axis=(1, 2)).astype(float)
            data: dict[str, Any] = {"area": area, "iscrowd": np.zeros(len(rows), bool), "xyxyxyxy": corners}
            data["keypoints"] = np.concatenate([corners[:, :3], np.ones((len(rows), 3, 1))], axis=2)
            xyxy = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
            kept.append(
                sv.Detections(
                    xyxy=xyxy, mask=drawn(corners), class_id=ids, confidence=rng.random(len(rows)), data=data
                )
            )
    return predictions, targets


def reference(kind: str, predictions: list[sv.Detections], targets: list[sv.Detections]) -> np.ndarray:
    """pycocotools' statistics: mAP50-95, mAP50, mAP75 first."""
    rows, results = [], []
    for image, (ours, theirs) in enumerate(zip(predictions, targets, strict=True), start=1):
        for sets, kept in ((theirs, rows), (ours, results)):
            for index in range(len(sets)):
                mask = rle.encode(np.asfortranarray(sets.mask[index].astype(np.uint8)))
                points = sets.data["keypoints"][index].copy()
                points[:, 2] = 2
                kept.append(
                    {
                        "id": len(kept) + 1, "image_id": image, "category_id": int(sets.class_id[index]) + 1,
                        "segmentation": mask, "area": float(sets.data["area"][index]), "iscrowd": 0,
                        "bbox": [0.0, 0.0, 1.0, 1.0], "keypoints": points.ravel().tolist(), "num_keypoints": 3,
                        "score": float(sets.confidence[index]),
                    }
                )  # fmt: skip
    coco, found = COCO(), COCO()
    images = [{"id": image + 1, "height": SIZE, "width": SIZE} for image in range(len(targets))]
    for one, labels in ((coco, rows), (found, results)):
        one.dataset = {"images": images, "annotations": labels, "categories": [{"id": 1}, {"id": 2}]}
        one.createIndex()
    judge = COCOeval(coco, found, kind)
    judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
    judge.params.maxDets = [100]
    if kind == "keypoints":
        judge.params.kpt_oks_sigmas = np.full(3, 1 / 3)
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 0]
    return np.array([precision.mean(), precision[0].mean(), precision[5].mean()])


@pytest.mark.parametrize(("task", "kind"), [("segment", "segm"), ("pose", "keypoints")])
def test_average_precision_equals_pycocotools(task: str, kind: str) -> None:
    predictions, targets = scenes(task)
    overlaps = [overlap_of(task, *pair) for pair in zip(predictions, targets, strict=True)]
    report = average_precision(predictions, targets, overlaps=overlaps)
    np.testing.assert_allclose(
        [report.map50_95, report.map50, report.map75], reference(kind, predictions, targets), atol=1e-9
    )
    assert 0.1 < report.map50_95 < 0.95, "an easy or hopeless scene would show nothing"


def test_oriented_average_precision_is_near_that_of_drawn_boxes() -> None:
    predictions, targets = scenes("obb")
    overlaps = [overlap_of("obb", *pair) for pair in zip(predictions, targets, strict=True)]
    report = average_precision(predictions, targets, overlaps=overlaps)
    assert report.map50 == pytest.approx(reference("segm", predictions, targets)[1], abs=0.05)


def test_points_that_are_not_labelled_do_not_count() -> None:
    points = np.array([[[10, 10, 1], [20, 20, 1], [0, 0, 0]]], float)
    far = points.copy()
    far[0, 2, :2] = 90
    assert keypoint_similarity(far, points, np.array([100.0]))[0, 0] == 1
    points[..., 2] = 0
    assert keypoint_similarity(far, points, np.array([100.0]))[0, 0] == 0
    with pytest.raises(UsageError, match=r"objects of \[2, 3\] points"):
        keypoint_similarity(far[:, :2], points, np.array([100.0]))
