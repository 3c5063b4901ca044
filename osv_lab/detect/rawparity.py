"""Whether two networks say the same before suppression, anchor by anchor.

Of boxes that overlap and score alike to the last digits suppression keeps one or the other, so that equal networks of
unsure models end with unequal boxes. What they said before that does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.detect.engine import Engine
from osv_lab.detect.postprocess import oriented_corners

if TYPE_CHECKING:
    from osv_lab.detect.detector import Detector
    from osv_lab.detect.heads import Candidates

_SURE = 1e-6
"""Probabilities nearer to 0 or 1 than this are not told apart."""


@dataclass(frozen=True)
class RawDifference:
    """The largest differences of what two networks say, over all anchors of some images.

    Attributes:
        images: How many images.
        anchors: How many anchors, over all of them.
        px: Of coordinates (corners, keypoints), in pixels of the network's input.
        logit: Of every class's scores and of keypoints' confidences, as logits: at a score of 0.001 as telling as at
            0.5.
        coefficient: Of mask coefficients and prototypes.
    """

    images: int
    anchors: int
    px: float
    logit: float
    coefficient: float

    @property
    def same(self) -> bool:
        """Whether they say the same but for rounding."""
        return self.anchors > 0 and self.px <= 0.1 and self.logit <= 0.01 and self.coefficient <= 0.01

    def joined(self, other: RawDifference) -> RawDifference:
        """Of the images of both."""
        return RawDifference(
            self.images + other.images,
            self.anchors + other.anchors,
            max(self.px, other.px),
            max(self.logit, other.logit),
            max(self.coefficient, other.coefficient),
        )


def raw_difference(reference: Detector, candidate: Detector, images: Sequence[np.ndarray]) -> RawDifference | None:
    """Compare two networks anchor by anchor; ``None`` where they have other anchors or classes, see an image elsewhere
    in their input, or suppress themselves.

    Args:
        reference: The original.
        candidate: What is to take its place.
        images: BGR uint8 arrays.
    """
    if not isinstance(reference, Engine) or not isinstance(candidate, Engine):
        return None
    anchors, px, logit, coefficient = 0, 0.0, 0.0, 0.0
    for image in images:
        said, other = reference.before_suppression(image), candidate.before_suppression(image)
        if said is None or other is None or reference.task != candidate.task:
            return None
        if said.placement != other.placement:
            return None
        ours, theirs = said.candidates, other.candidates
        if ours.boxes.shape != theirs.boxes.shape or ours.extra.shape != theirs.extra.shape:
            return None
        if said.class_scores.shape != other.class_scores.shape or said.prototypes.shape != other.prototypes.shape:
            return None
        anchors += len(ours.boxes)
        px = max(px, _largest(_coordinates(ours), _coordinates(theirs)))
        # Of each class, not only of the one that is named: which of two that score alike is named is a tie too, but
        # classes in another order are another network.
        logit = max(logit, _largest(_logit(said.class_scores), _logit(other.class_scores)))
        coefficient = max(coefficient, _largest(said.prototypes, other.prototypes))
        if reference.task == "pose":
            first, second = (
                one.extra.reshape(len(one.extra), -1, reference.keypoint_shape[1]) for one in (ours, theirs)
            )
            px = max(px, _largest(first[..., :2], second[..., :2]))
            logit = max(logit, _largest(_logit(first[..., 2:]), _logit(second[..., 2:])))
        elif ours.extra.size:
            coefficient = max(coefficient, _largest(ours.extra, theirs.extra))
    return RawDifference(len(images), anchors, px, logit, coefficient)


def _coordinates(found: Candidates) -> np.ndarray:
    return oriented_corners(found.boxes) if found.boxes.shape[1] == 5 else found.boxes


def _logit(probability: np.ndarray) -> np.ndarray:
    clipped = probability.astype(float).clip(_SURE, 1 - _SURE)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _largest(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).max(initial=0.0))
