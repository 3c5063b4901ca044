"""Weighted boxes fusion against the paper's steps written out, and what must hold of any fusion."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import UsageError
from osv_lab.detect.fusion import fuse
from osv_lab.detect.nms import class_nms

Box = tuple[float, float, float, float]


def iou(a: Box, b: Box) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / area if area > 0 else 0.0


@dataclass
class Cluster:
    label: int
    members: list[tuple[float, Box]] = field(default_factory=list)

    @property
    def fused(self) -> Box:
        total = sum(score for score, _ in self.members)
        sides = [sum(score * box[k] for score, box in self.members) / total for k in range(4)]
        return sides[0], sides[1], sides[2], sides[3]


def paper(models: list[list[tuple[int, float, Box]]], threshold: float, weights: list[float]) -> list[Cluster]:
    """Section 3 of arXiv:1910.13302, step by step, on plain lists."""
    pooled = [
        (score * weight, label, box)
        for found, weight in zip(models, weights, strict=True)
        for label, score, box in found
    ]
    pooled.sort(key=lambda one: -one[0])
    clusters: list[Cluster] = []
    for score, label, box in pooled:
        near = [(iou(one.fused, box), -index) for index, one in enumerate(clusters) if one.label == label]
        best = max(near, default=(0.0, 0))
        if best[0] > threshold:
            clusters[-best[1]].members.append((score, box))
        else:
            clusters.append(Cluster(label, [(score, box)]))
    return clusters


def rescaled(cluster: Cluster, weights: list[float]) -> float:
    scores = [score for score, _ in cluster.members]
    return sum(scores) / len(scores) * min(len(scores), len(weights)) / sum(weights)


@st.composite
def found(draw: st.DrawFn) -> list[list[tuple[int, float, Box]]]:
    """What one to four models found: few places, so that much overlaps, shifted and scored by chance."""
    models = []
    for _ in range(draw(st.integers(1, 4))):
        one = []
        for _ in range(draw(st.integers(0, 6))):
            x, y = draw(st.sampled_from([0.0, 30.0, 45.0])), draw(st.sampled_from([0.0, 20.0]))
            shift, size = draw(st.floats(-8, 8)), draw(st.floats(20, 40))
            one.append(
                (draw(st.integers(0, 1)), draw(st.floats(0.01, 1)), (x + shift, y, x + shift + size, y + size))
            )
        models.append(one)
    return models


def arrays(models: list[list[tuple[int, float, Box]]]) -> tuple[list[np.ndarray], ...]:
    return (
        [np.array([box for _, _, box in one], float).reshape(-1, 4) for one in models],
        [np.array([score for _, score, _ in one], float) for one in models],
        [np.array([label for label, _, _ in one], int) for one in models],
    )


@given(found(), st.floats(0.3, 0.8), st.data())
def test_it_is_the_papers_algorithm(
    models: list[list[tuple[int, float, Box]]], threshold: float, data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.floats(0.5, 3), min_size=len(models), max_size=len(models)))
    boxes, scores, labels = fuse(*arrays(models), iou=threshold, weights=weights)
    expected = sorted(paper(models, threshold, weights), key=lambda one: -rescaled(one, weights))
    assert len(boxes) == len(expected)
    assert scores == pytest.approx([rescaled(one, weights) for one in expected], rel=1e-5)
    # Of equal scores either may come first.
    key = [
        (round(float(s), 5), int(c), *np.round(b, 2).tolist())
        for b, s, c in zip(boxes, scores, labels, strict=True)
    ]
    wanted = [(round(rescaled(one, weights), 5), one.label, *np.round(one.fused, 2).tolist()) for one in expected]
    for one, other in zip(sorted(key), sorted(wanted), strict=True):
        assert one == pytest.approx(other, abs=0.02)


@given(found(), st.sampled_from(["wbf", "nms"]))
def test_what_holds_of_any_fusion(models: list[list[tuple[int, float, Box]]], how: str) -> None:
    boxes, scores, labels = fuse(*arrays(models), how=how)
    pooled = [one for found_ in models for one in found_]
    assert len(boxes) == len(scores) == len(labels) <= len(pooled)
    assert bool(len(boxes)) == bool(pooled)
    assert (np.diff(scores) <= 0).all()
    assert set(labels.tolist()) == {label for label, _, _ in pooled}
    if pooled:
        assert scores.max() <= max(score for _, score, _ in pooled) + 1e-6
        for label in set(labels.tolist()):
            own = np.array([box for kind, _, box in pooled if kind == label])
            inside = boxes[labels == label]
            assert (inside[:, :2] >= own[:, :2].min(axis=0) - 1e-3).all()
            assert (inside[:, 2:] <= own[:, 2:].max(axis=0) + 1e-3).all()


@given(found(), st.sampled_from(["wbf", "nms"]))
def test_models_that_agree_change_nothing(models: list[list[tuple[int, float, Box]]], how: str) -> None:
    """Where each model finds the same boxes apart from each other, the ensemble finds them, with the same scores."""
    [boxes], [scores], [labels] = arrays(models[:1])
    apart = class_nms(boxes.astype(np.float32), scores.astype(np.float32), labels, 0.0)
    boxes, scores, labels = boxes[apart], scores[apart], labels[apart]
    fused = fuse([boxes] * 3, [scores] * 3, [labels] * 3, how=how)
    assert fused[0] == pytest.approx(boxes, abs=1e-3)
    assert fused[1] == pytest.approx(scores, abs=1e-6)
    assert fused[2].tolist() == labels.tolist()


@given(found())
def test_nms_keeps_what_suppression_of_all_boxes_keeps(models: list[list[tuple[int, float, Box]]]) -> None:
    boxes, scores, labels = (np.concatenate(one) for one in arrays(models))
    keep = class_nms(boxes.astype(np.float32), scores.astype(np.float32), labels, 0.55)
    fused = fuse(*arrays(models), how="nms", iou=0.55)
    assert fused[0] == pytest.approx(boxes[keep].astype(np.float32))
    assert fused[1] == pytest.approx(scores[keep].astype(np.float32))


def test_a_class_is_judged_by_the_models_that_know_it() -> None:
    box = [np.array([[0, 0, 10, 10.0]]), np.empty((0, 4))]
    scores, labels = [np.array([0.8]), np.empty(0)], [np.array([1]), np.empty(0, int)]
    assert fuse(box, scores, labels)[1] == pytest.approx([0.4])
    assert fuse(box, scores, labels, known=[[0, 1], [0]])[1] == pytest.approx([0.8])
    assert fuse(box, scores, labels, known=[[0, 1], [0]], weights=[1, 5])[1] == pytest.approx([0.8])


@pytest.mark.parametrize(
    "options",
    [{"how": "mean"}, {"iou": 1.5}, {"weights": [1]}, {"weights": [1, 0]}, {"weights": [1, float("nan")]}],
)
def test_what_cannot_be_used_is_refused(options: dict[str, object]) -> None:
    none = [np.empty((0, 4))] * 2, [np.empty(0)] * 2, [np.empty(0, int)] * 2
    with pytest.raises(UsageError):
        fuse(*none, **options)  # type: ignore[arg-type]
