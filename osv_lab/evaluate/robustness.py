"""How much worse a model gets as images get worse: mAP against the severity of blur, noise, light, JPEG and scale.

The mean over corruptions and severities is mPC, its ratio to the clean score rPC (Michaelis et al., "Benchmarking
Robustness in Object Detection", 2019, https://arxiv.org/abs/1907.07484).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED
from osv_lab.detect.metrics import PrecisionReport, average_precision
from osv_lab.evaluate.corruptions import CORRUPTIONS, check_corruption, corrupted
from osv_lab.evaluate.verify import images_and_truth, known_classes, readable

if TYPE_CHECKING:
    import supervision as sv

    from osv_lab.detect.detector import Detector


@dataclass(frozen=True)
class Step:
    """One corruption at one severity.

    Attributes:
        corruption: Its name; ``clean`` for the images as they are.
        severity: 1 to 5; 0 for the images as they are.
        map50_95: Mean average precision there.
        map50: Likewise at IoU 0.5.
        classes: mAP50-95 of each class.
    """

    corruption: str
    severity: int
    map50_95: float
    map50: float
    classes: Mapping[str, float]


@dataclass(frozen=True)
class RobustnessReport(Report):
    """What corruption costs.

    Attributes:
        detector: The model.
        dataset: The images' dataset.
        images: How many were looked at.
        clean: The score of the images as they are.
        steps: One entry per corruption and severity.
        seed: Of the noise.
        duration_s: Seconds spent.
    """

    detector: str
    dataset: str
    images: int
    clean: Step
    steps: tuple[Step, ...]
    seed: int
    duration_s: float = field(default=0.0, compare=False)

    @property
    def mean(self) -> float:
        """mPC: mAP50-95 averaged over corruptions and severities."""
        return float(np.mean([one.map50_95 for one in self.steps]))

    @property
    def relative(self) -> float:
        """rPC: :attr:`mean` over the clean score; NaN where that is 0."""
        return self.mean / self.clean.map50_95 if self.clean.map50_95 else float("nan")

    def of(self, corruption: str) -> tuple[Step, ...]:
        """One corruption's steps, the clean images first."""
        return (self.clean, *(one for one in self.steps if one.corruption == corruption))

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {
                "corruption": one.corruption,
                "severity": one.severity,
                "strength": CORRUPTIONS[one.corruption].strengths[one.severity - 1] if one.severity else None,
                "mAP50-95": one.map50_95,
                "mAP50": one.map50,
                "of clean": one.map50_95 / self.clean.map50_95 if self.clean.map50_95 else float("nan"),
                **{f"mAP50-95 {name}": value for name, value in one.classes.items()},
            }
            for one in (self.clean, *self.steps)
        ]

    def summary(self) -> str:
        worst = min(self.steps, key=lambda one: one.map50_95)
        return (
            f"{self.detector}: mAP50-95 {self.clean.map50_95:.3f} on {self.images} clean images, {self.mean:.3f} under "
            f"corruption ({self.relative:.0%}); worst is {worst.corruption} {worst.severity} with {worst.map50_95:.3f}"
        )

    def plot(self) -> Any:
        """mAP50-95 against severity, a line per corruption; a plotly figure."""
        from osv_lab.evaluate.curve_plots import robustness_figure

        return robustness_figure(self)


def robustness(
    view: Any,
    detector: Detector,
    gt_field: str = "ground_truth",
    *,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = (1, 3, 5),
    max_images: int | None = 200,
    seed: int = SEED,
    progress: Progress = silent,
) -> RobustnessReport:
    """Score a detector on images made worse step by step. Nothing is written.

    Args:
        view: Labelled images.
        detector: A detector of boxes (masks are left out).
        gt_field: The truth.
        corruptions: Names of :data:`osv_lab.evaluate.corruptions.CORRUPTIONS`.
        severities: 1 to 5.
        max_images: At most so many images, drawn with the lab's seed; ``None`` takes all.
        seed: Of the noise.
        progress: Told of images.

    Raises:
        UsageError: no such corruption or severity, or a model that finds no boxes.
        InvalidDataError: no sample is labelled, or none can be read.

    Example:
        >>> report = robustness(dataset, detector, corruptions=["noise", "darkness"], severities=[5])
        >>> print(report.summary())
        /...best.onnx: mAP50-95 0.750 on 20 clean images, 0.750 under corruption (100%); ...
    """
    import time

    started = time.monotonic()
    if not corruptions or not severities:
        raise UsageError("there is nothing to try", "no corruption or no severity")
    tried = [(kind, severity) for kind in dict.fromkeys(corruptions) for severity in sorted(set(severities))]
    for kind, severity in tried:
        check_corruption(kind, severity)
        if severity == 0:
            raise UsageError("severity must be 1 to 5", severity, "the clean images are always scored")
    if detector.task not in ("detect", "segment"):
        raise UsageError("robustness is measured by boxes", f"{detector.ref} is for {detector.task}")
    names = known_classes(view, gt_field, detector.class_names)
    chosen, files, targets = images_and_truth(view, gt_field, names, max_images)
    if targets is None:
        raise InvalidDataError("there is no ground truth to score against", f"nothing is labelled in '{gt_field}'")
    seen: list[int] = []
    cells: list[tuple[str, int]] = [("clean", 0), *tried]
    found: dict[tuple[str, int], list[sv.Detections]] = {cell: [] for cell in cells}
    for image in readable(files, seen):
        versions = [image, *(corrupted(image, *cell, number=seen[-1], seed=seed) for cell in tried)]
        for cell, one in zip(cells, detector.predict(versions, confidence=0.001), strict=True):
            one.mask = None
            found[cell].append(one)
        progress("robustness", len(seen), len(files))
    truth = [targets[row] for row in seen]
    clean, *steps = (
        _step(cell, average_precision(some, truth, class_names=names)) for cell, some in found.items()
    )
    return RobustnessReport(
        detector=detector.ref,
        dataset=str(chosen._dataset.name),
        images=len(seen),
        clean=clean,
        steps=tuple(steps),
        seed=seed,
        duration_s=time.monotonic() - started,
    )


def _step(cell: tuple[str, int], report: PrecisionReport) -> Step:
    classes = {one.name: one.ap50_95 for one in report.classes if one.targets}
    return Step(*cell, report.map50_95, report.map50, classes)
