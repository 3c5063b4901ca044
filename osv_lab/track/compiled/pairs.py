"""Compiled: which tracks and detections overlap, and optimal assignment."""

from __future__ import annotations

import numpy as np

from osv_lab.track.compiled.filters import rising
from osv_lab.track.compiled.layout import Pairs, compiled
from osv_lab.track.tracks import Floats, Ints


@compiled
def iou_of(first: Floats, j: int, second: Floats, k: int) -> float:
    """``paired_iou`` of two boxes."""
    width = min(first[2, j], second[2, k]) - max(first[0, j], second[0, k])
    height = min(first[3, j], second[3, k]) - max(first[1, j], second[1, k])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    area = (first[2, j] - first[0, j]) * (first[3, j] - first[1, j])
    return float(overlap / (area + (second[2, k] - second[0, k]) * (second[3, k] - second[1, k]) - overlap))


@compiled
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


@compiled
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


@compiled
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


@compiled
def assign_block(
    pairs: Pairs,
    weight: Floats,
    rows: Ints,
    columns: Ints,
    local: Ints,
    limit: float,
    partner: Ints,
) -> None:
    """``assign`` of the given rows to the given columns, at cost ``-IoU * weight``.

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
                value = min(iou[at] * -weight[column[at]], limit)
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


@compiled
def root_of(parent: Ints, k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled
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
    limit = limit - 1.0
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
            if part[k] and iou[at] * -weight[k] < limit:
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


@compiled
def median(values: Floats) -> float:
    """``motion._median``."""
    order = rising(values)
    middle = len(values) // 2
    if len(values) % 2:
        return float(values[order[middle]])
    return float((values[order[middle - 1]] + values[order[middle]]) * 0.5)
