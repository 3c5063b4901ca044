"""A digest of what training sees, and version names bound to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from osv_lab.core.errors import CheckFailedError, NotFoundError, UsageError
from osv_lab.store.snapshot import freeze, snapshot
from osv_lab.store.versions import find_version


def test_the_same_content_has_the_same_digest_in_any_order(fo: Any, shapes: Callable[..., Any]) -> None:
    dataset = shapes(train=3, val=2)
    found = snapshot(dataset)
    assert (found.samples, found.labels, dict(found.splits)) == (5, 10, {"train": 3, "val": 2})
    other = fo.Dataset()
    try:
        for sample in reversed(list(dataset)):
            copy = fo.Sample(sample.filepath, tags=[*sample.tags, "seen"])
            labels = [one.copy() for one in reversed(sample.ground_truth.detections)]
            copy["ground_truth"] = fo.Detections(detections=labels)
            other.add_sample(copy)
        assert snapshot(other).digest == found.digest
    finally:
        other.delete()


def test_any_change_of_content_changes_the_digest(shapes: Callable[..., Any]) -> None:
    dataset = shapes(train=3)
    seen = {snapshot(dataset).digest}

    def moved(sample: Any) -> None:
        sample.ground_truth.detections[0].bounding_box[0] += 1e-9

    def renamed(sample: Any) -> None:
        sample.ground_truth.detections[0].label = "ring"

    def resplit(sample: Any) -> None:
        sample.tags = ["val"]

    def emptied(sample: Any) -> None:
        sample.ground_truth.detections = []

    def unlabelled(sample: Any) -> None:
        sample.ground_truth = None

    for number, change in enumerate((moved, renamed, resplit, emptied, unlabelled), start=2):
        sample = dataset.first()
        change(sample)
        sample.save()
        seen.add(snapshot(dataset).digest)
        assert len(seen) == number, change.__name__


def test_predictions_and_tags_do_not_change_it(fo: Any, shapes: Callable[..., Any]) -> None:
    dataset = shapes(train=2)
    before = snapshot(dataset).digest
    sample = dataset.first()
    sample["predictions"] = fo.Detections(detections=[fo.Detection(label="disc", bounding_box=[0, 0, 1, 1])])
    sample.tags.append("hard")
    sample.save()
    assert snapshot(dataset).digest == before


def test_a_version_name_stays_bound(shapes: Callable[..., Any]) -> None:
    dataset = shapes(train=3)
    first = freeze(dataset, "v1")
    assert freeze(dataset, "v1") == first
    assert find_version(f"{dataset.name}@v1").digest == first.digest
    sample = dataset.first()
    sample.ground_truth.detections.pop()
    sample.save()
    with pytest.raises(CheckFailedError) as caught:
        freeze(dataset, "v1")
    assert "labels 6 → 5" in str(caught.value)
    assert "'v2'" in str(caught.value)
    assert freeze(dataset, "v2").digest != first.digest
    with pytest.raises(UsageError):
        freeze(dataset, " ")


def test_fields_that_are_not_there(shapes: Callable[..., Any]) -> None:
    dataset = shapes(train=1)
    with pytest.raises(NotFoundError, match="ground_truth"):
        snapshot(dataset, ["ground_thruth"])
    with pytest.raises(UsageError, match="filepath"):
        snapshot(dataset, ["filepath"])
