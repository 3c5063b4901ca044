"""Calibration against a direct computation, and as good as it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.evaluate import calibration as module
from osv_lab.evaluate.calibration import calibration
from osv_lab.evaluate.scores import Scores


def made(images: int, spread: float, seed: int = 51) -> Scores:
    """Detections that are right as often as their score says, raised to ``spread``."""
    rng = np.random.default_rng(seed)
    count = images * 10
    confidence = rng.uniform(0, 1, count)
    return Scores(
        "d", "k", "p", "g", 0.5, images, ("cat", "dog", "newt"), np.repeat(np.arange(images), 10),
        rng.integers(0, 2, count), confidence, rng.random(count) < confidence**spread, np.zeros(0, int),
        np.zeros(0, int),
    )  # fmt: skip


def test_equal_to_a_direct_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = made(50, 2.0)
    monkeypatch.setattr(module, "read_scores", lambda *_: scores)
    report = calibration(None, bins=7, confidence=0.2, n_boot=100)
    for name, own in (
        ("(all)", np.ones(500, bool)),
        ("cat", scores.class_id == 0),
        ("dog", scores.class_id == 1),
    ):
        own = own & (scores.confidence > 0.2)
        expected = 0.0
        for low in range(7):
            inside = own & (scores.confidence > low / 7) & (scores.confidence <= (low + 1) / 7)
            if inside.any():
                gap = abs(scores.confidence[inside].mean() - scores.right[inside].mean())
                expected += gap * inside.sum() / own.sum()
        one = next(one for one in report.classes if one.name == name)
        assert one.ece == pytest.approx(expected, abs=1e-12)
        assert one.interval[0] <= one.interval[1]
        assert sum(bin.count for bin in one.bins) == one.detections == own.sum()
    newt = report.classes[-1]
    assert (newt.name, newt.detections) == ("newt", 0) and report.rows()[-1]["95 %"] is None


def test_good_scores_are_told_from_bad_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for spread, error, word in ((1.0, 0.0, "about right"), (3.0, 0.25, "overconfident")):
        scores = made(2000, spread)
        monkeypatch.setattr(module, "read_scores", lambda *_, scores=scores: scores)
        report = calibration(None, n_boot=100)
        assert report.ece == pytest.approx(error, abs=0.02)
        assert word in report.summary()
        assert len(report.plot().data) == 6


def test_of_an_evaluation(fo: Any, dataset_name: str) -> None:
    from osv_lab.evaluate.detection import evaluate

    dataset = fo.Dataset(dataset_name)
    boxes = [[0.1 * k, 0.1, 0.08, 0.08] for k in range(8)]
    for number in range(4):
        truth = [fo.Detection(label="cat", bounding_box=box) for box in boxes[: 4 + number % 2]]
        found = [fo.Detection(label="cat", bounding_box=box, confidence=0.75) for box in boxes[:6]]
        sample = fo.Sample(f"/nowhere/{number}.png")
        sample.metadata = fo.ImageMetadata(width=100, height=100)
        sample["ground_truth"], sample["predictions"] = (
            fo.Detections(detections=truth),
            fo.Detections(detections=found),
        )
        dataset.add_sample(sample)
    report = calibration(evaluate(dataset), n_boot=100)
    assert (report.classes[0].precision, report.ece) == (0.75, pytest.approx(0, abs=1e-9))
    assert calibration(dataset, key="eval", n_boot=100).classes[1].name == "cat"
    with pytest.raises(InvalidDataError, match="no detections"):
        calibration(dataset, key="eval", confidence=0.9)
    for wrong in ({"bins": 1}, {"confidence": 1.0}):
        with pytest.raises(UsageError):
            calibration(dataset, key="eval", **wrong)
