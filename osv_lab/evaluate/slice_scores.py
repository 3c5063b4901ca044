"""Metrics of one slice with intervals, and the probability that its difference from the rest is luck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from osv_lab.detect.metrics import SIZES
from osv_lab.evaluate.bootstrap import estimates, resample_weights
from osv_lab.evaluate.matched import Matched, Weighed
from osv_lab.evaluate.scene import Scene
from osv_lab.evaluate.slicing import LEAST_IMAGES, Slice

METRICS = ("mAP", "F1", "recall")

FEW_IMAGES, FEW_OBJECTS = 20, 10
"""Below these, of a slice's images and of a class's objects in it, a note says so."""


@dataclass(frozen=True)
class SliceScore:
    """How good predictions are on one slice. Intervals are over resampled images.

    Attributes:
        by: What it is a slice by.
        name: What is in it.
        images: How many images.
        objects: How many objects.
        values: ``mAP``, ``F1`` and ``recall``.
        intervals: Of each its 95 % interval; NaN where there are too few images for one.
        difference: The chosen metric here, less that on all other images (for sizes: all other objects).
        p: Probability of a difference at least as large if the slice were drawn at random.
        p_corrected: The same, corrected for the number of slices.
        note: What limits the numbers.
    """

    by: str
    name: str
    images: int
    objects: int
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    difference: float
    p: float
    p_corrected: float = float("nan")
    note: str = ""


def corrected_p(p: np.ndarray, correction: str) -> np.ndarray:
    """p-values corrected for their number; NaN stays.

    Example:
        >>> corrected_p(np.array([0.01, 0.04, 0.03]), "holm").tolist()
        [0.03, 0.06, 0.06]
        >>> corrected_p(np.array([0.01, 0.04, 0.03]), "bh").round(3).tolist()
        [0.03, 0.04, 0.04]
    """
    found = p.astype(float).copy()
    known = np.flatnonzero(np.isfinite(p))
    count = len(known)
    order = known[np.argsort(p[known], kind="stable")]
    place = np.arange(count)
    if correction == "holm":
        found[order] = np.minimum(np.maximum.accumulate(p[order] * (count - place)), 1)
    elif correction == "bh":
        raised = p[order] * count / (place + 1)
        found[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1)
    return found


class Study:
    """One scene's slices, compared by one metric."""

    def __init__(self, matched: Matched, confidence: float, metric: str, n_boot: int, seed: int) -> None:
        self._matched, self._confidence, self._metric = matched, confidence, metric
        self._n_boot, self._seed = n_boot, seed
        self._scene: Scene = matched.scene
        self._permuted: dict[int, np.ndarray] = {}

    def of(self, part: Slice) -> SliceScore:
        """A slice of images, against all other images."""
        own = np.flatnonzero(part.images)
        weights = np.zeros((1 + self._n_boot, len(part.images)), np.int32)
        weights[:, own] = resample_weights(len(own), self._n_boot, self._seed)
        values, intervals = _estimated(self._stacked(weights))
        rest = dict(zip(METRICS, self._stacked(~part.images[None])[0].tolist(), strict=True))
        difference, p = float("nan"), float("nan")
        if 0 < len(own) < len(part.images):
            difference = values[self._metric] - rest[self._metric]
            by_chance = self._by_chance(len(own))
            known = np.isfinite(by_chance)
            if known.any() and np.isfinite(difference):
                p = (1 + (np.abs(by_chance[known]) >= abs(difference) - 1e-12).sum()) / (1 + known.sum())
        objects = part.images[self._scene.objects.image] & self._matched.wanted
        return SliceScore(
            part.by, part.name, len(own), int(objects.sum()), values, intervals, difference, float(p),
            note=self._note(len(own), objects),
        )  # fmt: skip

    def of_size(self, size: str) -> tuple[SliceScore | None, np.ndarray]:
        """Objects of a size, against all other objects; and which they are."""
        low, high = SIZES[size]
        area = self._scene.objects.area
        own = (area > low) & (area <= high) & ~self._scene.objects.crowd
        others = ~own & ~self._scene.objects.crowd
        images = np.unique(self._scene.objects.image[own])
        if len(images) < LEAST_IMAGES or not others.any():
            return None, own
        inside = (self._matched.predictions.area > low) & (self._matched.predictions.area <= high)
        here, there = self._matched.only(own, inside), self._matched.only(others, ~inside)
        weights = resample_weights(len(self._scene.samples), self._n_boot, self._seed)
        first, second = (_columns(one.metrics(weights, self._confidence)) for one in (here, there))
        values, intervals = _estimated(first)
        column = METRICS.index(self._metric)
        change = estimates((first - second)[:, [column]], together=np.zeros(1, bool))
        sides = {"small": "under 32²", "medium": "32² to 96²", "large": "over 96²"}
        name = f"{size} objects ({sides[size]} px)"
        difference, p = float(change.value[0]), float(change.p[0])
        return SliceScore(
            "size", name, len(images), int(own.sum()), values, intervals, difference, p,
            note=self._note(len(images), own),
        ), own  # fmt: skip

    def _note(self, images: int, objects: np.ndarray) -> str:
        said = ["few images: the interval is too narrow"] if images < FEW_IMAGES else []
        counts = np.bincount(self._scene.objects.class_id[objects], minlength=len(self._scene.class_names))
        few = [
            f"{name} ({n})" for name, n in zip(self._scene.class_names, counts, strict=True) if 0 < n < FEW_OBJECTS
        ]
        if few and self._metric == "mAP":
            said.append(f"few objects of {', '.join(few)}, each class as heavy in mAP as any other")
        return "; ".join(said)

    def _stacked(self, weights: np.ndarray) -> np.ndarray:
        return _columns(self._matched.metrics(weights, self._confidence))

    def _by_chance(self, count: int) -> np.ndarray:
        """Differences between this many images, drawn at random, and the others."""
        if count not in self._permuted:
            images = len(self._scene.samples)
            generator = np.random.default_rng([self._seed, count])
            order = np.argsort(generator.random((self._n_boot, images)), axis=1)
            chosen = order < count
            column = METRICS.index(self._metric)
            self._permuted[count] = self._stacked(chosen)[:, column] - self._stacked(~chosen)[:, column]
        return self._permuted[count]


def _columns(found: Weighed) -> np.ndarray:
    return np.stack([found.mean_ap, found.f1, found.recall], axis=1)


def _estimated(table: np.ndarray) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics and their intervals from ``(1 + b, 3)``."""
    known = estimates(table, together=np.zeros(len(METRICS), bool))
    values = dict(zip(METRICS, known.value.tolist(), strict=True))
    return values, dict(zip(METRICS, zip(known.low.tolist(), known.high.tolist(), strict=True), strict=True))
