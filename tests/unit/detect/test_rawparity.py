"""Networks that say the same pass although suppression chose otherwise; others do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_model import write_tiny_model

from osv_lab.detect import load_detector
from osv_lab.detect.parity import compare_outputs
from osv_lab.detect.rawparity import raw_difference


def write_tied(path: Path, order: tuple[int, int], shift: float = 0.0, score: float = 0.0) -> Path:
    """The tiny model with two overlapping boxes of one score but for the last digit: ``order`` says which is surer."""
    model = onnx.load(str(write_tiny_model(path)))
    values = {item.name: onnx.numpy_helper.to_array(item).copy() for item in model.graph.initializer}
    values["fixed"][0, :4, 0] = (28 + shift, 32, 20, 20)
    values["fixed"][0, :4, 1] = (36 + shift, 32, 20, 20)
    values["score"][0, 4, :2] = np.array(order) * 1e-6 + 1e-2 + score
    for item in model.graph.initializer:
        item.CopyFrom(onnx.numpy_helper.from_array(values[item.name], item.name))
    onnx.save(model, str(path))
    return path


@pytest.fixture
def images() -> list[np.ndarray]:
    return [np.full((64, 64, 3), level, np.uint8) for level in (60, 120, 180)]


def test_ties_pass_by_what_was_said_before_suppression(tmp_path: Path, images: list[np.ndarray]) -> None:
    first = load_detector(write_tied(tmp_path / "a.onnx", (0, 1)))
    other = load_detector(write_tied(tmp_path / "b.onnx", (1, 0)))
    options = {"confidence": 0.0001, "iou": 0.4}
    assert first.predict(images, **options)[0].xyxy.tolist() != other.predict(images, **options)[0].xyxy.tolist()
    report = compare_outputs(first, other, images, iou=0.4)
    assert report.matched < 0.99
    assert report.passed, report.summary()
    assert report.raw is not None and report.raw.same and report.raw.images == 3
    assert "before suppression" in report.summary()
    assert any(row["measure"].startswith("before suppression") for row in report.rows())


@pytest.mark.parametrize(("shift", "score"), [(1.0, 0.0), (0.0, 1e-3)])
def test_networks_that_differ_do_not(tmp_path: Path, images: list[np.ndarray], shift: float, score: float) -> None:
    first = load_detector(write_tied(tmp_path / "a.onnx", (0, 1)))
    other = load_detector(write_tied(tmp_path / "b.onnx", (1, 0), shift, score))
    report = compare_outputs(first, other, images, iou=0.4)
    assert not report.passed
    assert report.raw is not None and not report.raw.same


def test_classes_in_another_order_do_not_pass_for_ties(tmp_path: Path, images: list[np.ndarray]) -> None:
    """Each anchor's greatest score and its box are the same, and there is no truth whose mAP would tell."""
    first = load_detector(write_tied(tmp_path / "a.onnx", (0, 1)))
    model = onnx.load(str(write_tied(tmp_path / "b.onnx", (0, 1))))
    for item in model.graph.initializer:
        if item.name == "score":
            values = onnx.numpy_helper.to_array(item)[:, [0, 1, 2, 3, 5, 4]]
            item.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), item.name))
    onnx.save(model, str(tmp_path / "b.onnx"))
    other = load_detector(tmp_path / "b.onnx")
    report = compare_outputs(first, other, images)
    assert report.raw is not None and not report.raw.same
    assert not report.passed, report.summary()


def test_every_doubtful_image_is_looked_at(tmp_path: Path) -> None:
    """An error that only some images show is not hidden by ties in the ones before."""
    first = load_detector(write_tied(tmp_path / "a.onnx", (0, 1)))
    other = load_detector(write_tied(tmp_path / "b.onnx", (1, 0)))
    run = other._run  # type: ignore[attr-defined]

    def wrong_where_it_is_bright(tensor: np.ndarray, network: object) -> list[np.ndarray]:
        found = [one.copy() for one in run(tensor, network)]
        found[0][tensor.mean(axis=(1, 2, 3)) > 0.7, 0, :2] += 5
        return found

    other._run = wrong_where_it_is_bright  # type: ignore[attr-defined]
    dark = [np.full((64, 64, 3), 100, np.uint8)] * 20
    assert compare_outputs(first, other, dark, iou=0.4).passed
    report = compare_outputs(first, other, [*dark, np.full((64, 64, 3), 250, np.uint8)], iou=0.4)
    assert not report.passed and report.raw is not None and report.raw.images == 21


def test_what_cannot_be_compared_before_suppression(tmp_path: Path, images: list[np.ndarray]) -> None:
    (tmp_path / "both.yaml").write_text("models: [a.onnx]\n")
    first = load_detector(write_tied(tmp_path / "a.onnx", (0, 1)))
    assert raw_difference(first, load_detector(tmp_path / "both.yaml"), images) is None
    same = raw_difference(first, first, images)
    assert same is not None and (same.px, same.logit, same.coefficient) == (0, 0, 0)
    nothing = raw_difference(first, first, [])
    assert nothing is not None and not nothing.same
