"""COCO files of several makers, and broken ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats import open_source
from osv_lab.store.records import Box, Keypoints, Polygon, Record, Source


def image(path: Path, size: tuple[int, int] = (100, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((size[1], size[0], 3), np.uint8))
    return path


def content(annotations: list[Any], images: list[Any] | None = None, categories: list[Any] | None = None) -> str:
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "x.png", "width": 100, "height": 50}] if images is None else images,
            "annotations": annotations,
            "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]
            if categories is None
            else categories,
        }
    )


def annotation(**stated: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 10], **stated}


def read(root: Path) -> tuple[Source, dict[str, Record]]:
    source, records = open_source(root)
    return source, {record.path.name: record for record in records}


def one(root: Path, *annotations: Any) -> Record:
    image(root / "x.png")
    (root / "all.json").write_text(content(list(annotations)))
    return read(root)[1]["x.png"]


def test_boxes_and_category_gaps(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    image(tmp_path / "unlisted.png")
    rows = [
        annotation(),
        annotation(id=2, category_id=90, iscrowd=1, score=0.5, track_id=7, attributes={"colour": "red"}),
    ]
    (tmp_path / "all.json").write_text(content(rows))
    source, records = read(tmp_path)
    assert (source.format, source.classes) == ("coco", ("cat", "dog"))
    first, second = records["x.png"].labels
    assert isinstance(first, Box)
    assert first.xywh == pytest.approx((0.1, 0.1, 0.2, 0.2))
    assert not first.attributes
    assert (second.label, second.confidence, second.index) == ("dog", 0.5, 7)
    assert second.attributes == {"iscrowd": True, "colour": "red"}
    assert records["x.png"].size == (100, 50)
    assert not records["unlisted.png"].labelled


@pytest.mark.parametrize(
    ("stated", "what", "kept"),
    [
        ({"category_id": 4}, "category id 4 is not one of the 2", 0),
        ({"category_id": None}, "category id None", 0),
        ({"bbox": [10, 5, float("nan"), 10]}, "not a finite number", 0),
        ({"bbox": [10, 5, 10**400, 10]}, "not a number", 0),
        ({"bbox": [10, 5, -20, 10]}, "negative width", 0),
        ({"bbox": [10, 5, 0, 10]}, "without area", 0),
        ({"bbox": [10, 5, 20]}, "bbox", 0),
        ({"bbox": ["a", 5, 20, 1]}, "not a number", 0),
        ({"bbox": [200, 5, 20, 10]}, "outside the image", 0),
        ({"bbox": [90, 5, 20, 10]}, "was cut", 1),
        ({"bbox": []}, "without bbox", 0),
        ({"segmentation": [[1, 2, 3, 4]]}, "outline of 2 points", 1),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "expected pairs", 1),
        ({"segmentation": {"size": [50, 100], "counts": [10, 10]}}, "run lengths add up to 20", 1),
        ({"segmentation": {"size": [50, 100], "counts": "é"}}, "mask", 1),
        ({"segmentation": {"size": [50000, 100000], "counts": [1]}}, "100000x50000 pixels", 1),
        ({"keypoints": [1, 2]}, "multiple of 3", 1),
    ],
)
def test_a_bad_annotation_costs_itself_only(tmp_path: Path, stated: dict[str, Any], what: str, kept: int) -> None:
    record = one(tmp_path, annotation(**stated), annotation(id=2, bbox=[0, 0, 5, 5]))
    assert len(record.labels) == 1 + kept
    (problem,) = record.problems
    assert what in problem.what
    assert problem.where == "annotation 1"


def test_an_outline_is_linked_to_its_box(tmp_path: Path) -> None:
    record = one(tmp_path, annotation(id=5, segmentation=[[10, 5, 30, 5, 30, 15], [12, 6, 14, 6, 14, 8]]))
    box, outline = record.labels
    assert isinstance(box, Box)
    assert isinstance(outline, Polygon)
    assert len(outline.rings) == 2
    assert box.attributes["coco_id"] == outline.attributes["coco_id"] == 5


def test_masks_compressed_and_not(tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    whole = np.zeros((50, 100), np.uint8)
    whole[5:15, 10:30] = np.random.default_rng(0).random((10, 20)) < 0.5
    whole[5, 10] = whole[14, 29] = 1
    packed = coco_mask.encode(np.asfortranarray(whole))
    counts: list[int] = []
    flat = whole.ravel(order="F")
    value, run = 0, 0
    for pixel in flat:
        if pixel == value:
            run += 1
        else:
            counts.append(run)
            value, run = pixel, 1
    counts.append(run)
    plain = {"size": [50, 100], "counts": counts}
    record = one(
        tmp_path,
        annotation(segmentation={"size": [50, 100], "counts": packed["counts"].decode()}),
        annotation(id=2, segmentation=plain, bbox=[]),
    )
    for label in record.labels:
        assert isinstance(label, Box)
        assert np.array_equal(label.mask, whole[5:15, 10:30])
        assert label.xywh == pytest.approx((0.1, 0.1, 0.2, 0.2))


def test_keypoints(tmp_path: Path) -> None:
    record = one(tmp_path, annotation(keypoints=[10, 5, 2, 30, 15, 1, 0, 0, 0], num_keypoints=2))
    (label,) = record.labels
    assert isinstance(label, Keypoints)
    assert label.visible == (2, 1, 0)
    assert label.xywh == pytest.approx((0.1, 0.1, 0.2, 0.2))
    assert math.isnan(label.points[2][0])


def test_twice_the_same(tmp_path: Path) -> None:
    record = one(tmp_path, annotation(), annotation(id=2))
    assert len(record.labels) == 1
    assert record.problems[0].what == "the same annotation twice"


def test_a_file_per_split(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        image(tmp_path / split / f"{split}.png")
        listed = [{"id": 1, "file_name": f"{split}.png", "width": 100, "height": 50}]
        path = tmp_path / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content([annotation()], listed))
    people = [annotation(keypoints=[10, 5, 2], num_keypoints=1), annotation(id=9, category_id=90)]
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text(
        content(people, [{"id": 1, "file_name": "val2017.png", "width": 100, "height": 50}])
    )
    source, records = read(tmp_path)
    assert {name: record.split for name, record in records.items()} == {
        "train2017.png": "train",
        "val2017.png": "val",
    }
    assert sorted(label.kind for label in records["val2017.png"].labels) == ["box", "keypoints"]
    assert not source.problems


def test_roboflow(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "cells", "supercategory": "none"},
        {"id": 1, "name": "rbc", "supercategory": "cells"},
    ]
    for split in ("train", "valid"):
        image(tmp_path / split / "x.png")
        path = tmp_path / split / "_annotations.coco.json"
        path.write_text(content([annotation(category_id=1)], None, categories))
    source, records = open_source(tmp_path)
    assert source.classes == ("rbc",)
    assert sorted((r.split, len(r.labels)) for r in records) == [("train", 1), ("val", 1)]


def test_items_without_a_place_are_named(tmp_path: Path) -> None:
    image(tmp_path / "data" / "x.png")
    images = [
        {"id": 1, "file_name": "x.png"},
        {"id": 2, "file_name": "gone.png", "width": 1, "height": 1},
        {"id": 3, "file_name": "../../../etc/passwd", "width": 1, "height": 1},
        {"id": 1, "file_name": "x.png", "width": 1, "height": 1},
        {"file_name": "y.png"},
        "nonsense",
    ]
    rows = [annotation(), annotation(id=2, image_id=2), annotation(id=3, image_id=77), {"id": 4}, "nonsense"]
    (tmp_path / "labels.json").write_text(content(rows, images))
    source, records = read(tmp_path)
    assert records["x.png"].size == (100, 50)
    whats = [problem.what for problem in source.problems]
    for expected in ("'gone.png' is missing (1 annotations)", "leaves the data set", "stated twice", "without id",
                     "1 annotations of image id 77", "without an image_id"):  # fmt: skip
        assert any(expected in what for what in whats), (expected, whats)


def test_truncated_json_names_the_position(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    whole = content([annotation()])
    (tmp_path / "all.json").write_text(whole[: len(whole) - 30])
    with pytest.raises(InvalidDataError, match=r"all\.json, line 1 column \d+ \(character \d+ of \d+\)"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "text", ["[1, 2]", "{" + '"a":[' * 100_000, '{"images": {}, "categories": 1}', "9" * 5000]
)
def test_json_that_is_not_coco(tmp_path: Path, text: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(text)
    with pytest.raises(InvalidDataError):
        open_source(path, "coco")
