"""Which class becomes which label, and which detections a person should look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.annotate.ontology import labels_of_classes
from osv_lab.annotate.proposals import SAME_OBJECT, Judged, judge
from osv_lab.core.errors import UsageError
from osv_lab.track.boxes import iou_matrix

NONE = np.zeros((0, 4))
A, B = [0.0, 0, 10, 10], [50.0, 50, 60, 60]


def judged(
    *said: tuple[str, float, list[float]], labels: tuple[tuple[str, list[float]], ...] = (), **options: Any
) -> Judged:
    return judge(
        np.array([box for _, _, box in said]).reshape(-1, 4),
        [name for name, _, _ in said],
        np.array([score for _, score, _ in said]),
        np.array([box for _, box in labels]).reshape(-1, 4),
        [name for name, _ in labels],
        **options,
    )


def test_names_come_before_patterns_and_patterns_in_their_order() -> None:
    found = labels_of_classes(("car", "truck", "bus"), {"*": None, "truck": "lorry", "b*": "bus"})
    assert found == {"car": None, "truck": "lorry", "bus": None}


@pytest.mark.parametrize("rules", [{"cra": "x"}, {"z*": "x"}, {"car": " "}])
def test_a_rule_for_nothing_is_refused(rules: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        labels_of_classes(("car", "truck"), rules)


def test_a_confident_box_alone_is_trusted() -> None:
    assert judged(("cat", 0.9, A)).why == ("",)


def test_thresholds_and_trust_may_differ_by_label() -> None:
    found = judged(
        ("cat", 0.5, A), ("dog", 0.5, B), thresholds={"cat": 0.45, "dog": 0.6}, trust={"cat": 0.4, "dog": 0.9}
    )
    assert found.proposed.tolist() == [0]
    assert found.why == ("near the threshold",)


def test_another_class_on_the_object_makes_both_uncertain_unless_it_is_much_weaker() -> None:
    assert judged(("cat", 0.9, A), ("dog", 0.7, A)).why == ("could be dog", "could be cat")
    assert judged(("cat", 0.9, A), ("dog", 0.3, A)).why[0] == ""
    assert judged(("cat", 0.9, A), ("dog", 0.46, A), thresholds=0.5).why == ("could be dog",)


def test_two_classes_that_became_one_label_are_one_object() -> None:
    assert judged(("cat", 0.9, A), ("cat", 0.7, A)).proposed.tolist() == [0]


def test_what_is_labelled_is_agreed_with_or_not_and_never_proposed() -> None:
    labels = (("cat", A), ("dog", B))
    found = judged(("cat", 0.9, A), ("cat", 0.8, B), labels=labels, looked_at=True)
    assert (found.proposed.tolist(), found.agreed.tolist(), found.disagree) == ([], [0], ((1, 1),))


def test_what_people_left_unlabelled_is_for_people() -> None:
    assert judged(("cat", 0.9, A), labels=(("dog", B),), looked_at=True).why == ("not in people's labels",)


boxes = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 30)] * 2).map(
    lambda one: [float(one[0]), float(one[1]), float(one[0] + one[2]), float(one[1] + one[3])]
)
said = st.tuples(st.sampled_from(["cat", "dog"]), st.floats(0.01, 1.0), boxes)


@given(st.lists(said, max_size=8), st.lists(st.tuples(st.sampled_from(["cat", "dog"]), boxes), max_size=4))
def test_nothing_is_proposed_where_a_label_is_and_every_detection_has_one_fate(
    found: list[tuple[str, float, list[float]]], labels: list[tuple[str, list[float]]]
) -> None:
    result = judged(*found, labels=tuple(labels))
    fates = [*result.proposed.tolist(), *result.agreed.tolist(), *(place for place, _ in result.disagree)]
    assert len(fates) == len(set(fates))
    assert all(found[place][1] >= 0.25 for place in fates)
    proposed = np.array([found[place][2] for place in result.proposed]).reshape(-1, 4)
    overlap = iou_matrix(proposed, np.array([box for _, box in labels]).reshape(-1, 4))
    assert not (overlap >= SAME_OBJECT).any()
    best = max((one for one in found if one[1] >= 0.25), key=lambda one: one[1], default=None)
    assert (best is None) == (not fates)
