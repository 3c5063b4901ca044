"""Queries against the same conditions in Python; errors point at the column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import OsvError, UsageError
from osv_lab.curate.query import parse, query


@pytest.fixture(scope="module")
def cells(fo: Any) -> Iterator[Any]:
    """Twelve samples: ``i`` red cells and ``i % 3`` platelets, a prediction of confidence ``i / 12``."""
    dataset = fo.Dataset("test-query")
    for i in range(12):
        box = {"bounding_box": [0.1, 0.1, 0.2, 0.2]}
        labels = [fo.Detection(label="RBC", **box)] * i + [fo.Detection(label="red cell", **box)] * (i % 3)
        sample = fo.Sample(
            f"/photos/{i:02d}.jpg", tags=["train" if i % 2 else "test"], sharp=i / 10, lens=f"l{i % 2}"
        )
        if i:
            sample["ground_truth"] = fo.Detections(detections=[one.copy() for one in labels])
        name = "RBC" if i < 6 else "WBC"
        sample["predictions"] = fo.Detections(detections=[fo.Detection(label=name, confidence=i / 12, **box)])
        if i == 4:
            sample.tags.append("reviewed")
            sample.ground_truth.detections[0].tags.append("odd")
        dataset.add_sample(sample)
    yield dataset
    dataset.delete()


CASES: list[tuple[str, Callable[[int], bool]]] = [
    ("", lambda i: True),
    ("class:RBC", lambda i: i > 0),
    ("-class:RBC", lambda i: i == 0),
    ("class:RBC>=10", lambda i: i >= 10),
    ("class:RBC=0", lambda i: i == 0),
    ("class:RBC!=3", lambda i: i != 3),
    ('class:"red cell">1', lambda i: i > 0 and i % 3 == 2),
    ("count<5", lambda i: i + (i % 3 if i else 0) < 5),
    ("conf<0.4", lambda i: i / 12 < 0.4),
    ("conf>=0.25 pred:WBC", lambda i: i >= 6),
    ("-pred:WBC", lambda i: i < 6),
    ("split:train -tag:reviewed", lambda i: i % 2 == 1),
    ("tag:reviewed", lambda i: i == 4),
    ("labeltag:odd", lambda i: i == 4),
    ("labelled:no", lambda i: i == 0),
    ("file:photos/1", lambda i: i >= 10),
    ("sharp<=0.3 lens:l1", lambda i: i in (1, 3)),
    ("class:RBC>=4 conf<0.8 -tag:reviewed split:test", lambda i: i in (6, 8)),
    ("in:predictions conf>0.9", lambda i: i == 11),
]


@pytest.mark.parametrize(("text", "condition"), CASES)
def test_a_query_finds_what_the_condition_says(cells: Any, text: str, condition: Callable[[int], bool]) -> None:
    found = [int(path[-6:-4]) for path in query(cells, text).values("filepath")]
    assert found == [i for i in range(12) if condition(i)]


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("class:", 7, "a name must follow"),
        ("class:RBC >=10", 11, "a word"),
        ("conf<", 6, "a number must follow"),
        ("split:train conf<abc", 18, "a number must follow"),
        ('class:"RBC', 7, "not closed"),
        ("tag", 4, "colon"),
        ("split:training", 1, "did you mean 'train'"),
        ("tag:a clas:RBC", 7, "did you mean 'class'"),
        ("in:nowhere conf<0.3", 12, "no field 'nowhere'"),
        ("conf:high", 1, "comparison"),
        ("sharp:high", 1, "compare it"),
        ("labelled:maybe", 1, "yes or no"),
        ("count>1 tag:a>=3", 9, "compared with nothing"),
        ("conf:RBC<0.4", 1, "pred:RBC beside it"),
        ("-in:predictions conf<0.4", 1, "name of a field"),
    ],
)
def test_errors_point_at_the_column(cells: Any, text: str, column: int, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        query(cells, text)
    assert f"column {column}" in str(raised.value)
    assert says in str(raised.value)
    assert raised.value.fix.splitlines()[-1].index("^") == column + 1


@given(st.text(alphabet=st.sampled_from('abclstag:"<>=!- .019é'), max_size=25))
def test_any_text_is_a_query_or_an_error_that_says_where(text: str) -> None:
    try:
        terms = parse(text)
    except OsvError as error:
        assert "column" in str(error)
    else:
        assert all(text[term.column - 1] == "-" or text[term.column - 1 :].startswith(term.word) for term in terms)
