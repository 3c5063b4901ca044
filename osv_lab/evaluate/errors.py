"""Which kind of error each wrong prediction and each missed object is, after TIDE.

D. Bolya, S. Foley, J. Hays, J. Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
https://arxiv.org/abs/2008.08115. The order of the tests is that of the authors' ``tidecv`` 1.0.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osv_lab.detect.metrics import Matches
from osv_lab.evaluate.bootstrap import weighted_precision
from osv_lab.evaluate.matched import Matched
from osv_lab.evaluate.pairing import pairs_of

TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""In the order of the paper. All but the last are wrong predictions; the last are objects."""

BACKGROUND_IOU = 0.1
"""A prediction that overlaps every object by less has found background."""


@dataclass(frozen=True)
class Errors:
    """Errors as columns.

    Attributes:
        kind: ``(k,)`` int, rows of :data:`TYPES`.
        prediction: ``(k,)`` rows of the matched predictions; -1 for a missed object.
        target: ``(k,)`` rows of the objects: the one that the prediction was about, or the missed one; -1 for
            background, and for a prediction that was wrong in class and place.
    """

    kind: np.ndarray
    prediction: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)


def errors_of(matched: Matched, background_iou: float = BACKGROUND_IOU) -> Errors:
    """Type every wrong prediction and every object that was not found.

    A wrong prediction is, by the first that holds: *localisation*, when the object of its class that it overlaps most
    lies between ``background_iou`` and the matching IoU; *classification*, when it overlaps an object of another class
    by the matching IoU; *duplicate*, when an object of its class was taken by a surer prediction; *background*, when
    it overlaps nothing by more than ``background_iou``; else *both*. An object that nothing took is *missed*, unless
    an error of localisation or classification is about it. Crowds take no part.
    """
    found, wanted = matched.predictions, matched.scene.objects
    pairs = pairs_of(found, wanted, background_iou)
    plain = ~wanted.crowd[pairs.target]
    best_same, same = _best(len(found), pairs.prediction, pairs.target, pairs.iou, plain & pairs.same)
    best_other, other = _best(len(found), pairs.prediction, pairs.target, pairs.iou, plain & ~pairs.same)
    least = min(matched.scene.iou, 1 - 1e-10)
    wrong = np.flatnonzero(matched.taken < 0)
    near, far = best_same[wrong], best_other[wrong]
    conditions = [
        (near >= background_iou) & (near < least),
        far >= least,
        near >= least,
        np.maximum(near, far) <= background_iou,
    ]
    names = ("localisation", "classification", "duplicate", "background")
    kind = np.select(conditions, [TYPES.index(name) for name in names], TYPES.index("both"))
    about = np.select(conditions[:3], [same[wrong], other[wrong], same[wrong]], -1)
    concerned = np.isin(kind, [TYPES.index("localisation"), TYPES.index("classification")])
    reached = np.zeros(len(wanted), bool)
    reached[matched.taken[matched.taken >= 0]] = True
    reached[about[concerned]] = True
    missed = np.flatnonzero(~reached & ~wanted.crowd)
    return Errors(
        np.concatenate([kind, np.full(len(missed), TYPES.index("missed"))]).astype(int),
        np.concatenate([wrong, np.full(len(missed), -1)]),
        np.concatenate([about, missed]).astype(int),
    )


def _best(
    count: int, prediction: np.ndarray, target: np.ndarray, iou: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Per prediction its largest overlap among some pairs, and with which object (of equal ones the first)."""
    prediction, target, iou = prediction[rows], target[rows], iou[rows]
    order = np.lexsort((-target, iou, prediction))
    best, which = np.zeros(count), np.full(count, -1)
    best[prediction[order]] = iou[order]
    which[prediction[order]] = target[order]
    return best, which


def fixed_precision(matched: Matched, errors: Errors, chosen: np.ndarray) -> np.ndarray:
    """``(classes,)`` average precision when an oracle has mended some errors; NaN for classes without objects.

    Of the errors of localisation, and of those of classification, that are about one object, the surest becomes right
    (in the object's class) if nothing had found the object, and the others disappear. Duplicates, background, and what
    was wrong in class and place disappear. Missed objects are no longer to be found.

    Args:
        matched: What the errors are of.
        errors: All of them.
        chosen: ``(k,)`` mask of those that are mended.
    """
    found, wanted = matched.predictions, matched.scene.objects
    class_id, true, gone = found.class_id.copy(), matched.true.copy(), matched.ignored.copy()
    taken = np.zeros(len(wanted), bool)
    taken[matched.taken[matched.taken >= 0]] = True
    wrong = chosen & (errors.prediction >= 0)
    gone[errors.prediction[wrong]] = True
    for name in ("localisation", "classification"):
        rows = np.flatnonzero(chosen & (errors.kind == TYPES.index(name)))
        rows = rows[~taken[errors.target[rows]]]
        # The surest of each object: the first in this order.
        rows = rows[np.lexsort((-found.confidence[errors.prediction[rows]], errors.target[rows]))]
        rows = rows[np.diff(errors.target[rows], prepend=-1) != 0]
        mended = errors.prediction[rows]
        class_id[mended] = wanted.class_id[errors.target[rows]]
        true[mended], gone[mended] = True, False
        taken[errors.target[rows]] = True
    lost = errors.target[chosen & (errors.kind == TYPES.index("missed"))]
    names = len(matched.scene.class_names)
    total = np.bincount(wanted.class_id[~wanted.crowd], minlength=names)
    left = total - np.bincount(wanted.class_id[lost], minlength=names)
    order = np.argsort(-found.confidence, kind="stable")
    order = order[~gone[order]]
    return np.array(
        [
            _average(true[order[class_id[order] == number]], left[number]) if total[number] else np.nan
            for number in range(names)
        ]
    )


def _average(true: np.ndarray, objects: int) -> float:
    """Average precision of predictions in order of confidence; 1 where nothing is left to be found or to be wrong."""
    if objects == 0:
        return 1.0 if not len(true) else 0.0
    one_image = np.zeros(len(true), int)
    matches = Matches(one_image, true[None], np.zeros((1, len(true)), bool), np.array([objects]))
    return float(weighted_precision(matches, np.ones((1, 1), np.int32))[0, 0])
