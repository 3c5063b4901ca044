"""Compiled: the camera's shift and the three associations of a frame."""

from __future__ import annotations

import math

import numpy as np

from osv_lab.track.compiled.filters import (
    corners,
    having,
    where,
)
from osv_lab.track.compiled.layout import (
    ASPECT,
    BUFFER,
    ERROR_PER_MAD,
    HEIGHT_POWER,
    LEAST_PAIRS,
    LOST_DISCOUNT,
    MATCH,
    MATCH_LOW,
    MATCH_TENTATIVE,
    PER_CLASS,
    SHAKEN,
    SIGNIFICANT,
    Pairs,
    compiled,
)
from osv_lab.track.compiled.pairs import assign, median, overlaps
from osv_lab.track.table import LOST, SEEN, STATUS, TRACKED
from osv_lab.track.tracks import Floats, Ints


@compiled
def track_overlaps(
    tracks: Floats,
    count: int,
    votes: Floats,
    classes: Ints,
    known: int,
    seen: Floats,
    left: Ints,
    class_id: Ints,
    now: float,
    options: Floats,
) -> Pairs:
    """``ByteTrack._overlaps``."""
    begin, column, iou = overlaps(corners(tracks, count, options[ASPECT] > 0), seen, left, options[HEIGHT_POWER])
    for j in range(count):
        if options[LOST_DISCOUNT] > 0 and tracks[STATUS, j] == LOST:
            absent = min((now - tracks[SEEN, j]) / max(options[BUFFER], 1.0), 1.0)
            for at in range(begin[j], begin[j + 1]):
                iou[at] *= 1 - options[LOST_DISCOUNT] * absent
        if options[PER_CLASS] > 0 and len(class_id):
            best = 0
            for row in range(known):
                if votes[row, j] > votes[best, j]:
                    best = row
            voted = classes[best] if known else -1
            for at in range(begin[j], begin[j + 1]):
                if class_id[column[at]] != voted:
                    iou[at] = 0.0
    return begin, column, iou


@compiled
def camera_shift(
    tracks: Floats,
    confirmed: int,
    pairs: Pairs,
    at: Floats,
    weight: Floats,
    every: Ints,
    local: Ints,
    high: int,
    split: bool,
    options: Floats,
) -> tuple[bool, float, float]:
    """``ByteTrack._follow_camera`` up to the shift, and ``shift_from_boxes``: whether there is any, along x and y."""
    tracked = having(tracks, 0, confirmed, TRACKED)
    if min(len(tracked), high) < options[LEAST_PAIRS]:
        return False, 0.0, 0.0
    partner = np.full(tracks.shape[1], -1)
    assign(pairs, weight, tracked, every[:high], local, options[SHAKEN], split, partner)
    residual = np.empty((2, len(tracked)))
    count = 0
    for k in tracked:
        if partner[k] >= 0:
            residual[0, count] = at[0, partner[k]] - tracks[0, k]
            residual[1, count] = at[1, partner[k]] - tracks[1, k]
            count += 1
    if count < options[LEAST_PAIRS]:
        return False, 0.0, 0.0
    x, y = median(residual[0, :count]), median(residual[1, :count])
    for k in range(count):
        residual[0, k], residual[1, k] = abs(residual[0, k] - x), abs(residual[1, k] - y)
    error = options[SIGNIFICANT] * (options[ERROR_PER_MAD] / math.sqrt(count))
    sure = abs(x) > median(residual[0, :count]) * error or abs(y) > median(residual[1, :count]) * error
    return sure, x, y


@compiled
def associate(
    tracks: Floats,
    count: int,
    confirmed: int,
    pairs: Pairs,
    weight: Floats,
    every: Ints,
    local: Ints,
    high: int,
    split: bool,
    options: Floats,
) -> Ints:
    """``ByteTrack._associate``: the detection of each track, -1 where it has none."""
    partner, total = np.full(count, -1), len(weight)
    assign(pairs, weight, every[:confirmed], every[:high], local, options[MATCH], split, partner)
    if high < total:
        missed = having(tracks, 0, confirmed, TRACKED)
        left = 0
        for k in missed:
            if partner[k] < 0:
                missed[left] = k
                left += 1
        if left:
            plain = np.ones(total)
            assign(pairs, plain, missed[:left], every[high:total], local, options[MATCH_LOW], split, partner)
    if confirmed < count:
        free = np.ones(high, np.bool_)
        for k in partner[:confirmed]:
            if 0 <= k < high:
                free[k] = False
        waiting = every[confirmed:count]
        assign(pairs, weight, waiting, where(free), local, options[MATCH_TENTATIVE], split, partner)
    return partner
