"""One update of ByteTrack, or of BoT-SORT without embeddings, as compiled loops.

Each function mirrors one of the NumPy path (named in its docstring) and does its arithmetic in the same order, so that
both give the same identities; ``tests/unit/track/test_compiled.py`` compares them. Without Numba the functions are
plain Python: hundreds of times slower, and good for nothing but that comparison.

Everything is in this one file, and every constant comes in :data:`Floats` ``options``, because Numba's cache notices a
change of the file a function is in and of nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.track.table import BORN, ID, LOST, SEEN, STATUS, TENTATIVE, TRACKED
from osv_lab.track.tracks import Floats, Ints

try:
    from numba import njit

    COMPILES = True
except ImportError:
    COMPILES = False


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    if not COMPILES:
        return function
    compiled: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


Mask = npt.NDArray[np.bool_]
Pairs = tuple[Ints, Ints, Floats]

# Where in ``options`` a setting or a constant is.
(
    HIGH, NEW, LOW, MATCH, MATCH_LOW, MATCH_TENTATIVE, FUSE, DUPLICATE_IOU, NEW_IOU, LOST_DISCOUNT, FOLLOW, PER_CLASS,
    BUFFER, ASPECT, SHAKEN, LEAST_PAIRS, SIGNIFICANT, ERROR_PER_MAD, LARGEST, SPARSE_PAYS, NOISE_P, NOISE_V, START_P,
    START_V, HIGH_AT_ONE, HIGH_LEAST, HIGH_MOST, NEW_AT_ONE, NEW_LEAST, NEW_MOST, USUAL_SPAN, FORGET, HEIGHT_POWER,
    WEAK_NOISE, LOW_LEAST, LOW_MOST, OPTIONS,
) = range(37)  # fmt: skip

# What ``step`` returns as the number of tracks when it did nothing.
BAD_INPUT, MORE_CLASSES = -1, -2


# -- input -----------------------------------------------------------------------------------------------------


@_compiled
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


@_compiled
def where(mask: Mask) -> Ints:
    """``mask.nonzero()[0]``."""
    found = np.empty(len(mask), np.int64)
    count = 0
    for k in range(len(mask)):
        if mask[k]:
            found[count] = k
            count += 1
    return found[:count]


@_compiled
def having(tracks: Floats, first: int, last: int, status: float) -> Ints:
    """The tracks of a status, of those from ``first`` to ``last``."""
    found = np.empty(last - first, np.int64)
    count = 0
    for k in range(first, last):
        if tracks[STATUS, k] == status:
            found[count] = k
            count += 1
    return found[:count]


@_compiled
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
            width, height = boxes[k, 2] - boxes[k, 0], boxes[k, 3] - boxes[k, 1]
            if 0 < width < options[LARGEST] and 0 < height < options[LARGEST]:
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


@_compiled
def measure(box: Floats, aspect: bool) -> Floats:
    """``BoxModel.measure``: (4, n) corners to positions."""
    at = np.empty_like(box)
    for k in range(box.shape[1]):
        at[0, k], at[1, k] = (box[0, k] + box[2, k]) * 0.5, (box[1, k] + box[3, k]) * 0.5
        at[2, k], at[3, k] = box[2, k] - box[0, k], box[3, k] - box[1, k]
        if aspect:
            at[2, k] /= at[3, k]
    return at


@_compiled
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


# -- filters ---------------------------------------------------------------------------------------------------


@_compiled
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


@_compiled
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


@_compiled
def correct(tracks: Floats, k: int, at: Floats, column: int, noise: float, options: Floats) -> None:
    """``kalman.correct``, of one track by one measurement."""
    aspect = options[ASPECT] > 0
    width, height = tracks[2, k], tracks[3, k]
    for row in range(4):
        side = height if aspect or row % 2 else width
        total = 1e-2 if aspect and row == 2 else side * side * options[NOISE_P]
        var_p, cov_pv = tracks[8 + row, k], tracks[12 + row, k]
        total *= noise
        total += var_p
        innovation = at[row, column] - tracks[row, k]
        gain_p, gain_v = var_p / total, cov_pv / total
        tracks[row, k] += gain_p * innovation
        tracks[4 + row, k] += gain_v * innovation
        tracks[16 + row, k] -= gain_v * cov_pv
        tracks[12 + row, k] = cov_pv - gain_v * var_p
        tracks[8 + row, k] = var_p - gain_p * var_p


@_compiled
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


@_compiled
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


# -- association -----------------------------------------------------------------------------------------------


@_compiled
def iou_of(first: Floats, j: int, second: Floats, k: int) -> float:
    """``paired_iou`` of two boxes."""
    width = min(first[2, j], second[2, k]) - max(first[0, j], second[0, k])
    height = min(first[3, j], second[3, k]) - max(first[1, j], second[1, k])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    area = (first[2, j] - first[0, j]) * (first[3, j] - first[1, j])
    return float(overlap / (area + (second[2, k] - second[0, k]) * (second[3, k] - second[1, k]) - overlap))


@_compiled
def first_from(values: Floats, least: float) -> int:
    """Where rising values reach ``least``."""
    first, last = 0, len(values)
    while first < last:
        middle = (first + last) // 2
        if values[middle] < least:
            first = middle + 1
        else:
            last = middle
    return first


@_compiled
def overlaps(box: Floats, seen: Floats, order: Ints, height_power: float) -> Pairs:
    """``overlapping_pairs``: where each track's pairs begin, their detections, and their IoU.

    Args:
        order: The detections from left to right.
    """
    tracks, count = box.shape[1], seen.shape[1]
    begin = np.empty(tracks + 1, np.int64)
    column, iou = np.empty(4 * (tracks + count), np.int64), np.empty(4 * (tracks + count))
    left, top, right, bottom, area, value = np.empty((6, count))
    widest = 0.0
    for at in range(count):
        k = order[at]
        left[at], top[at], right[at], bottom[at] = seen[0, k], seen[1, k], seen[2, k], seen[3, k]
        width = right[at] - left[at]
        area[at] = width * (bottom[at] - top[at])
        widest = max(widest, width)
    total = 0
    for j in range(tracks):
        begin[j] = total
        x1, y1, x2, y2 = box[0, j], box[1, j], box[2, j], box[3, j]
        own = (x2 - x1) * (y2 - y1)
        first = first_from(left, x1 - widest)
        last = first_from(left, x2)
        for at in range(first, last):  # without a branch, so that it runs in the processor's vectors
            width = (right[at] if right[at] < x2 else x2) - (left[at] if left[at] > x1 else x1)
            height = (bottom[at] if bottom[at] < y2 else y2) - (top[at] if top[at] > y1 else y1)
            overlap = (width if width > 0 else 0.0) * (height if height > 0 else 0.0)
            value[at] = overlap / (own + area[at] - overlap)
        for at in range(first, last):
            if value[at] > 0:
                if height_power > 0:
                    shared = (bottom[at] if bottom[at] < y2 else y2) - (top[at] if top[at] > y1 else y1)
                    shared /= (y2 - y1) + (bottom[at] - top[at]) - shared
                    value[at] *= shared * shared if height_power == 2 else shared**height_power
                if total == len(iou):
                    more_column, more_iou = np.empty(2 * total, np.int64), np.empty(2 * total)
                    for k in range(total):
                        more_column[k], more_iou[k] = column[k], iou[k]
                    column, iou = more_column, more_iou
                column[total], iou[total] = order[at], value[at]
                total += 1
    begin[tracks] = total
    return begin, column, iou


@_compiled
def least_cost(cost: Floats) -> Ints:
    """(n,) for each row its column, so that the sum is least, for n <= m: SciPy's ``linear_sum_assignment``, step by
    step (Crouse, 2016: shortest augmenting paths), so that equal sums are decided alike.
    """
    rows, columns = cost.shape
    u, v, shortest = np.zeros((3, columns))
    path, remaining, column_of_row, row_of_column = np.full((4, columns), -1)
    row_done, column_done = np.zeros((2, columns), np.bool_)
    for current in range(rows):
        least, sink, row, left = 0.0, -1, current, columns
        for k in range(columns):
            remaining[k] = columns - k - 1
            shortest[k] = np.inf
            column_done[k] = False
        for j in range(rows):
            row_done[j] = False
        while sink == -1:
            row_done[row] = True
            chosen, lowest = -1, np.inf
            for at in range(left):
                k = remaining[at]
                reduced = least + cost[row, k] - u[row] - v[k]
                if reduced < shortest[k]:
                    path[k] = row
                    shortest[k] = reduced
                if shortest[k] < lowest or (shortest[k] == lowest and row_of_column[k] == -1):
                    lowest, chosen = shortest[k], at
            least = lowest
            k = remaining[chosen]
            if row_of_column[k] == -1:
                sink = k
            else:
                row = row_of_column[k]
            column_done[k] = True
            left -= 1
            remaining[chosen] = remaining[left]
        u[current] += least
        for row in range(rows):
            if row_done[row] and row != current:
                u[row] += least - shortest[column_of_row[row]]
        for k in range(columns):
            if column_done[k]:
                v[k] -= least - shortest[k]
        k = sink
        row = -1
        while row != current:
            row = path[k]
            row_of_column[k] = row
            k, column_of_row[row] = column_of_row[row], k
    return column_of_row[:rows]


@_compiled
def assign_block(
    pairs: Pairs,
    weight: Floats,
    rows: Ints,
    columns: Ints,
    local: Ints,
    limit: float,
    partner: Ints,
) -> None:
    """``assign`` of the given rows to the given columns.

    Args:
        weight: (k,) per detection.
        local: (k,) scratch, -1 everywhere.
        partner: (n,) takes the detection of each matched row.
    """
    if len(rows) == 0 or len(columns) == 0:
        return
    begin, column, iou = pairs
    for k in range(len(columns)):
        local[columns[k]] = k
    turned = len(rows) > len(columns)
    cost = np.full((len(columns), len(rows)) if turned else (len(rows), len(columns)), limit)
    for j in range(len(rows)):
        for at in range(begin[rows[j]], begin[rows[j] + 1]):
            k = local[column[at]]
            if k >= 0:
                value = min(1.0 - iou[at] * weight[column[at]], limit)
                if turned:
                    cost[k, j] = value
                else:
                    cost[j, k] = value
    found = least_cost(cost)
    for j in range(len(found)):
        if cost[j, found[j]] < limit:
            if turned:
                partner[rows[found[j]]] = columns[j]
            else:
                partner[rows[j]] = columns[found[j]]
    for k in columns:
        local[k] = -1


@_compiled
def root_of(parent: Ints, k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@_compiled
def assign(
    pairs: Pairs,
    weight: Floats,
    rows: Ints,
    columns: Ints,
    local: Ints,
    limit: float,
    split: bool,
    partner: Ints,
) -> None:
    """``Overlaps.pairs``: in one block, or (``split``) in one for each group of boxes that compete."""
    begin, column, iou = pairs
    count = len(weight)
    if not split:
        assign_block(pairs, weight, rows, columns, local, limit, partner)
        return
    # Union-find over detections, then tracks.
    parent = np.arange(count + len(rows))
    part = np.zeros(count, np.bool_)
    for k in columns:
        part[k] = True
    for j in range(len(rows)):
        for at in range(begin[rows[j]], begin[rows[j] + 1]):
            k = column[at]
            if part[k] and 1.0 - iou[at] * weight[k] < limit:
                parent[root_of(parent, count + j)] = root_of(parent, k)
    row_group, column_group = np.empty(len(rows)), np.empty(len(columns))
    for j in range(len(rows)):
        row_group[j] = root_of(parent, count + j)
    for k in range(len(columns)):
        column_group[k] = root_of(parent, columns[k])
    row_order, column_order = rising(row_group), rising(column_group)
    few_rows, few_columns = np.empty(len(rows), np.int64), np.empty(len(columns), np.int64)
    j = k = 0
    while j < len(rows):
        group = row_group[row_order[j]]
        several = one = 0
        while j < len(rows) and row_group[row_order[j]] == group:
            few_rows[several] = rows[row_order[j]]
            several += 1
            j += 1
        while k < len(columns) and column_group[column_order[k]] <= group:
            if column_group[column_order[k]] == group:
                few_columns[one] = columns[column_order[k]]
                one += 1
            k += 1
        assign_block(pairs, weight, few_rows[:several], few_columns[:one], local, limit, partner)


@_compiled
def median(values: Floats) -> float:
    """``motion._median``."""
    order = rising(values)
    middle = len(values) // 2
    if len(values) % 2:
        return float(values[order[middle]])
    return float((values[order[middle - 1]] + values[order[middle]]) * 0.5)


# -- the steps of a frame --------------------------------------------------------------------------------------


@_compiled
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


@_compiled
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


@_compiled
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


@_compiled
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


@_compiled
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


@_compiled
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


@_compiled
def surviving(tracks: Floats, count: int, confirmed: int, before: int, now: float, options: Floats) -> Mask:
    """``ByteTrack._surviving``."""
    keep = np.ones(count, np.bool_)
    for k in range(confirmed, before):
        keep[k] = tracks[STATUS, k] == TRACKED
    lost = having(tracks, 0, count, LOST)
    if not len(lost):
        return keep
    aspect = options[ASPECT] > 0
    least = options[DUPLICATE_IOU]
    reach = (1 - least) / max(least, 1e-9)
    box = np.empty((0, 0))
    for far in lost:
        height = tracks[3, far] * reach
        width = (tracks[2, far] * tracks[3, far] if aspect else tracks[2, far]) * reach
        for near in range(count):
            if (
                tracks[SEEN, near] == now
                and abs(tracks[0, near] - tracks[0, far]) <= width
                and abs(tracks[1, near] - tracks[1, far]) <= height
                and abs(tracks[3, near] - tracks[3, far]) <= height
            ):
                if not box.size:
                    box = corners(tracks, count, aspect)
                if iou_of(box, near, box, far) > least:
                    older = tracks[SEEN, near] - tracks[BORN, near] > tracks[SEEN, far] - tracks[BORN, far]
                    keep[far if older else near] = False
    for far in lost:
        if now - tracks[SEEN, far] > options[BUFFER]:
            keep[far] = False
    return keep


@_compiled
def thresholds(level: float, options: Floats) -> tuple[float, float]:
    """``ByteTrack.high`` and ``.new``."""
    high, new = options[HIGH], options[NEW]
    if np.isnan(high):
        high = min(max(options[HIGH_AT_ONE] * (level * level), options[HIGH_LEAST]), options[HIGH_MOST])
    if np.isnan(new):
        new = min(max(options[NEW_AT_ONE] * (level * level), options[NEW_LEAST]), options[NEW_MOST])
    return high, new


@_compiled
def step(
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
    keep = surviving(tracks, count, confirmed, before, now, options)
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
