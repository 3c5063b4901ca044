"""Walking through suggested label errors: a decision changes label and suggestion together, and is undone so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.curate.label_errors import find_label_errors
from osv_lab.curate.review import LabelReview
from osv_lab.curate.review_picture import AS_IS, SUGGESTED, picture

BOXES = {
    "a": [0.1, 0.1, 0.2, 0.2],
    "b": [0.5, 0.1, 0.2, 0.2],
    "c": [0.1, 0.6, 0.2, 0.2],
    "d": [0.6, 0.6, 0.2, 0.2],
}


@pytest.fixture(scope="module")
def made(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Thirty images of four objects; in four of them a label is missing, spurious, renamed or moved."""
    folder = tmp_path_factory.mktemp("review")
    samples = []
    for number in range(30):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.full((100, 200, 3), 90, np.uint8))
        truth = {name: list(box) for name, box in BOXES.items()}
        labels = {name: [name, box] for name, box in truth.items()}
        if number == 3:
            del labels["a"]
        if number == 7:
            labels["extra"] = ["b", [0.4, 0.4, 0.1, 0.1]]
        if number == 11:
            labels["c"][0] = "d"
        if number == 15:
            labels["d"][1] = [0.66, 0.63, 0.2, 0.2]
        found = [fo.Detection(label=name, bounding_box=box, confidence=0.95) for name, box in truth.items()]
        samples.append(
            fo.Sample(
                str(path),
                ground_truth=fo.Detections(
                    detections=[fo.Detection(label=label, bounding_box=box) for label, box in labels.values()]
                ),
                predictions=fo.Detections(detections=found),
            )
        )
    dataset = fo.Dataset()
    dataset.add_samples(samples)
    dataset.compute_metadata()
    yield dataset
    dataset.delete()


@pytest.fixture
def review(made: Any) -> LabelReview:
    find_label_errors(made, limit=4)
    return LabelReview(made)


def labels(dataset: Any) -> list[list[tuple[str, str, tuple[float, ...]]]]:
    dataset.reload()
    return [
        [(one.id, one.label, tuple(np.round(one.bounding_box, 3))) for one in sample.ground_truth.detections]
        for sample in dataset.view()
    ]


def test_each_kind_is_mended_as_suggested_and_undone_to_the_same_labels(review: LabelReview) -> None:
    before = labels(review.dataset)
    queue = review.queue()
    assert {one.kind for one in queue.items} == {"missing", "spurious", "wrong_class", "badly_placed"}
    assert [one.rank for one in queue.items] == [1, 2, 3, 4]
    for item in queue.items:
        assert review.fix(item.id).state == "fixed"
    after = labels(review.dataset)
    assert all(sorted((label, box) for _, label, box in row) == sorted(_all()) for row in after)
    assert review.queue().items == () and review.queue().counts["fixed"] == 4
    for item in reversed(queue.items):
        undone = review.undo()
        assert undone is not None and (undone.id, undone.state) == (item.id, "open")
    assert labels(review.dataset) == before
    assert review.undo() is None


def _all() -> list[tuple[str, tuple[float, ...]]]:
    return [(name, tuple(box)) for name, box in BOXES.items()]


def test_decisions_leave_the_labels_and_are_not_taken_twice(review: LabelReview) -> None:
    before = labels(review.dataset)
    first, second, third, fourth = review.queue().items
    review.accept(first.id)
    review.skip(second.id)
    review.to_annotate(third.id)
    assert labels(review.dataset) == before
    assert [one.id for one in review.queue().items] == [fourth.id]
    assert review.view().values("id") == [third.sample]
    with pytest.raises(UsageError, match="undo that first"):
        review.fix(first.id)
    assert review.fix(second.id).state == "fixed", "what was skipped can still be decided"
    assert review.queue(kind=fourth.kind).items[0].id == fourth.id
    assert labels(review.dataset) != before
    for _ in range(3):
        review.undo()
    assert labels(review.dataset) == before and len(review.queue().items) == 4


def test_what_another_person_decides_in_between_stands(
    review: LabelReview, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = labels(review.dataset)
    item = next(one for one in review.queue().items if one.kind == "missing")
    other, find = LabelReview(review.dataset), review.find

    def meanwhile(method: str, *args: str) -> None:
        def found(id: str) -> Any:
            one = find(id)
            getattr(other, method)(*args)
            return one

        monkeypatch.setattr(review, "find", found)

    meanwhile("fix", item.id)
    with pytest.raises(UsageError, match="decided already"):
        review.fix(item.id)
    after = labels(review.dataset)
    assert sum(map(len, after)) == sum(map(len, before)) + 1
    meanwhile("undo")
    with pytest.raises(UsageError, match="taken back already"):
        review.undo()
    assert labels(review.dataset) == before


def test_what_is_not_there_cannot_be_asked_for(review: LabelReview) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'open'"):
        review.queue(state="opened")  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="did you mean 'missing'"):
        review.queue(kind="mising")
    with pytest.raises(UsageError, match="limit"):
        review.queue(limit=0)
    with pytest.raises(NotFoundError, match="did you mean 'fixed'"):
        review.view("fix")  # type: ignore[arg-type]


def test_another_class_may_be_the_right_one(review: LabelReview) -> None:
    item = next(one for one in review.queue().items if one.kind == "wrong_class")
    review.fix(item.id, label="a")
    sample = next(row for row in labels(review.dataset) if any(id == item.label for id, *_ in row))
    assert ("a", tuple(BOXES["c"])) in [(label, box) for _, label, box in sample]
    review.undo()


def test_a_label_that_is_gone_is_said_and_nothing_is_changed(review: LabelReview) -> None:
    item = next(one for one in review.queue().items if one.kind == "spurious")
    sample = review.dataset[item.sample]
    kept = sample.ground_truth.detections
    sample.ground_truth.detections = [one for one in kept if one.id != item.label]
    sample.save()
    with pytest.raises(InvalidDataError, match="not there any more"):
        review.fix(item.id)
    assert review.find(item.id).state == "open"
    sample.ground_truth.detections = kept
    sample.save()


def test_the_picture_shows_both(review: LabelReview) -> None:
    item = next(one for one in review.queue().items if one.kind == "badly_placed")
    shown = picture(item, 300)
    assert max(shown.shape[:2]) == 300
    for colour in (AS_IS, SUGGESTED):
        assert (np.abs(shown.astype(int) - colour).max(axis=2) < 40).any()


def test_without_suggestions_there_is_nothing_to_review(made: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'label_errors'"):
        find_label_errors(made, limit=4)
        LabelReview(made, "label_error")
