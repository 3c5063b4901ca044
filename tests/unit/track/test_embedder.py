"""Embedders, and what appearance is worth when two objects hide each other."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import supervision as sv
from onnx import TensorProto, helper, numpy_helper

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.track import ObjectTracker
from osv_lab.track.descriptor import ClassicalEmbedder
from osv_lab.track.embedder import Embedder, OnnxEmbedder, open_embedder

Image = npt.NDArray[np.uint8]


def person(frame: Image, x: int, y: int, shirt: tuple[int, int, int], trousers: tuple[int, int, int]) -> None:
    """A figure of 40 x 100 pixels."""
    cv2.rectangle(frame, (x + 4, y + 20), (x + 36, y + 60), shirt, -1)
    cv2.rectangle(frame, (x + 8, y + 60), (x + 32, y + 99), trousers, -1)
    cv2.circle(frame, (x + 20, y + 10), 9, (150, 180, 220), -1)


CLOTHES = (((40, 40, 200), (60, 60, 60)), ((180, 90, 30), (30, 110, 110)))


def street(seed: int = 0) -> Image:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(110, 12, (240, 400, 3)), 0, 255).astype(np.uint8)


def network(
    path: Path, *, batch: int | str = "n", size: tuple[int, int] | None = (16, 32), image: bool = False
) -> Path:
    """A network whose embedding is the mean colour of a crop."""
    height, width = ("h", "w") if size is None else (size[1], size[0])
    shape = [batch, 3, height, width]
    nodes = [helper.make_node("GlobalAveragePool", ["crops"], ["pooled"])]
    nodes.append(
        helper.make_node("Identity", ["crops"], ["out"])
        if image
        else helper.make_node("Reshape", ["pooled", "flat"], ["out"])
    )
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape if image else [batch, 3])],
        [numpy_helper.from_array(np.array([-1, 3], np.int64), "flat")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


BOXES = np.array([[10.0, 10, 30, 50], [40, 10, 60, 50], [-20, -20, -5, -5], [np.nan, 0, 5, 5], [50, 30, 500, 500]])


@pytest.mark.parametrize(("batch", "limit"), [("n", 32), ("n", 2), (2, 32)])
def test_a_network_sees_normalised_crops_in_batches_of_any_size(
    tmp_path: Path, batch: int | str, limit: int
) -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[10:50, 10:30], frame[10:50, 40:60] = (0, 0, 255), (255, 0, 51)
    embedder = OnnxEmbedder(network(tmp_path / "mean.onnx", batch=batch), batch=limit)
    assert isinstance(embedder, Embedder) and embedder.size == (16, 32) and embedder.dimensions == 3
    looks = embedder.embed(frame, BOXES)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    assert looks[:2] == pytest.approx((np.array([[1.0, 0, 0], [0.2, 0, 1]]) - mean) / std, abs=1e-5)
    assert not looks[2:4].any() and looks[4].any()
    assert embedder.embed(frame, np.empty((0, 4))).shape == (0, 3)
    plain = OnnxEmbedder(tmp_path / "mean.onnx", rgb=False, scale=1, mean=(0, 0, 0), std=(1, 1, 1))
    assert plain.embed(frame, BOXES[:2]).tolist() == [[0, 0, 255], [255, 0, 51]]


def test_what_is_no_embedder_is_said(tmp_path: Path) -> None:
    good = network(tmp_path / "mean.onnx")
    with pytest.raises(UsageError, match="input size is fixed"):
        OnnxEmbedder(good, size=(128, 256))
    assert OnnxEmbedder(network(tmp_path / "any.onnx", size=None), size=(20, 24)).size == (20, 24)
    with pytest.raises(InvalidDataError, match="gives no embeddings"):
        OnnxEmbedder(network(tmp_path / "image.onnx", image=True))
    with pytest.raises(NotFoundError, match="no such model"):
        OnnxEmbedder(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(InvalidDataError):
        OnnxEmbedder(tmp_path / "bad.onnx")
    with pytest.raises(UsageError, match="normalise"):
        OnnxEmbedder(good, std=(0, 1, 1))
    with pytest.raises(UsageError, match="did you mean 'classical'"):
        open_embedder("clasical")
    with pytest.raises(UsageError, match="not an embedder"):
        open_embedder(3)
    with pytest.raises(UsageError, match="bytetrack does not look"):
        ObjectTracker("bytetrack", embedder="classical")
    for embedder in (OnnxEmbedder(good), ClassicalEmbedder()):
        with pytest.raises(InvalidDataError, match="not an image"):
            embedder.embed(np.zeros((5, 5), np.uint8), BOXES)
        with pytest.raises(InvalidDataError, match="not boxes"):
            embedder.embed(np.zeros((5, 5, 3), np.uint8), np.zeros((2, 3)))
    with pytest.raises(UsageError, match="too few"):
        ClassicalEmbedder(stripes=1)


def test_the_classical_descriptor_knows_clothes_in_other_light_place_and_size() -> None:
    frame, darker = street(1), street(2)
    person(frame, 50, 60, *CLOTHES[0])
    person(frame, 200, 60, *CLOTHES[1])
    person(darker, 120, 80, *CLOTHES[0])
    person(darker, 300, 40, *CLOTHES[1])
    small = cv2.resize(darker, None, fx=0.7, fy=0.7)
    small = (small * 0.85).astype(np.uint8)
    embedder = ClassicalEmbedder()
    first = embedder.embed(frame, np.array([[50.0, 60, 90, 160], [200, 60, 240, 160]]))
    second = embedder.embed(small, np.array([[120.0, 80, 160, 180], [300, 40, 340, 140]]) * 0.7)
    cosine = first @ second.T
    assert np.diag(cosine).min() > 0.75
    assert cosine[0, 1] < 0.5 and cosine[1, 0] < 0.5
    assert np.linalg.norm(first, axis=1) == pytest.approx(1, abs=1e-5)
    every = embedder.embed(frame, BOXES)
    assert (
        not every[2:4].any() and np.isfinite(every).all() and embedder.embed(frame, np.empty((0, 4))).shape[0] == 0
    )
    # What one box looks like does not depend on the others.
    assert np.array_equal(embedder.embed(frame, BOXES)[4], embedder.embed(frame, BOXES[4:])[0])


def twins(algorithm: str, embedder: object) -> tuple[list[int], list[int]]:
    """Two figures meet behind a pillar, are hidden for ten frames, turn back, and come out where they came from.

    To motion alone they have passed each other. Returns the identities of the left and the right one, before and after.
    """
    tracker = ObjectTracker(algorithm, embedder=embedder)
    seen: list[list[int]] = []
    for k in range(50):
        frame = street(k)
        away = 5 + (19 - k if k < 20 else max(k - 30, 0))
        left, right = 180 - away, 180 + away
        person(frame, left, 100, *CLOTHES[0])
        person(frame, right, 100, *CLOTHES[1])
        hidden = 20 <= k < 30
        if hidden:
            cv2.rectangle(frame, (150, 60), (260, 239), (90, 90, 90), -1)
        boxes = np.array([[left, 100, left + 40, 200], [right, 100, right + 40, 200]], dtype=float)
        boxes = boxes[: 0 if hidden else 2]
        found = sv.Detections(xyxy=boxes, confidence=np.full(len(boxes), 0.9), class_id=np.zeros(len(boxes), int))
        tracked = tracker.update(found, frame=frame)
        if not hidden:
            assert tracked.tracker_id is not None
            seen.append(tracked.tracker_id.tolist())
    return seen[19], seen[-1]


@pytest.mark.parametrize("algorithm", ["botsort", "deepsort"])
def test_twins_that_turn_back_behind_a_pillar_keep_their_identities_by_their_looks(algorithm: str) -> None:
    before, after = twins(algorithm, "classical")
    assert sorted(before) == [1, 2] and after == before
    before, after = twins(algorithm, None)
    assert sorted(before) == [1, 2] and after != before
