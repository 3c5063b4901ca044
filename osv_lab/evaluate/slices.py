"""Where a model does worse: metrics of slices with intervals, and whether a difference can be luck."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED
from osv_lab.detect.metrics import SIZES
from osv_lab.evaluate.bootstrap import estimates, resample_weights
from osv_lab.evaluate.confusion import best_operating_point
from osv_lab.evaluate.matched import Matched
from osv_lab.evaluate.scene import Scene, read_scene, with_labels
from osv_lab.evaluate.slicing import BINS, LEAST_IMAGES, Slice, slices_of

BY = ("tags", "brightness", "density", "size", "cluster")
METRICS = ("mAP", "F1", "recall")
CORRECTIONS = ("holm", "bh", "none")

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


@dataclass(frozen=True)
class SliceReport(Report):
    """The result of :func:`slices`: worst first.

    Attributes:
        dataset: The dataset's name.
        pred_field: The predictions.
        gt_field: The ground truth.
        metric: What slices are compared by.
        correction: How p-values are corrected: ``holm``, ``bh`` or ``none``.
        confidence: The operating point of F1 and recall.
        iou: Least overlap of a match.
        overall: All images.
        slices: Worst first.
        notes: What else the user should know.
        duration_s: Seconds spent.
    """

    dataset: str
    pred_field: str
    gt_field: str
    metric: str
    correction: str
    confidence: float
    iou: float
    overall: SliceScore
    slices: tuple[SliceScore, ...]
    notes: tuple[str, ...] = ()
    duration_s: float = field(default=0.0, compare=False)
    _members: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        """All images, then one row per slice, worst first."""
        return [self._row(self.overall), *(self._row(one) for one in self.slices)]

    def highlights(self) -> list[Mapping[str, Any]]:
        """All images and the ten worst slices."""
        return self.rows()[:11]

    def slice(self, name: str) -> SliceScore:
        """One slice.

        Raises:
            NotFoundError: no such slice.
        """
        for one in self.slices:
            if one.name == name:
                return one
        raise NotFoundError("no such slice", repr(name), nearest(name, [one.name for one in self.slices]))

    def significant(self, level: float = 0.05) -> tuple[SliceScore, ...]:
        """The slices that are worse than the rest, with a corrected p below ``level``."""
        return tuple(one for one in self.slices if one.difference < 0 and one.p_corrected < level)

    def summary(self) -> str:
        """The worst slice in one line."""
        sure = self.significant()
        head = f"{self.metric} {self.overall.values[self.metric]:.3f} over {self.overall.images:,} images"
        if not self.slices:
            return f"{head}; no slice has enough images"
        if not sure:
            return f"{head}; of {len(self.slices)} slices none is worse than the rest beyond chance"
        worst = sure[0]
        return (
            f"{head}; {len(sure)} of {len(self.slices)} slices are worse beyond chance, most so '{worst.name}': "
            f"{worst.values[self.metric]:.3f} ({worst.difference:+.3f}, p {worst.p_corrected:.2g})"
        )

    def view(self, name: str) -> Any:
        """The images of a slice; of a size, with objects of that size only."""
        from osv_lab.store.catalogue import open_dataset

        one = self.slice(name)
        view = open_dataset(self.dataset).select(list(self._members[name]), ordered=True)
        if one.by != "size":
            return view
        return with_labels(view, self.gt_field, self._members[f"{name} objects"])

    def plot(self) -> Any:
        """Each slice's metric with its interval, worst on top, as a plotly figure."""
        from osv_lab.evaluate.plots import slices_figure

        return slices_figure(self)

    def _row(self, one: SliceScore) -> dict[str, Any]:
        low, high = one.intervals[self.metric]
        return {
            "slice": one.name,
            "by": one.by,
            "images": one.images,
            "objects": one.objects,
            **one.values,
            f"{self.metric} from": low,
            f"{self.metric} to": high,
            "difference": one.difference,
            "p": one.p_corrected,
            "note": one.note,
        }


def slices(
    view: Any,
    eval_key: str | None = None,
    by: Sequence[str] = BY,
    *,
    pred_field: str = "predictions",
    gt_field: str = "ground_truth",
    iou: float = 0.5,
    metric: str = "mAP",
    confidence: float | None = None,
    correction: str = "holm",
    embeddings: np.ndarray | str | None = None,
    bins: int = BINS,
    n_boot: int = 1000,
    seed: int = SEED,
    progress: Progress = silent,
) -> SliceReport:
    """Score slices of a view, and say which are worse than the rest beyond chance.

    Intervals are percentile intervals over resampled images. The p-value of a slice of images is that of a permutation
    test: how often as many images, drawn at random, differ from the others by as much. That of a size, which parts the
    objects of each image, is from the resampled difference.

    Args:
        view: A ``fiftyone.Dataset`` or view of images.
        eval_key: An evaluation, whose fields and IoU are taken.
        by: Words of :data:`osv_lab.evaluate.slicing.WORDS`, and names of sample fields such as ``"metadata.width"``.
        pred_field: The predictions, where no evaluation is named.
        gt_field: The ground truth, likewise.
        iou: Least overlap of a match, likewise.
        metric: What slices are compared by: ``"mAP"`` (at ``iou``), ``"F1"`` or ``"recall"``.
        confidence: Operating point of F1 and recall; by default where mean F1 is greatest.
        correction: ``"holm"`` bounds the chance of any false alarm (S. Holm, 1979), ``"bh"`` the share of false alarms
            (Y. Benjamini and Y. Hochberg, 1995), ``"none"`` neither.
        embeddings: For ``cluster``; see :func:`osv_lab.evaluate.slicing.slices_of`.
        bins: Into how many slices numbers are cut.
        n_boot: Resamples, and permutations.
        seed: Of both.
        progress: Told of every slice.

    Returns:
        The report; ``report.view(name)`` opens a slice.

    Raises:
        NotFoundError: no such evaluation, field or word.
        UsageError: an argument that cannot be used.
        InvalidDataError: no labelled or no predicted samples.

    Example:
        >>> slices(dataset.match_tags("test"), "eval", by=["brightness", "density"])      # doctest: +SKIP
    """
    started = time.monotonic()
    for value, known, what in ((metric, METRICS, "metric"), (correction, CORRECTIONS, "correction")):
        if value not in known:
            raise UsageError(f"no such {what}", repr(value), nearest(value, known))
    if n_boot < 100:
        raise UsageError("n_boot must be at least 100", n_boot)
    scene = read_scene(view, eval_key, pred_field=pred_field, gt_field=gt_field, iou=iou)
    matched = Matched(scene)
    at = operating_point(matched, confidence)
    parts = slices_of(view, scene, [word for word in by if word != "size"], embeddings=embeddings, bins=bins)
    study = _Study(matched, at, metric, n_boot, seed)
    found: list[SliceScore] = []
    members: dict[str, list[str]] = {}
    total = len(parts) + (len(SIZES) - 1 if "size" in by else 0)
    for part in parts:
        progress("slices", len(found), total)
        if part.name in members:
            continue
        found.append(study.of(part))
        members[part.name] = [scene.samples[row] for row in np.flatnonzero(part.images)]
    if "size" in by:
        for size in list(SIZES)[1:]:
            one, mask = study.of_size(size)
            if one is not None:
                found.append(one)
                rows = np.unique(scene.objects.image[mask])
                members[one.name] = [scene.samples[row] for row in rows]
                members[f"{one.name} objects"] = scene.objects.ids[mask].tolist()
    progress("slices", total, total)
    corrected = corrected_p(np.array([one.p for one in found]), correction)
    named = [dataclasses.replace(one, p_corrected=float(p)) for one, p in zip(found, corrected, strict=True)]
    named.sort(key=lambda one: (np.nan_to_num(one.difference, nan=np.inf), one.name))
    everything = Slice("all", "all images", np.ones(len(scene.samples), bool))
    return SliceReport(
        dataset=scene.dataset,
        pred_field=scene.pred_field,
        gt_field=scene.gt_field,
        metric=metric,
        correction=correction,
        confidence=at,
        iou=scene.iou,
        overall=study.of(everything),
        slices=tuple(named),
        notes=scene.notes,
        duration_s=time.monotonic() - started,
        _members=members,
    )


def operating_point(matched: Matched, confidence: float | None = None) -> float:
    """The confidence where F1, averaged over classes, is greatest, unless another is given."""
    if confidence is not None:
        if not 0 <= confidence <= 1:
            raise UsageError("confidence must lie between 0 and 1", confidence)
        return confidence
    found, wanted = matched.predictions, matched.scene.objects.class_id[matched.wanted]
    objects = np.bincount(wanted, minlength=len(matched.scene.class_names))
    return best_operating_point(found.confidence, found.class_id, matched.true, objects).confidence


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


class _Study:
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


def _columns(found: Any) -> np.ndarray:
    return np.stack([found.mean_ap, found.f1, found.recall], axis=1)


def _estimated(table: np.ndarray) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics and their intervals from ``(1 + b, 3)``."""
    known = estimates(table, together=np.zeros(len(METRICS), bool))
    values = dict(zip(METRICS, known.value.tolist(), strict=True))
    return values, dict(zip(METRICS, zip(known.low.tolist(), known.high.tolist(), strict=True), strict=True))
