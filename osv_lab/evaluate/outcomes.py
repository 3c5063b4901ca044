"""What became of each object, and of each false positive, from one model to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.detect.matching import Matching
from osv_lab.evaluate.matching import by_image

if TYPE_CHECKING:
    import supervision as sv

OBJECTS = ("fixed", "broken", "both_right", "both_wrong")
"""What can become of an object: found by the second only, the first only, both, neither."""

FALSE_POSITIVES = ("fp_gone", "fp_new", "fp_kept")
"""What can become of a false positive: only the first has it, only the second, both have one there."""


@dataclass(frozen=True)
class Operated:
    """One image's predictions of one model at its confidence threshold.

    Attributes:
        kept: ``(n,)`` whether each is at or above the threshold.
        right: ``(n,)`` whether it took an object, a crowd included.
        found: ``(m,)`` whether each object was taken by a prediction that is kept.
    """

    kept: np.ndarray
    right: np.ndarray
    found: np.ndarray

    @property
    def false(self) -> np.ndarray:
        """``(n,)`` whether it is a false positive."""
        return np.asarray(self.kept & ~self.right)


def operated(
    predictions: Sequence[sv.Detections], targets: Sequence[sv.Detections], thresholds: np.ndarray, iou: float
) -> list[Operated]:
    """Match all images; a prediction that is dropped does not change which object a more confident one takes.

    Args:
        predictions: The model's, one set per image.
        targets: The truth, with ``data["iscrowd"]``.
        thresholds: Least confidence per class id.
        iou: Least overlap.
    """
    result = []
    for one, truth, match in zip(
        predictions, targets, by_image(Matching(predictions, targets, iou), iou), strict=True
    ):
        kept = one.confidence >= thresholds[one.class_id]
        right = match.target >= 0
        found = np.zeros(len(truth), dtype=bool)
        found[match.target[kept & right]] = True
        result.append(Operated(kept, right, found))
    return result


@dataclass(frozen=True)
class ImageOutcome:
    """One image: what became of its objects and of both models' false positives.

    Attributes:
        objects: ``(m,)`` of :data:`OBJECTS`; ``"crowd"`` for a crowd, which is not judged.
        first: ``(n,)`` of the first model's predictions: ``tp``, ``below`` (its threshold), ``fp_gone`` or ``fp_kept``.
        second: The same of the second's, with ``fp_new`` in place of ``fp_gone``.
    """

    objects: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def count(self, what: str) -> int:
        """How many objects or false positives that is; a false positive of both is counted once."""
        if what in OBJECTS:
            return int((self.objects == what).sum())
        return int(((self.first if what == "fp_gone" else self.second) == what).sum())


def outcomes(
    first: Sequence[sv.Detections],
    second: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    operating: tuple[Sequence[Operated], Sequence[Operated]],
    iou: float,
) -> list[ImageOutcome]:
    """Compare two models image by image.

    A false positive of the second is one of the first if their classes are equal and they overlap by at least ``iou``;
    the second's most confident choose first.
    """
    old = [_plain(one, at.false) for one, at in zip(first, operating[0], strict=True)]
    new = [_plain(one, at.false) for one, at in zip(second, operating[1], strict=True)]
    partners = by_image(Matching(new, old, iou), iou)
    return [
        _outcome(truth, a, b, match.target)
        for truth, a, b, match in zip(targets, *operating, partners, strict=True)
    ]


def _plain(detections: sv.Detections, rows: np.ndarray) -> sv.Detections:
    """Some boxes with nothing but scores and classes."""
    chosen = detections[rows]
    chosen.data = {}
    return chosen


def _outcome(targets: sv.Detections, a: Operated, b: Operated, partner: np.ndarray) -> ImageOutcome:
    """One image; ``partner`` says of each false positive of the second which of the first's it is, or -1."""
    names = np.where(a.found, np.where(b.found, "both_right", "broken"), np.where(b.found, "fixed", "both_wrong"))
    objects = np.where(targets.data["iscrowd"].astype(bool), "crowd", names)
    was, now = np.flatnonzero(a.false), np.flatnonzero(b.false)
    said_a = np.where(a.right, "tp", np.where(a.kept, "fp_gone", "below")).astype(object)
    said_b = np.where(b.right, "tp", np.where(b.kept, "fp_new", "below")).astype(object)
    said_a[a.right & ~a.kept] = said_b[b.right & ~b.kept] = "below"
    said_b[now[partner >= 0]] = "fp_kept"
    said_a[was[partner[partner >= 0]]] = "fp_kept"
    return ImageOutcome(objects.astype(object), said_a, said_b)


def count_by_class(
    became: Sequence[ImageOutcome], targets: Sequence[sv.Detections], class_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Per outcome of :data:`OBJECTS`, objects per class."""
    said = np.concatenate([one.objects for one in became])
    class_id = np.concatenate([one.class_id for one in targets])
    return {
        what: dict(
            zip(
                class_names,
                np.bincount(class_id[said == what], minlength=len(class_names)).tolist(),
                strict=True,
            )
        )
        for what in OBJECTS
    }
