"""LiteRT's files: run by their own engine, compared as other exports are, and refused where they cannot be made."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_tflite import PATH

from osv_lab.core.errors import InvalidDataError, UnavailableError, UsageError
from osv_lab.detect import load_detector
from osv_lab.detect.export import export_model

HERE = (sys.platform, platform.machine()) == ("linux", "x86_64")
pytestmark = pytest.mark.skipif(not HERE, reason="the lock has LiteRT's runtime for Linux on x86-64")


def test_what_it_finds_is_in_pixels_of_the_image() -> None:
    detector = load_detector(PATH)
    said = detector.describe()
    assert (said["engine"], said["input_size"], said["fixed_batch"]) == ("litert", [64, 64], 1)
    assert detector.class_names == ("bolt", "lamp") and detector.provider == "litert:CPU"
    images = [np.full((128, 128, 3), light, np.uint8) for light in (255, 51, 204)] * 3
    found = detector.predict(images, confidence=0.3)
    assert [len(one) for one in found] == [1, 0, 1] * 3
    for one, score in ((found[0], 1.0), (found[2], 0.8)):
        np.testing.assert_allclose(one.xyxy, [[32, 16, 96, 48]], atol=1e-3)
        assert one.data["class_name"].tolist() == ["lamp"] and one.confidence[0] == pytest.approx(score, abs=1e-3)


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(PATH.read_bytes()[:300])
    with pytest.raises(InvalidDataError, match="LiteRT cannot load"):
        load_detector(broken)
    with pytest.raises(UsageError, match="on the CPU here"):
        load_detector(PATH, providers=["cuda"])
    with pytest.raises(UsageError, match="input size is fixed"):
        load_detector(PATH, imgsz=96)
    code = "import sys; sys.modules['ai_edge_litert'] = None\nfrom osv_lab.detect import load_detector\n"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}load_detector({str(PATH)!r})"], capture_output=True, text=True, check=False
    )
    assert UnavailableError.__name__ in run.stderr and "osv-lab[litert]" in run.stderr


def test_what_cannot_be_made(
    weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copy(weights("yolo11n"), tmp_path / "mine.pt"))
    with pytest.raises(UsageError, match="from weights, in full precision"):
        export_model(source, "litert", half=True)
    with pytest.raises(UsageError, match="run on macOS only"):
        export_model(source, "coreml")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="no module 'litert_torch', which needs an older torch"):
        export_model(source, "tflite")
    assert [one.name for one in tmp_path.iterdir()] == ["mine.pt"]
