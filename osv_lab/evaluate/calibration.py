"""Whether a score means what it says: of detections scored 0.8, are 80 % right?

The detection expected calibration error (Küppers, Kronenberger, Shantia and Haselhoff, "Multivariate Confidence
Calibration for Object Detection", CVPR Workshops 2020, https://arxiv.org/abs/2004.13546) in its form by confidence
alone: detections are sorted into bins of equal width by their score, and the distance between mean score and precision
of each bin is averaged, every bin weighing as many detections as it has. Recall plays no part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED
from osv_lab.evaluate.bootstrap import resample_weights
from osv_lab.evaluate.scores import Scores, read_scores

if TYPE_CHECKING:
    from osv_lab.evaluate.detection import EvaluationReport

ALL = "(all)"


@dataclass(frozen=True)
class Bin:
    """Detections whose score lies above ``low`` and at most at ``high``; means are NaN where there are none.

    Attributes:
        low: Lower end of the bin.
        high: Upper end.
        count: How many detections.
        confidence: Their mean score.
        precision: Which share of them took an object.
    """

    low: float
    high: float
    count: int
    confidence: float
    precision: float


@dataclass(frozen=True)
class ClassCalibration:
    """How far scores of a class are from their precision.

    Attributes:
        name: The class, or ``(all)``.
        detections: How many were looked at.
        ece: Expected calibration error, 0 to 1; NaN without detections.
        interval: 95 % over resampled images.
        confidence: Mean score.
        precision: Share that took an object; scores are overconfident where it is lower than the mean score.
        bins: The reliability curve.
    """

    name: str
    detections: int
    ece: float
    interval: tuple[float, float]
    confidence: float
    precision: float
    bins: tuple[Bin, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class CalibrationReport(Report):
    """Whether scores mean what they say.

    Attributes:
        key: The evaluation.
        dataset: Its dataset.
        pred_field: The predictions.
        iou: Least overlap of a match, which says what is right.
        confidence: Detections at or below it are not looked at.
        images: How many images.
        classes: All detections together first, then each class.
        rule: What is measured, in words.
    """

    key: str
    dataset: str
    pred_field: str
    iou: float
    confidence: float
    images: int
    classes: tuple[ClassCalibration, ...]
    rule: str

    @property
    def ece(self) -> float:
        """Of all detections together."""
        return self.classes[0].ece

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {
                "class": one.name,
                "detections": one.detections,
                "calibration error": one.ece,
                "95 %": f"{one.interval[0]:.3f} to {one.interval[1]:.3f}" if one.detections else None,
                "mean score": one.confidence,
                "precision": one.precision,
                "scores are": _tendency(one),
            }
            for one in self.classes
        ]

    def summary(self) -> str:
        whole = self.classes[0]
        return (
            f"{self.key}: detection expected calibration error {self.ece:.3f} over {whole.detections:,} detections; "
            f"mean score {whole.confidence:.3f}, precision {whole.precision:.3f}: {_tendency(whole)}"
        )

    def plot(self) -> Any:
        """Reliability curves: precision against score, a panel per class; a plotly figure."""
        from osv_lab.evaluate.curve_plots import calibration_figure

        return calibration_figure(self)


def calibration(
    report: EvaluationReport | Any,
    *,
    key: str | None = None,
    confidence: float = 0.0,
    bins: int = 10,
    n_boot: int = 500,
    seed: int = SEED,
) -> CalibrationReport:
    """How far scores are from the precision that they claim.

    Args:
        report: An evaluation's report, or a dataset or view together with ``key``.
        key: The evaluation, of a dataset or view.
        confidence: Look only at detections above it, 0 to 1: the many unsure ones that nobody will see may otherwise
            outweigh the rest.
        bins: How many bins of equal width from 0 to 1.
        n_boot: Resamples of the images for the intervals (at least 100).
        seed: Of the resamples.

    Raises:
        NotFoundError: no such evaluation.
        UsageError: a number that cannot be used.
        InvalidDataError: no detections above ``confidence``, or they were replaced since they were evaluated.

    Example:
        >>> from osv_lab.evaluate.detection import evaluate
        >>> print(calibration(evaluate(dataset, "predictions")).summary())
        eval: detection expected calibration error 0.220 over 30 detections; ...: underconfident
    """
    if not 0 <= confidence < 1:
        raise UsageError("confidence must lie between 0 and 1", confidence)
    if not 2 <= bins <= 1000:
        raise UsageError("bins must be 2 to 1000", bins)
    scores = read_scores(report, key)
    kept = scores.confidence > confidence
    if not kept.any():
        raise InvalidDataError("there are no detections to look at", f"none scores above {confidence:g}")
    weights = resample_weights(scores.images, n_boot, seed)
    own = [(ALL, kept)]
    own += [(name, kept & (scores.class_id == number)) for number, name in enumerate(scores.class_names)]
    return CalibrationReport(
        key=scores.key,
        dataset=scores.dataset,
        pred_field=scores.pred_field,
        iou=scores.iou,
        confidence=confidence,
        images=scores.images,
        classes=tuple(_of(name, scores, rows, bins, weights) for name, rows in own),
        rule=f"detection expected calibration error (Küppers et al. 2020), {bins} bins of equal width by confidence, "
        f"detections above {confidence:g}, right where they took an object by IoU {scores.iou:g}",
    )


def _of(name: str, scores: Scores, rows: np.ndarray, bins: int, weights: np.ndarray) -> ClassCalibration:
    image, confidence, right = scores.image[rows], scores.confidence[rows], scores.right[rows].astype(float)
    if not len(image):
        return ClassCalibration(name, 0, float("nan"), (float("nan"),) * 2, float("nan"), float("nan"))
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    cells = place * scores.images + image

    def table(values: np.ndarray) -> np.ndarray:
        return np.bincount(cells, values, minlength=bins * scores.images).reshape(bins, scores.images)

    # Of each bin under each weighing: how many, the sum of their scores, and how many are right.
    count, claimed, true = (weights @ table(one).T for one in (np.ones(len(image)), confidence, right))
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.abs(claimed - true).sum(axis=1) / count.sum(axis=1)
        means, shares = claimed[0] / count[0], true[0] / count[0]
    low, high = np.nanquantile(errors[1:], [0.025, 0.975])
    return ClassCalibration(
        name=name,
        detections=len(image),
        ece=float(errors[0]),
        interval=(float(low), float(high)),
        confidence=float(confidence.mean()),
        precision=float(right.mean()),
        bins=tuple(
            Bin(
                number / bins,
                (number + 1) / bins,
                int(count[0, number]),
                float(means[number]),
                float(shares[number]),
            )
            for number in range(bins)
        ),
    )


def _tendency(one: ClassCalibration) -> str:
    if not one.detections:
        return "–"
    if abs(one.confidence - one.precision) < 0.02:
        return "about right on average"
    return "overconfident" if one.confidence > one.precision else "underconfident"
