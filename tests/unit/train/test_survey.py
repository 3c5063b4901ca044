"""What there is to train on, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from osv_lab.core.errors import InvalidDataError, NotFoundError
from osv_lab.train.survey import survey, tasks_of


def test_counts_and_warnings_say_what_a_training_would_see(shapes: Callable[..., Any]) -> None:
    found = survey(shapes(train=12, val=4))
    assert (found.task, found.field, found.classes) == ("detect", "ground_truth", ("square", "disc"))
    assert found.images == {"train": 12, "val": 4}
    assert found.objects["disc"] == {"train": 12, "val": 4}
    assert found.summary() == "detect: 2 classes; images: train 12, val 4"
    assert [warning.split(":")[0] for warning in found.warnings] == [
        "only 4 images validate",
        "no labelled image is in the test split",
    ]


def test_a_class_without_objects_to_learn_from_is_named(shapes: Callable[..., Any]) -> None:
    dataset = shapes(train=4, val=2)
    dataset.default_classes = ["square", "disc", "ring"]
    assert "'ring' has no object to learn from" in survey(dataset).warnings
    assert "'disc' has only 4 objects to learn from" in survey(dataset).warnings


def test_the_labels_decide_which_tasks_there_are(shapes: Callable[..., Any], fo: Any) -> None:
    dataset = shapes(train=3, val=2)
    assert tasks_of(dataset) == ("detect",)
    sample = dataset.first()
    sample["classification"] = fo.Classification(label="disc")
    sample["oriented"] = fo.Polylines(polylines=[])
    sample.save()
    from osv_lab.store.records import FIELDS

    dataset.rename_sample_field("oriented", FIELDS["oriented_box"])
    if FIELDS["class"] != "classification":
        dataset.rename_sample_field("classification", FIELDS["class"])
    assert tasks_of(dataset) == ("detect", "obb", "classify")


def test_outlines_in_the_labels_own_field_may_be_either(fo: Any, dataset_name: str) -> None:
    dataset = fo.Dataset(dataset_name)
    outline = fo.Polyline(label="ring", points=[[(0.1, 0.1), (0.4, 0.1), (0.2, 0.5)]], closed=True)
    dataset.add_sample(fo.Sample("ring.png", ground_truth=fo.Polylines(polylines=[outline])))
    assert tasks_of(dataset) == ("segment", "obb")
    assert survey(dataset).classes == ("ring",)


def test_what_cannot_be_trained_is_refused_as_training_would(shapes: Callable[..., Any], fo: Any) -> None:
    with pytest.raises(InvalidDataError, match="nothing to train on"):
        survey(shapes(test=3))
    with pytest.raises(NotFoundError, match="no such label field"):
        survey(shapes(train=3), gt_field="labels")
