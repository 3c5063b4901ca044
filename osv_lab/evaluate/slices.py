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
from osv_lab.evaluate.confusion import best_operating_point
from osv_lab.evaluate.matched import Matched
from osv_lab.evaluate.scene import read_scene, with_labels
from osv_lab.evaluate.slice_scores import METRICS, SliceScore, Study, corrected_p
from osv_lab.evaluate.slicing import BINS, Slice, slices_of

BY = ("tags", "brightness", "density", "size", "cluster")
CORRECTIONS = ("holm", "bh", "none")


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

    def members(self, name: str) -> tuple[str, ...]:
        """The ids of the images of a slice."""
        return tuple(self._members[self.slice(name).name])

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
        >>> print(slices(dataset, pred_field="predictions", by=["density"]).summary())
        mAP 0.641 over 20 images; 1 of 2 slices are worse beyond chance, most so 'density 2 objects': ...
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
    study = Study(matched, at, metric, n_boot, seed)
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
