"""What a confidence threshold is chosen for, and which one is best, on the images as they are and on resamples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.evaluate.scores import Scores

_CHUNK = 1 << 22  # Elements worked on at a time.


@dataclass(frozen=True)
class Objective:
    """What a threshold is chosen for.

    Attributes:
        name: ``f1``, any ``f<beta>`` (van Rijsbergen's F, where recall counts beta times as much as precision),
            ``recall``, or ``cost``.
        min_precision: Thresholds with a lower precision are left out; 0 to 1, ``None`` for none.
        cost_false: What a false prediction costs, for ``cost``.
        cost_missed: What a missed object costs, likewise.

    Raises:
        UsageError: a name or number that is none of these; ``recall`` without ``min_precision``, whose best threshold
            is no threshold.
    """

    name: str = "f1"
    min_precision: float | None = None
    cost_false: float = 1.0
    cost_missed: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ("recall", "cost") and not re.fullmatch(r"f(\d+\.?\d*|\.\d+)", self.name):
            raise UsageError("no such objective", repr(self.name), "use f1, f2, f0.5, ..., recall or cost")
        if self.min_precision is not None and not 0 <= self.min_precision <= 1:
            raise UsageError("min_precision must lie between 0 and 1", self.min_precision)
        if self.name == "recall" and self.min_precision is None:
            raise UsageError(
                "recall alone is greatest without any threshold", "no min_precision", "give min_precision, say 0.9"
            )
        if min(self.cost_false, self.cost_missed) < 0 or self.cost_false + self.cost_missed <= 0:
            raise UsageError("costs must not be negative, nor both zero", f"{self.cost_false}, {self.cost_missed}")
        if self.name.startswith("f") and float(self.name[1:]) == 0:
            raise UsageError("beta must be above 0", repr(self.name))

    def __str__(self) -> str:
        what = {"recall": "recall", "cost": f"cost ({self.cost_false:g} false, {self.cost_missed:g} missed)"}
        floor = f" at a precision of at least {self.min_precision:g}" if self.min_precision is not None else ""
        return what.get(self.name, self.name.upper()) + floor

    def value(self, true: np.ndarray, false: np.ndarray, objects: np.ndarray | int) -> np.ndarray:
        """How good counts are, more being better; of arrays that broadcast."""
        if self.name == "cost":
            return np.asarray(-(self.cost_false * false + self.cost_missed * (objects - true)))
        if self.name == "recall":
            return np.asarray(true / np.maximum(objects, 1))
        beta2 = float(self.name[1:]) ** 2
        whole = true + false + beta2 * objects
        return np.asarray((1 + beta2) * true / np.maximum(whole, np.finfo(float).tiny))

    def allowed(self, true: np.ndarray, false: np.ndarray) -> np.ndarray:
        """Which counts have the least precision; where one is asked for, nothing predicted has none."""
        if self.min_precision is None:
            return np.ones(true.shape, bool)
        found = true + false
        return np.asarray((found > 0) & (true >= self.min_precision * found - 1e-9))


class Cutter:
    """One class's predictions, counted above some thresholds for any weighing of the images.

    Args:
        scores: All predictions and objects.
        class_id: The class.
        cuts: ``(k,)`` thresholds.
    """

    def __init__(self, scores: Scores, class_id: int, cuts: np.ndarray) -> None:
        own = np.flatnonzero(scores.class_id == class_id)
        own = own[np.argsort(scores.confidence[own], kind="stable")]
        self._image, self._right = scores.image[own], scores.right[own]
        self._place = np.searchsorted(scores.confidence[own], cuts, side="right")
        mine = scores.object_image[scores.object_class == class_id]
        self._objects = np.bincount(mine, minlength=scores.images)

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True and false predictions ``(b, k)`` and objects ``(b, 1)`` for ``(b, images)`` weights."""
        step = max(1, _CHUNK // max(len(self._image), 1))
        parts = [self._true_and_false(weights[k : k + step]) for k in range(0, len(weights), step)]
        true, false = (np.concatenate(column) for column in zip(*parts, strict=True))
        return true, false, (weights @ self._objects)[:, None].astype(float)

    def _true_and_false(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        drawn = weights[:, self._image]
        every, true = (self._above(one) for one in (drawn, drawn * self._right))
        return true, every - true

    def _above(self, drawn: np.ndarray) -> np.ndarray:
        total = np.zeros((len(drawn), drawn.shape[1] + 1))
        np.cumsum(drawn, axis=1, out=total[:, 1:])
        return np.asarray(total[:, -1:] - total[:, self._place])


def best_cuts(objective: Objective, cutters: Sequence[Cutter], weights: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which cut is best for all classes together.

    F and recall are averaged over the classes that have objects; precision and cost are of all predictions together.
    Of equally good cuts the highest is taken; where none has the least precision, the most precise.

    Args:
        objective: What for.
        cutters: One per class, all at the same ``k`` cuts.
        weights: ``(b, images)`` whole numbers.

    Returns:
        ``(b,)`` the best cut for each weighing, and whether the first weighing has the least precision there.
    """
    counted = [one.counts(weights) for one in cutters]
    true, false = (np.sum([one[part] for one in counted], axis=0) for part in (0, 1))
    known = [one for one in counted if one[2][0, 0] > 0] or counted
    total = np.sum([objective.value(*one) for one in known], axis=0)
    allowed = objective.allowed(true, false)
    with np.errstate(invalid="ignore"):
        precision = np.where(true + false > 0, true / (true + false), -1.0)
    values = np.where(allowed.any(axis=1, keepdims=True), np.where(allowed, total, -np.inf), precision)
    return values.shape[1] - 1 - values[:, ::-1].argmax(axis=1), bool(allowed[0].any())


def resampled_cuts(objective: Objective, cutters: Sequence[Cutter], weights: np.ndarray, width: int) -> np.ndarray:
    """:func:`best_cuts` of many weighings, a few at a time; ``width`` is how many predictions each has to count."""
    step = max(1, _CHUNK // max(width, 1))
    return np.concatenate(
        [best_cuts(objective, cutters, weights[start : start + step])[0] for start in range(0, len(weights), step)]
    )
