"""The error budget: hand-made errors, a brute-force reference, and the objects behind each number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.evaluate.detection import evaluate
from osv_lab.evaluate.error_budget import ErrorBudget, error_budget
from osv_lab.evaluate.errors import TYPES

Found = tuple[str, list[float], float]
Truth = tuple[str, list[float]]


def made_of(
    fo: Any, images: list[tuple[list[Truth], list[Found]]], crowd: set[tuple[int, int]] = frozenset()
) -> Any:  # type: ignore[assignment]
    """A dataset of images of 100 by 100 pixels; boxes are left, top, width, height in pixels."""
    made = fo.Dataset()
    samples = []
    for number, (truth, found) in enumerate(images):
        sample = fo.Sample(f"/nowhere/{number}.png", tags=["test", "odd" if number % 2 else "even"])
        sample.metadata = fo.ImageMetadata(width=100, height=100)
        sample["ground_truth"] = fo.Detections(
            detections=[
                fo.Detection(label=label, bounding_box=[v / 100 for v in box], iscrowd=(number, row) in crowd)
                for row, (label, box) in enumerate(truth)
            ]
        )
        sample["predictions"] = fo.Detections(
            detections=[
                fo.Detection(label=label, bounding_box=[v / 100 for v in box], confidence=score)
                for label, box, score in found
            ]
        )
        samples.append(sample)
    made.add_samples(samples)
    made.add_dynamic_sample_fields()
    return made


@pytest.fixture(scope="module")
def plain(fo: Any) -> Iterator[Any]:
    """One error of each type, and as many right."""
    square = [10.0, 10, 20, 20]
    made = made_of(
        fo,
        [
            ([("cat", square)], [("dog", square, 0.9)]),  # classification
            ([("cat", square)], [("cat", [20, 10, 20, 20], 0.8)]),  # localisation, IoU 1/3
            ([("cat", square)], [("dog", [20, 10, 20, 20], 0.7)]),  # both, and the cat missed
            ([("cat", square)], [("cat", square, 0.95), ("cat", square, 0.6)]),  # duplicate
            ([("dog", square)], [("dog", square, 0.5), ("dog", [70, 70, 20, 20], 0.85)]),  # background
            ([("dog", [10, 10, 60, 60])], []),  # missed
        ],
    )
    yield made
    made.delete()


def test_each_type_and_what_mending_it_brings(plain: Any) -> None:
    budget = error_budget(plain)
    counts = {kind: budget.share(kind).count for kind in TYPES}
    assert counts == {
        "classification": 1, "localisation": 1, "both": 1, "duplicate": 1, "background": 1, "missed": 2,
    }  # fmt: skip
    # Cats in order: right, near, double; 1 of 4 found at precision 1: recalls 0 to 0.25, 26 of 101 points.
    # Dogs: wrong class 0.9, background 0.85, both 0.7, right 0.5; 1 of 2 found at precision 1/4: 51 points.
    cats, dogs = 26 / 101, 51 / 101 / 4
    assert budget.mean_ap == pytest.approx((cats + dogs) / 2)
    gain = {kind: budget.share(kind).gain for kind in TYPES}
    # The near cat right: 2 of 4.
    assert gain["localisation"] == pytest.approx((51 / 101 - cats) / 2)
    # The first dog becomes a cat, 0.9: two cats found of 4; the dog found stands after two others.
    assert gain["classification"] == pytest.approx((51 / 101 - cats + 51 / 101 / 3 - dogs) / 2)
    assert gain["both"] == gain["background"] == pytest.approx((51 / 101 / 3 - dogs) / 2)
    assert gain["duplicate"] == pytest.approx(0)
    # One cat and one dog are no longer to be found.
    assert gain["missed"] == pytest.approx((34 / 101 - cats + 101 / 101 / 4 - dogs) / 2)
    by_class = [one for one in budget.shares if one.by == "class"]
    for kind in TYPES:
        assert sum(one.gain for one in by_class if one.kind == kind) == pytest.approx(gain[kind])
    assert budget.share("missed", "medium").count == 1, "60 by 60 pixels"
    assert budget.share("missed", "small", by="size").count == 1


def test_every_number_opens_its_objects(plain: Any) -> None:
    budget = error_budget(plain, by=["tags"])
    for one in budget.shares:
        where: dict[str, Any] = {"all": {}, "class": {"class_": one.group}, "size": {"size": one.group}}.get(
            one.by, {"slice": one.group}
        )
        view = budget.view(one.kind, **where)
        field = "ground_truth" if one.kind == "missed" else "predictions"
        assert view.count(f"{field}.detections") == one.count, one
    assert budget.view("classification").values("ground_truth.detections.label", unwind=True) == ["cat"]
    missed = budget.view("missed")
    assert missed.count("ground_truth.detections") == 2
    assert missed.count("predictions.detections") == 1, "beside all predictions"
    assert budget.view("missed", limit=1).count("ground_truth.detections") == 1
    assert budget.view("localisation").values("filepath") == ["/nowhere/1.png"]
    with pytest.raises(NotFoundError, match="localisation"):
        budget.view("localization")
    with pytest.raises(NotFoundError):
        budget.view("missed", class_="cow")


def test_saved_views_say_what_each_label_is(plain: Any) -> None:
    budget = error_budget(plain)
    names = budget.save_views()
    assert names == [f"errors_{kind}" for kind in TYPES]
    for kind in TYPES:
        field = "ground_truth" if kind == "missed" else "predictions"
        saved = plain.load_saved_view(f"errors_{kind}")
        ids = saved.values(f"{field}.detections.id", unwind=True)
        assert sorted(ids) == sorted(budget.view(kind).values(f"{field}.detections.id", unwind=True))
        assert set(saved.values(f"{field}.detections.errors_error", unwind=True)) == {kind}
    mended = plain.clone()
    right = mended.first()
    right.predictions.detections[0].label = "cat"
    right.save()
    try:
        error_budget(mended).save_views()
        assert mended.load_saved_view("errors_classification").count() == 0, (
            "an earlier call's labels are replaced"
        )
    finally:
        mended.delete()


def test_perfect_predictions_have_no_budget(fo: Any) -> None:
    boxes = [("cat", [5.0, 5, 30, 30]), ("dog", [50.0, 50, 40, 40])]
    made = made_of(fo, [(boxes, [(label, box, 0.9) for label, box in boxes])] * 2)
    try:
        budget = error_budget(made)
        assert budget.mean_ap == 1
        assert all(one.count == 0 and one.gain == 0 for one in budget.shares)
        assert "nothing" in budget.summary()
        assert len(budget.view("missed")) == 0
    finally:
        made.delete()


def test_what_cannot_be_used(plain: Any) -> None:
    with pytest.raises(UsageError, match="confidence"):
        error_budget(plain, confidence=2)
    with pytest.raises(UsageError, match="background_iou"):
        error_budget(plain, background_iou=0.6)
    with pytest.raises(NotFoundError, match="evaluation"):
        error_budget(plain, "never")


def test_only_boxes_are_looked_at(fo: Any) -> None:
    made = fo.Dataset()
    try:
        sample = fo.Sample("/nowhere/0.png")
        sample.metadata = fo.ImageMetadata(width=100, height=100)
        for field in ("ground_truth", "predictions"):
            one = fo.Detection(
                label="cat", bounding_box=[0.1, 0.1, 0.3, 0.3], mask=np.ones((5, 5), bool), confidence=0.5
            )
            sample[field] = fo.Detections(detections=[one])
        corners = [[(0.1, 0.1), (0.4, 0.1), (0.4, 0.4), (0.1, 0.4)]]
        sample["outlines"] = fo.Polylines(polylines=[fo.Polyline(label="cat", points=corners, closed=True)])
        made.add_sample(sample)
        evaluate(made, key="masks", masks=True)
        with pytest.raises(UsageError, match="masks"):
            error_budget(made, "masks")
        with pytest.raises(UsageError, match="Polylines"):
            error_budget(made, pred_field="outlines")
    finally:
        made.delete()


@pytest.fixture(scope="module")
def random(fo: Any) -> Iterator[tuple[Any, list[Any], set[tuple[int, int]]]]:
    """Images with truth that predictions share, shift, rename, double and miss; some crowds, some equal confidences."""
    rng = np.random.default_rng(51)
    names = ["cat", "dog", "newt"]
    images, crowd = [], set()
    for number in range(40):
        truth: list[Truth] = []
        found: list[Found] = []
        for row in range(int(rng.integers(0, 8))):
            box = [*rng.uniform(0, 60, 2), *rng.uniform(8, 40, 2)]
            label = str(rng.choice(names))
            truth.append((label, box))
            if rng.random() < 0.1:
                crowd.add((number, row))
            for _ in range(int(rng.integers(0, 4))):
                shifted = list(np.maximum(np.array(box) + rng.normal(0, 4, 4), 1))
                other = label if rng.random() < 0.7 else str(rng.choice([*names, "yak"]))
                found.append((other, shifted, round(float(rng.random()), 2)))
        found += [(str(rng.choice(names)), [*rng.uniform(0, 60, 2), 15.0, 15.0], 0.33) for _ in range(2)]
        images.append((truth, found))
    made = made_of(fo, images, crowd)
    yield made, images, crowd
    made.delete()


def overlap(a: list[float], b: list[float], crowd: bool = False) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - both)


class Reference:
    """TIDE box by box, after the paper, with the differences that the report's rule names."""

    def __init__(self, images: list[Any], crowd: set[tuple[int, int]]) -> None:
        self.truth = {
            (i, j): label for i, (truth, _) in enumerate(images) for j, (label, _) in enumerate(truth)
            if (i, j) not in crowd
        }  # fmt: skip
        self.found = {(i, j): one for i, (_, found) in enumerate(images) for j, one in enumerate(found)}
        self.took: dict[tuple[int, int], tuple[int, int]] = {}
        self.ignored: set[tuple[int, int]] = set()
        self.kind: dict[tuple[int, int], str] = {}
        self.about: dict[tuple[int, int], tuple[int, int]] = {}
        order = sorted(self.found, key=lambda key: -self.found[key][2])
        self.order = order
        for i, j in order:
            label, box, _ = self.found[i, j]
            best, score = None, 0.5
            for k, (name, other) in enumerate(images[i][0]):
                free = (i, k) in self.truth and (i, k) not in self.took.values()
                if free and name == label and (value := overlap(box, other)) >= score:
                    best, score = (i, k), value
            if best is not None:
                self.took[i, j] = best
            elif any(
                name == label and (i, k) in crowd and overlap(box, other, True) >= 0.5
                for k, (name, other) in enumerate(images[i][0])
            ):
                self.ignored.add((i, j))
        for i, j in order:
            if (i, j) in self.took or (i, j) in self.ignored:
                continue
            label, box, _ = self.found[i, j]
            same = {
                (i, k): overlap(box, o)
                for k, (n, o) in enumerate(images[i][0])
                if (i, k) in self.truth and n == label
            }
            other = {
                (i, k): overlap(box, o)
                for k, (n, o) in enumerate(images[i][0])
                if (i, k) in self.truth and n != label
            }
            near, far = max(same.values(), default=0.0), max(other.values(), default=0.0)
            if 0.1 <= near < 0.5:
                self.kind[i, j], self.about[i, j] = "localisation", max(same, key=lambda key: same[key])
            elif far >= 0.5:
                self.kind[i, j], self.about[i, j] = "classification", max(other, key=lambda key: other[key])
            elif near >= 0.5:
                self.kind[i, j] = "duplicate"
            else:
                self.kind[i, j] = "background" if max(near, far) <= 0.1 else "both"
        reached = set(self.took.values()) | set(self.about.values())
        self.missed = [key for key in self.truth if key not in reached]

    def mean_ap(self, mended: str | None = None) -> float:
        rows: dict[str, list[bool]] = {name: [] for name in set(self.truth.values())}
        given = set(self.took.values())
        for key in self.order:
            label = self.found[key][0]
            if key in self.took:
                rows.setdefault(label, []).append(True)
            elif key in self.ignored:
                continue
            elif self.kind[key] != mended:
                rows.setdefault(label, []).append(False)
            elif key in self.about and self.about[key] not in given:
                given.add(self.about[key])
                rows.setdefault(self.truth[self.about[key]], []).append(True)
        lost = self.missed if mended == "missed" else []
        averages = []
        for name in set(self.truth.values()):
            objects = sum(label == name for key, label in self.truth.items() if key not in lost)
            right = np.cumsum(rows[name])
            precision = right / np.arange(1, len(right) + 1)
            recalls = right / objects
            points = [
                max((p for p, r in zip(precision, recalls, strict=True) if r >= at), default=0.0)
                for at in np.linspace(0, 1, 101)
            ]
            averages.append(float(np.mean(points)))
        return float(np.mean(averages))


def test_equal_to_a_reference_that_goes_box_by_box(random: tuple[Any, list[Any], set[tuple[int, int]]]) -> None:
    dataset, images, crowd = random
    budget, reference = error_budget(dataset), Reference(images, crowd)
    kinds = list(reference.kind.values())
    counts = {kind: kinds.count(kind) for kind in TYPES} | {"missed": len(reference.missed)}
    assert all(counts.values()), "every type occurs"
    assert {kind: budget.share(kind).count for kind in TYPES} == counts
    assert budget.mean_ap == pytest.approx(reference.mean_ap(), abs=1e-12)
    for kind in TYPES:
        expected = reference.mean_ap(kind) - reference.mean_ap()
        assert budget.share(kind).gain == pytest.approx(expected, abs=1e-12), kind
    ids = dataset.values("predictions.detections.id")
    for kind in TYPES[:-1]:
        behind = set(budget.view(kind).values("predictions.detections.id", unwind=True))
        assert behind == {ids[i][j] for (i, j), own in reference.kind.items() if own == kind}
        surest, every = (
            sorted(budget.view(kind, limit=limit).values("predictions.detections.confidence", unwind=True))
            for limit in (2, None)
        )
        assert surest == every[-2:]


def test_map_is_that_of_the_evaluation(random: tuple[Any, list[Any], set[tuple[int, int]]]) -> None:
    dataset, _, _ = random
    report = evaluate(dataset, key="whole", iou=0.5)
    budget = error_budget(dataset, "whole")
    assert budget.mean_ap == pytest.approx(report.map50, abs=1e-9)
    assert budget.key == "whole"
    _rows_and_plot(budget)
    surer = error_budget(dataset, "whole", confidence=0.5)
    assert surer.mean_ap < budget.mean_ap
    assert surer.share("missed").count > budget.share("missed").count


def _rows_and_plot(budget: ErrorBudget) -> None:
    assert [row["error"] for row in budget.rows()[:6]] == [one.kind for one in budget.shares[:6]]
    gains = [one.gain for one in budget.shares[:6]]
    assert gains == sorted(gains, reverse=True)
    assert len(budget.highlights()) <= 16
    bars = budget.plot().data
    for place, kind in enumerate(bars[0].x):
        assert sum(bar.y[place] for bar in bars) == pytest.approx(budget.share(kind).gain)
