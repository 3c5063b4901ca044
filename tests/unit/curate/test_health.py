"""health(): each planted defect becomes a finding with its view; the numbers are those of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import NotFoundError
from osv_lab.curate.health import PLOTS, cover, health


@pytest.fixture
def ward(fo: Any, dataset_name: str) -> Any:
    """Fifty images of two cells each, and one image for each defect."""
    dataset = fo.Dataset(dataset_name)

    def add(name: str, *labels: tuple[str, list[float]], split: str = "train", labelled: bool = True) -> None:
        sample = fo.Sample(f"/photos/{name}.jpg", tags=[split], metadata=fo.ImageMetadata(width=640, height=480))
        if labelled:
            found = [fo.Detection(label=label, bounding_box=box) for label, box in labels]
            sample["ground_truth"] = fo.Detections(detections=found)
        dataset.add_sample(sample)

    for i in range(50):
        split = "val" if i % 5 == 0 else "train"
        add(f"{i:02d}", ("RBC", [0.1, 0.1, 0.2, 0.2]), ("RBC", [0.5, 0.5, 0.2, 0.2]), split=split)
    add("unlabelled", labelled=False)
    add("background", ("RBC", [0.3, 0.3, 0.1, 0.1]))
    sample = dataset.last()
    sample.ground_truth.detections = []
    sample.save()
    add("outside", ("RBC", [0.9, 0.9, 0.2, 0.2]), ("RBC", [0.2, 0.2, 0.1, 0.1]))
    add("empty", ("RBC", [0.3, 0.3, 0.0, 0.1]))
    add("double", ("RBC", [0.3, 0.3, 0.1, 0.1]), ("RBC", [0.3, 0.3, 0.1, 0.1]))
    add("tiny", ("RBC", [0.3, 0.3, 0.001, 0.001]))
    add("whole", ("RBC", [0.0, 0.0, 1.0, 1.0]))
    add("rare", ("WBC", [0.3, 0.3, 0.1, 0.1]))
    add("twin", ("rbc", [0.3, 0.3, 0.1, 0.1]))
    add("unseen", ("Platelets", [0.3, 0.3, 0.1, 0.1]), split="val")
    return dataset


def names(view: Any) -> set[str]:
    return {path.split("/")[-1][:-4] for path in view.values("filepath")}


def test_each_defect_is_a_finding_with_its_view(ward: Any) -> None:
    report = health(ward)
    for kind, shown in {
        "unlabelled": {"unlabelled"},
        "background": {"background"},
        "outside": {"outside"},
        "empty_boxes": {"empty"},
        "double_boxes": {"double"},
        "tiny_boxes": {"tiny"},
        "whole_image": {"whole"},
        "rare_classes": {"rare", "twin", "unseen"},
        "unseen_in_val": {"unseen"},
        "unscored_classes": {"rare", "twin"},
    }.items():
        assert names(report.view(kind)) == shown, kind
    assert "twin" in names(report.view("similar_names"))
    assert report.view("outside").count("ground_truth.detections") == 1
    severities = [one.severity for one in report.findings]
    assert severities == sorted(severities, reverse=True)
    assert report.findings[0].kind == "unseen_in_val"


def test_labels_without_a_class_or_a_box_are_found_and_left_out(fo: Any, ward: Any) -> None:
    sound = health(ward)
    found = [
        fo.Detection(label="RBC", bounding_box=[0.1, 0.1, 0.2, float("nan")]),
        fo.Detection(bounding_box=[0.1, 0.1, 0.2, 0.2]),
        fo.Detection(label="RBC"),
    ]
    ward.add_sample(fo.Sample("/photos/bare.jpg", tags=["train"], ground_truth=fo.Detections(detections=found)))
    report = health(ward)
    for kind, labels in {"no_class": found[1:2], "no_box": [found[0], found[2]]}.items():
        assert names(report.view(kind)) == {"bare"}
        assert report.view(kind).values("ground_truth.detections.id", unwind=True) == [one.id for one in labels]
    assert report.objects == sound.objects and np.array_equal(report.places, sound.places)


def test_numbers_are_those_of_the_labels(ward: Any) -> None:
    report = health(ward)
    assert (report.samples, report.labelled) == (60, 59)
    assert report.objects == ward.count_values("ground_truth.detections.label")
    assert report.by_split["val"] == {"RBC": 20, "Platelets": 1}
    assert report.density.sum() == sum(report.objects.values()) == len(report.aspects)
    assert report.images["RBC"] == 55
    assert np.isclose(report.aspects, 640 / 480).sum() > 100


def test_a_sound_dataset_has_no_finding_and_every_plot(ward: Any) -> None:
    report = health(ward.limit(50))
    assert report.findings == ()
    assert all(report.plot(name).data for name in PLOTS)
    with pytest.raises(NotFoundError, match="did you mean 'sizes'"):
        report.plot("size")
    with pytest.raises(NotFoundError, match="did you mean 'ground_truth'"):
        health(ward, "ground_thruth")


@given(st.lists(st.tuples(*[st.integers(0, 8)] * 4), max_size=8))
def test_cover_counts_boxes_cell_by_cell(corners: list[tuple[int, int, int, int]]) -> None:
    boxes = [(x, y, w, h) for x, y, w, h in corners if w and h and x + w <= 8 and y + h <= 8]
    expected = np.zeros((8, 8), int)
    for x, y, w, h in boxes:
        expected[y : y + h, x : x + w] += 1
    assert (cover(np.array(boxes, float).reshape(-1, 4) / 8, 8) == expected).all()
