"""What became of each object, and of each false positive, from one model to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.evaluate.matching import Overlaps

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


def operated(predictions: sv.Detections, targets: sv.Detections, thresholds: np.ndarray, iou: float) -> Operated:
    """Match one image; a prediction that is dropped does not change which object a more confident one takes.

    Args:
        predictions: The model's.
        targets: The truth, with ``data["iscrowd"]``.
        thresholds: Least confidence per class id.
        iou: Least overlap.
    """
    kept = predictions.confidence >= thresholds[predictions.class_id]
    overlaps = Overlaps(predictions, targets)
    taken = np.full(len(predictions), -1)
    taken[overlaps.order] = overlaps.match(min(iou, 1 - 1e-10))
    found = np.zeros(len(targets), dtype=bool)
    found[taken[kept & (taken >= 0)]] = True
    return Operated(kept, taken >= 0, found)


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


def outcome(
    first: sv.Detections, second: sv.Detections, targets: sv.Detections, a: Operated, b: Operated, iou: float
) -> ImageOutcome:
    """Compare two models on one image.

    A false positive of the second is one of the first if their classes are equal and they overlap by at least ``iou``;
    the second's most confident choose first.
    """
    names = np.where(a.found, np.where(b.found, "both_right", "broken"), np.where(b.found, "fixed", "both_wrong"))
    objects = np.where(targets.data["iscrowd"].astype(bool), "crowd", names)
    was, now = np.flatnonzero(a.false), np.flatnonzero(b.false)
    old, new = first[was], second[now]
    old.data = {"iscrowd": np.zeros(len(old), dtype=bool)}
    pairs = Overlaps(new, old)
    partner = np.full(len(now), -1)
    partner[pairs.order] = pairs.match(min(iou, 1 - 1e-10))
    said_a = np.where(a.right, "tp", np.where(a.kept, "fp_gone", "below")).astype(object)
    said_b = np.where(b.right, "tp", np.where(b.kept, "fp_new", "below")).astype(object)
    said_a[a.right & ~a.kept] = said_b[b.right & ~b.kept] = "below"
    said_b[now[partner >= 0]] = "fp_kept"
    said_a[was[partner[partner >= 0]]] = "fp_kept"
    return ImageOutcome(objects.astype(object), said_a, said_b)


def count_by_class(
    outcomes: Sequence[ImageOutcome], targets: Sequence[sv.Detections], class_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Per outcome of :data:`OBJECTS`, objects per class."""
    said = np.concatenate([one.objects for one in outcomes])
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
