"""Which class is taken for which, and how precision and recall trade off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.report import Report

if TYPE_CHECKING:
    import supervision as sv

NONE = "(none)"
"""The row of boxes that are no object, and the column of objects that were not found."""


@dataclass(frozen=True)
class ConfusionMatrix(Report):
    """How many objects of a class (row) were found as which class (column).

    Attributes:
        labels: Class names, then :data:`NONE`.
        counts: ``(n + 1, n + 1)`` int. The last row are predictions without an object, the last column objects that
            nothing found.
        cells: ``(k, 2)`` int, the row and the column of everything that was counted.
        ids: ``(k, 2)`` str, the object and the prediction of each, ``""`` for none.
    """

    labels: tuple[str, ...]
    counts: np.ndarray
    cells: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int), repr=False, compare=False)
    ids: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), str), repr=False, compare=False)

    def ids_of(self, label: str, found_as: str) -> np.ndarray:
        """The objects and predictions of one cell.

        Args:
            label: The objects' class; :data:`NONE` for predictions without an object.
            found_as: The predictions' class; :data:`NONE` for objects that nothing found.

        Returns:
            ``(m, 2)`` ids, as in :attr:`ids`.

        Raises:
            UsageError: no such class.
        """
        for name in (label, found_as):
            if name not in self.labels:
                raise UsageError("no such class", repr(name), nearest(name, self.labels))
        cell = np.array([self.labels.index(label), self.labels.index(found_as)])
        return np.asarray(self.ids[(self.cells == cell).all(axis=1)])

    def plot(self) -> Any:
        """A heat map with the counts, coloured by their share of the row; a plotly figure."""
        from osv_lab.evaluate.plots import confusion_figure

        return confusion_figure(self)

    def rows(self) -> list[dict[str, object]]:
        return [
            {"object \\ found as": name, **dict(zip(self.labels, map(int, row), strict=True))}
            for name, row in zip(self.labels, self.counts, strict=True)
        ]

    def summary(self) -> str:
        wrong = int(self.counts[:-1, :-1].sum() - np.trace(self.counts[:-1, :-1]))
        return (
            f"{int(np.trace(self.counts))} right, {wrong} as another class, {int(self.counts[:-1, -1].sum())} missed, "
            f"{int(self.counts[-1, :-1].sum())} false"
        )


@dataclass(frozen=True)
class Operating:
    """Precision, recall and F1 of each class at one confidence.

    Attributes:
        confidence: Predictions below it are not counted.
        precision: ``(n,)``, NaN where a class has no predictions.
        recall: ``(n,)``, NaN where it has no objects.
        f1: ``(n,)``, NaN where it has no objects.
    """

    confidence: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def best_operating_point(
    scores: np.ndarray,
    classes: np.ndarray,
    right: np.ndarray,
    objects: np.ndarray,
    confidence: float | None = None,
) -> Operating:
    """Precision, recall and F1 at the confidence where F1, averaged over classes, is greatest.

    Greedy matching in order of confidence does not depend on weaker predictions, so one matching serves all
    thresholds.

    Args:
        scores: ``(m,)`` confidences of predictions.
        classes: ``(m,)`` their class ids.
        right: ``(m,)`` whether they were matched to an object of their class.
        objects: ``(n,)`` objects per class.
        confidence: Take this confidence instead of the best.
    """
    grid = np.linspace(0, 1, 1001) if confidence is None else np.array([confidence])
    found = np.zeros((len(objects), len(grid)))
    true = np.zeros((len(objects), len(grid)))
    for number in range(len(objects)):
        own = classes == number
        order = np.argsort(-scores[own], kind="stable")
        # How many predictions are at or above each confidence of the grid.
        counts = np.searchsorted(-scores[own][order], -grid, side="right")
        hits = np.concatenate([[0], np.cumsum(right[own][order])])
        found[number], true[number] = counts, hits[counts]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = true / found
        recall = true / objects[:, None]
        f1 = 2 * true / (found + objects[:, None])
    present = objects > 0
    f1[~present] = np.nan
    mean = f1[present].mean(axis=0) if present.any() else np.zeros(len(grid))
    best = int(mean.argmax())
    return Operating(float(grid[best]), precision[:, best], recall[:, best], f1[:, best])


def confusion_matrix(
    predictions: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    class_names: Sequence[str],
    iou: float,
    confidence: float,
    overlaps: Sequence[np.ndarray] | None = None,
) -> ConfusionMatrix:
    """Count which class is found as which.

    Predictions take objects of their own class first, in order of confidence, each the free object with the largest
    IoU of at least ``iou``; what is left of both is then matched in the same way across classes. ``overlaps`` are
    per image ``(n, m)`` what counts in place of the boxes' IoU.
    """
    import supervision as sv

    size = len(class_names)
    cells: list[np.ndarray] = []
    ids: list[np.ndarray] = []
    for number, (found, wanted) in enumerate(zip(predictions, targets, strict=True)):
        kept = found.confidence >= confidence
        order = np.flatnonzero(kept)[np.argsort(-found.confidence[kept], kind="stable")]
        if not len(order) or not len(wanted):
            overlap = np.zeros((len(order), len(wanted)))
        elif overlaps is not None:
            overlap = overlaps[number][order]
        else:
            overlap = sv.box_iou_batch(found.xyxy[order], wanted.xyxy)
        same = found.class_id[order][:, None] == wanted.class_id[None]
        taken = _greedy(np.where(same, overlap, 0), iou)
        left_over = overlap.copy()
        left_over[taken >= 0] = 0
        left_over[:, taken[taken >= 0]] = 0
        taken = np.where(taken >= 0, taken, _greedy(left_over, iou))
        missed = np.setdiff1d(np.arange(len(wanted)), taken)
        # Place -1 is past the end: no object, no prediction.
        rows, columns = np.append(wanted.class_id, size), np.append(found.class_id, size)
        objects = np.concatenate([taken, missed])
        predicted = np.concatenate([order, np.full(len(missed), -1)])
        cells.append(np.stack([rows[objects], columns[predicted]], axis=1))
        ids.append(np.stack([_ids(wanted)[objects], _ids(found)[predicted]], axis=1))
    every = np.concatenate(cells) if cells else np.zeros((0, 2), int)
    counts = np.zeros((size + 1, size + 1), dtype=int)
    np.add.at(counts, (every[:, 0], every[:, 1]), 1)
    return ConfusionMatrix((*class_names, NONE), counts, every, np.concatenate(ids) if ids else every.astype(str))


def _ids(detections: sv.Detections) -> np.ndarray:
    """The labels' ids, and ``""`` after them."""
    own = detections.data.get("id", np.full(len(detections), "", dtype=str))
    return np.append(np.asarray(own, dtype=str), "")


def _greedy(overlap: np.ndarray, iou: float) -> np.ndarray:
    """For each row in order, the free column with the largest overlap of at least ``iou``, or -1."""
    taken = np.full(len(overlap), -1)
    free = overlap.copy()
    for row in range(len(overlap)):
        if free.shape[1] and (column := int(free[row].argmax())) >= 0 and free[row, column] >= max(iou, 1e-12):
            taken[row] = column
            free[:, column] = 0
    return taken
