"""Boxes of two detectors paired, image by image, and what the pairs differ in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import supervision as sv

_PAIR_IOU = 0.5
_TOP = 10


@dataclass(slots=True)
class Tally:
    """What pairing the boxes of several images came to: counts, and one number per pair."""

    reference: int = 0
    candidate: int = 0
    missing: int = 0
    extra: int = 0
    corners: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    mask_iou: list[np.ndarray] = field(default_factory=list)

    @property
    def unpaired(self) -> int:
        """Boxes of either detector without a partner."""
        return self.missing + self.extra

    def doubts(self, corner_px: float) -> int:
        """Boxes without a partner, and images with one that is further away than ``corner_px``."""
        return self.unpaired + sum(float(one.max(initial=0)) > corner_px for one in self.corners)


def compare(
    tally: Tally,
    reference: sv.Detections,
    candidate: sv.Detections,
    line: float,
    slack_line: float,
    candidate_line: float | None = None,
) -> None:
    """Pair one image's boxes and count those above the line that have no partner above the slack line."""
    wanted = _scores(reference) >= line
    offered = _scores(candidate) >= (line if candidate_line is None else candidate_line)
    pairs = _pairs(reference, candidate, slack_line)
    ours, theirs = pairs[:, 0], pairs[:, 1]
    tally.reference += int(wanted.sum())
    tally.candidate += int(offered.sum())
    tally.missing += int(wanted.sum() - wanted[ours].sum())
    tally.extra += int(offered.sum() - offered[theirs].sum())
    # What is measured is pairs of which one must have a partner.
    measured = wanted[ours] | offered[theirs]
    ours, theirs = ours[measured], theirs[measured]
    if not len(ours):
        return
    tally.corners.append(np.abs(_points(reference)[ours] - _points(candidate)[theirs]).mean(axis=1))
    tally.scores.append(np.abs(_scores(reference)[ours] - _scores(candidate)[theirs]))
    if reference.mask is not None and candidate.mask is not None:
        first, second = np.asarray(reference.mask[ours]), np.asarray(candidate.mask[theirs])
        union = (first | second).reshape(len(first), -1).sum(axis=1)
        both = (first & second).reshape(len(first), -1).sum(axis=1)
        tally.mask_iou.append(np.where(union > 0, both / np.maximum(union, 1), 1.0))


def _pairs(reference: sv.Detections, candidate: sv.Detections, line: float) -> np.ndarray:
    """Indices ``(n, 2)`` of paired boxes with a confidence of at least ``line``, greedily by the reference's."""
    ours = np.flatnonzero(_scores(reference) >= line)
    theirs = np.flatnonzero(_scores(candidate) >= line)
    if not len(ours) or not len(theirs):
        return np.zeros((0, 2), int)
    overlap = _iou(reference.xyxy[ours], candidate.xyxy[theirs])
    overlap[reference.class_id[ours][:, None] != candidate.class_id[theirs][None]] = 0
    pairs = []
    for row in np.argsort(-_scores(reference)[ours], kind="stable"):
        column = int(overlap[row].argmax())
        if overlap[row, column] >= _PAIR_IOU:
            pairs.append((ours[row], theirs[column]))
            overlap[:, column] = 0
    return np.array(pairs, dtype=int).reshape(-1, 2)


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=union > 0))


def _points(detections: sv.Detections) -> np.ndarray:
    """All coordinates of each detection, ``(n, k)``: corners of the (oriented) box, and keypoints."""
    corners = detections.data.get("xyxyxyxy")
    columns = [detections.xyxy if corners is None else np.asarray(corners).reshape(len(detections), -1)]
    if "keypoints" in detections.data:
        columns.append(np.asarray(detections.data["keypoints"])[..., :2].reshape(len(detections), -1))
    return np.concatenate(columns, axis=1)


def _scores(detections: sv.Detections) -> np.ndarray:
    return np.asarray(detections.confidence)


def rank_line(detections: sv.Detections) -> float:
    """The score of the tenth most confident box, or of the last."""
    scores = np.sort(_scores(detections))[::-1]
    return float(scores[:_TOP][-1]) if len(scores) else 0.0
