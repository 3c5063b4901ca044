"""What is compared: the samples that both evaluations looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_model import write_tiny_model

from osv_lab.core.errors import UsageError
from osv_lab.detect import load_detector
from osv_lab.evaluate.comparison import compare
from osv_lab.evaluate.detection import evaluate
from osv_lab.store.predict import predict


@pytest.fixture(scope="module")
def dataset(fo: Any) -> Iterator[Any]:
    """Six images with an object each, that the old model finds and the new one doesn't look for in the last two."""

    def box(**more: Any) -> Any:
        return fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0.2, 0.2, 0.4, 0.4], **more)])

    made = fo.Dataset()
    for number in range(6):
        sample = fo.Sample(f"/nowhere/{number}.png", ground_truth=box(), old=box(confidence=0.8))
        sample.metadata = fo.ImageMetadata(width=640, height=480)
        sample["new"] = box(confidence=0.9) if number < 4 else fo.Detections()
        made.add_sample(sample)
    for field in ("old", "new"):
        evaluate(made[:4], field, key=f"four_{field}")
    evaluate(made, "old", key="all_old")
    evaluate(made[4:], "old", key="two_old")
    yield made
    made.delete()


@pytest.mark.parametrize("first", ["four_old", "all_old"])
def test_samples_that_one_did_not_look_at_are_left_aside(dataset: Any, first: str) -> None:
    report = compare(dataset, first, "four_new", n_boot=100)
    assert report.samples == 4
    assert report.objects == {"fixed": 0, "broken": 0, "both_right": 4, "both_wrong": 0}
    assert any("2 of 6 samples were left aside" in note for note in report.notes)


def test_fields_are_compared_on_all_samples(dataset: Any) -> None:
    report = compare(dataset, "old", "new", n_boot=100)
    assert (report.samples, report.objects["broken"]) == (6, 2)
    assert not any("left aside" in note for note in report.notes)


def test_evaluations_of_different_samples_are_refused(dataset: Any) -> None:
    with pytest.raises(UsageError, match="did not look at the same samples"):
        compare(dataset, "two_old", "four_new", n_boot=100)


def test_an_ensembles_cost_is_that_of_its_members(fo: Any, tmp_path: Path, dataset_name: str) -> None:
    write_tiny_model(tmp_path / "tiny.onnx")
    (tmp_path / "both.yaml").write_text("models: [tiny.onnx, {model: tiny.onnx, flip: true}]")
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "0.png")
    made = fo.Dataset(dataset_name)
    box = fo.Detection(label="lamp", bounding_box=[0.2, 0.2, 0.4, 0.4])
    made.add_sample(fo.Sample(str(tmp_path / "0.png"), ground_truth=fo.Detections(detections=[box])))
    for field, file in (("one", "tiny.onnx"), ("two", "both.yaml")):
        predict(made, load_detector(tmp_path / file), field, confidence=0.0)
    report = compare(made, "one", "two", n_boot=100)
    assert report.cost is not None, report.notes
    assert report.cost.size_bytes == ((tmp_path / "tiny.onnx").stat().st_size,) * 2
