"""Slices: what they are cut by, that a planted weakness is found, and that luck is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.evaluate.detection import evaluate
from osv_lab.evaluate.scene import read_scene
from osv_lab.evaluate.slice_scores import corrected_p
from osv_lab.evaluate.slices import slices
from osv_lab.evaluate.slicing import slices_of

IMAGES = 60


@pytest.fixture(scope="module")
def dataset(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Sixty images; in the dark third the model finds 3 of 10 objects, else 9; ``coin`` says nothing."""
    import cv2

    rng = np.random.default_rng(51)
    folder: Path = tmp_path_factory.mktemp("slices")
    made = fo.Dataset()
    samples = []
    for number in range(IMAGES):
        dark = number % 3 == 0
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 30 if dark else 200, (60, 80, 3), dtype=np.uint8))
        truth, found = [], []
        for row in range(int(rng.integers(6, 15))):
            label = "cat" if row % 2 else "dog"
            side = 0.04 if row < 5 else 0.3
            box = [*(float(v) for v in rng.uniform(0, 0.65, 2)), side, side]
            truth.append(fo.Detection(label=label, bounding_box=box))
            if rng.random() < (0.3 if dark else 0.9):
                score = float(rng.uniform(0.5, 1))
                found.append(fo.Detection(label=label, bounding_box=box, confidence=score))
        sample = fo.Sample(str(path), tags=["test", *(["night"] if dark else [])])
        sample.metadata = fo.ImageMetadata(width=800, height=600)
        sample["ground_truth"] = fo.Detections(detections=truth)
        sample["predictions"] = fo.Detections(detections=found)
        sample["coin"] = "heads" if rng.random() < 0.5 else "tails"
        sample["celsius"] = float(number) if number % 10 else None
        sample["look"] = [0.0 if dark else 1.0, *rng.normal(0, 0.05, 3)]
        samples.append(sample)
    made.add_samples(samples)
    evaluate(made, key="whole")
    yield made
    made.delete()


def test_a_planted_weakness_comes_first_and_luck_does_not_count(dataset: Any) -> None:
    report = slices(dataset, "whole", by=["tags", "brightness", "coin", "density", "size"], n_boot=400)
    worse = {one.name for one in report.significant()}
    assert "tag night" in worse
    assert report.slices[0].name in worse
    assert not any(one.by in ("coin", "density") for one in report.significant()), worse
    dark = next(one for one in report.slices if one.by == "brightness")
    assert dark.name in worse, "the darkest quarter"
    night = report.slice("tag night")
    assert night.images == IMAGES // 3
    differences = [one.difference for one in report.slices]
    assert differences == sorted(differences)
    assert "tag night" in report.summary() or dark.name in report.summary()
    rows = report.rows()
    assert rows[0]["slice"] == "all images" and len(rows) == 1 + len(report.slices)
    figure = report.plot()
    assert len(figure.data[0].x) == len(report.slices)


def test_values_are_those_of_an_evaluation_of_the_slice(dataset: Any) -> None:
    report = slices(dataset, "whole", by=["tags"], n_boot=200)
    night, day = dataset.match_tags("night"), dataset.match_tags("night", bool=False)
    own = slices(night, "whole", by=[], confidence=report.confidence, n_boot=100).overall
    one = report.slice("tag night")
    assert report.view("tag night").values("id") == night.values("id")
    assert one.values == pytest.approx(own.values)
    evaluated = evaluate(night, key="night", confidence=report.confidence)
    assert one.values["mAP"] == pytest.approx(evaluated.map50, abs=1e-9)
    rest = evaluate(day, key="day", confidence=report.confidence)
    assert one.difference == pytest.approx(evaluated.map50 - rest.map50, abs=1e-9)
    assert one.objects == night.count("ground_truth.detections")
    for name, (low, high) in one.intervals.items():
        assert low < one.values[name] < high
    again = slices(dataset, "whole", by=["tags"], n_boot=200)
    assert again.slices == report.slices, "the same seed says the same"


def test_sizes_part_objects_and_not_images(dataset: Any) -> None:
    report = slices(dataset, "whole", by=["size"], metric="recall", n_boot=200)
    small = next(one for one in report.slices if one.name.startswith("small"))
    boxes = [box for own in dataset.values("ground_truth.detections.bounding_box") for box in own]
    areas = [w * 800 * h * 600 for _, _, w, h in boxes]
    assert small.objects == sum(area <= 32**2 for area in areas) == 5 * IMAGES
    found = [box for own in dataset.values("predictions.detections.bounding_box") for box in own]
    at = report.confidence
    scores = dataset.values("predictions.detections.confidence", unwind=True)
    hits = sum(
        w * 800 * h * 600 <= 32**2 and score >= at for (_, _, w, h), score in zip(found, scores, strict=True)
    )
    assert small.values["recall"] == pytest.approx(hits / small.objects)
    view = report.view(small.name)
    assert view.count("ground_truth.detections") == small.objects
    assert view.count("predictions.detections") == dataset.count("predictions.detections")


def test_what_limits_a_number_is_said(dataset: Any) -> None:
    few = dataset.take(12, seed=1)
    report = slices(few, "whole", by=["coin"], n_boot=100)
    assert "few images" in report.slices[0].note
    lone = slices(dataset.take(6, seed=1), "whole", by=[], n_boot=100).overall
    assert "few images" in lone.note
    assert slices(dataset, "whole", by=[], n_boot=100).overall.note == ""


def test_clusters_are_named_by_what_is_in_them(dataset: Any) -> None:
    scene = read_scene(dataset, "whole")
    found = slices_of(dataset, scene, ["cluster"], embeddings="look")
    assert len(found) == 2
    night = np.array(["night" in tags for tags in dataset.values("tags")])
    dark = next(one for one in found if (one.images == night).all())
    assert "dark" in dark.name
    assert "bright" in next(one for one in found if one is not dark).name
    given = slices_of(dataset, scene, ["cluster"], embeddings=np.array(dataset.values("look")))
    assert [one.name for one in given] == [one.name for one in found]
    assert slices_of(dataset, scene, ["cluster"]), "by colours and edges of the images"


def test_numbers_are_cut_into_quantiles(dataset: Any) -> None:
    scene = read_scene(dataset, "whole")
    cut = slices_of(dataset, scene, ["celsius"], bins=3)
    assert [one.name for one in cut] == [
        "celsius 1 to 19", "celsius 21 to 39", "celsius 41 to 59", "celsius not known",
    ]  # fmt: skip
    assert sum(one.images for one in cut).tolist() == [1] * IMAGES, "every image is in one"
    per_class = slices_of(dataset, scene, ["class", "density"])
    assert {one.by for one in per_class} == {"density"}, "both classes are in all images: no slices"


def test_corrections() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03])
    np.testing.assert_allclose(corrected_p(p, "holm"), [0.03, 0.06, np.nan, 0.06])
    np.testing.assert_allclose(corrected_p(p, "bh"), [0.03, 0.04, np.nan, 0.04])
    np.testing.assert_array_equal(corrected_p(p, "none"), p)


def test_what_cannot_be_sliced_by(dataset: Any) -> None:
    with pytest.raises(NotFoundError, match="celsius"):
        slices(dataset, "whole", by=["celcius"])
    with pytest.raises(UsageError, match="plain values"):
        slices(dataset, "whole", by=["look"])
    with pytest.raises(UsageError, match="too many values"):
        slices(dataset, "whole", by=["filepath"])
    with pytest.raises(UsageError, match="metric"):
        slices(dataset, "whole", metric="map")
    with pytest.raises(UsageError, match="correction"):
        slices(dataset, "whole", correction="bonferoni")
    with pytest.raises(UsageError, match="n_boot"):
        slices(dataset, "whole", n_boot=5)
