"""The paired bootstrap: exact on every resample, the same compiled or not, and right as often as it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import supervision as sv
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from osv_lab.core.errors import UsageError
from osv_lab.detect.metrics import SIZES, average_precision, match_by_class
from osv_lab.evaluate import bootstrap
from osv_lab.evaluate.bootstrap import (
    estimates,
    mean_precision,
    one_sided_adjusted,
    part_of,
    resample_weights,
    weighted_precision,
)


def scenes(images: int, seed: int, noise: float = 5.0) -> tuple[list[sv.Detections], list[sv.Detections]]:
    """Random truth and imperfect predictions of it, no two confidences equal."""
    rng = np.random.default_rng(seed)
    found, wanted = [], []
    for _ in range(images):
        count, false = int(rng.poisson(4)), int(rng.poisson(2))
        corner, size = rng.uniform(0, 400, (count + false, 2)), rng.uniform(10, 150, (count + false, 2))
        boxes, names = np.concatenate([corner, corner + size], axis=1), rng.integers(0, 3, count + false)
        crowd = rng.random(count) < 0.1
        truth = sv.Detections(boxes[:count], class_id=names[:count], data={"iscrowd": crowd})
        kept = rng.random(count + false) < 0.85
        moved = boxes[kept] + rng.normal(0, noise, (int(kept.sum()), 4))
        found.append(sv.Detections(moved, confidence=rng.random(len(moved)), class_id=names[kept]))
        wanted.append(truth)
    return found, wanted


@pytest.fixture(params=["compiled", "numpy"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(bootstrap, "_compiled", lambda: None)
    else:
        assert bootstrap._compiled() is not None, "make install brings Numba, without which nothing is compiled"


@pytest.mark.usefixtures("either")
def test_a_resample_is_the_metric_of_the_repeated_images() -> None:
    found, wanted = scenes(25, 51)
    weights = resample_weights(25, 100, 51)
    matched = match_by_class(found, wanted)
    for size in SIZES:
        by_class = [weighted_precision(sizes[size], weights) for sizes in matched.values()]
        for row in (0, 1, 60):
            images = np.repeat(np.arange(25), weights[row])
            report = average_precision([found[i] for i in images], [wanted[i] for i in images])
            expected = report.map50_95 if size == "all" else report.by_size[size]
            assert mean_precision(by_class)[row].mean() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@hypothesis_settings(max_examples=15)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 12))
def test_compiled_and_not_agree(seed: int, images: int) -> None:
    found, wanted = scenes(images, seed)
    weights = resample_weights(images, 100, seed)
    for sizes in match_by_class(found, wanted).values():
        for matches in sizes.values():
            plain = bootstrap._precision(matches, weights, weights @ matches.targets)
            np.testing.assert_allclose(weighted_precision(matches, weights), plain, atol=1e-12)


def test_part_of_the_images_is_the_metric_of_those() -> None:
    found, wanted = scenes(20, 7)
    mask = np.arange(20) % 3 == 0
    one = np.ones((1, int(mask.sum())), dtype=np.int32)
    some = [i for i in range(20) if mask[i]]
    report = average_precision([found[i] for i in some], [wanted[i] for i in some])
    parts = [part_of(sizes["all"], mask) for sizes in match_by_class(found, wanted).values()]
    assert mean_precision([weighted_precision(p, one) for p in parts]).mean() == pytest.approx(report.map50_95)


def test_intervals_of_a_difference_cover_the_truth_as_often_as_they_say() -> None:
    """Two models see the same images; the truth is the difference on very many images from the same source."""

    def difference(images: int, seed: int, weights: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(seed)
        hard = rng.normal(0, 1, images)
        values: list[np.ndarray] = []
        for skill in (1.0, 1.4):
            found, wanted = [], []
            for level in hard:
                count = 4
                boxes = np.stack([np.arange(count) * 100.0, np.zeros(count)], axis=1)
                boxes = np.concatenate([boxes, boxes + 50], axis=1)
                right = rng.random(count) < 1 / (1 + np.exp(level - skill))
                score = rng.uniform(0.2, 1, count)
                found.append(
                    sv.Detections(
                        np.where(right[:, None], boxes, boxes + 1000),
                        confidence=np.where(right, score, score * 0.8),
                        class_id=np.zeros(count, dtype=int),
                    )
                )
                wanted.append(sv.Detections(boxes, class_id=np.zeros(count, dtype=int)))
            matches = match_by_class(found, wanted, iou_thresholds=[0.5])[0]["all"]
            values.append(weighted_precision(matches, weights)[:, 0])
        return values[1] - values[0]

    truth = float(difference(20_000, 999, np.ones((1, 20_000), dtype=np.int32))[0])
    weights = resample_weights(80, 200, 51)
    trials, covered, excluded_zero = 200, 0, 0
    for seed in range(trials):
        known = estimates(difference(80, seed, weights)[:, None])
        covered += bool(known.low[0] <= truth <= known.high[0])
        excluded_zero += bool(known.low[0] > 0)
    # 95% of 200 trials, give or take three standard errors (1.5% each).
    assert 0.90 <= covered / trials <= 0.995, covered / trials
    # And it is no wonder: intervals are narrow enough to find a difference that is there.
    assert excluded_zero / trials > 0.3


def test_many_differences_together_are_rarely_one_by_luck() -> None:
    rng = np.random.default_rng(51)
    alone, together = 0, 0
    for _ in range(200):
        sample = rng.normal(0, 1, (60, 20))
        weights = rng.multinomial(60, np.full(60, 1 / 60), 200)
        values = np.concatenate([sample.mean(axis=0)[None], weights @ sample / 60])
        known = estimates(values)
        alone += bool((known.p < 0.05).any())
        together += bool((known.p_adjusted < 0.05).any())
    assert together / 200 <= 0.10 < 0.4 <= alone / 200


def test_a_fall_is_found_among_many_and_a_margin_forgives_it() -> None:
    rng = np.random.default_rng(51)
    values: Any = rng.normal(0, 0.01, (501, 6))
    values[:, 3] -= 0.08
    values[0, :3] = 0
    fall = one_sided_adjusted(values)
    assert fall[3] < 0.01 and (fall[[0, 1, 2]] > 0.3).all()
    assert one_sided_adjusted(values, margin=0.1)[3] > 0.5


def test_what_no_resample_changes() -> None:
    values = np.tile([0.0, -0.5, np.nan], (101, 1))
    known = estimates(values)
    assert known.p_adjusted[0] == 1 and known.p_adjusted[1] < 0.02 and np.isnan(known.p_adjusted[2])


def test_too_few() -> None:
    with pytest.raises(UsageError, match="at least 100"):
        resample_weights(5, 99, 51)
