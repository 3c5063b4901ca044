"""Which predictions and objects overlap, and COCO's greedy matching of them, over all images at once.

The rule is that of :mod:`osv_lab.evaluate.matching`, which goes image by image; a test holds the two equal.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from osv_lab.evaluate.scene import Boxes

MAX_DETECTIONS = 100
"""Predictions per image and class that average precision counts, as COCO does."""

_CHUNK = 4_000_000
"""Pairs whose overlap is computed at a time."""


@dataclass(frozen=True)
class Pairs:
    """Predictions and objects of one image that overlap.

    Attributes:
        prediction: ``(k,)`` rows of the predictions.
        target: ``(k,)`` rows of the objects.
        iou: ``(k,)``; of a crowd, the share of the prediction that lies in it.
        same: ``(k,)`` whether they are of one class.
    """

    prediction: np.ndarray
    target: np.ndarray
    iou: np.ndarray
    same: np.ndarray


def pairs_of(predictions: Boxes, objects: Boxes, least: float) -> Pairs:
    """All pairs in one image with an overlap of at least ``least`` (above 0)."""
    start = np.searchsorted(objects.image, predictions.image, side="left")
    width = np.searchsorted(objects.image, predictions.image, side="right") - start
    edges = np.concatenate([[0], np.cumsum(width)])
    cuts = np.unique(np.searchsorted(edges, np.arange(0, edges[-1] + _CHUNK, _CHUNK), side="left"))
    found = []
    for low, high in itertools.pairwise(np.unique([0, *cuts.clip(0, len(width)), len(width)])):
        own = np.arange(low, high)
        prediction = np.repeat(own, width[own])
        target = np.arange(len(prediction)) - (edges[prediction] - edges[low]) + start[prediction]
        iou = _overlap(predictions.xyxy[prediction], objects.xyxy[target], objects.crowd[target])
        near = iou >= least
        found.append((prediction[near], target[near], iou[near]))
    prediction, target, iou = (
        (np.concatenate(column) for column in zip(*found, strict=True))
        if found
        else (np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    )
    return Pairs(prediction, target, iou, predictions.class_id[prediction] == objects.class_id[target])


def match(predictions: Boxes, objects: Boxes, pairs: Pairs, iou: float) -> np.ndarray:
    """``(n,)`` the object that each prediction takes, or -1.

    Within an image and class predictions choose in order of confidence: the free object with the largest IoU of at
    least ``iou``, of equal IoUs the later one; a crowd only when nothing else will do, and any number of times.
    Predictions of one place in that order, over all images, choose at once.
    """
    taken = np.full(len(predictions), -1)
    near = pairs.same & (pairs.iou >= min(iou, 1 - 1e-10))
    prediction, target, overlap = pairs.prediction[near], pairs.target[near], pairs.iou[near]
    if not len(prediction):
        return taken
    place = _places(predictions, np.unique(prediction))
    # Within a prediction the best comes last.
    order = np.lexsort((target, overlap, ~objects.crowd[target], prediction, place[prediction]))
    prediction, target = prediction[order], target[order]
    edges = np.flatnonzero(np.diff(place[prediction], prepend=-1, append=-1))
    free = np.ones(len(objects), bool)
    for begin, end in itertools.pairwise(edges):
        block = slice(begin, end)
        open_pairs = free[target[block]]
        who, what = prediction[block][open_pairs], target[block][open_pairs]
        last = np.append(who[1:] != who[:-1], True) if len(who) else np.zeros(0, bool)
        taken[who[last]] = what[last]
        free[what[last]] = objects.crowd[what[last]]
    return taken


def counted(predictions: Boxes, most: int = MAX_DETECTIONS) -> np.ndarray:
    """``(n,)`` mask of the ``most`` most confident predictions of each image and class."""
    return np.asarray(_places(predictions, np.arange(len(predictions))) < most)


def _places(predictions: Boxes, rows: np.ndarray) -> np.ndarray:
    """``(n,)`` place of these rows in their image and class, from 0, most confident first; -1 of the others."""
    place = np.full(len(predictions), -1)
    image, kind = predictions.image[rows], predictions.class_id[rows]
    order = np.lexsort((-predictions.confidence[rows], kind, image))
    group = image[order] * (int(predictions.class_id.max(initial=0)) + 1) + kind[order]
    first = np.searchsorted(group, group)
    place[rows[order]] = np.arange(len(rows)) - first
    return place


def _overlap(first: np.ndarray, second: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=1)
    own, other = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (first, second))
    whole = np.where(crowd, own, own + other - both)
    return np.asarray(np.divide(both, whole, out=np.zeros_like(both), where=whole > 0))
