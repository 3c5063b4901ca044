"""The error budget: what kinds of error a model makes, and what mending each would bring."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.report import Report
from osv_lab.detect.metrics import SIZES
from osv_lab.evaluate.errors import BACKGROUND_IOU, TYPES, Errors, errors_of, fixed_precision
from osv_lab.evaluate.matched import Matched
from osv_lab.evaluate.scene import Scene, read_scene, with_labels
from osv_lab.evaluate.slicing import Slice, slices_of

RULE = (
    "TIDE (Bolya et al. 2020), tests in the order of its code. Different here: at most 100 predictions per image and "
    "class count (TIDE: 100 per image); a class that nobody labelled counts in no mean (TIDE: as 0), and one whose "
    "missed objects are all forgiven keeps its place in it; each error type is mended for itself (TIDE lets a surer "
    "error of the other type keep an object unmended); predictions inside crowds are no errors"
)


@dataclass(frozen=True)
class ErrorShare:
    """Errors of one type in one group.

    Attributes:
        kind: One of :data:`osv_lab.evaluate.errors.TYPES`.
        by: ``all``, ``class``, ``size``, or what the slice is by.
        group: The class, size or slice; ``""`` for all.
        count: How many.
        gain: mAP that mending them all would bring, 0 to 1. Those of the classes add up to that of all; others need
            not.
    """

    kind: str
    by: str
    group: str
    count: int
    gain: float


@dataclass(frozen=True)
class ErrorBudget(Report):
    """The result of :func:`error_budget`. Its order is that of the gains, largest first.

    Attributes:
        dataset: The dataset's name.
        pred_field: The predictions.
        gt_field: The ground truth.
        key: The evaluation that was asked for, or ``errors``; prefix of what :meth:`save_views` writes.
        samples: How many images were looked at.
        mean_ap: mAP at ``iou`` as it is.
        iou: Least overlap of a match.
        shares: Errors by type, then by type and class, size and slice.
        rule: How errors are told apart.
        notes: What else the user should know.
        duration_s: Seconds spent.
    """

    dataset: str
    pred_field: str
    gt_field: str
    key: str
    samples: int
    mean_ap: float
    iou: float
    shares: tuple[ErrorShare, ...]
    rule: str = RULE
    notes: tuple[str, ...] = ()
    duration_s: float = field(default=0.0, compare=False)
    _matched: Any = field(default=None, repr=False, compare=False)
    _errors: Any = field(default=None, repr=False, compare=False)
    _slices: Sequence[Slice] = field(default=(), repr=False, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        """All types, then what each group's errors would bring."""
        return [
            {"error": one.kind, "by": one.by, "group": one.group, "errors": one.count, "mAP gained": one.gain}
            for one in self.shares
        ]

    def highlights(self) -> list[Mapping[str, Any]]:
        """The types over everything, then the ten groups where mending brings most."""
        every = [row for row in self.rows() if row["by"] == "all"]
        rest = [row for row in self.rows() if row["by"] != "all" and row["mAP gained"] > 0]
        return [*every, *sorted(rest, key=lambda row: -row["mAP gained"])[:10]]

    def share(self, kind: str, group: str = "", by: str | None = None) -> ErrorShare:
        """Errors of one type, over everything or in one group.

        Raises:
            NotFoundError: no such type or group.
        """
        for one in self.shares:
            if one.kind == kind and one.group == group and by in (None, one.by):
                return one
        known = TYPES if kind not in TYPES else sorted({one.group for one in self.shares if one.group})
        wanted = kind if kind not in TYPES else group
        raise NotFoundError("no such error type or group", repr(wanted), nearest(wanted, known))

    def summary(self) -> str:
        """The largest losses in one line."""
        every = [one for one in self.shares if one.by == "all" and one.count]
        worst = ", ".join(f"{one.kind} {one.gain:+.3f} ({one.count:,})" for one in every[:3])
        head = f"mAP{self.iou * 100:.0f} {self.mean_ap:.3f} on {self.samples:,} images"
        return f"{head}; mending brings: {worst or 'nothing'}"

    def view(
        self,
        kind: str,
        class_: str | None = None,
        *,
        size: str | None = None,
        slice: str | None = None,
        limit: int | None = None,
    ) -> Any:
        """Exactly the objects behind a number, surest first, as a FiftyOne view.

        Of missed objects the view holds those of the ground truth, beside all predictions; of the others the wrong
        predictions, beside the objects that they were about (or all objects, where they were about none).

        Args:
            kind: One of :data:`osv_lab.evaluate.errors.TYPES`.
            class_: Only those that cost this class: the class of the wrong prediction, or of the missed object.
            size: ``small``, ``medium`` or ``large`` only.
            slice: A slice's name.
            limit: At most so many of them: the surest, or the first missed ones. A view carries an id for each.

        Raises:
            NotFoundError: no such type, class, size or slice.
        """
        rows = np.flatnonzero(self._chosen(kind, class_, size, slice))
        scene: Scene = self._matched.scene
        found, wanted = self._matched.predictions, scene.objects
        if kind != "missed":
            rows = rows[np.argsort(-found.confidence[self._errors.prediction[rows]], kind="stable")]
        rows = rows[:limit]
        predictions, targets = self._errors.prediction[rows], self._errors.target[rows]
        if kind == "missed":
            image, shown = wanted.image[targets], {self.gt_field: wanted.ids[targets]}
            view = scene.view(list(dict.fromkeys(image.tolist())))
        else:
            image = found.image[predictions]
            shown = {self.pred_field: found.ids[predictions]}
            if (targets >= 0).any():
                shown[self.gt_field] = wanted.ids[targets[targets >= 0]]
            view = scene.view(list(dict.fromkeys(image.tolist())))
        for name, ids in shown.items():
            view = with_labels(view, name, ids.tolist())
        return view

    def save_views(self) -> list[str]:
        """Write each error's type to its label, as ``<key>_error``, and save one view per type.

        The App's sidebar filters and colours by it. A call of the same key replaces what is there.

        Returns:
            Names of the saved views: ``<key>_missed``, ...
        """
        from osv_lab.evaluate.error_views import save_views

        return save_views(self)

    def plot(self) -> Any:
        """Bars of the mAP that mending each type would bring, by class, as a plotly figure."""
        from osv_lab.evaluate.plots import budget_figure

        return budget_figure(self)

    def _chosen(
        self, kind: str, class_: str | None = None, size: str | None = None, slice: str | None = None
    ) -> np.ndarray:
        scene: Scene = self._matched.scene
        for value, known, what in (
            (kind, TYPES, "error type"),
            (class_, scene.class_names, "class"),
            (size, list(SIZES)[1:], "size"),
            (slice, [one.name for one in self._slices], "slice"),
        ):
            if value is not None and value not in known:
                raise NotFoundError(f"no such {what}", repr(value), nearest(value, known) if known else "")
        groups = _Groups(self._matched, self._errors)
        mask = self._errors.kind == TYPES.index(kind)
        if class_ is not None:
            mask &= groups.class_id == scene.class_names.index(class_)
        if size is not None:
            mask &= groups.of_size(size)
        if slice is not None:
            mask &= next(one for one in self._slices if one.name == slice).images[groups.image]
        return np.asarray(mask)


class _Groups:
    """What group each error belongs to: image, class, area."""

    def __init__(self, matched: Matched, errors: Errors) -> None:
        found, wanted = matched.predictions, matched.scene.objects
        missed = errors.prediction < 0
        self.image = np.where(missed, *_of(wanted.image, found.image, errors))
        self.class_id = np.where(missed, *_of(wanted.class_id, found.class_id, errors))
        # An error about an object is as large as the object, another as large as its box.
        area = np.where(errors.target >= 0, *_of(wanted.area, found.area, errors))
        self.area = area

    def of_size(self, size: str) -> np.ndarray:
        low, high = SIZES[size]
        # Both ends are COCO's, where 32² is small and medium; here each error has one size.
        return np.asarray((self.area > low) & (self.area <= high))


def _of(targets: np.ndarray, predictions: np.ndarray, errors: Errors) -> tuple[np.ndarray, np.ndarray]:
    """Columns by target and by prediction; rows without one have any value."""
    padded = [np.append(column, column[:1] if len(column) else 0) for column in (targets, predictions)]
    return padded[0][errors.target], padded[1][errors.prediction]


def error_budget(
    view: Any,
    eval_key: str | None = None,
    *,
    pred_field: str = "predictions",
    gt_field: str = "ground_truth",
    iou: float = 0.5,
    confidence: float = 0.0,
    background_iou: float = BACKGROUND_IOU,
    by: Sequence[str] = (),
) -> ErrorBudget:
    """Type each error of a model's predictions, and say what mending each type would bring.

    An oracle mends one type at a time and mAP is taken again: see :func:`osv_lab.evaluate.errors.errors_of` for what
    each type is, and :func:`~osv_lab.evaluate.errors.fixed_precision` for what the oracle does.

    Args:
        view: A ``fiftyone.Dataset`` or view of images.
        eval_key: An evaluation, whose fields and IoU are taken.
        pred_field: The predictions, where no evaluation is named.
        gt_field: The ground truth, likewise.
        iou: Least overlap of a match, likewise.
        confidence: Predictions below it are left out. For mAP as reported all count; to look at what one would act
            on, give the operating point.
        background_iou: Overlap with every object up to which a prediction has found background.
        by: Slices to give the budget for, too, as for :func:`osv_lab.evaluate.slices.slices` (``"tags"``,
            ``"density"``, any field).

    Returns:
        The budget; ``budget.view("missed", class_="RBC")`` opens what a number counts. Nothing is written.

    Raises:
        NotFoundError: no such evaluation or field.
        UsageError: thresholds out of range, or fields that cannot be compared.
        InvalidDataError: no labelled or no predicted samples.

    Example:
        >>> print(error_budget(dataset, pred_field="predictions").summary())
        mAP50 0.641 on 20 images; mending brings: classification +0.161 (3), missed +0.099 (4), background +0.000 (4)
    """
    started = time.monotonic()
    if not 0 <= confidence <= 1:
        raise UsageError("confidence must lie between 0 and 1", confidence)
    scene = read_scene(view, eval_key, pred_field=pred_field, gt_field=gt_field, iou=iou)
    if not 0 < background_iou < scene.iou:
        raise UsageError("background_iou must lie above 0 and below the matching IoU", background_iou)
    keep = scene.predictions.confidence >= confidence
    matched = Matched(scene, keep)
    errors = errors_of(matched, background_iou)
    groups = slices_of(view, scene, by) if by else ()
    before, shares = _shares(matched, errors, groups)
    return ErrorBudget(
        dataset=scene.dataset,
        pred_field=scene.pred_field,
        gt_field=scene.gt_field,
        key=eval_key or "errors",
        samples=len(scene.samples),
        mean_ap=float(np.nanmean(before)),
        iou=scene.iou,
        shares=tuple(shares),
        notes=scene.notes,
        duration_s=time.monotonic() - started,
        _matched=matched,
        _errors=errors,
        _slices=tuple(groups),
    )


def _shares(matched: Matched, errors: Errors, slices: Sequence[Slice]) -> tuple[np.ndarray, list[ErrorShare]]:
    """Average precision by class as it is, and every share of the budget."""
    before = fixed_precision(matched, errors, np.zeros(len(errors), bool))
    groups = _Groups(matched, errors)
    known = int(np.isfinite(before).sum())
    every, rest = [], []
    for number, kind in enumerate(TYPES):
        mask = errors.kind == number
        gain = fixed_precision(matched, errors, mask) - before
        every.append(ErrorShare(kind, "all", "", int(mask.sum()), float(np.nansum(gain) / known)))
        for row, name in enumerate(matched.scene.class_names):
            count = int((mask & (groups.class_id == row)).sum())
            if count or np.nan_to_num(gain[row]):
                rest.append(ErrorShare(kind, "class", name, count, float(np.nan_to_num(gain[row]) / known)))
        parts = [("size", size, groups.of_size(size)) for size in list(SIZES)[1:]]
        parts += [(one.by, one.name, one.images[groups.image]) for one in slices]
        for by, name, part in parts:
            if not (own := mask & part).any():
                continue
            brought = np.nansum(fixed_precision(matched, errors, own) - before) / known
            rest.append(ErrorShare(kind, by, name, int(own.sum()), float(brought)))
    every.sort(key=lambda one: -one.gain)
    order = {one.kind: place for place, one in enumerate(every)}
    return before, [*every, *sorted(rest, key=lambda one: (order[one.kind], one.by != "class", one.by, -one.gain))]
