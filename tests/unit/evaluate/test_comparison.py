"""What is compared: the samples that both evaluations looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from osv_lab.core.errors import UsageError
from osv_lab.evaluate.comparison import compare
from osv_lab.evaluate.detection import evaluate


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
