"""A scene's predictions, matched: average precision and counts under any weighing of the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osv_lab.detect.metrics import Matches
from osv_lab.evaluate.bootstrap import weighted_precision
from osv_lab.evaluate.scene import Scene


@dataclass(frozen=True)
class Weighed:
    """What metrics come out as on weighed images; each ``(b,)``.

    Attributes:
        ap: ``(b, classes)`` average precision; NaN where a class has no objects.
        precision: Over all classes together, at the operating point.
        recall: Likewise.
        f1: Likewise.
    """

    ap: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    @property
    def mean_ap(self) -> np.ndarray:
        """``(b,)`` mean over the classes that have objects."""
        known = ~np.isnan(self.ap)
        total = np.where(known, self.ap, 0).sum(axis=1)
        whole = np.full(len(total), np.nan)
        return np.asarray(np.divide(total, known.sum(axis=1), out=whole, where=known.any(axis=1)))


class Matched:
    """The predictions that count and what each took, ready for any weighing of the images.

    Args:
        scene: Predictions and objects.
        keep: ``(n,)`` mask of the predictions to look at; all that count by default.

    Attributes:
        rows: ``(k,)`` rows of the scene's predictions.
        predictions: Those rows.
        taken: ``(k,)`` rows of the scene's objects, or -1.
        true: ``(k,)`` whether it took an object.
        ignored: ``(k,)`` whether it counts neither way.
        wanted: ``(objects,)`` which objects are to be found.
    """

    def __init__(self, scene: Scene, keep: np.ndarray | None = None) -> None:
        self.scene = scene
        # Matching goes by confidence: the less sure ones left out here took nothing from the surer.
        self.rows = np.flatnonzero(scene.counted if keep is None else scene.counted & keep)
        self.predictions, self.taken = scene.predictions.take(self.rows), scene.taken[self.rows]
        self.wanted = ~scene.objects.crowd
        took = np.append(self.wanted, False)[self.taken]
        self.true = (self.taken >= 0) & took
        self.ignored = (self.taken >= 0) & ~took

    def only(self, objects: np.ndarray, inside: np.ndarray) -> Matched:
        """The same matching where only some objects are to be found.

        Predictions that took one of the others, or none and are themselves outside, count neither way.

        Args:
            objects: ``(objects,)`` mask.
            inside: ``(k,)`` mask of the predictions.
        """
        found = Matched.__new__(Matched)
        found.scene, found.rows = self.scene, self.rows
        found.predictions, found.taken = self.predictions, self.taken
        found.wanted = self.wanted & objects
        found.true = self.true & np.append(found.wanted, False)[self.taken]
        found.ignored = ((self.taken >= 0) & ~found.true) | ((self.taken < 0) & ~inside)
        return found

    def of_class(self, number: int) -> Matches:
        """The predictions of one class in order of confidence, at the scene's IoU."""
        order = np.argsort(-self.predictions.confidence, kind="stable")
        own = order[self.predictions.class_id[order] == number]
        objects = self.scene.objects.image[self.wanted & (self.scene.objects.class_id == number)]
        return Matches(
            self.predictions.image[own],
            self.true[own][None],
            self.ignored[own][None],
            np.bincount(objects, minlength=len(self.scene.samples)),
        )

    def metrics(self, weights: np.ndarray, confidence: float = 0.0) -> Weighed:
        """Metrics for ``(b, images)`` whole weights; precision, recall and F1 at a confidence."""
        images = len(self.scene.samples)
        whole, weights = weights.astype(np.int32), weights.astype(float)
        kept = (self.predictions.confidence >= confidence) & ~self.ignored
        right = np.bincount(self.predictions.image[kept & self.true], minlength=images)
        found = np.bincount(self.predictions.image[kept], minlength=images)
        wanted = np.bincount(self.scene.objects.image[self.wanted], minlength=images)
        hits, shown, total = (weights @ one for one in (right, found, wanted))
        classes = [self.of_class(number) for number in range(len(self.scene.class_names))]
        with np.errstate(invalid="ignore", divide="ignore"):
            return Weighed(
                ap=np.stack([weighted_precision(one, whole)[:, 0] for one in classes], axis=1),
                precision=hits / shown,
                recall=hits / total,
                f1=2 * hits / (shown + total),
            )
