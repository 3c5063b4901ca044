"""Average precision agrees with pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st

from osv_lab.core.errors import UsageError
from osv_lab.detect.metrics import average_precision


def random_sets(
    rng: np.random.Generator, images: int, classes: int, per_image: int, crowds: bool = False
) -> tuple[list[sv.Detections], list[sv.Detections]]:
    """Targets of all sizes, and predictions that are shifted copies, duplicates and false alarms of rounded scores."""
    predictions, targets = [], []
    for _ in range(images):
        count = int(rng.integers(0, per_image + 1))
        size = np.exp(rng.uniform(np.log(6), np.log(260), (count, 2)))
        corner = rng.uniform(0, 400, (count, 2))
        # Whole pixels: the IoUs of some pairs then are equal, or are exactly a threshold.
        boxes = np.round(np.concatenate([corner, corner + size], axis=1))
        ids = rng.integers(0, classes, count)
        data = {"iscrowd": (rng.random(count) < 0.15).astype(int)} if crowds else {}
        targets.append(sv.Detections(xyxy=boxes, class_id=ids, data=data))

        kept = rng.random(count) < 0.85
        copies = np.concatenate([boxes[kept], boxes[kept][: count // 3]])
        copies = np.round(copies + rng.normal(0, 5, copies.shape))
        alarms = np.round(np.repeat(rng.uniform(0, 300, (int(rng.integers(0, 4)), 2)), 2, axis=0).reshape(-1, 4))
        alarms[:, 2:] += 40
        found = np.concatenate([copies, alarms])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        found_ids = np.concatenate([ids[kept], ids[kept][: count // 3], rng.integers(0, classes, len(alarms))])
        predictions.append(
            sv.Detections(xyxy=found, class_id=found_ids, confidence=np.round(rng.random(len(found)), 2))
        )
    return predictions, targets


def coco_numbers(
    predictions: list[sv.Detections], targets: list[sv.Detections], max_detections: int
) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(box: np.ndarray) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    annotations = []
    for image, one in enumerate(targets):
        crowd = one.data.get("iscrowd", np.zeros(len(one)))
        for box, class_id, flag in zip(one.xyxy, one.class_id, crowd, strict=True):
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(class_id), "bbox": xywh(box),
                 "area": area, "iscrowd": int(flag)}
            )  # fmt: skip
    results = [
        {"image_id": image, "category_id": int(class_id), "bbox": xywh(box), "score": float(score)}
        for image, one in enumerate(predictions)
        for box, class_id, score in zip(one.xyxy, one.class_id, one.confidence, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(len(targets))],
            "annotations": annotations,
            "categories": [{"id": index} for index in range(20)],
        }
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        if not results:
            found.dataset = {"images": truth.dataset["images"], "annotations": [], "categories": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = [max_detections] * 3
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else float("nan")

    numbers = {
        "map50_95": mean(precision[:, :, :, 0, 2]),
        "map50": mean(precision[0, :, :, 0, 2]),
        "map75": mean(precision[5, :, :, 0, 2]),
        "small": mean(precision[:, :, :, 1, 2]),
        "medium": mean(precision[:, :, :, 2, 2]),
        "large": mean(precision[:, :, :, 3, 2]),
        "recall": mean(recall[:, :, 0, 2]),
    }
    for index in range(20):
        numbers[f"class {index}"] = mean(precision[:, :, index, 0, 2])
    return numbers


def our_numbers(
    predictions: list[sv.Detections], targets: list[sv.Detections], max_detections: int
) -> dict[str, float]:
    report = average_precision(predictions, targets, max_detections=max_detections)
    by_class = {one.class_id: one.ap50_95 for one in report.classes}
    return {
        "map50_95": report.map50_95,
        "map50": report.map50,
        "map75": report.map75,
        **report.by_size,
        "recall": report.recall,
        **{f"class {index}": by_class.get(index, float("nan")) for index in range(20)},
    }


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 12),
    classes=st.integers(1, 5),
    per_image=st.integers(1, 15),
    crowds=st.booleans(),
    max_detections=st.sampled_from([1, 5, 100]),
)
def test_agrees_with_pycocotools(
    seed: int, images: int, classes: int, per_image: int, crowds: bool, max_detections: int
) -> None:
    predictions, targets = random_sets(np.random.default_rng(seed), images, classes, per_image, crowds)
    theirs = coco_numbers(predictions, targets, max_detections)
    ours = our_numbers(predictions, targets, max_detections)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_perfect_predictions_score_one() -> None:
    _, targets = random_sets(np.random.default_rng(1), 6, 3, 8)
    perfect = [sv.Detections(t.xyxy, class_id=t.class_id, confidence=np.full(len(t), 0.9)) for t in targets]
    report = average_precision(perfect, targets, class_names=("a", "b", "c"))
    assert report.map50_95 == pytest.approx(1.0)
    assert report.recall == pytest.approx(1.0)
    assert [row["class"] for row in report.rows()] == ["all", "a", "b", "c"]
    assert "mAP50 1.000" in report.summary()
    assert report.to_dict()["images"] == 6


def test_nothing_at_all_is_not_a_number() -> None:
    report = average_precision([sv.Detections.empty()], [sv.Detections.empty()])
    assert np.isnan(report.map50_95)
    assert report.to_dict()["map50_95"] is None


def test_no_predictions_score_zero() -> None:
    _, targets = random_sets(np.random.default_rng(2), 3, 2, 6)
    report = average_precision([sv.Detections.empty()] * 3, targets)
    assert report.map50_95 == 0.0


def test_what_cannot_be_compared_is_refused() -> None:
    one = sv.Detections(np.array([[0, 0, 9, 9.0]]), class_id=np.array([0]))
    with pytest.raises(UsageError, match="same images: 1 and 2 sets"):
        average_precision([sv.Detections.empty()], [one, one])
    with pytest.raises(UsageError, match="predictions need confidences: image 0"):
        average_precision([one], [one])
    with pytest.raises(UsageError, match="IoU thresholds"):
        average_precision([sv.Detections.empty()], [one], iou_thresholds=(0.0,))
