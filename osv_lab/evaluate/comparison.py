"""Compare two evaluations: which objects one model finds and the other does not, and what of that is luck."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.settings import SEED
from osv_lab.detect.confidence import limit_of
from osv_lab.evaluate.arrays import boxes_of
from osv_lab.evaluate.comparison_report import ComparisonReport
from osv_lab.evaluate.comparison_slices import slices_of
from osv_lab.evaluate.confusion import best_operating_point
from osv_lab.evaluate.detection import classes_of, evaluable
from osv_lab.evaluate.differences import MIN_OBJECTS, differences
from osv_lab.evaluate.latency import Cost, measure
from osv_lab.evaluate.outcomes import FALSE_POSITIVES, count_by_class, operated, outcomes

if TYPE_CHECKING:
    import supervision as sv


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
        view: A ``fiftyone.Dataset`` or view of images. Samples of it that an evaluation did not look at are left aside:
            nothing was predicted there, so everything would count as missed.
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
        UsageError: the evaluations are of different truths, or looked at different samples.
        InvalidDataError: nothing is labelled or predicted.

    Example:
        >>> report = compare(dataset, "predictions", "candidate")
        >>> report.summary()
        'candidate against predictions on 20 samples of cells: mAP50-95 0.592 → 1.000 (+0.408, ...'
        >>> len(report.view("fixed"))
        7
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
    chosen, left = _looked_at(view, key_a, key_b)
    chosen, notes = evaluable(chosen, field_b, gt_field)
    notes = left + notes + [note for note in evaluable(chosen, field_a, gt_field)[1] if note not in notes]
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
        operated(predictions, targets, line, iou) for predictions, line in zip(found, thresholds, strict=True)
    )
    became = outcomes(found[0], found[1], targets, (at[0], at[1]), iou)
    progress("compare", 1, 4)
    judged = differences(
        found[0], found[1], targets, names, (at[0], at[1]), slices_of(chosen, slices),
        n_boot=n_boot, seed=seed, margin=margin, min_objects=min_objects,
    )  # fmt: skip
    progress("compare", 2, 4)
    from osv_lab.evaluate.comparison_fields import save_comparison

    save_comparison(chosen, name, (field_a, field_b), gt_field, found, targets, became)
    progress("compare", 3, 4)
    cost, why = _cost(chosen, models, (field_a, field_b))
    progress("compare", 4, 4)
    by_class = count_by_class(became, targets, names)
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
        false_positives={what: sum(one.count(what) for one in became) for what in FALSE_POSITIVES},
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


def _looked_at(view: Any, *keys: str) -> tuple[Any, list[str]]:
    """The samples that all of these evaluations looked at, and a note where there are others."""
    dataset = view._dataset
    runs = [key for key in keys if key in dataset.list_evaluations()]
    here = view.values("id")
    both = set(here).intersection(*(dataset.load_evaluation_view(key).values("id") for key in runs))
    if len(both) == len(here):
        return view, []
    if not both:
        raise UsageError(
            "the two evaluations did not look at the same samples",
            f"none of {len(here)} was looked at by {' and '.join(runs)}",
            "evaluate both on the same view",
        )
    note = f"{len(here) - len(both)} of {len(here)} samples were left aside: not looked at by {' and '.join(runs)}"
    return view.select([one for one in here if one in both], ordered=True), [note]


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
    at = operated(predictions, targets, zero, iou)
    point = best_operating_point(
        np.concatenate([one.confidence for one in predictions]),
        np.concatenate([one.class_id for one in predictions]),
        np.concatenate([one.right for one in at]),
        np.bincount(np.concatenate([one.class_id for one in targets]), minlength=len(names)),
    )
    return np.full(len(names), point.confidence)


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
    from osv_lab.core.modelfiles import model_digest
    from osv_lab.detect import load_detector
    from osv_lab.detect.reference import resolve_model

    made = (view._dataset.info.get("predictions") or {}).get(field) or {}
    if not made:
        raise NotFoundError("it is not known which model made a field", repr(field), "give models=(a, b)")
    about = list(made.values())[-1]["detector"]
    path = resolve_model(about.get("ref"))
    # An ensemble's file says which models it is made of; its digest is of these.
    ensemble = about.get("engine") == "ensemble"
    if about.get("digest") and about["digest"] != (
        load_detector(path).describe()["digest"] if ensemble else model_digest(path)
    ):
        raise NotFoundError("the model that made a field is not there any more", str(path), "give models=(a, b)")
    return str(path)
