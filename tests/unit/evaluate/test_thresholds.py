"""Confidence thresholds: the best of all there are, by class or for all, and what they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.evaluate.curve import curve_of
from osv_lab.evaluate.detection import evaluate
from osv_lab.evaluate.objective import Objective
from osv_lab.evaluate.thresholds import Thresholds, choose_thresholds, passing


@pytest.fixture(scope="module")
def dataset(fo: Any) -> Any:
    """60 images with two classes whose best thresholds differ, a crowd, and a class that has no objects."""
    rng = np.random.default_rng(51)
    made = fo.Dataset()
    samples = []
    for number in range(60):
        truth, found = [], []
        for label, centre in (("cat", 0.8), ("dog", 0.4)):
            for _ in range(int(rng.integers(1, 4))):
                box = [float(one) for one in (*rng.uniform(0, 0.7, 2), *rng.uniform(0.1, 0.3, 2))]
                truth.append(fo.Detection(label=label, bounding_box=box, iscrowd=bool(rng.random() < 0.05)))
                score = float(np.clip(rng.normal(centre, 0.12), 0.01, 0.99))
                found.append(fo.Detection(label=label, bounding_box=box, confidence=score))
            for _ in range(int(rng.integers(0, 3))):
                box = [0.9, 0.9, 0.02, 0.02]
                score = float(np.clip(rng.normal(centre - 0.2, 0.12), 0.01, 0.99))
                found.append(fo.Detection(label=label, bounding_box=box, confidence=score))
        if number % 7 == 0:
            found.append(fo.Detection(label="newt", bounding_box=[0.5, 0.5, 0.1, 0.1], confidence=0.3))
        sample = fo.Sample(f"/nowhere/{number}.png", tags=["test" if number % 2 else "val"])
        sample.metadata = fo.ImageMetadata(width=640, height=480)
        sample["ground_truth"], sample["predictions"] = (
            fo.Detections(detections=truth),
            fo.Detections(detections=found),
        )
        samples.append(sample)
    made.add_samples(samples)
    made.add_dynamic_sample_fields()
    evaluate(made.match_tags("val"), key="val")
    evaluate(made.match_tags("test"), key="test")
    yield made
    made.delete()


def brute_force(view: Any, key: str, label: str) -> dict[float, tuple[int, int, int]]:
    """True, false and missed at every threshold that makes a difference, counted label by label."""
    scored, objects = [], 0
    for sample in view:
        crowds = {one.id for one in sample.ground_truth.detections if one.iscrowd}
        objects += sum(one.label == label and not one.iscrowd for one in sample.ground_truth.detections)
        scored += [
            (one.confidence, one[key] == "tp")
            for one in sample.predictions.detections
            if one.label == label and one[f"{key}_id"] not in crowds
        ]
    levels = [0.0, *sorted({score for score, _ in scored})]
    return {
        level: (
            true := sum(right for score, right in scored if score > level),
            sum(not right for score, right in scored if score > level),
            objects - true,
        )
        for level in levels
    }


def counts(thresholds: Thresholds, label: str) -> tuple[int, int, int]:
    one = next(one for one in thresholds.classes if one.name == label)
    return one.true, one.false, one.missed


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, lambda t, f, m: 2 * t / (2 * t + f + m)),
        ({"objective": "f2"}, lambda t, f, m: 5 * t / (5 * t + 4 * m + f)),
        ({"objective": "f0.5"}, lambda t, f, m: 1.25 * t / (1.25 * t + 0.25 * m + f)),
        ({"objective": "recall", "min_precision": 0.9}, lambda t, f, m: t if t >= 0.9 * (t + f) > 0 else -1),
        ({"objective": "cost", "cost_missed": 4}, lambda t, f, m: -f - 4 * m),
        ({"min_precision": 0.95}, lambda t, f, m: 2 * t / (2 * t + f + m) if t >= 0.95 * (t + f) > 0 else -1),
    ],
)
def test_no_threshold_is_better(dataset: Any, options: dict[str, Any], value: Any) -> None:
    chosen = choose_thresholds(dataset, key="val", n_boot=0, **options)
    for label in ("cat", "dog"):
        every = brute_force(dataset.match_tags("val"), "val", label)
        assert value(*counts(chosen, label)) == pytest.approx(max(value(*one) for one in every.values()))
        assert counts(chosen, label) in every.values()


def test_one_threshold_for_all(dataset: Any) -> None:
    one = choose_thresholds(dataset, key="val", per_class=False, n_boot=200)
    assert len({row.confidence for row in one.classes}) == 1
    curves = [one.curve("cat"), one.curve("dog")]
    means = [np.mean([curve.at(level).f1 for curve in curves]) for level in np.linspace(0, 1, 2001)]
    assert one.mean_f1 >= max(means) - 1e-9
    each = choose_thresholds(dataset, key="val", n_boot=200)
    assert each.mean_f1 > one.mean_f1 + 0.01
    assert each.others == one.others
    for row in (*one.classes[:2], *each.classes[:2]):
        low, high = row.confidence_interval
        assert low <= high
        assert row.f1_interval[0] <= row.f1 <= row.f1_interval[1]


def test_curves_say_what_every_threshold_gives(dataset: Any) -> None:
    chosen = choose_thresholds(dataset, key="val", n_boot=0)
    for label in ("cat", "dog"):
        curve = chosen.curve(label)
        for level, (true, false, missed) in brute_force(dataset.match_tags("val"), "val", label).items():
            point = curve.at(level)
            assert (point.true, point.false, point.missed) == (true, false, missed)
        rows = curve.rows()
        np.testing.assert_array_equal([row["precision"] for row in rows], curve.precision)
        np.testing.assert_allclose([row["recall"] for row in rows], curve.recall)
        np.testing.assert_allclose([row["F1"] for row in rows], curve.f1)
    assert len(chosen.curves_frame()) == sum(len(curve.cuts) for curve in chosen.curves)


def test_the_view_holds_what_passes(dataset: Any) -> None:
    chosen = choose_thresholds(dataset, key="val", n_boot=0)
    shown = chosen.view()
    assert len(shown) == 30
    limits = chosen.confidences
    expected = {
        one.id
        for sample in dataset.match_tags("val")
        for one in sample.predictions.detections
        if one.confidence > limits.get(one.label, limits["*"])
    }
    found = shown.values("predictions.detections.id", unwind=True)
    assert set(found) == expected and len(found) == len(expected)
    everything = passing(dataset, "predictions", 0.5).values("predictions.detections.confidence", unwind=True)
    assert min(everything) > 0.5 and len(everything) == sum(
        score > 0.5 for score in dataset.values("predictions.detections.confidence", unwind=True)
    )


def test_measured_on_other_images(dataset: Any) -> None:
    chosen = choose_thresholds(dataset, key="val", n_boot=0)
    other = chosen.measured_on(dataset, "test", n_boot=0)
    assert other.confidences == chosen.confidences
    for label in ("cat", "dog"):
        every = brute_force(dataset.match_tags("test"), "test", label)
        level = max(level for level in every if level <= chosen.confidences[label])
        assert counts(other, label) == every[level]


def test_a_precision_that_others_do_not_reach_is_said(dataset: Any) -> None:
    chosen = choose_thresholds(dataset, key="test", min_precision=0.97, n_boot=0)
    assert all(row.met for row in chosen.classes if row.objects)
    other = chosen.measured_on(dataset, "val", n_boot=0)
    known = [row for row in other.classes if row.objects]
    assert [row.met for row in known] == [row.precision >= 0.97 for row in known]
    assert not all(row.met for row in known) and any("0.97 is not reached here" in note for note in other.notes)


def test_a_report_and_its_evaluation_are_the_same(dataset: Any) -> None:
    report = evaluate(dataset.match_tags("val"), key="again")
    of_report, of_key = choose_thresholds(report, n_boot=0), choose_thresholds(dataset, key="val", n_boot=0)
    assert of_report.rows() and repr(of_report.classes) == repr(of_key.classes)
    narrowed = choose_thresholds(dataset.limit(20), key="again", n_boot=0)
    assert narrowed.images == 10


def test_what_cannot_be_chosen_is_said(dataset: Any) -> None:
    chosen = choose_thresholds(dataset, "recall", 1.0, key="val", n_boot=0)
    newt = next(row for row in chosen.classes if row.name == "newt")
    assert (newt.confidence, newt.objects) == (chosen.others, 0)
    assert any("newt" in note for note in chosen.notes)
    for options, match in (
        ({"objective": "accuracy"}, "objective"),
        ({"objective": "recall"}, "min_precision"),
        ({"min_precision": 2.0}, "min_precision"),
        ({"objective": "cost", "cost_false": -1.0}, "cost"),
        ({"n_boot": 5}, "resamples"),
        ({"objective": "f0"}, "beta"),
    ):
        with pytest.raises(UsageError, match=match):
            choose_thresholds(dataset, key="val", **options)
    with pytest.raises(NotFoundError, match="evaluation"):
        choose_thresholds(dataset, key="vall")
    with pytest.raises(UsageError, match="which evaluation"):
        choose_thresholds(dataset)
    with pytest.raises(UsageError, match="class"):
        chosen.curve("cta")


def test_replaced_predictions_are_refused(fo: Any, dataset: Any) -> None:
    clone = dataset.clone()
    evaluate(clone.match_tags("val"), key="old")
    for sample in clone.iter_samples(autosave=True):
        sample["predictions"] = fo.Detections(
            detections=[fo.Detection(label="cat", bounding_box=[0, 0, 0.1, 0.1], confidence=0.5)]
        )
    with pytest.raises(InvalidDataError, match="replaced"):
        choose_thresholds(clone, key="old")
    clone.delete()


@given(st.lists(st.tuples(st.floats(0.0078125, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_cuts_mean_the_same_above_and_at_least(pairs: list[tuple[float, bool]]) -> None:
    """Whatever runs a model, in single or double precision, the same predictions pass."""
    scores, right = np.array([one for one, _ in pairs]), np.array([one for _, one in pairs])
    curve = curve_of("x", scores, right, int(right.sum()))
    assert (np.diff(curve.cuts) > 0).all()
    for cut in curve.cuts[:-1]:
        point, kept = curve.at(cut), scores > cut
        assert (point.true, point.false) == (int(right[kept].sum()), int((~right[kept]).sum()))
        np.testing.assert_array_equal(kept, scores >= cut)
        np.testing.assert_array_equal(kept, scores.astype(np.float32) > np.float32(cut))
    assert curve.at(curve.cuts[-1]).true == curve.at(curve.cuts[-1]).false == 0


def test_many_scores_close_together_are_not_one() -> None:
    scores = np.linspace(0.5, 0.52, 100_001)
    curve = curve_of("x", scores, np.ones(len(scores), bool), len(scores))
    for level in (0.501, 0.51, 0.519):
        assert curve.at(level).true == pytest.approx((scores > level).sum(), abs=60)
    assert (np.diff(curve.cuts) > 0).all() and 1000 < len(curve.cuts) < 3000


def test_objectives_read_well() -> None:
    assert str(Objective("f1", 0.9)) == "F1 at a precision of at least 0.9"
    assert str(Objective("cost", cost_missed=4)) == "cost (1 false, 4 missed)"
