"""Whether two detectors answer alike: box by box, and in mean average precision where the truth is known.

Boxes are paired within each image and class, the reference's most confident first, each with the free box of the other
that overlaps it most, at an IoU of at least 0.5. A box of the reference with a confidence of at least ``confidence``
that finds no partner is *missing*; a box of the candidate is *extra* in the same way. So that a score that falls just
under the line on one side does not count, partners may be less confident than the line by the score tolerance.

Where too many boxes differ, the networks are compared before suppression (:mod:`osv_lab.detect.rawparity`):
if they say the same there, suppression chose between equals, as it does for models that are sure of nothing yet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.detect.detector import CONFIDENCE, IOU, Detector
from osv_lab.detect.metrics import average_precision
from osv_lab.detect.pairing import Tally, compare, rank_line
from osv_lab.detect.rawparity import RawDifference, raw_difference

if TYPE_CHECKING:
    import supervision as sv

_FLOOR = 0.001  # Mean average precision needs the unsure predictions too.


@dataclass(frozen=True)
class Tolerance:
    """How far a candidate may be from its reference.

    Attributes:
        matched: Least fraction of boxes, of both detectors together, that have a partner.
        mean_corner_px: Largest mean distance of paired boxes' coordinates, in image pixels.
        score: Largest mean difference of paired boxes' confidences.
        mean_mask_iou: Least mean IoU of paired boxes' masks, for segmentation.
        map50_95: Largest difference of mAP50-95, where the truth is known.
        lossy: The candidate is not meant to answer alike box by box (INT8): only a loss of mAP50-95 counts, and the
            truth must be known.
    """

    matched: float = 0.99
    mean_corner_px: float = 0.5
    score: float = 0.01
    mean_mask_iou: float = 0.95
    map50_95: float = 0.005
    lossy: bool = False


INT8 = Tolerance(map50_95=0.02, lossy=True)
"""What quantisation to 8 bits may cost: two points of mAP50-95."""


@dataclass(frozen=True)
class ParityReport(Report):
    """How alike two detectors answer. Numbers over paired boxes are NaN when there are no pairs.

    Attributes:
        reference: The original.
        candidate: What is to take its place.
        reference_digest: SHA-256 of the original's file, ``""`` where unknown.
        candidate_digest: SHA-256 of the other's file.
        images: How many images both saw.
        confidence: The line above which a box must have a partner; 0 when the reference found nothing above the one
            asked for, and each image's ten most confident boxes were compared instead.
        reference_boxes: Boxes of the reference above the line.
        candidate_boxes: Boxes of the candidate above the line.
        matched: Fraction of those of both that have a partner.
        missing: Boxes of the reference without one.
        extra: Boxes of the candidate without one.
        mean_corner_px: Mean distance of paired coordinates (corners, and keypoints of a pose model), in image pixels.
        max_corner_px: The largest.
        mean_score_difference: Mean difference of paired confidences.
        max_score_difference: The largest.
        mean_mask_iou: Mean IoU of paired masks; NaN without masks.
        reference_map50_95: The reference's mAP50-95; NaN without targets.
        candidate_map50_95: The candidate's.
        reference_map50: The reference's mAP50.
        candidate_map50: The candidate's.
        raw: How far apart the networks are before suppression, where differing boxes made it worth looking. Where they
            say the same, suppression has chosen between equals, and boxes that differ are no reason.
        tolerance: What was allowed.
        reasons: Why it did not pass, one clause each; empty when it passed.
    """

    reference: str
    candidate: str
    reference_digest: str
    candidate_digest: str
    images: int
    confidence: float
    reference_boxes: int
    candidate_boxes: int
    matched: float
    missing: int
    extra: int
    mean_corner_px: float
    max_corner_px: float
    mean_score_difference: float
    max_score_difference: float
    mean_mask_iou: float
    reference_map50_95: float
    candidate_map50_95: float
    reference_map50: float
    candidate_map50: float
    raw: RawDifference | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the candidate may take the reference's place."""
        return not self.reasons

    @property
    def map50_95_difference(self) -> float:
        """Candidate's mAP50-95 minus the reference's; NaN without targets."""
        return self.candidate_map50_95 - self.reference_map50_95

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per measure: what was found and what was allowed."""
        allowed = self.tolerance
        measures: list[tuple[str, Any, Any]] = [
            ("images", self.images, None),
            ("boxes of the reference", self.reference_boxes, None),
            ("boxes of the candidate", self.candidate_boxes, None),
            ("matched fraction", self.matched, allowed.matched),
            ("missing", self.missing, None),
            ("extra", self.extra, None),
            ("mean corner difference (px)", self.mean_corner_px, allowed.mean_corner_px),
            ("max corner difference (px)", self.max_corner_px, None),
            ("mean score difference", self.mean_score_difference, allowed.score),
            ("max score difference", self.max_score_difference, None),
        ]
        if not math.isnan(self.mean_mask_iou):
            measures.append(("mean mask IoU", self.mean_mask_iou, allowed.mean_mask_iou))
        if self.raw is not None:
            measures += [
                ("before suppression: coordinates (px)", self.raw.px, None),
                ("before suppression: logits of scores", self.raw.logit, None),
            ]
        if not math.isnan(self.reference_map50_95):
            measures += [
                ("mAP50-95 of the reference", self.reference_map50_95, None),
                ("mAP50-95 of the candidate", self.candidate_map50_95, None),
                ("mAP50-95 difference", self.map50_95_difference, allowed.map50_95),
            ]
        return [{"measure": name, "found": found, "allowed": limit} for name, found, limit in measures]

    def summary(self) -> str:
        """Passed or why not, and the numbers."""
        verdict = "parity passed" if self.passed else f"parity FAILED ({'; '.join(self.reasons)})"
        text = f"{verdict}: {self.matched:.2%} of boxes matched on {self.images} images"
        if not math.isnan(self.mean_corner_px):
            text += f", corners {self.mean_corner_px:.3g} px apart, scores {self.max_score_difference:.2g} at most"
        if self.raw is not None and self.raw.same:
            text += "; before suppression the networks say the same, and the others are ties"
        if not math.isnan(self.reference_map50_95):
            text += f", mAP50-95 {self.reference_map50_95:.4f} and {self.candidate_map50_95:.4f}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """The report's fields as plain values, and ``passed``."""
        return {**super().to_dict(), "passed": self.passed}


def compare_outputs(
    reference: Detector,
    candidate: Detector,
    images: Iterable[np.ndarray],
    targets: Iterable[sv.Detections] | None = None,
    *,
    tolerance: Tolerance | None = None,
    confidence: float = CONFIDENCE,
    iou: float = IOU,
    batch_size: int = 8,
    progress: Progress = silent,
) -> ParityReport:
    """Compare two detectors on images.

    For a fair comparison both must see inputs of one size: load the reference with
    ``load_detector(original, imgsz=candidate.input_size)``.

    Args:
        reference: The original.
        candidate: What is to take its place.
        images: BGR uint8 arrays; taken as they come, a batch at a time.
        targets: The truth for each image, with ids of the reference's classes; mAP is compared when given.
        tolerance: What is allowed; :class:`Tolerance`'s defaults when ``None``.
        confidence: The line above which a box must have a partner, 0 to 1.
        iou: Overlap of duplicates, for both detectors.
        batch_size: Images per run.
        progress: Told of every batch.

    Returns:
        The report. It fails when there was nothing to compare.

    Raises:
        UsageError: another number of targets than of images.

    Example:
        >>> from osv_lab.detect import load_detector
        >>> report = compare_outputs(load_detector("best.onnx"), load_detector("best.onnx", imgsz=64), images)
        >>> report.passed, report.matched
        (True, 1.0)
    """
    allowed = tolerance or Tolerance()
    floor = min(_FLOOR, confidence)
    total = len(images) if isinstance(images, Sequence) else None
    by_line, by_rank = Tally(), Tally()
    kept: tuple[list[sv.Detections], list[sv.Detections]] = ([], [])
    done = 0
    raw: RawDifference | None = None if allowed.lossy else RawDifference(0, 0, 0.0, 0.0, 0.0)
    for batch in _batches(images, batch_size):
        found = reference.predict(batch, confidence=floor, iou=iou)
        other = candidate.predict(batch, confidence=floor, iou=iou)
        for image, ours, theirs in zip(batch, found, other, strict=True):
            before = [one.doubts(allowed.mean_corner_px) for one in (by_line, by_rank)]
            compare(by_line, ours, theirs, confidence, confidence - allowed.score)
            compare(by_rank, ours, theirs, rank_line(ours), 0.0, rank_line(theirs))
            after = [one.doubts(allowed.mean_corner_px) for one in (by_line, by_rank)]
            counts = 0 if by_line.reference else 1  # the tally that will be judged, as far as is known
            # Once they are known to say something else, or cannot be compared, there is nothing more to look for.
            if after[counts] > before[counts] and raw is not None and (raw.same or not raw.images):
                seen = raw_difference(reference, candidate, [image])
                raw = None if seen is None else raw.joined(seen)
            if targets is not None:
                kept[0].append(_without_masks(ours))
                kept[1].append(_without_masks(theirs))
        done += len(batch)
        progress("compare", done, total)
    tally, line = (by_line, confidence) if by_line.reference else (by_rank, 0.0)

    nan = float("nan")
    precision = [(nan, nan), (nan, nan)]
    if targets is not None:
        truth = list(targets)
        if len(truth) != done:
            raise UsageError("images and targets differ in number", f"{done} images, {len(truth)} targets")
        reports = [average_precision(one, truth) for one in kept]
        precision = [(one.map50_95, one.map50) for one in reports]

    boxes = tally.reference + tally.candidate
    matched = 1 - tally.unpaired / boxes if boxes else nan
    corners, scores, masks = _joined(tally.corners), _joined(tally.scores), _joined(tally.mask_iou)
    apart = matched < allowed.matched or _mean(corners) > allowed.mean_corner_px
    if raw is not None and not (apart and raw.images):
        raw = None
    report = ParityReport(
        reference=reference.ref,
        candidate=candidate.ref,
        reference_digest=str(reference.describe().get("digest") or ""),
        candidate_digest=str(candidate.describe().get("digest") or ""),
        images=done,
        confidence=line,
        reference_boxes=tally.reference,
        candidate_boxes=tally.candidate,
        matched=matched,
        missing=tally.missing,
        extra=tally.extra,
        mean_corner_px=_mean(corners),
        max_corner_px=float(corners.max()) if len(corners) else nan,
        mean_score_difference=_mean(scores),
        max_score_difference=float(scores.max()) if len(scores) else nan,
        mean_mask_iou=_mean(masks),
        reference_map50_95=precision[0][0],
        candidate_map50_95=precision[1][0],
        reference_map50=precision[0][1],
        candidate_map50=precision[1][1],
        raw=raw,
        tolerance=allowed,
    )
    reasons = _reasons(report, reference, candidate)
    return ParityReport(
        **{name: getattr(report, name) for name in report.__dataclass_fields__} | {"reasons": reasons}
    )


def _reasons(report: ParityReport, reference: Detector, candidate: Detector) -> tuple[str, ...]:
    allowed, reasons = report.tolerance, []
    if reference.task != candidate.task:
        reasons.append(f"a {candidate.task} model in place of a {reference.task} model")
    if reference.class_names != candidate.class_names:
        reasons.append("the class names differ")
    if not report.reference_boxes and not report.candidate_boxes:
        reasons.append(f"nothing was found on {report.images} images, so nothing was compared")
    if allowed.lossy:
        if math.isnan(report.map50_95_difference):
            reasons.append("a lossy export is judged by its mAP, and there is no truth to measure it by")
        elif -report.map50_95_difference > allowed.map50_95:
            reasons.append(f"mAP50-95 fell by {-report.map50_95_difference:.4f}, {allowed.map50_95} allowed")
        return tuple(reasons)
    ties = report.raw is not None and report.raw.same
    if not ties:
        reasons += _box_reasons(report)
    if abs(report.map50_95_difference) > allowed.map50_95:
        reasons.append(f"mAP50-95 differs by {report.map50_95_difference:+.4f}, {allowed.map50_95} allowed")
    if reasons and reference.input_size != candidate.input_size:
        sizes = " and ".join("any size" if size is None else f"{size[0]}x{size[1]}" for size in
                             (reference.input_size, candidate.input_size))  # fmt: skip
        reasons.append(f"the inputs differ ({sizes}): load the reference with imgsz={candidate.input_size}")
    return tuple(reasons)


def _box_reasons(report: ParityReport) -> list[str]:
    """What boxes, scores and masks that are too far apart have to say."""
    allowed, reasons = report.tolerance, []
    if report.matched < allowed.matched:
        reasons.append(
            f"{report.matched:.2%} of boxes matched, {allowed.matched:.2%} needed: {report.missing} missing and "
            f"{report.extra} extra of {report.reference_boxes}"
        )
    if report.mean_corner_px > allowed.mean_corner_px:
        reasons.append(f"corners {report.mean_corner_px:.2f} px apart, {allowed.mean_corner_px} allowed")
    if report.mean_score_difference > allowed.score:
        reasons.append(f"scores {report.mean_score_difference:.3f} apart, {allowed.score} allowed")
    if report.mean_mask_iou < allowed.mean_mask_iou:
        reasons.append(f"masks' mean IoU {report.mean_mask_iou:.3f}, {allowed.mean_mask_iou} needed")
    return reasons


def _without_masks(detections: sv.Detections) -> sv.Detections:
    import supervision as sv

    return sv.Detections(detections.xyxy, confidence=detections.confidence, class_id=detections.class_id)


def _batches(images: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    if size < 1:
        raise UsageError("batch_size must be at least 1", size)
    iterator = iter(images)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
