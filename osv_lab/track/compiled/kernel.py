"""One update of ByteTrack, or of BoT-SORT without embeddings, as compiled loops.

Each function here and in the modules beside this one mirrors one of the NumPy path (named in its docstring) and does
its arithmetic in the same order, so that both give the same identities; ``tests/unit/track/test_compiled.py`` compares
them. Without Numba the functions are plain Python: hundreds of times slower, and good only for that comparison.

What is compiled is kept in Numba's cache. A change of any of these files is noticed (:func:`_sources`); constants from
elsewhere come in ``options``, as no cache would notice a change of those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.track.compiled.filters import (
    corners,
    correct,
    having,
    measure,
    new_classes,
    predict,
    rank,
    rising,
    start,
    warp,
    where,
)
from osv_lab.track.compiled.layout import (
    ASPECT,
    BAD_INPUT,
    BUFFER,
    DUPLICATE_IOU,
    FOLLOW,
    FORGET,
    FUSE,
    HIGH,
    HIGH_AT_ONE,
    HIGH_LEAST,
    HIGH_MOST,
    LOW,
    LOW_LEAST,
    LOW_MOST,
    MORE_CLASSES,
    NEW,
    NEW_AT_ONE,
    NEW_IOU,
    NEW_LEAST,
    NEW_MOST,
    SPARSE_PAYS,
    USUAL_SPAN,
    WEAK_NOISE,
    Mask,
    Pairs,
    compiled,
)
from osv_lab.track.compiled.pairs import iou_of
from osv_lab.track.compiled.stages import associate, camera_shift, track_overlaps
from osv_lab.track.table import BORN, ID, LOST, SEEN, STATUS, TENTATIVE, TRACKED
from osv_lab.track.tracks import Floats, Ints


@compiled
def keep_only(tracks: Floats, votes: Floats, known: int, keep: Mask) -> int:
    """``TrackTable._keep``: how many there are now."""
    count = 0
    for k in range(len(keep)):
        if keep[k]:
            if count < k:
                for row in range(tracks.shape[0]):
                    tracks[row, count] = tracks[row, k]
                for row in range(known):
                    votes[row, count] = votes[row, k]
            count += 1
    return count


@compiled
def fresh_ones(partner: Ints, seen: Floats, confidence: Floats, high: int, least: float, options: Floats) -> Ints:
    """The detections that start a track, in the order of ``TrackTable._begin``."""
    left = np.ones(len(confidence), np.bool_)
    for k in partner:
        if k >= 0:
            left[k] = False
    fresh, keys = np.empty(high, np.int64), np.empty(high)
    count = 0
    for k in range(high):
        if left[k] and confidence[k] >= least:
            alone = True
            if options[NEW_IOU] < 1:
                for j in partner:
                    alone = alone and (j < 0 or iou_of(seen, k, seen, j) <= options[NEW_IOU])
            if alone:
                fresh[count] = k
                count += 1
    fresh, keys = fresh[:count], keys[:count]
    if count > 1:
        for row in (3, 2, 1, 0, -1):
            for k in range(count):
                keys[k] = -confidence[fresh[k]] if row < 0 else seen[row, fresh[k]]
            order = rising(keys)
            for k in range(count):
                order[k] = fresh[order[k]]
            fresh = order
    return fresh


@compiled
def vote(votes: Floats, classes: Ints, known: int, column: Ints, class_id: Ints, confidence: Floats) -> int:
    """``TrackTable._vote``: how many classes are known now."""
    matched = np.empty(len(column), np.int64)
    count = 0
    for k in column:
        if k >= 0:
            matched[count] = class_id[k]
            count += 1
    for value in new_classes(classes, known, matched[:count]):
        classes[known] = value
        for k in range(len(column)):
            votes[known, k] = 0.0
        known += 1
    for k in range(len(column)):
        if column[k] >= 0:
            row = 0
            while classes[row] != class_id[column[k]]:
                row += 1
            votes[row, k] += confidence[column[k]]
    return known


@compiled
def surviving(
    tracks: Floats,
    column: Ints,
    detections: int,
    confirmed: int,
    before: int,
    pairs: Pairs,
    now: float,
    options: Floats,
) -> Mask:
    """``ByteTrack._ending``: which tracks do not end.

    Args:
        column: The detection of each track, -1 where it has none.
        detections: How many detections there are.
    """
    count = len(column)
    keep = np.ones(count, np.bool_)
    for k in range(confirmed, before):
        keep[k] = tracks[STATUS, k] == TRACKED
    lost = having(tracks, 0, count, LOST)
    if not len(lost):
        return keep
    aspect = options[ASPECT] > 0
    least = options[DUPLICATE_IOU]
    begin, seen, iou = pairs
    box, row_of = np.empty((0, 0)), np.empty(0, np.int64)
    for far in lost:
        for at in range(begin[far], begin[far + 1]):
            if iou[at] < least / 2:
                continue
            if not box.size:
                box, row_of = corners(tracks, count, aspect), np.full(detections, -1)
                for k in range(count):
                    if column[k] >= 0:
                        row_of[column[k]] = k
            near = row_of[seen[at]]
            if near >= 0 and iou_of(box, near, box, far) > least:
                older = tracks[SEEN, near] - tracks[BORN, near] > tracks[SEEN, far] - tracks[BORN, far]
                keep[far if older else near] = False
    for far in lost:
        if now - tracks[SEEN, far] > options[BUFFER]:
            keep[far] = False
    return keep


@compiled
def thresholds(level: float, options: Floats) -> tuple[float, float]:
    """``ByteTrack.high`` and ``.new``."""
    high, new = options[HIGH], options[NEW]
    if np.isnan(high):
        high = min(max(options[HIGH_AT_ONE] * (level * level), options[HIGH_LEAST]), options[HIGH_MOST])
    if np.isnan(new):
        new = min(max(options[NEW_AT_ONE] * (level * level), options[NEW_LEAST]), options[NEW_MOST])
    return high, new


@compiled
def update(
    options: Floats,
    tracks: Floats,
    votes: Floats,
    classes: Ints,
    matrix: Floats,
    boxes: Floats,
    scores: Floats,
    class_of: Ints,
    ids: Ints,
    count: int,
    confirmed: int,
    issued: int,
    known: int,
    level: float,
    now: float,
    elapsed: float,
    first: bool,
) -> tuple[int, int, int, int, float]:
    """``ByteTrack.update``.

    Args:
        options: (OPTIONS,) settings and constants.
        tracks: (ROWS, more than count + n) the table of tracks; changed.
        votes: (at least known, as many as tracks) class votes; changed.
        classes: (at least known,) the classes voted on; changed.
        matrix: (2, 3) warp, or (0, 0).
        boxes, scores: (n, 4) and (n,).
        class_of: (n,), or (0,) when none is given.
        ids: (n,) takes the identities.
        count, confirmed, issued, known, level: How many tracks, confirmed tracks, identities and classes there are; the
            detector's level.
        now, elapsed: In frames.
        first: Whether this is the first frame.

    Returns:
        ``count``, ``confirmed``, ``issued``, ``known`` and ``level`` after this frame. A ``count`` of BAD_INPUT or
        MORE_CLASSES: nothing was done; ``known`` is then how many classes there must be room for.
    """
    low = options[LOW]
    if np.isnan(low):
        low = min(max(2 * thresholds(level, options)[0] - 1, options[LOW_LEAST]), options[LOW_MOST])
    proper, order, confidence, seen, class_id = rank(boxes, scores, class_of, low, options)
    if not proper:
        return BAD_INPUT, 0, 0, 0, 0.0
    if len(class_id):
        needed = known + len(new_classes(classes, known, class_id))
        if needed > len(classes):
            return MORE_CLASSES, 0, 0, needed, 0.0
    aspect = options[ASPECT] > 0
    total = len(order)
    if elapsed > 1:
        recent = now - tracks[SEEN, :count] <= options[BUFFER] + 1
        confirmed = len(where(recent[:confirmed]))
        count = keep_only(tracks, votes, known, recent)
    at = measure(seen, aspect)
    before = count

    predict(tracks, confirmed, elapsed, options)
    if matrix.size:
        warp(tracks, count, matrix, aspect)
    if total:
        best = confidence[0]
        level = best if best >= level else level + (best - level) * options[FORGET]
    follows = np.isnan(options[HIGH])
    least, least_new = thresholds(level, options)
    high = 0
    while high < total and confidence[high] >= least:
        high += 1
    weight = np.ones(total)
    if options[FUSE] > 0:
        for k in range(high):
            weight[k] = confidence[k]
            if follows:
                scale = options[USUAL_SPAN] / max(level - least, 0.05)
                weight[k] = min((confidence[k] - least) * scale + options[HIGH_MOST], 1.0)

    every, local = np.arange(max(count, total)), np.full(total, -1)
    split = count * total >= options[SPARSE_PAYS]
    left = rising(seen[0])
    pairs = track_overlaps(tracks, count, votes, classes, known, seen, left, class_id, now, options)
    if options[FOLLOW] > 0:
        moved, x, y = camera_shift(tracks, confirmed, pairs, at, weight, every, local, high, split, options)
        if moved:
            for k in range(count):
                tracks[0, k] += x
                tracks[1, k] += y
            pairs = track_overlaps(tracks, count, votes, classes, known, seen, left, class_id, now, options)
    partner = associate(tracks, count, confirmed, pairs, weight, every, local, high, split, options)

    for k in range(count):
        if partner[k] >= 0:
            correct(tracks, k, at, partner[k], 1.0 if partner[k] < high else options[WEAK_NOISE], options)
            tracks[STATUS, k] = TRACKED
            tracks[SEEN, k] = now
        elif k < confirmed and tracks[STATUS, k] == TRACKED:
            tracks[STATUS, k] = LOST
            tracks[7, k] = 0.0
            if not aspect:
                tracks[6, k] = 0.0

    fresh = fresh_ones(partner, seen, confidence, high, least_new, options)
    for k in fresh:
        start(tracks, count, at, k, options)
        tracks[STATUS, count] = TRACKED if first else TENTATIVE
        tracks[SEEN, count] = now
        tracks[BORN, count] = now
        tracks[ID, count] = 0.0
        for row in range(known):
            votes[row, count] = 0.0
        count += 1
    column = np.empty(count, np.int64)
    for k in range(count):
        column[k] = partner[k] if k < before else fresh[k - before]
    if len(class_id):
        known = vote(votes, classes, known, column, class_id, confidence)
    keep = surviving(tracks, column, total, confirmed, before, pairs, now, options)
    if before > confirmed or first:
        for k in range(count):
            if keep[k] and tracks[STATUS, k] == TRACKED and tracks[ID, k] == 0:
                issued += 1
                tracks[ID, k] = issued
    for k in range(len(ids)):
        ids[k] = -1
    for k in range(count):
        if column[k] >= 0 and keep[k] and tracks[ID, k] > 0:
            ids[order[column[k]]] = int(tracks[ID, k])
    tentative = 0 if first else len(where(keep[before:]))
    count = keep_only(tracks, votes, known, keep)
    return count, count - tentative, issued, known, level


def _sources() -> str:
    """A digest of all files that are compiled into :data:`step`: those of this folder but its ``__init__``."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _cached(sources: str) -> Callable[..., Any]:
    """:func:`update`, kept in the cache for exactly these sources: Numba's key holds what a function closes over."""

    def step(
        options: Floats, tracks: Floats, votes: Floats, classes: Ints, matrix: Floats, boxes: Floats, scores: Floats,
        class_of: Ints, ids: Ints, count: int, confirmed: int, issued: int, known: int, level: float, now: float,
        elapsed: float, first: bool,
    ) -> Any:  # fmt: skip
        assert sources
        return update(
            options, tracks, votes, classes, matrix, boxes, scores, class_of, ids, count, confirmed, issued, known,
            level, now, elapsed, first,
        )  # fmt: skip

    return compiled(step, cache=True)


step = _cached(_sources())
