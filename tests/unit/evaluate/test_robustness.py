"""Corruptions are the same every time and grow; scores fall with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_model import BOX, write_tiny_model

from osv_lab.cli import main
from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.detect import load_detector
from osv_lab.evaluate.corruptions import CORRUPTIONS, corrupted
from osv_lab.evaluate.robustness import robustness


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(51)
    smooth = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    return (smooth * 0.7 + rng.integers(0, 40, smooth.shape)).astype(np.uint8)


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_a_corruption_grows_and_is_the_same_again(kind: str, picture: np.ndarray) -> None:
    before = picture.copy()
    steps = [corrupted(picture, kind, severity) for severity in range(1, 6)]
    assert all(one.shape == picture.shape and one.dtype == np.uint8 for one in steps)
    away = [float(np.abs(one.astype(float) - picture).mean()) for one in steps]
    assert away == sorted(away) and away[0] > 0
    np.testing.assert_array_equal(corrupted(picture, kind, 3), steps[2])
    np.testing.assert_array_equal(picture, before)
    assert corrupted(picture, kind, 0) is picture
    if kind == "noise":
        assert (corrupted(picture, kind, 3, number=1) != steps[2]).any()
        assert (corrupted(picture, kind, 3, seed=1) != steps[2]).any()


@pytest.fixture
def lamps(fo: Any, dataset_name: str, tmp_path: Path) -> Iterator[Any]:
    """Bright images with the lamp that the tiny model sees in them, and dark ones without."""
    dataset = fo.Dataset(dataset_name)
    for number in range(8):
        path = tmp_path / f"{number}.png"
        lit = number % 2 == 0
        cv2.imwrite(str(path), np.full((64, 64, 3), 200 if lit else 60 + number, np.uint8))
        x1, y1, x2, y2 = (value / 64 for value in BOX)
        truth = [fo.Detection(label="lamp", bounding_box=[x1, y1, x2 - x1, y2 - y1])] if lit else []
        dataset.add_sample(fo.Sample(str(path), tags=["test"], ground_truth=fo.Detections(detections=truth)))
    yield dataset


def test_scores_fall_where_images_get_worse(
    lamps: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    seen = []
    report = robustness(
        lamps,
        load_detector(model),
        corruptions=["blur", "darkness"],
        severities=(5, 1),
        progress=lambda *a: seen.append(a),
    )
    assert [(one.corruption, one.severity) for one in report.steps] == [
        ("blur", 1), ("blur", 5), ("darkness", 1), ("darkness", 5),
    ]  # fmt: skip
    assert report.clean.map50_95 == pytest.approx(1) and report.images == 8
    # A plain image blurred is itself; darkness changes all scores alike, and so not their order.
    assert all(one.map50_95 == pytest.approx(1) for one in report.steps)
    assert (report.mean, report.relative) == (pytest.approx(1), pytest.approx(1))
    assert len(report.of("blur")) == 3 and len(report.plot().data) == 2 and len(report.rows()) == 5
    assert seen[-1][1:] == (8, 8)
    command = [
        "robustness",
        lamps.name,
        "--model",
        str(model),
        "--corruption",
        "noise",
        "--severity",
        "2",
        "--json",
    ]
    assert main([*command, "--quiet"]) == 0
    assert len(json.loads(capsys.readouterr().out)["steps"]) == 1


def test_what_cannot_be_tried(fo: Any, lamps: Any, tmp_path: Path) -> None:
    detector = load_detector(write_tiny_model(tmp_path / "tiny.onnx"))
    for options, match in (
        ({"corruptions": ["fog"]}, "no such corruption"),
        ({"severities": [6]}, "severity"),
        ({"severities": [0]}, "clean"),
        ({"corruptions": []}, "nothing to try"),
    ):
        with pytest.raises(UsageError, match=match):
            robustness(lamps, detector, **options)
    lamps.clear_sample_field("ground_truth")
    with pytest.raises(InvalidDataError, match="ground truth"):
        robustness(lamps, detector)
