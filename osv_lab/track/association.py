"""Which tracks and detections overlap, and how much: one matrix per frame, or a list of pairs when there are many."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from osv_lab.track.assignment import assign, assign_pairs
from osv_lab.track.tracks import Floats, Ints

# From this many pairs on, a sweep for the few that overlap costs less than the full matrix.
SPARSE_PAYS = 12_000

Rows = Ints | slice

_ZERO = np.array(0.0)
# Corners to edges that grow outwards (-x1, -y1, x2, y2), of which what two boxes share is one minimum, and to width and
# height. A product of matrices is a single call.
_MEASURES = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 1, 0], [0, -1, 0, 1]])
_NONE: Ints = np.empty(0, np.int64)


class Overlaps(Protocol):
    """IoU of every track with every detection, and the assignments made from it.

    Attributes:
        boxes: (4, n) the tracks' corners.
    """

    boxes: Floats

    def discount(self, factor: Floats) -> None:
        """Multiply each track's overlaps by its (n,) factor."""

    def forbid(self, track_class: Ints, detection_class: Ints) -> None:
        """Let only tracks and detections of one class overlap."""

    def near(self, least: float) -> tuple[Ints, Ints]:
        """Tracks and detections of the pairs that overlap by at least ``least``."""

    def among(self, tracks: Ints, detections: Ints, least: float) -> tuple[Ints, Ints]:
        """The same of some tracks and some detections: where each pair is in the two."""

    def resemble(self, tracks: Ints, detections: Ints, similarity: Floats) -> None:
        """How alike some pairs look, 0 to 1; where it is more than the weighed IoU, it counts instead."""

    def pairs(
        self, tracks: Rows, detections: Rows, limit: float, negated: Floats | None = None
    ) -> tuple[Ints, Ints]:
        """Assign some tracks to some detections, at cost ``1 - IoU * weight`` (or by appearance, if that is less).

        Args:
            tracks, detections: Which take part: a slice or increasing indices.
            limit: Pairs of this cost or more are never made.
            negated: (m,) minus the weight of each detection that takes part, or ``None``: the plain IoU, without
                appearance. The solver is given ``IoU * -weight``, a step less and the same but for the constant.

        Returns:
            Track and detection indices of the pairs.
        """


def corner_iou(first: Floats, second: Floats, height_power: float = 0.0) -> Floats:
    """(n, m) IoU of (4, n) and (4, m) corners, each with an area.

    Args:
        height_power: Multiply by the IoU of the heights alone, to this power (0: not at all).
    """
    a, b = _MEASURES.dot(first), _MEASURES.dot(second)
    shared = np.minimum(a[:4, :, None], b[:4, None])
    areas = (a[4] * a[5])[:, None] + b[4] * b[5]
    heights = a[5][:, None] + b[5] if height_power else None
    return _iou(shared, areas, heights, height_power)


def paired_iou(first: Floats, second: Floats, height_power: float = 0.0) -> Floats:
    """(k,) the same for each of (4, k) corners with its partner."""
    a, b = _MEASURES.dot(first), _MEASURES.dot(second)
    areas = a[4] * a[5]
    areas += b[4] * b[5]
    return _iou(np.minimum(a[:4], b[:4]), areas, a[5] + b[5] if height_power else None, height_power)


def _iou(shared: Floats, areas: Floats, heights: Floats | None, height_power: float) -> Floats:
    """IoU from the outward edges of what two boxes share, the sum of their areas, and that of their heights."""
    side = shared[2:]
    side += shared[:2]
    np.maximum(side, _ZERO, out=side)
    overlap: Floats = side[0]
    height = side[1]
    overlap *= height
    areas -= overlap
    overlap /= areas
    if heights is not None:
        heights -= height
        height /= heights
        overlap *= height**height_power
    return overlap


class DenseOverlaps:
    """The full matrix: least work for up to a hundred objects."""

    def __init__(self, tracks: Floats, detections: Floats, height_power: float = 0.0) -> None:
        self.boxes = tracks
        self.iou = corner_iou(tracks, detections, height_power)
        self.alike: Floats | None = None

    def near(self, least: float) -> tuple[Ints, Ints]:
        rows, columns = (self.iou >= least).nonzero()
        return rows, columns

    def among(self, tracks: Ints, detections: Ints, least: float) -> tuple[Ints, Ints]:
        part = self.iou.take(tracks, axis=0).take(detections, axis=1)
        if not part.size or part.item(part.argmax()) < least:
            return _NONE, _NONE
        rows, columns = (part >= least).nonzero()
        return rows, columns

    def resemble(self, tracks: Ints, detections: Ints, similarity: Floats) -> None:
        self.alike = np.zeros(self.iou.shape)
        self.alike[tracks, detections] = similarity

    def discount(self, factor: Floats) -> None:
        self.iou *= factor[:, None]

    def forbid(self, track_class: Ints, detection_class: Ints) -> None:
        self.iou *= track_class[:, None] == detection_class

    def pairs(
        self, tracks: Rows, detections: Rows, limit: float, negated: Floats | None = None
    ) -> tuple[Ints, Ints]:
        iou = _part(self.iou, tracks, detections)
        if negated is None:
            cost = np.negative(iou)
        else:
            cost = iou * negated
            if self.alike is not None:
                np.minimum(cost, np.negative(_part(self.alike, tracks, detections)), out=cost)
        rows, columns = assign(cost, limit - 1.0)
        return _original(tracks, rows), _original(detections, columns)


class SparseOverlaps:
    """Only the pairs that overlap at all, found by a sweep over x."""

    def __init__(self, tracks: Floats, detections: Floats, height_power: float = 0.0) -> None:
        self.boxes = tracks
        self.shape = tracks.shape[1], detections.shape[1]
        self.rows, self.columns, self.iou = overlapping_pairs(tracks, detections, height_power)
        self.alike: Floats | None = None
        self._near: Ints = np.empty(0, np.int64)

    def near(self, least: float) -> tuple[Ints, Ints]:
        self._near = (self.iou >= least).nonzero()[0]
        return self.rows[self._near], self.columns[self._near]

    def among(self, tracks: Ints, detections: Ints, least: float) -> tuple[Ints, Ints]:
        track_at, detection_at = np.full(self.shape[0], -1), np.full(self.shape[1], -1)
        track_at[tracks], detection_at[detections] = np.arange(len(tracks)), np.arange(len(detections))
        close = self.iou >= least
        rows, columns = track_at[self.rows[close]], detection_at[self.columns[close]]
        both = (rows >= 0) & (columns >= 0)
        return rows[both], columns[both]

    def resemble(self, tracks: Ints, detections: Ints, similarity: Floats) -> None:
        del tracks, detections  # those of near(), in its order
        self.alike = np.zeros(len(self.iou))
        self.alike[self._near] = similarity

    def discount(self, factor: Floats) -> None:
        self.iou *= factor[self.rows]

    def forbid(self, track_class: Ints, detection_class: Ints) -> None:
        self.iou *= track_class[self.rows] == detection_class[self.columns]

    def pairs(
        self, tracks: Rows, detections: Rows, limit: float, negated: Floats | None = None
    ) -> tuple[Ints, Ints]:
        track_part, detection_part = np.zeros(self.shape[0], bool), np.zeros(self.shape[1], bool)
        track_part[tracks], detection_part[detections] = True, True
        chosen = track_part[self.rows] & detection_part[self.columns]
        rows, columns, iou = self.rows[chosen], self.columns[chosen], self.iou[chosen]
        if negated is None:
            cost = np.negative(iou)
        else:
            scattered = np.zeros(self.shape[1])
            scattered[detections] = negated
            cost = iou * scattered[columns]
            if self.alike is not None:
                cost = np.minimum(cost, np.negative(self.alike[chosen]))
        return assign_pairs(rows, columns, cost, limit - 1.0)


def overlapping_pairs(first: Floats, second: Floats, height_power: float = 0.0) -> tuple[Ints, Ints, Floats]:
    """The pairs of boxes that overlap.

    Args:
        first, second: (4, n) and (4, m) corners, each box with an area.
        height_power: As in :func:`corner_iou`.

    Returns:
        Indices into both and the IoU, (k,) each.
    """
    order = np.argsort(second[0], kind="stable")
    left = second[0, order]
    widest = float((second[2] - second[0]).max(initial=0.0))
    # Second boxes that can reach a first box start between its left edge less the widest width and its right edge.
    begin = np.searchsorted(left, first[0] - widest, side="right")
    count = np.searchsorted(left, first[2], side="left") - begin
    rows = np.repeat(np.arange(first.shape[1]), count)
    columns = order[np.arange(len(rows)) - np.repeat(np.cumsum(count) - count - begin, count)]
    height = np.minimum(first[3, rows], second[3, columns]) - np.maximum(first[1, rows], second[1, columns])
    both = (height > 0) & (
        np.minimum(first[2, rows], second[2, columns]) > np.maximum(first[0, rows], second[0, columns])
    )
    rows, columns = rows[both], columns[both]
    return rows, columns, paired_iou(first[:, rows], second[:, columns], height_power)


def greatest_iou(first: Floats, second: Floats) -> Floats:
    """(n,) for each of (4, n) corners its greatest IoU with any of (4, m); 0 when there are none."""
    if first.shape[1] * second.shape[1] < SPARSE_PAYS:
        return np.asarray(corner_iou(first, second).max(axis=1, initial=0.0))
    greatest = np.zeros(first.shape[1])
    rows, _, iou = overlapping_pairs(first, second)
    np.maximum.at(greatest, rows, iou)
    return greatest


def overlaps(tracks: Floats, detections: Floats, height_power: float = 0.0) -> Overlaps:
    """Overlaps of (4, n) track corners with (4, m) detection corners, in the cheaper of the two forms."""
    if tracks.shape[1] * detections.shape[1] < SPARSE_PAYS:
        return DenseOverlaps(tracks, detections, height_power)
    return SparseOverlaps(tracks, detections, height_power)


def _part(matrix: Floats, rows: Rows, columns: Rows) -> Floats:
    """Some rows and columns of a matrix; ``take`` costs a fraction of what indexing with an array costs."""
    matrix = matrix[rows] if isinstance(rows, slice) else matrix.take(rows, axis=0)
    return matrix[:, columns] if isinstance(columns, slice) else matrix.take(columns, axis=1)


def _original(chosen: Rows, local: Ints) -> Ints:
    if isinstance(chosen, slice):
        return local + chosen.start if chosen.start else local
    return np.asarray(chosen[local])
