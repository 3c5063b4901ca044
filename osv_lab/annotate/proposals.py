"""Which detections are worth proposing as labels, and which of those a person should look at. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.track.boxes import iou_matrix

Levels: TypeAlias = float | Mapping[str, float]
"""One confidence for all labels, or one for each by name; 0 to 1."""

THRESHOLD = 0.25
"""Detections below it are not proposed."""
TRUST = 0.6
"""Proposals below it go to a person."""
NEAR = 0.1
"""A proposal that is less than this above its threshold might as well have fallen under it."""
RIVAL = 0.5
"""A detection of another class on the same object counts if its confidence is at least this share of the proposal's."""
SAME_OBJECT = 0.5
"""IoU from which two boxes are taken for one object."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The detections of one image, sorted out.

    Attributes:
        proposed: Places of the detections to propose.
        why: For each of those why a person should look at it; ``""`` where it can be trusted.
        agreed: Places of detections that say what a label says already.
        disagree: Places of detections that see another class where there is a label, and the place of that label.
    """

    proposed: np.ndarray
    why: tuple[str, ...]
    agreed: np.ndarray
    disagree: tuple[tuple[int, int], ...]


def level(levels: Levels, label: str, default: float) -> float:
    """The confidence for a label; ``default`` where nothing is said of it."""
    return levels.get(label, default) if isinstance(levels, Mapping) else float(levels)


def check_levels(name: str, levels: Levels) -> None:
    """Refuse a confidence outside 0 to 1.

    Raises:
        UsageError: naming the argument and the value.
    """
    for value in levels.values() if isinstance(levels, Mapping) else (levels,):
        if not 0 <= value <= 1:
            raise UsageError(f"{name} must lie between 0 and 1", repr(value))


def judge(
    boxes: np.ndarray,
    names: Sequence[str],
    confidence: np.ndarray,
    labelled: np.ndarray,
    labels: Sequence[str],
    *,
    thresholds: Levels = THRESHOLD,
    trust: Levels = TRUST,
    iou: float = 0.7,
    looked_at: bool = False,
) -> Judged:
    """Sort out the detections of one image.

    A proposal goes to a person who should look at it where its confidence is low (under ``trust``) or near its
    threshold, where another class was seen on the same object with half its confidence or more, or where people have
    labelled the image and not this object.

    Args:
        boxes: Detections, ``(n, 4)`` ``x1, y1, x2, y2`` pixels; also those below the thresholds, which may be rivals.
        names: Their labels.
        confidence: ``(n,)``, 0 to 1.
        labelled: Boxes of the labels that are there and stay, ``(m, 4)``.
        labels: Their names.
        thresholds: Detections below are not proposed.
        trust: Proposals below are for people.
        iou: Of two detections of one label that overlap by more, the less confident is dropped.
        looked_at: Whether people have labelled the image.

    Example:
        >>> boxes = np.array([[0., 0, 9, 9], [0, 0, 9, 8], [30, 30, 40, 40], [60, 60, 70, 70]])
        >>> found = judge(boxes, ("cat", "dog", "cat", "cat"), np.array([.9, .5, .8, .3]), np.zeros((0, 4)), ())
        >>> found.proposed.tolist(), found.why
        ([0, 1, 2, 3], ('could be dog', 'low confidence, could be cat', '', 'low confidence, near the threshold'))
    """
    order = np.argsort(-confidence, kind="stable")
    overlap = iou_matrix(boxes, boxes)
    name = np.asarray(names, dtype=object)
    alive: list[int] = []
    for i in order.tolist():
        if not any(name[i] == name[j] and overlap[i, j] > iou for j in alive):
            alive.append(i)
    least = np.array([level(thresholds, str(one), THRESHOLD) for one in name])
    sure = np.array([level(trust, str(one), TRUST) for one in name])
    with_labels = iou_matrix(boxes, labelled.reshape(-1, 4))
    proposed, why, agreed, disagree = [], [], [], []
    for i in sorted(alive):
        if confidence[i] < least[i]:
            continue
        best = int(with_labels[i].argmax()) if len(labels) else -1
        if best >= 0 and with_labels[i, best] >= SAME_OBJECT:
            same = [k for k in range(len(labels)) if with_labels[i, k] >= SAME_OBJECT and labels[k] == name[i]]
            if same:
                agreed.append(i)
            else:
                disagree.append((i, best))
            continue
        reasons = []
        if confidence[i] < sure[i]:
            reasons.append("low confidence")
        if confidence[i] < least[i] + NEAR:
            reasons.append("near the threshold")
        rivals = [
            j
            for j in alive
            if name[j] != name[i] and overlap[i, j] >= SAME_OBJECT and confidence[j] >= RIVAL * confidence[i]
        ]
        if rivals:
            reasons.append("could be " + " or ".join(dict.fromkeys(str(name[j]) for j in rivals)))
        if looked_at:
            reasons.append("not in people's labels")
        proposed.append(i)
        why.append(", ".join(reasons))
    return Judged(np.array(proposed, int), tuple(why), np.array(agreed, int), tuple(disagree))
