"""Agreement on known data, and outcomes on made up ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.annotate.agreement import units
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.outcomes import outcomes
from osv_lab.annotate.reliability import cohen_kappa, krippendorff_alpha

# Krippendorff 2011, section C: nominal data, four observers, missing values.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
BOX = Shape("a", "image", "box", "cat", (0.0, 0.0, 10.0, 10.0), confidence=0.8)


def test_alpha_is_that_of_the_paper() -> None:
    things = zip(*(line.split() for line in OBSERVERS), strict=True)
    alpha = krippendorff_alpha([[value for value in unit if value != "."] for unit in things])
    assert alpha == pytest.approx(0.743, abs=5e-4)


def test_kappa_of_a_table_of_four() -> None:
    first, second = ["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(["y"], ["y"]) is None
    assert cohen_kappa([], []) is None


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=2, max_size=2), min_size=1))
def test_alpha_and_kappa_are_one_for_equal_ratings_and_never_more(pairs: list[list[str]]) -> None:
    alpha = krippendorff_alpha(pairs)
    assert alpha is None or alpha <= 1
    equal = [[one, one] for one, _ in pairs]
    assert krippendorff_alpha(equal) in (None, 1.0)
    assert cohen_kappa([a for a, _ in equal], [b for _, b in equal]) in (None, 1.0)


def made(*back: Shape) -> list[tuple[str, str, str, float | None]]:
    found = outcomes([BOX], {(1, "image"): back})
    return [(one.kind, one.label, one.became, one.iou) for one in found]


def test_each_object_has_one_outcome() -> None:
    assert made(BOX) == [("accepted", "cat", "cat", 1.0)]
    assert made(replace(BOX, points=(0.0, 0.0, 10.0, 8.0))) == [("moved", "cat", "cat", 0.8)]
    assert made(replace(BOX, label="dog")) == [("relabelled", "cat", "dog", 1.0)]
    assert made(replace(BOX, occluded=True)) == [("described", "cat", "cat", 1.0)]
    assert made() == [("removed", "cat", "", None)]
    assert made(BOX, Shape(None, "image", "box", "dog", (50.0, 50.0, 60.0, 60.0))) == [
        ("accepted", "cat", "cat", 1.0),
        ("added", "dog", "dog", None),
    ]


def test_what_was_removed_and_drawn_in_its_place_was_moved() -> None:
    assert made(Shape(None, "image", "box", "cat", (0.0, 0.0, 10.0, 9.0))) == [("moved", "cat", "cat", 0.9)]
    assert made(Shape(None, "image", "box", "dog", (0.0, 0.0, 10.0, 9.0))) == [("relabelled", "cat", "dog", 0.9)]
    assert [one[0] for one in made(Shape(None, "image", "box", "cat", (0.0, 0.0, 10.0, 4.0)))] == [
        "removed",
        "added",
    ]


def test_an_object_that_one_of_three_left_out_is_nothing_to_them() -> None:
    other = replace(BOX, points=(0.0, 0.0, 10.0, 9.0), label="dog")
    assert units({"ann": [BOX], "ben": [other], "eve": []}, 0.5) == [["cat", "dog", "nothing"]]
