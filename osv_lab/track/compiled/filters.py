"""Compiled: the usable detections of a frame in order, and the Kalman filters."""

from __future__ import annotations

import math

import numpy as np

from osv_lab.track.compiled.layout import ASPECT, FARTHEST, NOISE_P, NOISE_V, START_P, START_V, Mask, compiled
from osv_lab.track.table import STATUS
from osv_lab.track.tracks import Floats, Ints


@compiled
def rising(values: Floats) -> Ints:
    """Stable order by rising value."""
    count = len(values)
    order = np.empty(count, np.int64)
    if count <= 64:
        for k in range(count):
            at = k
            while at and values[order[at - 1]] > values[k]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = k
        return order
    # Merge sort, from runs of one.
    other = np.empty(count, np.int64)
    for k in range(count):
        order[k] = k
    run = 1
    while run < count:
        for first in range(0, count, 2 * run):
            middle, last = min(first + run, count), min(first + 2 * run, count)
            j, k = first, middle
            for at in range(first, last):
                if j < middle and (k >= last or values[order[j]] <= values[order[k]]):
                    other[at] = order[j]
                    j += 1
                else:
                    other[at] = order[k]
                    k += 1
        order, other = other, order
        run *= 2
    return order


@compiled
def where(mask: Mask) -> Ints:
    """``mask.nonzero()[0]``."""
    found = np.empty(len(mask), np.int64)
    count = 0
    for k in range(len(mask)):
        if mask[k]:
            found[count] = k
            count += 1
    return found[:count]


@compiled
def having(tracks: Floats, first: int, last: int, status: float) -> Ints:
    """The tracks of a status, of those from ``first`` to ``last``."""
    found = np.empty(last - first, np.int64)
    count = 0
    for k in range(first, last):
        if tracks[STATUS, k] == status:
            found[count] = k
            count += 1
    return found[:count]


@compiled
def rank(
    boxes: Floats, scores: Floats, class_of: Ints, low: float, options: Floats
) -> tuple[bool, Ints, Floats, Floats, Ints]:
    """``TrackTable._check``: the usable detections by falling confidence.

    Returns:
        Whether all confidences are 0 to 1; where each detection was; confidences, (4, k) corners and classes.
    """
    chosen, negated = np.empty(len(scores), np.int64), np.empty(len(scores))
    total = 0
    proper = True
    for k in range(len(scores)):
        if scores[k] > low:
            proper = proper and scores[k] <= 1
            far = options[FARTHEST]
            if -far < boxes[k, 0] < boxes[k, 2] < far and -far < boxes[k, 1] < boxes[k, 3] < far:
                chosen[total], negated[total] = k, -scores[k]
                total += 1
    order = rising(negated[:total])
    confidence, seen = np.empty(total), np.empty((4, total))
    class_id = np.empty(total if len(class_of) else 0, np.int64)
    for k in range(total):
        order[k] = at = chosen[order[k]]
        confidence[k] = scores[at]
        for row in range(4):
            seen[row, k] = boxes[at, row]
        if len(class_of):
            class_id[k] = class_of[at]
    return proper, order, confidence, seen, class_id


@compiled
def measure(box: Floats, aspect: bool) -> Floats:
    """``BoxModel.measure``: (4, n) corners to positions."""
    at = np.empty_like(box)
    for k in range(box.shape[1]):
        at[0, k], at[1, k] = (box[0, k] + box[2, k]) * 0.5, (box[1, k] + box[3, k]) * 0.5
        at[2, k], at[3, k] = box[2, k] - box[0, k], box[3, k] - box[1, k]
        if aspect:
            at[2, k] /= at[3, k]
    return at


@compiled
def new_classes(classes: Ints, known: int, class_id: Ints) -> Ints:
    """The classes that are not among the known ones, each once, rising."""
    found = np.empty(len(class_id), np.int64)
    count = 0
    for value in class_id:
        fresh = True
        for k in range(known):
            fresh = fresh and classes[k] != value
        at = count
        while at and found[at - 1] > value:
            at -= 1
        if fresh and not (at and found[at - 1] == value):
            for k in range(count, at, -1):
                found[k] = found[k - 1]
            found[at] = value
            count += 1
    return found[:count]


@compiled
def predict(tracks: Floats, count: int, elapsed: float, options: Floats) -> None:
    """``kalman.predict``."""
    aspect = options[ASPECT] > 0
    for k in range(count):
        width, height = tracks[2, k], tracks[3, k]
        for row in range(4):
            side = height if aspect or row % 2 else width
            noise_p, noise_v = side * side * options[NOISE_P], side * side * options[NOISE_V]
            if aspect and row == 2:
                noise_p, noise_v = 1e-4, 1e-10
            velocity, cov_pv, var_v = tracks[4 + row, k], tracks[12 + row, k], tracks[16 + row, k]
            if elapsed == 1.0:
                tracks[row, k] += velocity
                moved = cov_pv + var_v
                tracks[8 + row, k] += noise_p + cov_pv + moved
                tracks[12 + row, k] = moved
                tracks[16 + row, k] += noise_v
            else:
                tracks[row, k] += elapsed * velocity
                tracks[8 + row, k] += elapsed * (2 * cov_pv + elapsed * var_v + noise_p)
                tracks[12 + row, k] += elapsed * var_v
                tracks[16 + row, k] += elapsed * noise_v


@compiled
def warp(tracks: Floats, count: int, matrix: Floats, aspect: bool) -> None:
    """``kalman.warp``."""
    a, b, c, d = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    scale = math.sqrt(abs(a * d - b * c))
    for block in range(5):
        squared = block > 1
        own_x, own_y, other_x, other_y, size = a, d, b, c, scale
        if squared:
            own_x, own_y, other_x, other_y, size = a * a, d * d, b * b, c * c, scale * scale
        x, y = 4 * block, 4 * block + 1
        for k in range(count):
            along, across = tracks[x, k], tracks[y, k]
            tracks[x, k] = along * own_x + across * other_x
            tracks[y, k] = across * own_y + along * other_y
            tracks[y + 2, k] *= size
            if not aspect:
                tracks[y + 1, k] *= size
    for k in range(count):
        tracks[0, k] += matrix[0, 2]
        tracks[1, k] += matrix[1, 2]


@compiled
def correct(tracks: Floats, k: int, at: Floats, column: int, noise: float, options: Floats) -> None:
    """``kalman.correct``, of one track by one measurement."""
    aspect = options[ASPECT] > 0
    width, height = tracks[2, k], tracks[3, k]
    for row in range(4):
        side = height if aspect or row % 2 else width
        variance = 1e-2 if aspect and row == 2 else side * side * options[NOISE_P]
        var_p, cov_pv = tracks[8 + row, k], tracks[12 + row, k]
        variance *= noise
        total = var_p + variance
        innovation = at[row, column] - tracks[row, k]
        gain_p, gain_v = var_p / total, cov_pv / total
        tracks[row, k] += gain_p * innovation
        tracks[4 + row, k] += gain_v * innovation
        tracks[16 + row, k] -= gain_v * cov_pv
        tracks[12 + row, k] = gain_v * variance
        tracks[8 + row, k] = gain_p * variance


@compiled
def start(tracks: Floats, k: int, at: Floats, column: int, options: Floats) -> None:
    """``kalman.start``, of one track."""
    aspect = options[ASPECT] > 0
    for row in range(4):
        tracks[row, k] = at[row, column]
        tracks[4 + row, k] = 0.0
        tracks[12 + row, k] = 0.0
        side = at[3, column] if aspect or row % 2 else at[2, column]
        if aspect and row == 2:
            tracks[8 + row, k], tracks[16 + row, k] = 1e-4, 1e-10
        elif aspect:
            tracks[8 + row, k] = 4 * (side * side) * options[NOISE_P]
            tracks[16 + row, k] = 100 * (side * side) * options[NOISE_V]
        else:
            tracks[8 + row, k] = side * side * options[START_P]
            tracks[16 + row, k] = side * side * options[START_V]


@compiled
def corners(tracks: Floats, count: int, aspect: bool) -> Floats:
    """``kalman.corners``."""
    box = np.empty((4, count))
    for k in range(count):
        half_width, half_height = tracks[2, k], tracks[3, k] * 0.5
        if aspect:
            half_width *= tracks[3, k]
        half_width *= 0.5
        box[0, k], box[1, k] = tracks[0, k] - half_width, tracks[1, k] - half_height
        box[2, k], box[3, k] = tracks[0, k] + half_width, tracks[1, k] + half_height
    return box
