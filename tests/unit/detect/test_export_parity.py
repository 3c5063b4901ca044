"""Exports answer as their originals do, and the parity report tells those that do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import supervision as sv

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import UsageError
from osv_lab.detect import load_detector
from osv_lab.detect.export import export_model
from osv_lab.detect.parity import Tolerance, compare_outputs

LINE = 0.5


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, weights: Callable[[str], Path]) -> Path:
    return Path(shutil.copy(weights("yolo11n"), tmp_path_factory.mktemp("model") / "mine.pt"))


def test_export_beside_the_weights(original: Path, images: list[np.ndarray]) -> None:
    original.with_name("mine.pt.osv.json").write_text(json.dumps({"dataset_digest": "d" * 64}))
    artifact = export_model(original, imgsz=160)
    assert artifact.path == original.with_name("mine.onnx")
    assert (artifact.format, artifact.task, artifact.imgsz) == ("onnx", "detect", (160, 160))
    assert artifact.digest == file_digest(artifact.path)
    assert artifact.source_digest == file_digest(original)
    sidecar = json.loads(artifact.path.with_name("mine.onnx.osv.json").read_text())
    assert sidecar["dataset_digest"] == "d" * 64
    assert sidecar["source"] == str(original)
    assert sidecar["class_names"] == list(artifact.class_names)
    assert [path.name for path in original.parent.iterdir() if path.name.startswith(".")] == []
    # The same again is the same file.
    assert export_model(original, imgsz=160).digest == artifact.digest

    # What parity of trained weights is, test_demo.py holds; random ones blow up the last bits engines differ in.
    report = compare_outputs(load_detector(original, imgsz=160), load_detector(original, imgsz=160), images)
    assert report.passed and report.reference_boxes > 20
    assert report.to_dict()["passed"] is True
    assert "parity passed" in report.summary()
    assert any(row["measure"] == "mean corner difference (px)" for row in report.rows())


def test_export_elsewhere(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "home"))
    # A file that the lab did not make is never replaced unasked, nor is a read-only folder written to.
    folder = tmp_path / "given"
    folder.mkdir()
    weights = Path(shutil.copy(original, folder / "mine.pt"))
    (folder / "mine.onnx").write_bytes(b"precious")
    artifact = export_model(weights, imgsz=96)
    assert artifact.path.is_relative_to(tmp_path / "home")
    assert (folder / "mine.onnx").read_bytes() == b"precious"
    (folder / "mine.onnx").unlink()
    folder.chmod(0o555)
    assert export_model(weights, imgsz=96).path == artifact.path
    assert sorted(path.name for path in folder.iterdir()) == ["mine.pt"]
    folder.chmod(0o755)

    taken = export_model(artifact.path)
    assert (taken.path, taken.digest) == (artifact.path, artifact.digest)
    with pytest.raises(UsageError, match="cannot be exported again"):
        export_model(artifact.path, half=True)
    with pytest.raises(UsageError, match="no such export format: 'onxx'; did you mean 'onnx'"):
        export_model(weights, format="onxx")


def test_half_and_suppression_inside(original: Path, images: list[np.ndarray], tmp_path: Path) -> None:
    reference = load_detector(original, imgsz=160)
    half = export_model(original, imgsz=160, half=True, out=tmp_path / "half.onnx")
    assert half.size_bytes < 0.7 * original.stat().st_size * 2
    inside = export_model(original, imgsz=160, nms=True, out=tmp_path)
    report = compare_outputs(reference, load_detector(inside.path), images, confidence=LINE)
    assert report.matched > 0.97, report.summary()
    assert load_detector(inside.path).describe()["family"] == "ultralytics-nms"
    assert len(load_detector(inside.path).predict(images)) == len(images)


def test_altered_weights_fail(original: Path, images: list[np.ndarray], tmp_path: Path) -> None:
    good = export_model(original, imgsz=160, out=tmp_path / "good.onnx")
    model = onnx.load(str(good.path))
    # Red and blue swapped in the first convolution, as a wrong channel order would do.
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    tensor = next(item for item in model.graph.initializer if item.name == first.input[1])
    values = onnx.numpy_helper.to_array(tensor)[:, ::-1].copy()
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(tmp_path / "swapped.onnx"))

    reference = load_detector(original, imgsz=160)
    targets = reference.predict(images, confidence=LINE)
    report = compare_outputs(reference, load_detector(tmp_path / "swapped.onnx"), images, targets, confidence=LINE)
    assert not report.passed
    assert report.missing > 0
    assert any("boxes matched" in reason for reason in report.reasons)
    assert any("mAP50-95 differs" in reason for reason in report.reasons)
    assert "parity FAILED" in report.summary()
    assert compare_outputs(
        reference,
        load_detector(tmp_path / "swapped.onnx"),
        images,
        confidence=LINE,
        tolerance=Tolerance(matched=0, mean_corner_px=1e9, score=1),
    ).passed


def test_other_classes_and_other_inputs_are_named(
    original: Path, images: list[np.ndarray], tmp_path: Path
) -> None:
    reference = load_detector(original, imgsz=160)
    renamed = load_detector(original, imgsz=160, class_names=[f"other {i}" for i in range(80)])
    assert compare_outputs(reference, renamed, images).reasons == ("the class names differ",)
    smaller = load_detector(original, imgsz=(96, 96))
    reasons = compare_outputs(reference, smaller, images, confidence=LINE).reasons
    assert any("load the reference with imgsz=(96, 96)" in reason for reason in reasons)
    with pytest.raises(UsageError, match="3 images, 1 targets"):
        compare_outputs(reference, reference, images, [sv.Detections.empty()])


def test_an_unsure_model_is_compared_by_its_best_boxes(images: list[np.ndarray]) -> None:
    unsure = load_detector("yolo11n.yaml", imgsz=160)
    report = compare_outputs(unsure, unsure, images, confidence=0.9)
    assert report.confidence == 0.0
    assert report.passed == (report.reference_boxes > 0)


def test_nothing_to_compare_does_not_pass(original: Path) -> None:
    detector = load_detector(original, imgsz=64)
    report = compare_outputs(detector, detector, [])
    assert not report.passed
    assert report.reasons == ("nothing was found on 0 images, so nothing was compared",)
