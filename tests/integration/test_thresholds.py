"""Chosen thresholds are kept with the model, and the same boxes pass by class wherever it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.cli import main
from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.core.sidecars import read_sidecar, update_sidecar
from osv_lab.detect import load_detector
from osv_lab.evaluate.thresholds import Thresholds
from osv_lab.serve.run import start_server

DATA = shared_data()


@dataclass
class Cells:
    view: Any
    thresholds: Thresholds
    expected: list[list[tuple[str, float]]]


@pytest.fixture(scope="module")
def cells(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cells]:
    """A registered model with thresholds chosen by class, and what must pass in each image."""
    if DATA is None:
        pytest.skip("needs BCCD and its model in the shared data")
    from osv_lab.evaluate.detection import evaluate
    from osv_lab.evaluate.thresholds import choose_thresholds
    from osv_lab.store.ingest import ingest
    from osv_lab.store.predict import predict
    from osv_lab.train.registry import register

    folder = tmp_path_factory.mktemp("thresholds")
    source = folder / "best.onnx"
    shutil.copy(DATA / "models" / "bccd_yolo11n.onnx", source)
    register(source, "sharp-cells", alias="champion")
    ingest(DATA / "bccd", "sharp-cells")
    view = fo.load_dataset("sharp-cells").match_tags("val").limit(16)
    predict(view, load_detector("models:/sharp-cells@champion"))
    thresholds = choose_thresholds(evaluate(view, key="val"), min_precision=0.8, n_boot=0)
    thresholds.save("models:/sharp-cells@champion")
    limits = thresholds.confidences
    assert len({limits[name] for name in ("RBC", "WBC", "Platelets")}) == 3
    expected = [
        sorted(
            (one.label, round(one.confidence, 4))
            for one in sample.predictions.detections
            if one.confidence > limits[one.label]
        )
        for sample in view
    ]
    assert 50 < sum(map(len, expected)) < view.count("predictions.detections") / 2
    yield Cells(view, thresholds, expected)
    fo.delete_dataset("sharp-cells")


def passed(detections: Any) -> list[tuple[str, float]]:
    names, scores = detections.data["class_name"], detections.confidence
    return sorted((str(name), round(float(score), 4)) for name, score in zip(names, scores, strict=True))


def test_the_same_boxes_pass_in_a_notebook_and_for_files(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    from osv_lab.lab import Lab

    paths = cells.view.values("filepath")
    found = Lab("sharp-cells").predict_batch(paths)
    assert [passed(one) for one in found] == cells.expected
    assert main(["predict", *paths[:4], "--model", "models:/sharp-cells@champion", "--json", "--quiet"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    of_files = [sorted((one["class_name"], round(one["confidence"], 4)) for one in f["detections"]) for f in files]
    assert of_files == cells.expected[:4]


def test_the_same_boxes_pass_in_the_app(cells: Cells) -> None:
    from osv_lab.store.predict import predict

    detector = load_detector("models:/sharp-cells@champion")
    report = predict(cells.view, detector, "chosen", confidence="model")
    assert report.predicted == 16
    rows = cells.view.values(["chosen.detections.label", "chosen.detections.confidence"])
    found = [
        sorted((label, round(score, 4)) for label, score in zip(*row, strict=True))
        for row in zip(*rows, strict=True)
    ]
    assert found == cells.expected
    assert predict(cells.view, detector, "chosen", confidence="model").kept == 16
    shown = cells.thresholds.view().values(["predictions.detections.label", "predictions.detections.confidence"])
    assert [
        sorted((label, round(score, 4)) for label, score in zip(*row, strict=True))
        for row in zip(*shown, strict=True)
    ] == cells.expected


def test_the_same_boxes_reach_the_tracker(cells: Cells, tmp_path: Path) -> None:
    from osv_lab.track.video import track_video

    class Listening:
        """The model, and what it handed to the tracker."""

        def __init__(self) -> None:
            self.inner = load_detector("models:/sharp-cells@champion")
            self.found: list[Any] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def predict(self, images: Sequence[np.ndarray], **options: Any) -> list[Any]:
            found = self.inner.predict(images, **options)
            self.found += found
            return found

    for number, path in enumerate(cells.view.values("filepath")):
        shutil.copy(path, tmp_path / f"{number:06}.jpg")
    detector = Listening()
    track_video(tmp_path, detector, confidence="model", frame_rate=1)
    assert [passed(one) for one in detector.found] == cells.expected


def test_the_same_boxes_pass_on_a_server(cells: Cells) -> None:
    with start_server("models:/sharp-cells@champion") as server:
        [described] = httpx.get(server.url + "/models", trust_env=False).json()["models"]
        assert described["defaults"]["confidence_threshold"] == cells.thresholds.confidences
        for path, expected in zip(cells.view.values("filepath"), cells.expected, strict=True):
            answer = httpx.post(
                server.url + "/predict",
                content=Path(path).read_bytes(),
                headers={"Content-Type": "image/jpeg"},
                trust_env=False,
            )
            found = sorted((one["class"], one["confidence"]) for one in answer.json()["predictions"])
            assert found == expected


def test_thresholds_by_command(cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "best.onnx"
    shutil.copy(DATA / "models" / "bccd_yolo11n.onnx", model)  # type: ignore[operator]
    command = ["thresholds", "sharp-cells", "--key", "val", "--min-precision", "0.8", "--save", str(model)]
    assert main([*command, "--n-boot", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stored = read_sidecar(model)["thresholds"]
    assert stored["confidence"] == cells.thresholds.confidences
    assert stored["objective"] == found["objective"] == "F1 at a precision of at least 0.8"
    assert stored["chosen_on"] == "sharp-cells/val"
    other = write_tiny_model(tmp_path / "tiny.onnx")
    assert main(["thresholds", "sharp-cells", "--key", "val", "--save", str(other)]) == 2
    assert "no class that was predicted" in capsys.readouterr().err
    assert "thresholds" not in read_sidecar(other)


def grey(level: int) -> np.ndarray:
    return np.full((64, 64, 3), level, np.uint8)


def test_a_threshold_for_each_class(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    detector = load_detector(model)
    images = [grey(level) for level in (90, 140, 250)]

    def counts(**options: Any) -> list[int]:
        return [len(one) for one in detector.predict(images, **options)]

    assert counts() == [1, 1, 1]
    assert counts(confidence={"lamp": 0.5}) == [0, 1, 1]
    assert counts(confidence={"cat": 0.9, "*": 0.95}) == [0, 0, 1]
    assert counts(confidence={"cat": 0.9}) == [1, 1, 1]
    with pytest.raises(UsageError, match="lamp"):
        detector.predict(images, confidence={"lampp": 0.5})
    with pytest.raises(UsageError, match="'cat'"):
        detector.predict(images, confidence={"cat": 1.5})
    with pytest.raises(UsageError, match="no thresholds of its own"):
        detector.predict(images, confidence="model")
    with pytest.raises(UsageError, match="number"):
        detector.predict(images, confidence="high")
    update_sidecar(model, {"thresholds": {"confidence": {"lamp": 0.5}}})
    assert counts(confidence="model") == [0, 1, 1]


def test_an_ensemble_has_a_threshold_for_each_class(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.onnx")
    (tmp_path / "both.yaml").write_text("models: [tiny.onnx, {model: tiny.onnx, flip: true}]\n")
    detector = load_detector(tmp_path / "both.yaml")
    images = [grey(level) for level in (90, 140, 250)]
    assert [len(one) for one in detector.predict(images, confidence={"lamp": 0.5})] == [0, 1, 1]
    update_sidecar(tmp_path / "both.yaml", {"thresholds": {"confidence": {"lamp": 0.6}}})
    assert [len(one) for one in detector.predict(images, confidence="model")] == [0, 0, 1]


def test_a_server_refuses_thresholds_that_are_none(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    for wrong in ({"lamp": 5}, {"lampp": 0.5}, ["lamp"], {"lamp": None}):
        update_sidecar(model, {"thresholds": {"confidence": wrong}})
        with pytest.raises(InvalidDataError, match="sidecar"):
            start_server(model)
    update_sidecar(model, {"thresholds": {"confidence": {"lamp": 0.5, "*": 0.1}}})
    with start_server(model, scheduling="batch") as server:
        for level, count in ((90, 0), (140, 1)):
            body = cv2.imencode(".png", grey(level))[1].tobytes()
            kind = {"Content-Type": "image/png"}
            url = server.url + "/predict"
            assert len(httpx.post(url, content=body, headers=kind, trust_env=False).json()["predictions"]) == count
            asked = httpx.post(url, content=body, headers=kind, params={"confidence_threshold": "0.2"})
            assert len(asked.json()["predictions"]) == 1
