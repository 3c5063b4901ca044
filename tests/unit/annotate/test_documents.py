"""Labels of the dataset as shapes in pixels, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from osv_lab.annotate.documents import UnsendableError, changed_document, mask_of, new_document, runs_of, shape_of
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.properties import same

SIZE = (640, 480)
X, Y = st.floats(0, 640), st.floats(0, 480)


def a_shape(kind: str, points: tuple[float, ...], **values: Any) -> Shape:
    return Shape(str(ObjectId()), "sample", kind, "cat", points, **values)


@given(st.tuples(st.floats(0, 300), st.floats(0, 200), st.floats(1, 300), st.floats(1, 200)))
def test_a_box_comes_back_as_it_went(place: tuple[float, float, float, float]) -> None:
    x, y, w, h = place
    box = a_shape("box", (x, y, x + w, y + h))
    assert same(shape_of(new_document(box, SIZE), "sample", SIZE), box)


@given(st.sampled_from(["polygon", "polyline", "keypoints"]), st.lists(st.tuples(X, Y), min_size=3, max_size=12))
def test_points_come_back_as_they_went(kind: str, pairs: list[tuple[float, float]]) -> None:
    shape = a_shape(kind, tuple(value for pair in pairs for value in pair))
    assert same(shape_of(new_document(shape, SIZE), "sample", SIZE), shape)


@given(st.floats(50, 200), st.floats(50, 200), st.floats(1, 200), st.floats(1, 200), st.floats(0, 359.9))
def test_an_oriented_box_comes_back_as_it_went(x: float, y: float, w: float, h: float, angle: float) -> None:
    box = a_shape("oriented", (x, y, x + w, y + h), rotation=angle)
    assert same(shape_of(new_document(box, SIZE), "sample", SIZE), box)


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(0, 99), st.integers(0, 99))
def test_run_lengths_say_what_the_mask_says(mask: np.ndarray, left: int, top: int) -> None:
    points = runs_of(mask, left, top)
    assert sum(points[:-4]) == mask.size
    back, place = mask_of(points)
    np.testing.assert_array_equal(back, mask)
    assert place == (left, top, left + mask.shape[1], top + mask.shape[0])


def test_run_lengths_begin_with_the_background() -> None:
    assert runs_of(np.array([[True, True, False]]), 5, 7) == (0.0, 2.0, 1.0, 5.0, 7.0, 7.0, 7.0)


@given(arrays(bool, (7, 9)), st.integers(0, 300), st.integers(0, 300))
def test_a_mask_comes_back_pixel_by_pixel(mask: np.ndarray, left: int, top: int) -> None:
    # The mask that CVAT holds is as large as what it covers.
    mask[0, 0] = mask[-1, -1] = True
    shape = a_shape("mask", runs_of(mask, left, top))
    assert shape_of(new_document(shape, SIZE), "sample", SIZE).points == shape.points


def test_a_box_is_clipped_to_its_image() -> None:
    document = new_document(a_shape("box", (-10.0, 20.0, 700.0, 100.0)), SIZE)
    assert shape_of(document, "sample", SIZE).points == pytest.approx((0, 20, 640, 100))


@pytest.mark.parametrize(
    "values",
    [
        {"bounding_box": [1.2, 0.1, 0.2, 0.2]},
        {"bounding_box": [0.1, 0.1, 0.0, 0.2]},
        {"bounding_box": [float("nan"), 0.1, 0.1, 0.2]},
        {"_cls": "Polyline", "points": [[[0, 0], [1, 0], [1, 1]], [[0, 0], [0.5, 0], [0, 0.5]]], "closed": True},
        {"_cls": "Keypoint", "points": [[0.5, float("nan")]]},
    ],
    ids=["outside", "no width", "no number", "two rings", "missing point"],
)
def test_what_cvat_cannot_hold_is_said(values: dict[str, Any]) -> None:
    document = {**new_document(a_shape("box", (0.0, 0.0, 9.0, 9.0)), SIZE), **values}
    with pytest.raises(UnsendableError):
        shape_of(document, "sample", SIZE)


def test_only_what_changed_is_written() -> None:
    third = [1 / 3, 0.1 + 0.2, 1 / 7, 0.1]
    document = {
        "_id": ObjectId(),
        "_cls": "Detection",
        "label": "cat",
        "bounding_box": third,
        "confidence": 0.5,
        "osv_model": "models:/a@champion",
        "tags": ["kept"],
        "note": "kept",
    }
    shape = shape_of(document, "sample", SIZE)
    assert (shape.source, shape.confidence, shape.model) == ("auto", 0.5, "models:/a@champion")
    by_a_person = replace(shape, label="dog", source="semi-auto", confidence=None, model=None)
    after = changed_document(document, by_a_person, ("label",), SIZE)
    assert after == {
        "_id": document["_id"],
        "_cls": "Detection",
        "label": "dog",
        "bounding_box": third,
        "tags": ["kept"],
        "note": "kept",
    }
