"""Optimal one-to-one assignment with a limit on the cost of a pair."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.track.tracks import Floats, Ints

_NONE: Ints = np.empty(0, np.int64)
_LAP_PAYS = 45


def assign(cost: npt.NDArray[np.floating[Any]], limit: float) -> tuple[Ints, Ints]:
    """Pair rows with columns so that the sum of costs is least, where a row or column left alone costs ``limit / 2``.

    Args:
        cost: (n, m), finite.
        limit: Pairs of this cost or more are never made.

    Returns:
        Rows and columns of the pairs, (k,) each, by row.

    Example:
        >>> rows, columns = assign(np.array([[0.1, 0.2], [0.15, 0.9]]), 0.5)
        >>> list(zip(rows.tolist(), columns.tolist()))
        [(0, 1), (1, 0)]
    """
    # Capping is the same as a limit inside the solver, whose (n + m) squared matrix it spares: a capped pair costs
    # what leaving both alone costs, and is dropped afterwards.
    cost = np.asarray(cost, dtype=np.float64)  # in single precision a capped cost may lie below its limit
    height, width = cost.shape
    if height < 2 or width < 2:
        least = int(cost.argmin()) if cost.size else -1
        if least < 0 or cost.item(least) >= limit:
            return _NONE, _NONE
        return np.array((least // width,)), np.array((least % width,))
    capped = np.minimum(cost, limit)
    small, large = _solvers()
    if large is None or height < _LAP_PAYS or width < _LAP_PAYS:
        rows, columns = small(capped)
    else:
        rows, columns = large(capped)
    spent = capped[rows, columns]
    if spent.item(spent.argmax()) < limit:
        return rows, columns
    kept = spent < limit
    return rows[kept], columns[kept]


def assign_pairs(rows: Ints, columns: Ints, cost: Floats, limit: float) -> tuple[Ints, Ints]:
    """The same for a sparse list of pairs (all others are at or above the limit).

    A pair whose row and column occur in no other candidate pair is optimal by itself; only the rest is solved.

    Args:
        rows, columns, cost: (k,) each.
    """
    possible = cost < limit
    rows, columns, cost = rows[possible], columns[possible], cost[possible]
    if not len(rows):
        return _NONE, _NONE
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    matched_rows, matched_columns = rows[alone], columns[alone]
    if not alone.all():
        contested = ~alone
        few_rows, row = np.unique(rows[contested], return_inverse=True)
        few_columns, column = np.unique(columns[contested], return_inverse=True)
        dense = np.full((len(few_rows), len(few_columns)), limit)
        dense[row, column] = cost[contested]
        more_rows, more_columns = assign(dense, limit)
        matched_rows = np.concatenate((matched_rows, few_rows[more_rows]))
        matched_columns = np.concatenate((matched_columns, few_columns[more_columns]))
    return matched_rows, matched_columns


@functools.cache
def _solvers() -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """SciPy's solver, which costs least per call, and ``lap``'s, which is faster on large problems (optional).

    Both find the least sum without a limit: min(n, m) pairs, by row.
    """
    from scipy.optimize import linear_sum_assignment

    try:
        from lap import lapjv
    except ImportError:
        return linear_sum_assignment, None

    def large(cost: Floats) -> tuple[Ints, Ints]:
        column_of_row, _ = lapjv(cost, extend_cost=True, return_cost=False)
        rows = (column_of_row >= 0).nonzero()[0]
        return rows, column_of_row[rows]

    return linear_sum_assignment, large
