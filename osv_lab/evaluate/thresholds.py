"""The confidence thresholds to run a model at: chosen by class on an evaluation, kept with the model, used everywhere.

thresholds = choose_thresholds(report)                  # F1, by class
thresholds.plot()
thresholds.curve("RBC").at(0.4)                         # what another threshold would give
thresholds.save("models:/cells@champion")               # notebook, App, tracker and server use them from now on
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED
from osv_lab.detect.confidence import OTHERS, limit_of
from osv_lab.evaluate.bootstrap import resample_weights
from osv_lab.evaluate.curve import ClassCurve, curve_of
from osv_lab.evaluate.objective import Cutter, Objective, best_cuts, resampled_cuts
from osv_lab.evaluate.scores import Scores, read_scores

if TYPE_CHECKING:
    import pandas as pd

    from osv_lab.evaluate.detection import EvaluationReport

MOST_CUTS = 1000
"""Thresholds that are tried where one is to serve all classes."""

_NAN = (float("nan"), float("nan"))


@dataclass(frozen=True)
class ClassThreshold:
    """One class at its threshold. Numbers are 0 to 1, intervals 95 % over resampled images.

    Attributes:
        name: The class.
        confidence: Detections that score above it pass.
        precision: NaN where nothing passes.
        recall: NaN where there are no objects.
        f1: Likewise.
        objects: How many there are.
        true: Detections that pass and took an object.
        false: Detections that pass and took none.
        missed: Objects that nothing takes.
        met: Whether the precision that was asked for is reached, on these images.
        confidence_interval: Where other images of the same kind would have put the threshold.
        precision_interval: At this threshold.
        recall_interval: Likewise.
        f1_interval: Likewise.
    """

    name: str
    confidence: float
    precision: float
    recall: float
    f1: float
    objects: int
    true: int
    false: int
    missed: int
    met: bool = True
    confidence_interval: tuple[float, float] = _NAN
    precision_interval: tuple[float, float] = _NAN
    recall_interval: tuple[float, float] = _NAN
    f1_interval: tuple[float, float] = _NAN


@dataclass(frozen=True)
class Thresholds(Report):
    """Confidence thresholds of a model, and what they give.

    Attributes:
        key: The evaluation that they were measured on.
        dataset: Its dataset.
        pred_field: The predictions.
        gt_field: The ground truth.
        objective: What they were chosen for, in words.
        per_class: Whether each class has its own.
        classes: One entry per class.
        others: The threshold of classes that were not seen: the best one for all.
        images: How many images were looked at.
        notes: What else the user should know.
        min_precision: The least precision that was asked for.
        curves: What every threshold gives, one per class: all that a slider needs.
    """

    key: str
    dataset: str
    pred_field: str
    gt_field: str
    objective: str
    per_class: bool
    classes: tuple[ClassThreshold, ...]
    others: float
    images: int
    notes: tuple[str, ...] = ()
    min_precision: float | None = None
    curves: tuple[ClassCurve, ...] = field(default=(), repr=False, compare=False)

    @property
    def confidences(self) -> dict[str, float]:
        """The thresholds by class name, as every ``predict(confidence=...)`` takes them; ``"*"`` is :attr:`others`."""
        return {**{one.name: one.confidence for one in self.classes}, OTHERS: self.others}

    @property
    def mean_f1(self) -> float:
        """F1, averaged over the classes that have objects."""
        known = [one.f1 for one in self.classes if one.objects]
        return float(np.mean(known)) if known else float("nan")

    def curve(self, name: str) -> ClassCurve:
        """A class's curve.

        Raises:
            UsageError: no such class.
        """
        found = {one.name: one for one in self.curves}
        if name not in found:
            raise UsageError("no such class", repr(name), nearest(name, found))
        return found[name]

    def rows(self) -> list[Mapping[str, Any]]:
        def ends(interval: tuple[float, float]) -> str | None:
            return f"{interval[0]:.2f} to {interval[1]:.2f}" if interval[0] == interval[0] else None

        return [
            {
                "class": one.name,
                "confidence": one.confidence,
                "95 %": ends(one.confidence_interval),
                "precision": one.precision,
                "recall": one.recall,
                "F1": one.f1,
                "F1 95 %": ends(one.f1_interval),
                "true": one.true,
                "false": one.false,
                "missed": one.missed,
            }
            for one in self.classes
        ]

    def summary(self) -> str:
        each = ", ".join(f"{one.name} {one.confidence:g}" for one in self.classes[:6])
        more = f" and {len(self.classes) - 6} more" if len(self.classes) > 6 else ""
        what = f"{each}{more}" if self.per_class else f"{self.others:g} for all classes"
        return f"{self.key}: confidence {what}, for {self.objective}; mean F1 {self.mean_f1:.3f}"

    def curves_frame(self) -> pd.DataFrame:
        """All curves as one table: class, confidence, precision, recall, F1, true, false, missed."""
        import pandas as pd

        return pd.DataFrame([row for one in self.curves for row in one.rows()])

    def view(self) -> Any:
        """The evaluated samples in FiftyOne with only the predictions that pass."""
        from osv_lab.store.catalogue import open_dataset

        evaluated = open_dataset(self.dataset).load_evaluation_view(self.key)
        return passing(evaluated, self.pred_field, self.confidences)

    def plot(self) -> Any:
        """Precision, recall and F1 of each class against the threshold, with the chosen one; a plotly figure."""
        from osv_lab.evaluate.plots import thresholds_figure

        return thresholds_figure(self)

    def measured_on(self, report: EvaluationReport | Any, key: str | None = None, n_boot: int = 500) -> Thresholds:
        """What the same thresholds give on another evaluation.

        Thresholds look better on the images that they were chosen on than on others: choose on the validation split,
        measure on the test split.
        """
        scores = read_scores(report, key)
        curves = _curves(scores)
        weights = _weights(scores, n_boot)
        classes = tuple(
            _judged(scores, number, curve, limit_of(self.confidences, curve.name), weights)
            for number, curve in enumerate(curves)
        )
        of = (scores.key, scores.dataset, scores.pred_field, scores.gt_field)
        notes: tuple[str, ...] = (f"chosen on {self.key} of {self.dataset}, measured here",)
        if self.min_precision is not None:
            classes = tuple(_met(classes, self.min_precision, self.per_class))
            if short := _short(classes):
                notes += (f"a precision of {self.min_precision:g} is not reached here: {short}",)
        return replace(
            self, key=of[0], dataset=of[1], pred_field=of[2], gt_field=of[3], classes=classes,
            images=scores.images, notes=notes, curves=tuple(curves),
        )  # fmt: skip

    def save(self, model: str) -> Any:
        """Keep them with a model: a file (in its sidecar), or ``models:/name@alias`` (in the registry).

        Whatever loads the model from there uses them where it is told nothing else: ``Lab.predict_batch``,
        ``osv predict`` of files, the server. ``predict`` into a dataset and trackers do where asked for them by
        ``confidence="model"``, since evaluating and tracking want the weak detections too.

        Raises:
            UsageError: the model lacks a class that was predicted here.
        """
        from osv_lab.train.thresholds import save_thresholds

        return save_thresholds(
            model,
            self.confidences,
            {"objective": self.objective, "chosen_on": f"{self.dataset}/{self.key}", "images": self.images},
            [one.name for one in self.curves if len(one.score)],
        )


def choose_thresholds(
    report: EvaluationReport | Any,
    objective: str = "f1",
    min_precision: float | None = None,
    per_class: bool = True,
    *,
    key: str | None = None,
    cost_false: float = 1.0,
    cost_missed: float = 1.0,
    n_boot: int = 500,
    seed: int = SEED,
) -> Thresholds:
    """Choose the confidence thresholds to run a model at.

    An evaluation's matching goes by confidence, so that weaker predictions never change what stronger ones took: one
    matching serves all thresholds, and every threshold that makes a difference is tried.

    Args:
        report: An evaluation's report, or a dataset or view together with ``key``. Its predictions should reach down
            to low scores (``predict``'s default of 0.05 does).
        objective: ``"f1"``; ``"f2"``, ``"f0.5"``, ... (recall counts twice, half as much); ``"recall"``, which needs
            ``min_precision``; or ``"cost"``, which is least.
        min_precision: Only thresholds with at least this precision, 0 to 1. Where a class has none, its most precise
            threshold is taken, and ``met`` and a note say so.
        per_class: A threshold for each class; otherwise one for all, where F and recall are averaged over classes, and
            precision and cost are of all predictions together.
        key: The evaluation, of a dataset or view.
        cost_false: What a false prediction costs.
        cost_missed: What a missed object costs.
        n_boot: Resamples of the images for the intervals (at least 100); 0 for none.
        seed: Of the resamples.

    Returns:
        The thresholds, with every class's curve.

    Raises:
        NotFoundError: no such evaluation.
        UsageError: an objective or number that cannot be used, or not an evaluation of detections.
        InvalidDataError: the predictions were replaced since they were evaluated.

    Example:
        >>> from osv_lab.evaluate.detection import evaluate
        >>> chosen = choose_thresholds(evaluate(dataset, "predictions"), min_precision=0.9)
        >>> chosen.confidences                               # for predict, a server, ...; "*" is any other class
        {'RBC': 0.61, 'WBC': 0.48, '*': 0.61}
    """
    aim = Objective(objective.lower(), min_precision, cost_false, cost_missed)
    scores = read_scores(report, key)
    curves = _curves(scores)
    weights = _weights(scores, n_boot, seed)
    ones = np.ones((1, scores.images), int)

    shared = curve_of("", scores.confidence, scores.right, 0).cuts
    shared = shared[np.unique(np.linspace(0, len(shared) - 1, MOST_CUTS).round().astype(int))]
    everyone = [Cutter(scores, number, shared) for number in range(len(curves))]
    [place], met_by_all = best_cuts(aim, everyone, ones)
    others = float(shared[place])

    classes = []
    drawn = _NAN
    if not per_class and len(weights) > 1:
        width = len(scores.confidence) + len(shared) * len(curves)
        drawn = _interval(shared[resampled_cuts(aim, everyone, weights[1:], width)])
    for number, curve in enumerate(curves):
        if not per_class or not curve.objects:
            met, own, confidence = met_by_all, drawn, others
        else:
            cutters = [Cutter(scores, number, curve.cuts)]
            [place], met = best_cuts(aim, cutters, ones)
            confidence, own = float(curve.cuts[place]), _NAN
            if len(weights) > 1:
                own = _interval(curve.cuts[resampled_cuts(aim, cutters, weights[1:], 3 * len(curve.score) + 1)])
        one = _judged(scores, number, curve, confidence, weights)
        classes.append(replace(one, met=met, confidence_interval=own))
    return Thresholds(
        key=scores.key,
        dataset=scores.dataset,
        pred_field=scores.pred_field,
        gt_field=scores.gt_field,
        objective=str(aim),
        per_class=per_class,
        classes=tuple(classes),
        others=others,
        images=scores.images,
        notes=tuple(_notes(aim, classes, curves, others, per_class)),
        min_precision=min_precision,
        curves=tuple(curves),
    )


def passing(view: Any, field: str, confidence: float | Mapping[str, float]) -> Any:
    """The view with only those labels of a field that score above their class's threshold; no sample is left out."""
    from fiftyone import ViewField
    from fiftyone.core.expressions import ViewExpression

    kind = view.get_field(field).document_type.__name__
    score = ViewField("confidence")
    if kind == "Keypoints":
        from osv_lab.store.documents import DETECTION_CONFIDENCE

        score = ViewField(DETECTION_CONFIDENCE).if_else(ViewField(DETECTION_CONFIDENCE), score.mean())
    named = {OTHERS: confidence} if not isinstance(confidence, Mapping) else confidence
    rest = ~ViewField("label").is_in([name for name in named if name != OTHERS])
    wanted = [rest & (score > limit_of(named, OTHERS))]
    wanted += [(ViewField("label") == name) & (score > limit) for name, limit in named.items() if name != OTHERS]
    return view.filter_labels(field, ViewExpression.any(wanted), only_matches=False)


def _curves(scores: Scores) -> list[ClassCurve]:
    found = []
    for number, name in enumerate(scores.class_names):
        own = scores.class_id == number
        objects = int((scores.object_class == number).sum())
        found.append(curve_of(name, scores.confidence[own], scores.right[own], objects))
    return found


def _weights(scores: Scores, n_boot: int, seed: int = SEED) -> np.ndarray:
    """The images as they are, then as they are drawn."""
    return resample_weights(scores.images, n_boot, seed) if n_boot else np.ones((1, scores.images), np.int32)


def _judged(
    scores: Scores, number: int, curve: ClassCurve, confidence: float, weights: np.ndarray
) -> ClassThreshold:
    """One class at a threshold, with intervals."""
    point = curve.at(confidence)
    found = ClassThreshold(
        name=curve.name,
        confidence=point.confidence,
        precision=point.precision,
        recall=point.recall,
        f1=point.f1 if curve.objects else float("nan"),
        objects=curve.objects,
        true=point.true,
        false=point.false,
        missed=point.missed,
    )
    if len(weights) == 1 or not curve.objects:
        return found
    true, false, objects = (
        one[:, 0] for one in Cutter(scores, number, np.array([confidence])).counts(weights[1:])
    )
    with np.errstate(invalid="ignore"):
        return replace(
            found,
            precision_interval=_interval(true / (true + false)),
            recall_interval=_interval(true / objects),
            f1_interval=_interval(2 * true / (true + false + objects)),
        )


def _interval(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return _NAN
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _met(classes: Sequence[ClassThreshold], least: float, per_class: bool) -> Iterator[ClassThreshold]:
    """The classes, with whether they have the least precision: each its own, or all together."""

    def reached(some: Sequence[ClassThreshold]) -> bool:
        true, found = sum(one.true for one in some), sum(one.true + one.false for one in some)
        return found > 0 and true >= least * found - 1e-9

    for one in classes:
        yield replace(one, met=reached([one] if per_class and one.objects else classes))


def _short(classes: Sequence[ClassThreshold]) -> str:
    """The classes that have not the precision that was asked for, with the one they have."""
    return ", ".join(f"{one.name} ({one.precision:.3f})" for one in classes if one.objects and not one.met)


def _notes(
    aim: Objective, classes: Sequence[ClassThreshold], curves: Sequence[ClassCurve], others: float, per_class: bool
) -> list[str]:
    notes = []
    known = [one for one in classes if one.objects]
    if short := _short(classes):
        notes.append(f"a precision of {aim.min_precision:g} is never reached, the most precise taken: {short}")
    if unseen := [one.name for one in classes if not one.objects]:
        notes.append(f"no objects to choose by, so the threshold for all is taken: {', '.join(unseen)}")
    at_floor = [
        one.name
        for one, curve in zip(classes, curves, strict=True)
        if one.objects and len(curve.score) and one.confidence < curve.score[0]
    ]
    if at_floor:
        notes.append(
            f"everything that was predicted passes, so that a lower threshold may be better still: "
            f"{', '.join(at_floor)}; predict with a lower confidence to see"
        )
    if per_class and known:
        single = float(np.mean([curve.at(others).f1 for curve in curves if curve.objects]))
        own = float(np.mean([one.f1 for one in known]))
        notes.append(f"mean F1 {own:.3f}, with one threshold of {others:g} for all {single:.3f}")
    notes.append("measured on the images that they were chosen on; measured_on() says what they give on others")
    return notes
