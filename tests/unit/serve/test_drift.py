"""Profiles add, distances are those of the formula, chance is no drift, and windows slide, whoever counts."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import InvalidDataError, NotFoundError
from osv_lab.serve.drift import SIDECAR_KEY, Drift, Reference
from osv_lab.serve.observe import Observation
from osv_lab.serve.profile import FEATURES, Look, Profile, brightness_only, compare, look

CLASSES = ("car", "bus")
SHARES = st.floats(0, 1, allow_nan=False)
LOOKS = st.builds(
    lambda found, brightness: look(
        [score for score, _, _ in found],
        [area for _, area, _ in found],
        [name for _, _, name in found],
        brightness,
    ),
    st.lists(st.tuples(SHARES, SHARES, st.sampled_from(["car", "bus", "tram"])), max_size=6),
    st.none() | SHARES,
)


def profile(looks: list[Look]) -> Profile:
    made = Profile(CLASSES)
    for one in looks:
        made.add(one)
    return made


@given(st.lists(LOOKS, max_size=12), st.lists(LOOKS, max_size=12))
def test_the_profile_of_all_is_the_sum_of_parts_and_survives_json(mine: list[Look], theirs: list[Look]) -> None:
    together = profile(mine + theirs)
    assert profile(mine) + profile(theirs) == together == profile(theirs) + profile(mine)
    assert Profile.from_json(json.loads(json.dumps(together.to_json()))) == together
    for one in theirs:
        together.add(one, -1)
    assert together == profile(mine)


@given(st.lists(LOOKS, max_size=12))
def test_nothing_is_lost_between_bins(looks: list[Look]) -> None:
    counted = profile(looks)
    detections = sum(len(one.bins["scores"]) for one in looks)
    assert {sum(counted.counts[name]) for name in ("scores", "sizes", "classes")} == {detections}
    assert sum(counted.counts["detections"]) == counted.images["detections"] == len(looks)
    assert counted.images["scores"] == sum(bool(one.bins["scores"]) for one in looks)
    assert all(len(counted.bins(name)) == len(counted.counts[name]) for name in FEATURES)


def test_psi_is_the_formula_s() -> None:
    now = profile([look((), (), (), 0.05)] * 30 + [look((), (), (), 0.95)] * 70)
    usual = profile([look((), (), (), 0.05)] * 50 + [look((), (), (), 0.95)] * 50)
    [found] = [one for one in compare(now, usual) if one.feature == "brightness"]
    p = np.array([30.5, *[0.5] * 8, 70.5]) / 105
    q = np.array([50.5, *[0.5] * 8, 50.5]) / 105
    assert found.psi == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert found.most == ("< 0.1", pytest.approx(50.5 / 105), pytest.approx(30.5 / 105))
    same = [one.psi for one in compare(now, now)]
    assert same == [0.0] * len(FEATURES)


def images(rng: np.random.Generator, count: int, score: float = 0.7, size: float = 0.02) -> list[Look]:
    """Images whose detections are alike within one image, as they are in life."""
    looks = []
    for _ in range(count):
        mean, number = rng.normal(score, 0.1), int(rng.integers(1, 6))
        scores = np.clip(mean + rng.normal(0, 0.02, number), 0, 1).tolist()
        areas = (size * np.exp(rng.normal(0, 1) + rng.normal(0, 0.1, number))).clip(0, 1).tolist()
        looks.append(look(scores, areas, ["car" if rng.random() < 0.7 else "bus"] * number, float(rng.beta(4, 4))))
    return looks


@pytest.mark.parametrize("count", [50, 200, 1000])
def test_chance_is_no_drift(count: int) -> None:
    rng = np.random.default_rng(count)
    usual = profile(images(rng, 200))
    shifts = [one for _ in range(20_000 // count) for one in compare(profile(images(rng, count)), usual)]
    assert all(one.enough for one in shifts)
    assert sum(one.drifted for one in shifts) == 0


def test_what_changed_is_found_and_nothing_else() -> None:
    rng = np.random.default_rng(5)
    usual = profile(images(rng, 300))
    found = {one.feature for one in compare(profile(images(rng, 300, score=0.5)), usual) if one.drifted}
    assert found == {"scores"}
    found = {one.feature for one in compare(profile(images(rng, 300, size=0.002)), usual) if one.drifted}
    assert found == {"sizes"}
    trams = [look((0.7,), (0.02,), ("tram",), 0.5)] * 300
    assert "classes" in {one.feature for one in compare(profile(trams), usual) if one.drifted}


def test_few_images_say_nothing() -> None:
    dark, bright = [brightness_only(0.05)] * 49, [brightness_only(0.95)] * 49
    assert {one.state for one in compare(profile(dark), profile(bright))} == {"too few images"}
    found = {one.feature: one.state for one in compare(profile([*dark, dark[0]]), profile([*bright, bright[0]]))}
    assert found["brightness"] == "drifted"
    assert found["scores"] == "too few images"


def test_the_samples_that_make_the_difference_are_found() -> None:
    usual = profile([brightness_only(0.55)] * 100)
    now = profile([brightness_only(0.55)] * 60 + [brightness_only(0.15)] * 40)
    assert now.surprise(brightness_only(0.15), usual, ["brightness"]) > 0
    assert now.surprise(brightness_only(0.55), usual, ["brightness"]) < 0
    assert now.surprise(look((), (), ()), usual, ["brightness", "scores"]) == 0


# -- the window -----------------------------------------------------------------------------------------------

SEEN = Observation("m", 10, 10, 0.5, ((0, 0, 5, 2),), (0.9,), ("car",), digest="ab", threshold=0.25)


def drift_of(**options: int) -> Drift:
    reference = Reference(profile([look((0.9,), (0.1,), ("car",), 0.5)] * 60), 0.25, "ab")
    return Drift(lambda digest: reference if digest == "ab" else None, **options)


def state(drift: Drift) -> dict[str, str]:
    return {one["feature"]: one["state"] for one in drift.states()[0]["features"]}


def test_the_window_slides() -> None:
    drift = drift_of(window=100)
    for _ in range(300):
        drift.see(replace(SEEN, brightness=0.05), bytes)
    assert state(drift)["brightness"] == "drifted"
    assert state(drift)["scores"] == "stable"
    for _ in range(100):
        drift.see(SEEN, bytes)
    assert set(state(drift).values()) == {"stable"}
    assert drift.states()[0]["images"] == 100


def test_answers_at_another_threshold_are_not_compared_with_these() -> None:
    drift = drift_of()
    for _ in range(100):
        drift.see(replace(SEEN, threshold=0.8), bytes)
        drift.see(replace(SEEN, partial=True), bytes)
    assert state(drift)["scores"] == "too few images"
    assert state(drift)["brightness"] == "stable"
    low = replace(SEEN, threshold=0.1, xyxy=SEEN.xyxy * 2, confidence=(0.9, 0.12), class_name=("car", "bus"))
    drift = drift_of()
    for _ in range(100):
        drift.see(low, bytes)
    assert set(state(drift).values()) == {"stable"}, "what is below the reference's threshold does not count"


def test_models_without_a_reference_are_not_counted() -> None:
    drift = drift_of()
    drift.see(replace(SEEN, digest="cd"), bytes)
    drift.see(replace(SEEN, digest=None), bytes)
    assert drift.states() == []
    assert not [line for line in drift.metrics() if not line.startswith("#")]


def test_threads_count_together() -> None:
    drift = drift_of(window=700)
    threads = [threading.Thread(target=lambda: [drift.see(SEEN, bytes) for _ in range(250)]) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    [found] = drift.states()
    assert found["images"] == 700
    assert {one["images"] for one in found["features"]} == {700}
    assert set(state(drift).values()) == {"stable"}


def test_references_in_files(tmp_path: Path) -> None:
    reference = Reference(profile(images(np.random.default_rng(1), 60)), 0.3, "ab", "parts@v1", "val")
    reference.write(tmp_path / "drift.json")
    (tmp_path / "m.onnx.osv.json").write_text(json.dumps({"imgsz": 3, SIDECAR_KEY: reference.to_json()}))
    assert Reference.read(tmp_path / "drift.json") == Reference.read(tmp_path / "m.onnx") == reference
    (tmp_path / "n.onnx.osv.json").write_text("{}")
    for name in ("none.json", "none.onnx", "n.onnx"):
        with pytest.raises(NotFoundError):
            Reference.read(tmp_path / name)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.pop("confidence"),
        lambda values: values.pop("counts"),
        lambda values: values["counts"]["scores"].pop(),
        lambda values: values["counts"]["sizes"].__setitem__(0, -1),
        lambda values: values["classes"].append("more"),
        lambda values: values.__setitem__("confidence", "x"),
    ],
)
def test_references_that_are_none(spoil: Callable[[dict[str, object]], object]) -> None:
    values = Reference(Profile(CLASSES), 0.3).to_json()
    Reference.from_json(values)
    values = json.loads(json.dumps(values))
    spoil(values)
    with pytest.raises(InvalidDataError):
        Reference.from_json(values)


def test_chance_grows_with_few_images() -> None:
    usual = profile(images(np.random.default_rng(2), 400))
    limits = [
        next(one.by_chance for one in compare(profile(images(np.random.default_rng(3), n)), usual))
        for n in (50, 400)
    ]
    # 27.88 is the 99.9th percentile of chi-squared with 9 degrees of freedom.
    assert limits[0] == pytest.approx((1 / 50 + 1 / 400) * 27.88, rel=0.02)
    assert limits[1] == pytest.approx((2 / 400) * 27.88, rel=0.02)
    assert math.isinf(compare(Profile(CLASSES), usual)[0].by_chance)
