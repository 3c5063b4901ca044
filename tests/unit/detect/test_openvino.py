"""OpenVINO: made from the ONNX export, run by its own engine, and answering as the weights do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, UnavailableError, UsageError
from osv_lab.core.modelfiles import model_digest, model_files
from osv_lab.core.sidecars import read_sidecar
from osv_lab.detect import load_detector
from osv_lab.detect.export import export_model
from osv_lab.detect.parity import Tolerance, compare_outputs
from osv_lab.detect.reference import resolve_model


@pytest.mark.parametrize("name", ["yolo11n", "yolo11n-seg"])
def test_it_answers_as_the_weights_do(
    name: str, weights: Callable[[str], Path], images: list[np.ndarray], tmp_path: Path
) -> None:
    source = Path(shutil.copy(weights(name), tmp_path / "mine.pt"))
    artifact = export_model(source, "openvino", imgsz=160)
    assert artifact.path == tmp_path / "mine.xml" and model_files(artifact.path)[1] == tmp_path / "mine.bin"
    assert (artifact.format, artifact.imgsz) == ("openvino", (160, 160))
    assert artifact.digest == model_digest(artifact.path) == read_sidecar(artifact.path)["digest"]
    assert sorted(one.suffix for one in tmp_path.iterdir()) == [".bin", ".json", ".pt", ".xml"]
    detector, original = load_detector(artifact.path), load_detector(source, imgsz=160)
    assert detector.describe()["engine"] == "openvino" and detector.provider == "openvino:CPU"
    assert detector.class_names == original.class_names and detector.task == original.task
    # Random weights blow up the last bits that engines differ in; test_quantize.py has a trained model at its limits.
    report = compare_outputs(original, detector, images, tolerance=Tolerance(matched=0.95, mean_corner_px=3.0))
    assert report.passed and report.reference_boxes > 20, report.summary()
    # What is found in an image does not depend on its batch, nor on the threads that run beside each other.
    together = detector.predict(images * 2, confidence=0.1)
    for image, found in zip(images * 2, together, strict=True):
        np.testing.assert_allclose(found.xyxy, detector.predict([image], confidence=0.1)[0].xyxy, atol=0.05)


def test_from_an_onnx_file_and_in_half(weights: Callable[[str], Path], tmp_path: Path) -> None:
    first = export_model(weights("yolo11n"), imgsz=160, out=tmp_path)
    path = Path(first.path)
    sidecar = path.with_name(f"{path.name}.osv.json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"parity": {"passed": True}}))
    full = export_model(path, "openvino", out=tmp_path / "full.xml")
    half = export_model(path, "openvino", half=True, out=tmp_path / "half.xml")
    assert half.size_bytes < 0.7 * full.size_bytes and half.digest != full.digest
    said = read_sidecar(full.path)
    assert (said["source"], said["format"]) == (str(weights("yolo11n")), "openvino")
    assert "parity" not in said, "what was compared is the other file"
    with pytest.raises(UsageError, match="cannot be exported again"):
        export_model(path, "openvino", imgsz=96)
    # A folder's model may be one of OpenVINO's; an .xml without weights is some other document.
    (tmp_path / "only").mkdir()
    for file in model_files(full.path):
        shutil.copy(file, tmp_path / "only")
    (tmp_path / "only" / "labels.xml").write_text("<annotation/>")
    assert resolve_model(tmp_path / "only").name == "full.xml"


def test_what_cannot_be_loaded(weights: Callable[[str], Path], tmp_path: Path) -> None:
    artifact = export_model(weights("yolo11n"), "openvino", imgsz=96, dynamic=False, out=tmp_path / "a.xml")
    assert load_detector(artifact.path).describe()["fixed_batch"] == 1
    with pytest.raises(UsageError, match="no such device: 'cuda'"):
        load_detector(artifact.path, providers=["cuda"])
    artifact.path.with_suffix(".bin").unlink()
    with pytest.raises(InvalidDataError, match=r"put its \.bin beside it"):
        load_detector(artifact.path)
    artifact.path.write_text("<annotation/>")
    with pytest.raises(InvalidDataError, match="OpenVINO cannot load"):
        load_detector(artifact.path)


@pytest.mark.parametrize("name", ["tensorrt", "engine"])
def test_tensorrt_is_no_file(name: str, weights: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match=r"providers=\['tensorrt'\]"):
        export_model(weights("yolo11n"), name)


def test_nothing_is_reported_and_nothing_is_needed(tmp_path: Path) -> None:
    """Importing OpenVINO sends an event through the package openvino_telemetry, where that is installed."""
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('it was asked to report')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from osv_lab.detect.openvino import import_openvino\nprint(import_openvino().__name__)\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "openvino", run.stderr
    missing = "import sys; sys.modules['openvino'] = None\n"
    missing += "from osv_lab.detect.openvino import import_openvino\nimport_openvino()\n"
    run = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True, check=False)
    assert UnavailableError.__name__ in run.stderr and "osv-lab[openvino]" in run.stderr
