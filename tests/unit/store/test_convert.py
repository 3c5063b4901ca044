"""supervision, FiftyOne, TorchVision and MediaPipe say the same thing after conversion."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import supervision as sv

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.store.convert import (
    detections_of,
    fiftyone_label,
    from_mediapipe,
    from_torchvision,
    labels_from,
    labels_of,
    to_detections,
    to_fiftyone,
    to_key_points,
)
from osv_lab.store.geometry import pixel_window
from osv_lab.store.records import Box, ImageClass, Keypoints, OrientedBox, Polygon

SIZE = (641, 479)
NAMES = ("cat", "dog", "bird")


def random_detections(seed: int, count: int = 20) -> sv.Detections:
    rng = np.random.default_rng(seed)
    start = rng.random((count, 2)) * 0.6
    ends = start + 0.02 + rng.random((count, 2)) * 0.35
    xyxy = (np.concatenate([start, ends], axis=1) * [*SIZE, *SIZE]).astype(np.float32)
    class_id = rng.integers(0, 3, count)
    return sv.Detections(
        xyxy=xyxy,
        confidence=rng.random(count).astype(np.float32),
        class_id=class_id,
        tracker_id=rng.permutation(count),
        data={"class_name": np.array(NAMES)[class_id]},
    )


@pytest.mark.parametrize("seed", range(5))
def test_boxes_and_tracks(seed: int) -> None:
    detections = random_detections(seed)
    label = to_fiftyone(detections, SIZE)
    assert type(label).__name__ == "Detections"
    again = to_detections(label, SIZE, NAMES)
    np.testing.assert_array_equal(again.xyxy, detections.xyxy)
    np.testing.assert_array_equal(again.confidence, detections.confidence)
    np.testing.assert_array_equal(again.class_id, detections.class_id)
    np.testing.assert_array_equal(again.tracker_id, detections.tracker_id)
    np.testing.assert_array_equal(again.data["class_name"], detections.data["class_name"])


def test_fiftyone_boxes_come_back_to_float32() -> None:
    boxes = [
        Box("cat", (0.1234567, 0.2345678, 0.3456789, 0.0012345), confidence=0.25, index=3, attributes={"n": 1})
    ]
    label = fiftyone_label(boxes, "box")
    assert labels_of(label) == boxes
    (again,) = labels_of(to_fiftyone(to_detections(label, SIZE), SIZE))
    assert isinstance(again, Box)
    assert again.xywh == pytest.approx(boxes[0].xywh, abs=2e-7)
    assert (again.confidence, again.index, again.attributes) == (0.25, 3, {"n": 1})


def test_masks() -> None:
    rng = np.random.default_rng(0)
    detections = random_detections(0, 5)
    masks = np.zeros((5, SIZE[1], SIZE[0]), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, detections.xyxy, strict=True):
        left, top, right, bottom = pixel_window(
            (x0 / SIZE[0], y0 / SIZE[1], (x1 - x0) / SIZE[0], (y1 - y0) / SIZE[1]), SIZE
        )
        mask[top:bottom, left:right] = rng.random((bottom - top, right - left)) < 0.5
    detections.mask = masks
    label = to_fiftyone(detections, SIZE)
    assert label.detections[0].mask is not None
    again = to_detections(label, SIZE, NAMES)
    np.testing.assert_array_equal(again.mask, masks)
    assert to_fiftyone(detections, SIZE, kind="box").detections[0].mask is None


def test_outlines_of_masks() -> None:
    detections = random_detections(0, 1)
    detections.xyxy = np.array([[100, 100, 200, 180]], np.float32)
    mask = np.zeros((1, SIZE[1], SIZE[0]), bool)
    mask[0, 100:180, 100:200] = True
    mask[0, 100:120, 100:130] = False
    detections.mask = mask
    label = to_fiftyone(detections, SIZE, kind="polygon")
    assert type(label).__name__ == "Polylines"
    again = to_detections(label, SIZE, NAMES)
    np.testing.assert_array_equal(again.mask, mask)
    np.testing.assert_allclose(again.xyxy, detections.xyxy, atol=1e-3)


def test_oriented_boxes() -> None:
    corners = np.array([[[100, 50], [180, 90], [160, 130], [80, 90]]], np.float32)
    detections = sv.Detections(
        xyxy=np.array([[80, 50, 180, 130]], np.float32), class_id=np.array([1]), data={"xyxyxyxy": corners}
    )
    label = to_fiftyone(detections, SIZE, NAMES)
    (line,) = label.polylines
    assert (line.label, line.closed, line.filled) == ("dog", True, False)
    again = to_detections(label, SIZE, NAMES)
    np.testing.assert_allclose(again.data["xyxyxyxy"], corners, rtol=1e-6)
    np.testing.assert_allclose(again.xyxy, detections.xyxy, rtol=1e-6)


def test_keypoints_of_detections() -> None:
    points = np.array([[[10, 20, 0.9], [30, 40, 0.5], [0, 0, 0]]], np.float32)
    detections = sv.Detections(
        xyxy=np.array([[5, 5, 50, 60]], np.float32), confidence=np.array([0.8], np.float32), class_id=np.array([0]),
        data={"keypoints": points, "class_name": np.array(["cat"])},
    )  # fmt: skip
    label = to_fiftyone(detections, SIZE)
    assert type(label).__name__ == "Keypoints"
    again = to_detections(label, SIZE, NAMES)
    np.testing.assert_allclose(again.data["keypoints"], points, rtol=1e-6)
    np.testing.assert_allclose(again.xyxy, detections.xyxy, rtol=1e-6)
    np.testing.assert_allclose(again.confidence, detections.confidence, rtol=1e-6)


def test_key_points() -> None:
    rng = np.random.default_rng(1)
    found = sv.KeyPoints(
        xy=(rng.random((4, 5, 2)) * SIZE).astype(np.float32),
        keypoint_confidence=rng.random((4, 5)).astype(np.float32),
        detection_confidence=rng.random(4).astype(np.float32),
        class_id=np.array([0, 1, 2, 0]),
        visible=np.ones((4, 5), bool),
    )
    found.visible[2, 3] = False
    again = to_key_points(to_fiftyone(found, SIZE, NAMES), SIZE, NAMES)
    np.testing.assert_allclose(again.xy[found.visible], found.xy[found.visible], rtol=1e-6)
    np.testing.assert_allclose(
        again.keypoint_confidence[found.visible], found.keypoint_confidence[found.visible], rtol=1e-6
    )
    np.testing.assert_allclose(again.detection_confidence, found.detection_confidence, rtol=1e-6)
    np.testing.assert_array_equal(again.visible, found.visible)
    np.testing.assert_array_equal(again.class_id, found.class_id)


@pytest.mark.parametrize(
    "label",
    [
        Polygon("cat", (((0.1, 0.1), (0.2, 0.1), (0.2, 0.3)), ((0.5, 0.5), (0.6, 0.5), (0.6, 0.7)))),
        Polygon("cat", (((0.1, 0.1), (0.2, 0.1)),), closed=False),
        OrientedBox("dog", ((0.1, 0.1), (0.2, 0.15), (0.15, 0.3), (0.05, 0.25)), index=2),
        Keypoints("cat", ((0.1, 0.1), (0.2, 0.2)), (2, 1), (0.1, 0.1, 0.2, 0.2), 0.5, 3, scores=(0.5, 0.25)),
        ImageClass("night", 0.5, {"n": 1}),
    ],
)
def test_plain_labels_survive_fiftyone(label) -> None:  # type: ignore[no-untyped-def]
    assert labels_of(fiftyone_label([label], label.kind)) == [label]


def test_nothing_is_something() -> None:
    empty = to_fiftyone(sv.Detections.empty(), SIZE)
    assert empty.detections == []
    assert len(to_detections(empty, SIZE)) == 0
    assert len(to_detections(None, SIZE)) == 0
    assert labels_from(sv.Detections.empty(), SIZE) == []


def test_errors_name_the_fault() -> None:
    label = fiftyone_label([Box("zebra", (0, 0, 1, 1))], "box")
    with pytest.raises(InvalidDataError, match="zebra"):
        to_detections(label, SIZE, NAMES)
    with pytest.raises(UsageError, match="no mask"):
        to_fiftyone(random_detections(0), SIZE, kind="mask")
    with pytest.raises(UsageError, match="whole image"):
        detections_of([ImageClass("night")], SIZE)


def test_unnamed_classes() -> None:
    detections = sv.Detections(xyxy=np.array([[0, 0, 9, 9]], np.float32), class_id=np.array([4]))
    assert [label.label for label in labels_from(detections, SIZE, NAMES)] == ["class_4"]
    detections.class_id = None
    assert [label.label for label in labels_from(detections, SIZE)] == ["object"]


@pytest.mark.parametrize("kind", ["arrays", "tensors"])
def test_torchvision(kind: str) -> None:
    wrap = np.asarray
    if kind == "tensors":
        import torch

        wrap = lambda value: torch.tensor(value, requires_grad=np.asarray(value).dtype.kind == "f")  # noqa: E731
    output = {
        "boxes": wrap(np.array([[1, 2, 3, 4], [5, 6, 9, 9]], np.float32)),
        "labels": wrap(np.array([1, 2])),
        "scores": wrap(np.array([0.9, 0.2], np.float32)),
        "masks": wrap(np.stack([np.full((1, 20, 30), 0.7), np.full((1, 20, 30), 0.2)]).astype(np.float32)),
        "keypoints": wrap(np.zeros((2, 17, 3), np.float32)),
        "keypoints_scores": wrap(np.ones((2, 17), np.float32)),
    }
    found = from_torchvision(output, ["__background__", "person", "bicycle"])
    assert found.data["class_name"].tolist() == ["person", "bicycle"]
    assert found.mask is not None
    assert found.mask.any(axis=(1, 2)).tolist() == [True, False]
    assert found.data["keypoints"].shape == (2, 17, 3)
    assert len(from_torchvision(output, confidence=0.5)) == 1
    with pytest.raises(UsageError, match="different lengths"):
        from_torchvision({**output, "scores": wrap(np.array([0.5], np.float32))})
    with pytest.raises(UsageError, match="boxes"):
        from_torchvision({"scores": []})


def test_torchvision_model_output_as_it_comes() -> None:
    """A real (untrained) TorchVision model's dictionary."""
    import torch
    from torchvision.models import detection as models

    torch.manual_seed(0)
    model = models.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3).eval()
    with torch.no_grad():
        (output,) = model([torch.rand(3, 64, 64)])
    assert len(from_torchvision(output, ["__background__", "a", "b"])) == len(output["boxes"])


def detection(x: int, name: str | None, score: float, index: int | None = None) -> SimpleNamespace:
    box = SimpleNamespace(origin_x=x, origin_y=10, width=20, height=30)
    category = SimpleNamespace(index=index, score=score, display_name=None, category_name=name)
    return SimpleNamespace(bounding_box=box, categories=[category], keypoints=[])


def test_mediapipe_objects() -> None:
    result = SimpleNamespace(
        detections=[detection(5, "dog", 0.75), detection(50, "cat", 0.5), detection(1, None, 0.1, 7)]
    )
    found = from_mediapipe(result, SIZE, NAMES)
    np.testing.assert_array_equal(found.xyxy[0], [5, 10, 25, 40])
    assert found.class_id.tolist() == [1, 0, 3]
    assert found.data["class_name"].tolist() == ["dog", "cat", "class_7"]
    assert found.confidence.tolist() == pytest.approx([0.75, 0.5, 0.1])
    assert len(from_mediapipe(SimpleNamespace(detections=[]), SIZE)) == 0


def test_mediapipe_faces_with_keypoints() -> None:
    face = detection(5, None, 0.9)
    face.keypoints = [
        SimpleNamespace(x=0.1, y=0.2, label=None, score=0.0),
        SimpleNamespace(x=0.3, y=0.2, score=None),
    ]
    found = from_mediapipe(SimpleNamespace(detections=[face]), (100, 50))
    np.testing.assert_allclose(found.data["keypoints"][0], [[10, 10, 1], [30, 10, 1]])


def test_mediapipe_older_solutions() -> None:
    box = SimpleNamespace(xmin=0.1, ymin=0.2, width=0.3, height=0.4)
    location = SimpleNamespace(relative_bounding_box=box, relative_keypoints=[])
    found = from_mediapipe(
        SimpleNamespace(detections=[SimpleNamespace(location_data=location, score=[0.5], label_id=[0])]), (100, 50)
    )
    np.testing.assert_allclose(found.xyxy, [[10, 10, 40, 30]], rtol=1e-6)


@pytest.mark.parametrize("old", [False, True])
def test_mediapipe_landmarks(old: bool) -> None:
    points = [
        SimpleNamespace(x=0.1, y=0.2, z=0, visibility=0.5),
        SimpleNamespace(x=0.3, y=0.6, z=0, visibility=1.0),
    ]
    result = SimpleNamespace(pose_landmarks=SimpleNamespace(landmark=points) if old else [points])
    found = from_mediapipe(result, (100, 50))
    np.testing.assert_allclose(found.data["keypoints"], [[[10, 10, 0.5], [30, 30, 1]]], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, [[10, 10, 30, 30]], rtol=1e-6)
    assert found.data["class_name"].tolist() == ["person"]
    reference = sv.KeyPoints.from_mediapipe(result, (100, 50))
    np.testing.assert_allclose(found.data["keypoints"][:, :, :2], reference.xy, rtol=1e-6)
    assert len(from_mediapipe(SimpleNamespace(pose_landmarks=None), SIZE)) == 0


def test_not_mediapipe() -> None:
    with pytest.raises(UsageError, match="not a MediaPipe result"):
        from_mediapipe(object(), SIZE)
