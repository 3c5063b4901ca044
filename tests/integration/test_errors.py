"""Errors and slices of a trained model on BCCD, by the commands and the notebook's facade."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from support import shared_data

from osv_lab.cli import main
from osv_lab.evaluate.errors import TYPES

DATA = shared_data()
pytestmark = pytest.mark.skipif(DATA is None, reason="needs BCCD and its model in the shared data")


@pytest.fixture(scope="module")
def cells(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from osv_lab.detect import load_detector
    from osv_lab.evaluate.detection import evaluate
    from osv_lab.store.ingest import ingest
    from osv_lab.store.predict import predict

    assert DATA is not None
    ingest(DATA / "bccd", "error-cells")
    weights = tmp_path_factory.mktemp("errors") / "cells.pt"
    shutil.copy(DATA / "models" / "bccd_yolo11n.pt", weights)
    test = fo.load_dataset("error-cells").match_tags("test")
    predict(test, load_detector(weights, imgsz=320), "predictions", confidence=0.001)
    evaluate(test, key="eval")
    yield "error-cells"
    fo.delete_dataset("error-cells")


def test_errors_of_a_trained_model(fo: Any, cells: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["errors", cells, "--split", "test", "--key", "eval", "--by", "density", "--save", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    dataset = fo.load_dataset(cells)
    every = {row["kind"]: row for row in found["shares"] if row["by"] == "all"}
    assert set(every) == set(TYPES)
    for kind in TYPES:
        field = "ground_truth" if kind == "missed" else "predictions"
        assert dataset.load_saved_view(f"eval_{kind}").count(f"{field}.detections") == every[kind]["count"]
    assert all(row["gain"] >= 0 for row in every.values())
    evaluated = dataset.load_evaluation_results("eval")
    # FiftyOne samples each curve at IoU 0.5 first.
    precision = evaluated.precision[0]
    assert found["mean_ap"] == pytest.approx(precision[precision[:, 0] >= 0].mean(), abs=1e-9)


def test_slices_of_a_trained_model(cells: str, capsys: pytest.CaptureFixture[str]) -> None:
    from osv_lab.lab import Lab

    options = ["--by", "density", "--by", "size", "--by", "brightness", "--n-boot", "200", "--json", "--quiet"]
    assert main(["slices", cells, "--split", "test", "--key", "eval", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["by"] for row in found["slices"]} == {"density", "size", "brightness"}
    for row in [found["overall"], *found["slices"]]:
        low, high = row["intervals"]["mAP"]
        assert low <= row["values"]["mAP"] <= high
    report = Lab(cells).slices(by=["density", "size", "brightness"], n_boot=200)
    assert [one.name for one in report.slices] == [row["name"] for row in found["slices"]]
    assert Lab(cells).error_budget().mean_ap == pytest.approx(report.overall.values["mAP"], abs=1e-9)
