"""An ensemble is a detector like any other: in its file, in the library, on the command line and behind HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from support import ROOT
from tiny_model import BOX, write_tiny_model

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UsageError
from osv_lab.detect import load_detector
from osv_lab.detect.detector import Detector
from osv_lab.detect.ensemble import EnsembleDetector
from osv_lab.serve.run import start_server

BRIGHT = np.full((64, 64, 3), 200, np.uint8)
SCORE = 200 / 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    write_tiny_model(folder / "tiny.onnx")
    return folder


def ensemble(folder: Path, content: object, name: str = "both.yaml") -> Path:
    path = folder / name
    path.write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump(content), "utf-8")
    return path


@pytest.mark.parametrize("name", ["both.yaml", "both.yml", "both.json"])
@pytest.mark.parametrize("how", ["wbf", "nms"])
def test_a_model_with_itself_is_that_model(folder: Path, name: str, how: str) -> None:
    alone = load_detector(folder / "tiny.onnx")
    both = load_detector(ensemble(folder, {"models": ["tiny.onnx", "tiny.onnx"], "fuse": how}, name))
    assert isinstance(both, Detector)
    assert both.class_names == alone.class_names
    assert both.provider == alone.provider
    for one, other in zip(both.predict([BRIGHT, BRIGHT]), alone.predict([BRIGHT, BRIGHT]), strict=True):
        assert one.xyxy == pytest.approx(other.xyxy, abs=1e-3)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-6)
        assert one.data["class_name"].tolist() == other.data["class_name"].tolist() == ["lamp"]


def test_classes_are_one_by_name_and_can_be_renamed(folder: Path) -> None:
    models = ["tiny.onnx", {"model": "tiny.onnx", "rename": {"lamp": "light"}}]
    both = load_detector(ensemble(folder, {"models": models}))
    assert both.class_names == ("lamp", "cat", "light")
    [found] = both.predict([BRIGHT])
    assert sorted(found.data["class_name"].tolist()) == ["lamp", "light"]
    # Each of the two is known to one model only, which is not outvoted by the other.
    assert found.confidence == pytest.approx([SCORE, SCORE], abs=1e-3)
    [found] = both.predict([BRIGHT], classes=["light"])
    assert found.data["class_name"].tolist() == ["light"]
    assert found.class_id.tolist() == [2]


def test_a_mirrored_member_sees_the_other_side(folder: Path) -> None:
    left = np.zeros((64, 128, 3), np.uint8)
    left[:] = 200
    plain, mirrored = (
        load_detector(ensemble(folder, {"models": [{"model": "tiny.onnx", "flip": flip}]}))
        for flip in (False, True)
    )
    [[one], [other]] = [detector.predict([left]) for detector in (plain, mirrored)]
    # The model's box lies a little off the middle once letterboxed; mirrored, it lies as far on the other side.
    assert other.xyxy[0][[0, 2]] == pytest.approx(128 - one.xyxy[0][[2, 0]], abs=1e-3)
    assert other.xyxy[0][[1, 3]] == pytest.approx(one.xyxy[0][[1, 3]], abs=1e-3)


def test_thresholds(folder: Path) -> None:
    both = load_detector(ensemble(folder, {"models": ["tiny.onnx"] * 2}))
    assert len(both.predict([BRIGHT], confidence=SCORE - 0.01)[0]) == 1
    assert len(both.predict([BRIGHT], confidence=SCORE + 0.01)[0]) == 0
    assert len(both.predict([BRIGHT], max_detections=0)[0]) == 0
    assert both.predict([]) == []
    with pytest.raises(UsageError, match="no such class"):
        both.predict([BRIGHT], classes=["lampe"])
    with pytest.raises(UsageError, match="confidence"):
        both.predict([BRIGHT], confidence=2)


def test_its_digest_is_of_its_members_and_how_they_are_fused(folder: Path) -> None:
    def digest(content: dict[str, Any], name: str = "both.yaml") -> str:
        return str(load_detector(ensemble(folder, content, name)).describe()["digest"])

    plain = {"models": ["tiny.onnx", "tiny.onnx"]}
    assert digest(plain) == digest(plain, "other.json")
    assert digest(plain) != digest({**plain, "iou": 0.6})
    assert digest(plain) != digest({**plain, "weights": [1, 2]})
    json.dumps(load_detector(folder / "both.yaml").describe())


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"models": []}, InvalidDataError),
        ({"models": "tiny.onnx"}, InvalidDataError),
        ({"models": [7]}, InvalidDataError),
        ({"models": [{"model": "tiny.onnx", "size": 3}]}, InvalidDataError),
        ({"models": ["tiny.onnx"], "fuse": "mean"}, InvalidDataError),
        ({"models": ["tiny.onnx"], "iou": "much"}, InvalidDataError),
        ({"models": ["tiny.onnx"], "iou": 2}, InvalidDataError),
        ({"models": ["tiny.onnx"], "weights": [1, 2]}, InvalidDataError),
        ({"models": ["tiny.onnx"], "weigths": [1]}, InvalidDataError),
        ({"models": [{"model": "tiny.onnx", "weight": -1}]}, InvalidDataError),
        ({"models": [{"model": "tiny.onnx", "rename": ["lamp"]}]}, InvalidDataError),
        ({"models": [{"model": "tiny.onnx", "rename": {"dog": "x"}}]}, UsageError),
        ({"models": ["no-such.onnx"]}, NotFoundError),
        ({"models": ["self.json"]}, InvalidDataError),
    ],
)
def test_a_file_that_cannot_be_used_says_why(folder: Path, content: object, kind: type[OsvError]) -> None:
    path = ensemble(folder, content, "self.json")
    with pytest.raises(kind) as caught:
        load_detector(path)
    assert caught.value.what


def test_a_json_file_that_is_no_ensemble(folder: Path) -> None:
    with pytest.raises(InvalidDataError, match="not an ensemble"):
        load_detector(ensemble(folder, [1, 2], "list.json"))


def test_it_is_served_and_predicts_from_the_command_line(folder: Path) -> None:
    import cv2

    path = ensemble(folder, {"models": ["tiny.onnx", {"model": "tiny.onnx", "flip": True}]})
    image = folder / "bright.png"
    cv2.imwrite(str(image), BRIGHT)
    command = [sys.executable, "-m", "osv_lab", "predict", str(image), "--model", str(path), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=dict(os.environ))
    [file] = json.loads(done.stdout)["files"]
    assert file["detections"][0]["class_name"] == "lamp"

    with start_server(path) as server:
        described = httpx.get(f"{server.url}/models", trust_env=False).json()["models"][0]
        assert described["engine"] == "ensemble"
        assert described["scheduling"]["mode"] in ("parallel", "batch")
        answer = httpx.post(
            f"{server.url}/predict", content=image.read_bytes(), headers={"Content-Type": "image/png"}
        )
    assert answer.headers["X-Model"] == "both.yaml"
    assert answer.headers["X-Model-Digest"] == described["digest"]
    [found] = answer.json()["predictions"]
    assert found["box"] == dict(zip(("x1", "y1", "x2", "y2"), BOX, strict=True))
    assert found["confidence"] == pytest.approx(SCORE, abs=1e-3)


def test_only_boxes_can_be_fused(folder: Path) -> None:
    from osv_lab.detect.ensemblefile import EnsembleSpec

    class Classifier:
        ref, task, class_names, provider, input_size = "c.onnx", "classify", ("a",), "none", None

    with pytest.raises(UsageError, match="only boxes"):
        EnsembleDetector(EnsembleSpec.from_dict({"models": ["c.onnx"]}), [Classifier()])  # type: ignore[list-item]
