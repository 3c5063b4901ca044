"""Shapes as CVAT's JSON, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from osv_lab.annotate.codec import from_cvat, normal, to_cvat
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.schema import Schema, attribute_types, fits, from_text, to_text, wanted_labels

TYPES = {"ok": "bool", "n": "int", "score": "float", "text": "str"}
VALUES = st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(max_size=8))


def server(classes: tuple[str, ...] = ("cat", "dog")) -> Schema:
    """The labels as a server would answer."""
    ids = iter(range(1, 1000))
    labels: list[dict[str, Any]] = wanted_labels(classes, TYPES)
    return Schema.of(
        {**label, "id": next(ids), "attributes": [{**one, "id": next(ids)} for one in label["attributes"]]}
        for label in labels
    )


def answered(body: dict[str, Any]) -> dict[str, Any]:
    """What a server says that was given this: through JSON, with ids."""
    body = json.loads(json.dumps(body))
    ids = iter(range(1, 1000))
    return {kind: [{**one, "id": next(ids)} for one in body[kind]] for kind in ("shapes", "tags")}


@given(VALUES, st.sampled_from(sorted(TYPES.values())))
def test_a_value_that_fits_comes_back(value: Any, kind: str) -> None:
    if fits(value, kind) and value not in (float("inf"), float("-inf")):
        assert from_text(to_text(value), kind) == value


def test_a_text_that_is_no_number_is_none() -> None:
    assert from_text("many", "int") is None
    assert from_text("", "float") is None
    assert from_text("maybe", "bool") is None


def test_types_of_attributes_are_the_narrowest() -> None:
    shapes = [
        Shape("a", "s", "tag", "cat", attributes={"x": 1, "y": True, "z": 1}),
        Shape("b", "s", "tag", "cat", attributes={"x": 1.5, "y": False, "z": "one"}),
    ]
    assert attribute_types(shapes) == {"x": "float", "y": "bool", "z": "str"}


@given(st.lists(st.floats(0, 1e4), min_size=4, max_size=4), st.floats(0, 1), st.sampled_from(["cat", "dog"]))
def test_a_shape_comes_back_to_the_last_bit(points: list[float], confidence: float, label: str) -> None:
    box = Shape(
        "u", "b", "box", label, tuple(points), attributes={"ok": True, "n": 3, "score": 0.1, "text": "a"},
        occluded=True, z_order=2, source="auto", confidence=confidence, model="models:/m@v1",
    )  # fmt: skip
    tag = Shape("t", "a", "tag", label)
    schema = server()
    found, problems = from_cvat(
        answered(to_cvat([box, tag], {("a", 0): 0, ("b", 0): 1}, schema)), ["a", "b"], schema, TYPES, job=5
    )
    assert not problems
    assert [replace(one, server_id=None, job=None) for one in found] == [box, tag]


def test_what_cannot_be_read_is_reported() -> None:
    schema = server()
    body = answered(to_cvat([Shape("u", "a", "box", "cat", (1.0, 2.0, 3.0, 4.0))], {("a", 0): 0}, schema))
    shape = body["shapes"][0]
    shape["attributes"].append({"spec_id": schema.specs["cat"]["n"], "value": "many"})
    beyond = {**shape, "frame": 7}
    ellipse = {**shape, "type": "ellipse"}
    found, problems = from_cvat({"shapes": [shape, beyond, ellipse]}, ["a"], schema, TYPES)
    assert [one.kind for one in found] == ["box", "ellipse"]
    assert any("many" in one for one in problems)
    assert any("frame 7" in one for one in problems)


def test_attributes_that_would_not_come_back_stay_here() -> None:
    shape = Shape("u", "a", "tag", "cat", attributes={"text": " cut ", "n": 3, "strange": 1})
    assert dict(normal(shape, TYPES).attributes) == {"n": 3}
