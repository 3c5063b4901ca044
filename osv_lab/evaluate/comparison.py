"""Compare two evaluations: which objects one model finds and the other does not, and what of that is luck."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED, SPLITS
from osv_lab.detect.confidence import limit_of
from osv_lab.evaluate.arrays import boxes_of
from osv_lab.evaluate.confusion import best_operating_point
from osv_lab.evaluate.detection import classes_of, evaluable
from osv_lab.evaluate.differences import MIN_OBJECTS, Difference, differences
from osv_lab.evaluate.latency import Cost, measure
from osv_lab.evaluate.outcomes import FALSE_POSITIVES, OBJECTS, count_by_class, operated, outcome

if TYPE_CHECKING:
    import supervision as sv


@dataclass(frozen=True)
class ComparisonReport(Report):
    """What changes from a first model to a second.

    Attributes:
        name: The field of objects and predictions that says what became of them, and the saved views' prefix.
        dataset: The dataset's name.
        keys: The two evaluations.
        fields: Their predictions.
        gt_field: The ground truth.
        samples: Images compared.
        confidence: Per model its confidence threshold per class, for objects, precision, recall and F1.
        iou: Least overlap of a match.
        objects: Objects per outcome (``fixed``, ``broken``, ``both_right``, ``both_wrong``).
        false_positives: False positives ``fp_gone``, ``fp_new`` and ``fp_kept``.
        by_class: Per outcome, objects per class.
        differences: Every metric of every slice with interval and p-values.
        cost: Latency and size of the two models; ``None`` where they are not known.
        n_boot: Resamples.
        seed: Of the resamples.
        notes: What else the user should know.
        duration_s: Seconds spent.
    """

    name: str
    dataset: str
    keys: tuple[str, str]
    fields: tuple[str, str]
    gt_field: str
    samples: int
    confidence: tuple[Mapping[str, float], Mapping[str, float]]
    iou: float
    objects: Mapping[str, int]
    false_positives: Mapping[str, int]
    by_class: Mapping[str, Mapping[str, int]]
    differences: tuple[Difference, ...]
    cost: Cost | None
    n_boot: int
    seed: int
    notes: tuple[str, ...] = ()
    duration_s: float = field(default=0.0, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        a, b = self.keys
        return [
            {
                "slice": one.name,
                "metric": one.metric,
                a: one.a,
                b: one.b,
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "p": one.p,
                "p, of all": one.p_adjusted,
                "objects": one.objects,
                "images": one.images,
            }
            for one in self.differences
        ]

    def highlights(self) -> list[Mapping[str, Any]]:
        """All metrics of the whole, and mAP50-95 of each slice."""
        return [
            row
            for row, one in zip(self.rows(), self.differences, strict=True)
            if one.kind == "all" or one.metric == "mAP50-95"
        ]

    def summary(self) -> str:
        one = self.of()
        fp = self.false_positives
        text = (
            f"{self.keys[1]} against {self.keys[0]} on {self.samples} samples of {self.dataset}: "
            f"mAP50-95 {one.a:.3f} → {one.b:.3f} ({one.difference:+.3f}, 95% [{one.low:+.3f}, {one.high:+.3f}]); "
            f"objects: {self.objects['fixed']} fixed, {self.objects['broken']} broken; "
            f"false positives: {fp['fp_gone']} gone, {fp['fp_new']} new"
        )
        if self.cost:
            first, second = self.cost.median_ms
            text += f"; {first:.1f} → {second:.1f} ms per image"
        return text

    def of(self, kind: str = "all", value: str = "all", metric: str = "mAP50-95") -> Difference:
        """One difference.

        Raises:
            NotFoundError: that was not compared.
        """
        for one in self.differences:
            if (one.kind, one.slice, one.metric) == (kind, value, metric):
                return one
        known = {f"{one.kind} {one.slice} {one.metric}" for one in self.differences}
        wanted = f"{kind} {value} {metric}"
        raise NotFoundError("no such difference", repr(wanted), nearest(wanted, known))

    def view(self, what: str = "broken") -> Any:
        """The samples with objects of an outcome (of :data:`OBJECTS` or :data:`FALSE_POSITIVES`), and only those.

        Raises:
            NotFoundError: there is no such outcome.
        """
        from osv_lab.store.catalogue import open_view

        if what not in (*OBJECTS, *FALSE_POSITIVES):
            raise NotFoundError("no such outcome", repr(what), nearest(what, (*OBJECTS, *FALSE_POSITIVES)))
        return open_view(self.dataset, f"{self.name}_{what}")

    def plot(self, name: str = "differences") -> Any:
        """A plotly figure: ``differences`` with their intervals, or ``objects`` by outcome and class."""
        from osv_lab.evaluate.comparison_plots import PLOTS

        if name not in PLOTS:
            raise NotFoundError("no such plot", repr(name), nearest(name, PLOTS))
        return PLOTS[name](self)

    def picture(self, samples: int = 3) -> np.ndarray:
        """The most changed samples: the truth, the first model and the second side by side, as BGR uint8."""
        from osv_lab.evaluate.side_by_side import side_by_side

        return side_by_side(self, samples)


def compare(
    view: Any,
    key_a: str,
    key_b: str,
    n_boot: int = 1000,
    seed: int = SEED,
    *,
    confidence: float | Sequence[Mapping[str, float]] | None = None,
    slices: Sequence[str] = (),
    models: tuple[str, str] | None = None,
    margin: float = 0.0,
    min_objects: int = MIN_OBJECTS,
    name: str | None = None,
    progress: Progress = silent,
) -> ComparisonReport:
    """Compare two models' predictions on the same samples.

    Every object gets the attribute ``<name>``: ``fixed``, ``broken``, ``both_right`` or ``both_wrong``; every
    prediction ``tp``, ``below``, ``fp_gone``, ``fp_new`` or ``fp_kept``; samples get counts, and each outcome is saved
    as a view, samples with most of it first.

    Args:
        view: A ``fiftyone.Dataset`` or view of images.
        key_a: An evaluation's key, or a field of predictions: the model that is there now.
        key_b: The same of the model that may take its place.
        n_boot: Resamples of the images.
        seed: Of the resamples.
        confidence: One threshold for both models, or for each a mapping from class to threshold (``"*"``: the other
            classes), as chosen thresholds' ``confidences`` are. By default each model's threshold of greatest mean F1
            on this view.
        slices: What to look at apart besides classes, sizes and splits: ``"tags"``, or a sample field of texts, truth
            values or whole numbers.
        models: References of the two models' files, to measure time and size. By default what made the predictions,
            where that is on this machine still.
        margin: A fall up to here is accepted by the one-sided p-values.
        min_objects: Slices with fewer are not judged together with the others.
        name: ``<key_a>_to_<key_b>`` by default.
        progress: Told of the stages.

    Raises:
        NotFoundError: a key or field does not exist.
        UsageError: the evaluations are of different truths.
        InvalidDataError: nothing is labelled or predicted.

    Example:
        >>> report = compare(dataset.match_tags("test"), "champion", "candidate")      # doctest: +SKIP
        >>> report.view("broken"), report.plot(), report.to_frame()                     # doctest: +SKIP
    """
    started = time.monotonic()
    (field_a, gt_field, iou), (field_b, gt_b, iou_b) = (_evaluated(view, key) for key in (key_a, key_b))
    if (gt_field, iou) != (gt_b, iou_b) or field_a == field_b:
        raise UsageError(
            "the evaluations cannot be compared",
            f"{key_a}: '{field_a}' against '{gt_field}' at IoU {iou}; {key_b}: '{field_b}' against '{gt_b}' at {iou_b}",
            "evaluate two predictions fields against one ground truth at one IoU",
        )
    name = name or f"{key_a}_to_{key_b}"
    if not name.isidentifier():
        raise UsageError("not a name for a comparison", repr(name), "use letters, digits and '_'")
    chosen, notes = evaluable(view, field_b, gt_field)
    notes += [note for note in evaluable(chosen, field_a, gt_field)[1] if note not in notes]
    names = list(
        dict.fromkeys([*classes_of(chosen, field_a, gt_field)[0], *classes_of(chosen, field_b, gt_field)[0]])
    )
    targets = boxes_of(chosen, gt_field, names)
    found = tuple(boxes_of(chosen, field, names) for field in (field_a, field_b))
    progress("compare", 0, 4)
    thresholds = [
        _thresholds(predictions, targets, names, confidence if isinstance(confidence, float | int) else None, iou)
        if confidence is None or isinstance(confidence, float | int)
        else np.array([limit_of(confidence[side], one) for one in names])
        for side, predictions in enumerate(found)
    ]
    at = tuple(
        [operated(one, truth, line, iou) for one, truth in zip(predictions, targets, strict=True)]
        for predictions, line in zip(found, thresholds, strict=True)
    )
    outcomes = [
        outcome(first, second, truth, a, b, iou)
        for first, second, truth, a, b in zip(found[0], found[1], targets, at[0], at[1], strict=True)
    ]
    progress("compare", 1, 4)
    judged = differences(
        found[0], found[1], targets, names, (at[0], at[1]), _slices(chosen, slices),
        n_boot=n_boot, seed=seed, margin=margin, min_objects=min_objects,
    )  # fmt: skip
    progress("compare", 2, 4)
    from osv_lab.evaluate.comparison_fields import save_comparison

    save_comparison(chosen, name, (field_a, field_b), gt_field, found, targets, outcomes)
    progress("compare", 3, 4)
    cost, why = _cost(chosen, models, (field_a, field_b))
    progress("compare", 4, 4)
    by_class = count_by_class(outcomes, targets, names)
    return ComparisonReport(
        name=name,
        dataset=str(chosen._dataset.name),
        keys=(key_a, key_b),
        fields=(field_a, field_b),
        gt_field=gt_field,
        samples=len(targets),
        confidence=tuple(dict(zip(names, map(float, one), strict=True)) for one in thresholds),  # type: ignore[arg-type]
        iou=iou,
        objects={what: sum(counts.values()) for what, counts in by_class.items()},
        false_positives={what: sum(one.count(what) for one in outcomes) for what in FALSE_POSITIVES},
        by_class=by_class,
        differences=judged,
        cost=cost,
        n_boot=n_boot,
        seed=seed,
        notes=(*notes, *([why] if why else [])),
        duration_s=time.monotonic() - started,
    )


def _evaluated(view: Any, key: str) -> tuple[str, str, float]:
    """Predictions, truth and IoU of an evaluation; of a predictions field as :func:`evaluate` would take it."""
    dataset = view._dataset
    if key in dataset.list_evaluations():
        config = dataset.get_evaluation_info(key).config
        return config.pred_field, config.gt_field, float(getattr(config, "iou", None) or 0.5)
    kind = getattr(getattr(view.get_field(key), "document_type", None), "__name__", "")
    if kind == "Detections":
        return key, "ground_truth", 0.5
    known = [*dataset.list_evaluations(), *view.get_field_schema(embedded_doc_type=_detections())]
    raise NotFoundError("no such evaluation or predictions field", repr(key), nearest(key, known))


def _detections() -> type:
    import fiftyone as fo

    found: type = fo.Detections
    return found


def _thresholds(
    predictions: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    names: Sequence[str],
    confidence: float | None,
    iou: float,
) -> np.ndarray:
    if confidence is not None:
        return np.full(len(names), float(confidence))
    zero = np.zeros(len(names))
    at = [operated(one, truth, zero, iou) for one, truth in zip(predictions, targets, strict=True)]
    point = best_operating_point(
        np.concatenate([one.confidence for one in predictions]),
        np.concatenate([one.class_id for one in predictions]),
        np.concatenate([one.right for one in at]),
        np.bincount(np.concatenate([one.class_id for one in targets]), minlength=len(names)),
    )
    return np.full(len(names), point.confidence)


def _slices(view: Any, wanted: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Splits where there are several, then what was asked for."""
    tags = [set(row or ()) for row in view.values("tags")]
    splits = {split: np.array([split in row for row in tags]) for split in SPLITS}
    splits = {split: mask for split, mask in splits.items() if mask.any()}
    found = {"split": splits} if len(splits) > 1 else {}
    for name in wanted:
        if name == "tags":
            every = sorted(set().union(*tags) - set(SPLITS))
            found["tag"] = {tag: np.array([tag in row for row in tags]) for tag in every}
            continue
        if not view.has_field(name):
            raise NotFoundError("no such field to slice by", repr(name), nearest(name, view.get_field_schema()))
        column = [getattr(value, "label", value) for value in view.values(name)]
        values = sorted({str(value) for value in column if value is not None})
        if len(values) > 50:
            raise UsageError(
                "too many slices of one field", f"'{name}' has {len(values)} values", "put them in groups first"
            )
        found[name] = {
            one: np.array([value is not None and str(value) == one for value in column]) for one in values
        }
    return found


def _cost(view: Any, models: tuple[str, str] | None, fields: tuple[str, str]) -> tuple[Cost | None, str]:
    """Time and size where both models' files can be had, else why not."""
    from osv_lab.core.errors import OsvError

    try:
        refs = models or (_made_by(view, fields[0]), _made_by(view, fields[1]))
        return measure(refs, view.limit(30).values("filepath")), ""
    except OsvError as error:
        if models is not None:
            raise
        return None, f"time and size were not compared: {error}"


def _made_by(view: Any, field: str) -> str:
    """The file that made a field's predictions, if it is the same file still."""
    from osv_lab.core.digests import file_digest
    from osv_lab.detect.reference import resolve_model

    made = (view._dataset.info.get("predictions") or {}).get(field) or {}
    if not made:
        raise NotFoundError("it is not known which model made a field", repr(field), "give models=(a, b)")
    about = list(made.values())[-1]["detector"]
    path = resolve_model(about.get("ref"))
    if about.get("digest") and file_digest(path) != about["digest"]:
        raise NotFoundError("the model that made a field is not there any more", str(path), "give models=(a, b)")
    return str(path)
