"""Which predictions and objects overlap, of whatever classes, over all images at once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from osv_lab.detect.matching import pair_iou
from osv_lab.evaluate.scene import Boxes

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
    cuts = np.searchsorted(edges, np.arange(0, edges[-1] + _CHUNK, _CHUNK), side="left").clip(0, len(width))
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for low, high in itertools.pairwise(np.unique([0, *cuts, len(width)])):
        own = np.arange(low, high)
        prediction = np.repeat(own, width[own])
        target = edges[low] + np.arange(len(prediction)) - edges[prediction] + start[prediction]
        iou = pair_iou(predictions.xyxy[prediction], objects.xyxy[target], objects.crowd[target])
        near = iou >= least
        found.append((prediction[near], target[near], iou[near]))
    prediction, target, iou = (np.concatenate(column) for column in zip(*found, strict=True))
    return Pairs(prediction, target, iou, predictions.class_id[prediction] == objects.class_id[target])
