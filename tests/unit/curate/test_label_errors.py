"""find_label_errors(): planted errors lead the queue; what is written can be walked; folds are folds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.curate.evidence import ImageBoxes
from osv_lab.curate.label_errors import find_label_errors, fold_splits
from osv_lab.curate.mistakes import make_mistakes

FAULTY = {(3, 0): "wrong_class", (9, 1): "badly_placed", (15, 5): "spurious", (21, 0): "missing"}


@pytest.fixture(scope="module")
def scene(fo: Any) -> Iterator[Any]:
    """Sixty images of a grid of five objects of two sizes, predicted nearly where they are; one error of each kind."""
    random, dataset = np.random.default_rng(51), fo.Dataset("test-label-errors")
    samples = []
    for i in range(60):
        sample = fo.Sample(f"/photos/{i:02d}.jpg", metadata=fo.ImageMetadata(width=640, height=480))
        labels, found = [], []
        for j in range(5):
            name, side = ("small", 0.08) if j % 2 else ("large", 0.15)
            box = np.array([0.05 + 0.19 * j, 0.3 + 0.1 * random.random(), side, side])
            labels.append(fo.Detection(label=name, bounding_box=box.tolist()))
            near = (box + random.normal(0, 0.004, 4)).tolist()
            found.append(fo.Detection(label=name, bounding_box=near, confidence=float(random.uniform(0.6, 0.95))))
        if i == 3:
            labels[0].label = "small"
        if i == 9:
            labels[1].bounding_box[1] += 0.04
        if i == 15:
            labels.append(fo.Detection(label="small", bounding_box=[0.5, 0.8, 0.08, 0.08]))
        if i == 21:
            del labels[0]
        sample["ground_truth"], sample["predictions"] = (
            fo.Detections(detections=labels),
            fo.Detections(detections=found),
        )
        samples.append(sample)
    dataset.add_samples(samples, progress=False)
    yield dataset
    dataset.delete()


def test_errors_lead_the_queue_with_their_kind_and_what_to_do(scene: Any) -> None:
    report = find_label_errors(scene)
    numbers = {sample.id: int(sample.filepath[-6:-4]) for sample in scene}
    assert report.labels == 300
    first = {numbers[one.sample]: one for one in report.suggestions[:8] if numbers[one.sample] in (3, 9, 15, 21)}
    assert {number: one.kind for number, one in first.items()} == {i: kind for (i, _), kind in FAULTY.items()}
    assert (first[3].was, first[3].should_be) == ("small", "large")
    assert (first[21].label, first[21].should_be) == ("", "large")
    assert first[21].box[0] == pytest.approx(0.05, abs=0.03)
    assert first[9].box[1] < 0.42
    for (number, _), kind in FAULTY.items():
        assert number in [numbers[one.sample] for one in report.likeliest(kind, 3)]
    assert len(report.likeliest("spurious")) == len(report.likeliest("badly_placed")) == 200
    scores = [one.score for one in report.suggestions]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= min(scores) <= max(scores) <= 1


def test_the_summary_tells_of_suspicions(scene: Any) -> None:
    summary = find_label_errors(scene, limit=10).summary()
    assert summary.startswith("label_errors: the 10 most suspicious in order, ")
    assert summary.endswith(", of 300 labels of 'test-label-errors'")


@pytest.mark.parametrize("images", [6, 60], ids=["by a formula", "learned"])
def test_an_object_that_is_found_twice_is_one_suggestion(fo: Any, scene: Any, images: int) -> None:
    dataset = scene.clone()
    try:
        sample = dataset.match(fo.ViewField("filepath").ends_with("21.jpg")).first()
        x, y, w, h = sample.predictions.detections[0].bounding_box
        again = fo.Detection(label="small", bounding_box=[x + 0.02, y, w, h], confidence=0.5)
        sample.predictions.detections.append(again)
        sample.save()
        found = find_label_errors(dataset.skip(18).limit(images) if images < 60 else dataset).suggestions
        here = [one for one in found if one.kind == "missing" and one.sample == sample.id]
        assert [one.should_be for one in here] == ["large"]
    finally:
        dataset.delete()


def test_an_image_whose_annotator_left_much_out_is_as_suspicious(scene: Any) -> None:
    dataset = scene.clone()
    try:
        gone = 0
        for number, sample in enumerate(dataset.iter_samples(autosave=True)):
            if number in (5, 6, 7):
                del sample.ground_truth.detections[1:]
                gone += 4
        report = find_label_errors(dataset)
        numbers = {sample.id: int(sample.filepath[-6:-4]) for sample in dataset}
        first = report.likeliest("missing", gone + 1)
        assert sorted(numbers[one.sample] for one in first) == [5] * 4 + [6] * 4 + [7] * 4 + [21]
    finally:
        dataset.delete()


def test_few_labels_are_judged_by_a_formula(scene: Any) -> None:
    some = scene.select([id for id, path in zip(*scene.values(["id", "filepath"]), strict=True) if path[-6:-4] in
                         ("03", "09", "15", "21", "30", "31")])  # fmt: skip
    report = find_label_errors(some, key="few")
    assert {one.kind for one in report.suggestions[:4]} == set(FAULTY.values())
    scene.delete_sample_field("few")


def test_labels_without_a_class_or_a_box_are_passed_over(scene: Any) -> None:
    dataset = scene.limit(10).clone()
    try:
        sample = dataset.first()
        sample.ground_truth.detections[0].label = None
        sample.ground_truth.detections[1].bounding_box = []
        sample.save()
        assert find_label_errors(dataset).labels == 48
    finally:
        dataset.delete()


def test_the_queue_is_a_field_and_a_saved_view_in_its_order(scene: Any) -> None:
    report = find_label_errors(scene, limit=10)
    ranks = [rank for ranks in scene.values("label_errors.detections.rank") for rank in ranks]
    assert sorted(ranks) == list(range(1, 11))
    queue = scene.load_saved_view("label_errors")
    assert queue.values("id") == list(dict.fromkeys(one.sample for one in report.suggestions))
    missing = report.view("missing")
    assert set(missing.distinct("label_errors.detections.label")) == {"missing"}
    assert find_label_errors(scene, limit=10).suggestions == report.suggestions
    with pytest.raises(NotFoundError, match="did you mean 'missing'"):
        report.view("misssing")
    with pytest.raises(NotFoundError, match="did you mean 'missing'"):
        report.likeliest("misssing")


def test_fields_that_cannot_be_used_are_refused(scene: Any) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'predictions'"):
        find_label_errors(scene, "prediction")
    with pytest.raises(UsageError, match="holds something else"):
        find_label_errors(scene, key="ground_truth")
    with pytest.raises(UsageError, match="two fields"):
        find_label_errors(scene, "ground_truth")
    with pytest.raises(UsageError, match="limit"):
        find_label_errors(scene, limit=-5)
    for key in ("", "a.b", "quality"):
        with pytest.raises(UsageError, match=r"key|name of a field"):
            find_label_errors(scene, key=key)
    scene.save_view("mine", scene.limit(2))
    with pytest.raises(UsageError, match="saved view that holds something else"):
        find_label_errors(scene, key="mine")
    assert len(scene.load_saved_view("mine")) == 2


def test_predictions_that_labels_explain_all_of_leave_nothing_to_learn_from(fo: Any, scene: Any) -> None:
    dataset = scene.clone()
    try:
        for sample in dataset.iter_samples(autosave=True):
            same = [one.copy() for one in sample.ground_truth.detections]
            sample["predictions"] = fo.Detections(detections=same)
            for one in same:
                one.confidence = 0.9
        found = find_label_errors(dataset).suggestions
        assert all(one.kind != "missing" for one in found)
        assert found[0].score < 0.5
    finally:
        dataset.delete()


def test_folds_are_disjoint_and_cover_the_view(scene: Any) -> None:
    folds = fold_splits(scene, 7)
    held = [id for _, part in folds for id in part.values("id")]
    assert sorted(held) == sorted(scene.values("id"))
    assert all(set(train.values("id")).isdisjoint(part.values("id")) for train, part in folds)
    with pytest.raises(UsageError, match="at least 2"):
        fold_splits(scene, 1)


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.floats(0.01, 0.3))
def test_mistakes_are_what_they_are_said_to_be(seed: int, count: int, rate: float) -> None:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 400, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(5, 60, (count, 2))], axis=1)
    classes = random.integers(0, 3, count)
    nothing = np.zeros(0)
    image = ImageBoxes("a", (640.0, 480.0), boxes, classes, np.arange(count), np.zeros((0, 4)), nothing, nothing)
    pool = np.array([[1, 0, 0, 30, 30]])
    spoiled, truth, dropped = make_mistakes(image, pool, 3, random, rate)
    assert len(spoiled.boxes) == len(spoiled.classes) == len(truth)
    assert (truth != 1).sum() + len(dropped) == count
    kept = [tuple(box) for box in spoiled.boxes[np.isin(truth, (0, 2))]]
    assert set(kept) | {tuple(box) for box in dropped} <= {tuple(box) for box in boxes}
    assert (spoiled.boxes >= 0).all() and (spoiled.boxes[:, 2] <= 640).all()
