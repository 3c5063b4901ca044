"""Precision, recall and F1 of a class against the confidence threshold, exact and quick enough for a slider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from osv_lab.core.errors import UsageError

APART = 1e-6
"""Scores closer than this are one: networks differ by as much from machine to machine."""

_WIDEST = 10 * APART
"""Of very many scores each is as close to the next; what is further apart than this is never one."""


@dataclass(frozen=True)
class Point:
    """What one threshold gives.

    Attributes:
        confidence: The threshold.
        true: Predictions above it that took an object.
        false: Predictions above it that took none.
        missed: Objects that none of them took.
    """

    confidence: float
    true: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        """NaN where nothing is predicted."""
        return self.true / (self.true + self.false) if self.true + self.false else float("nan")

    @property
    def recall(self) -> float:
        """NaN where there are no objects."""
        return self.true / (self.true + self.missed) if self.true + self.missed else float("nan")

    @property
    def f1(self) -> float:
        """NaN where there are neither objects nor predictions."""
        whole = 2 * self.true + self.false + self.missed
        return 2 * self.true / whole if whole else float("nan")


@dataclass(frozen=True)
class ClassCurve:
    """What each threshold gives for one class.

    Attributes:
        name: The class.
        objects: How many objects there are.
        score: ``(k,)`` the different scores of its predictions, ascending.
        below: ``(k,)`` the next score under each: a threshold between the two lets it pass, and not the next.
        true: ``(k,)`` predictions of at least each score that took an object.
        false: ``(k,)`` predictions of at least each score that took none.

    Example:
        >>> curve = curve_of("cat", np.array([0.9, 0.8, 0.3]), np.array([True, False, True]), objects=3)
        >>> curve.at(0.5)
        Point(confidence=0.5, true=1, false=1, missed=2)
        >>> curve.cuts.tolist()
        [0.29, 0.55, 0.85, 0.95]
    """

    name: str
    objects: int
    score: np.ndarray
    below: np.ndarray
    true: np.ndarray
    false: np.ndarray

    def at(self, confidence: float) -> Point:
        """What this threshold gives: predictions that score above it."""
        place = int(np.searchsorted(self.score, confidence, side="right"))
        true, false = (int(column[place]) if place < len(column) else 0 for column in (self.true, self.false))
        return Point(float(confidence), true, false, self.objects - true)

    @property
    def cuts(self) -> np.ndarray:
        """``(k + 1,)`` ascending, one threshold for each way to cut; the last lets nothing pass.

        Each lies between two scores, so that "above" and "at least" mean the same.
        """
        return _cuts(self.below, self.score)

    @property
    def precision(self) -> np.ndarray:
        """``(k + 1,)`` at :attr:`cuts`; NaN at the last."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self._true / (self._true + self._false))

    @property
    def recall(self) -> np.ndarray:
        """``(k + 1,)`` at :attr:`cuts`; NaN without objects."""
        return self._true / self.objects if self.objects else np.full(len(self._true), np.nan)

    @property
    def f1(self) -> np.ndarray:
        """``(k + 1,)`` at :attr:`cuts`; NaN without objects."""
        whole = self._true + self._false + self.objects
        return 2 * self._true / whole if self.objects else np.full(len(self._true), np.nan)

    def rows(self, confidence: Sequence[float] | np.ndarray | None = None) -> list[dict[str, Any]]:
        """One row per threshold, by default per cut: class, confidence, precision, recall, F1 and counts."""
        points = [self.at(float(one)) for one in (self.cuts if confidence is None else confidence)]
        return [
            {
                "class": self.name,
                "confidence": one.confidence,
                "precision": one.precision,
                "recall": one.recall,
                "F1": one.f1,
                "true": one.true,
                "false": one.false,
                "missed": one.missed,
            }
            for one in points
        ]

    @property
    def _true(self) -> np.ndarray:
        return np.append(self.true, 0)

    @property
    def _false(self) -> np.ndarray:
        return np.append(self.false, 0)


def curve_of(name: str, confidence: np.ndarray, right: np.ndarray, objects: int) -> ClassCurve:
    """The curve of ``(n,)`` scores and whether each prediction took an object.

    Raises:
        UsageError: the arrays do not fit together.
    """
    if len(confidence) != len(right):
        raise UsageError("scores and matches do not fit together", f"{len(confidence)} and {len(right)}")
    order = np.argsort(confidence, kind="stable")
    score, right = np.asarray(confidence, dtype=float)[order], np.asarray(right, dtype=bool)[order]
    new = np.diff(score, prepend=-np.inf) > APART
    start = score[np.flatnonzero(new)[np.cumsum(new) - 1]]
    new |= np.diff(np.floor((score - start) / _WIDEST), prepend=0.0) > 0
    first = np.flatnonzero(new)
    above = np.cumsum(right[::-1])[::-1][first]
    # Under the lowest score nothing is known: predictions may have been kept from there on only.
    floor = score[:1] - np.minimum(0.02, score[:1] / 16)
    below = np.concatenate([floor, score[first[1:] - 1]])
    return ClassCurve(name, int(objects), score[first], below, above, len(score) - first - above)


def _cuts(below: np.ndarray, score: np.ndarray) -> np.ndarray:
    """A threshold under each score, of the fewest decimals that tell it from the next, and one above all."""
    if not len(score):
        return np.array([0.5])
    low, high = np.append(below, score[-1]), np.append(score, max(1.0, score[-1]))
    middle, margin = (low + high) / 2, np.minimum(APART / 4, (high - low) / 4)
    found, open_ = middle.copy(), high > low
    for digits in range(2, 8):
        rounded = np.round(middle, digits)
        fits = open_ & (low + margin < rounded) & (rounded < high - margin)
        found[fits] = rounded[fits]
        open_ &= ~fits
    return np.asarray(found)
