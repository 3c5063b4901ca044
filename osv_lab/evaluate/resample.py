"""Average precision and counts under any weighing of the images, and the bootstrap intervals that come of it.

Resampling images with replacement is giving each image a weight: how often it was drawn. One pass over the predictions
in order of confidence then gives the precision-recall curves of many resamples at once.

The interval is the percentile interval (B. Efron, "Better Bootstrap Confidence Intervals", JASA 1987, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from osv_lab.core.settings import SEED
from osv_lab.evaluate.pairing import counted, match, pairs_of
from osv_lab.evaluate.scene import Boxes, Scene

N_BOOT = 1000
LEVEL = 0.95
_RECALLS = np.linspace(0, 1, 101)
_CELLS = 4_000_000
"""Numbers in one array of a resampling; bounds its memory."""


@dataclass(frozen=True)
class Ranked:
    """The counted predictions of one class, most confident first, and how many objects each image has.

    Attributes:
        image: ``(n,)`` int.
        confidence: ``(n,)``.
        true: ``(n,)`` whether it took an object.
        ignored: ``(n,)`` whether it counts neither way, because it lies in a crowd.
        objects: ``(images,)`` objects that are to be found.
        rows: ``(n,)`` rows of the scene's predictions.
    """

    image: np.ndarray
    confidence: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray
    rows: np.ndarray

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """``(b,)`` COCO's 101-point average precision for ``(b, images)`` weights; NaN without objects.

        Precision is greatest, and recall changes, only where a prediction is right: nothing else is looked at.
        """
        found = np.zeros(len(weights))
        right = np.flatnonzero(self.true)
        for rows in chunks(len(weights), max(len(self.image), 1)):
            own = weights[rows]
            total = own @ self.objects
            drawn = own[:, self.image]
            hits = np.cumsum(drawn[:, right], axis=1)
            seen = np.cumsum(np.where(self.ignored, 0, drawn), axis=1)[:, right]
            precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            recall = np.divide(hits, total[:, None], out=np.zeros_like(hits), where=total[:, None] > 0)
            reached = np.searchsorted(_RECALLS, recall, side="right")
            points = np.diff(reached, axis=1, prepend=0)
            found[rows] = np.where(total > 0, (precision * points).sum(axis=1) / len(_RECALLS), np.nan)
        return found


@dataclass(frozen=True)
class Resampled:
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
    """A scene's predictions matched at one IoU, ready for any weighing of its images.

    Args:
        scene: What to match.
        iou: Least overlap; the scene's own by default.
        keep: ``(n,)`` mask of the predictions that count; all by default.
        least: Overlap from which pairs are kept, for those who ask what was nearly right.
    """

    def __init__(
        self, scene: Scene, iou: float | None = None, keep: np.ndarray | None = None, least: float = 1.0
    ) -> None:
        self.scene = scene
        self.iou = scene.iou if iou is None else iou
        found = scene.predictions
        self.rows = np.flatnonzero(counted(found) if keep is None else counted(found) & keep)
        own = found.take(self.rows)
        self.pairs = pairs_of(own, scene.objects, min(self.iou, 1 - 1e-10, least))
        taken = match(own, scene.objects, self.pairs, self.iou)
        self.predictions, self.taken = own, taken
        self.ignored = (taken >= 0) & np.append(scene.objects.crowd, False)[taken]
        self.true = (taken >= 0) & ~self.ignored
        self.classes = rank(own, self.true, self.ignored, scene, self.rows)

    def metrics(self, weights: np.ndarray, confidence: np.ndarray | float = 0.0) -> Resampled:
        """Metrics for ``(b, images)`` weights.

        Args:
            weights: How often each image counts.
            confidence: The operating point of precision, recall and F1: one number, or one per class.
        """
        images = len(self.scene.samples)
        least = np.broadcast_to(confidence, len(self.scene.class_names))[self.predictions.class_id]
        kept = (self.predictions.confidence >= least) & ~self.ignored
        right = np.bincount(self.predictions.image[kept & self.true], minlength=images)
        found = np.bincount(self.predictions.image[kept], minlength=images)
        wanted = np.bincount(self.scene.objects.image[~self.scene.objects.crowd], minlength=images)
        hits, shown, total = (np.asarray(weights @ one, float) for one in (right, found, wanted))
        with np.errstate(invalid="ignore", divide="ignore"):
            return Resampled(
                ap=np.stack([one.average_precision(weights) for one in self.classes], axis=1),
                precision=hits / shown,
                recall=hits / total,
                f1=2 * hits / (shown + total),
            )


def rank(
    predictions: Boxes, true: np.ndarray, ignored: np.ndarray, scene: Scene, rows: np.ndarray
) -> tuple[Ranked, ...]:
    """Predictions class by class, most confident first."""
    wanted = scene.objects.take(~scene.objects.crowd)
    order = np.argsort(-predictions.confidence, kind="stable")
    found = []
    for number in range(len(scene.class_names)):
        own = order[predictions.class_id[order] == number]
        objects = np.bincount(wanted.image[wanted.class_id == number], minlength=len(scene.samples))
        found.append(
            Ranked(
                predictions.image[own], predictions.confidence[own], true[own], ignored[own], objects, rows[own]
            )
        )
    return tuple(found)


def draws(images: int, n_boot: int, seed: int = SEED) -> np.ndarray:
    """``(n_boot, images)`` how often each image is drawn by each resample of as many images."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.multinomial(images, np.full(images, 1 / images), size=n_boot), dtype=np.float64)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of resampled values; NaN where too few are known."""
    known = values[np.isfinite(values)]
    if len(known) < max(20, len(values) // 2):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows whose arrays of this width stay small."""
    step = max(1, _CELLS // max(width, 1))
    for start in range(0, rows, step):
        yield slice(start, start + step)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], images: int, n_boot: int = N_BOOT, seed: int = SEED
) -> np.ndarray:
    """``(n_boot, ...)`` a statistic of ``(b, images)`` weights, on resamples of the images."""
    weights = draws(images, n_boot, seed)
    return np.concatenate([statistic(weights[rows]) for rows in chunks(n_boot, images)])
