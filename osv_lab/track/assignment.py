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
    if not cost.size:
        return _NONE, _NONE
    # Capping is the same as a limit inside the solver, whose (n + m) squared matrix it spares: a capped pair costs
    # what leaving both alone costs, and is dropped afterwards.
    capped = np.minimum(cost, limit)
    rows, columns = _solve(capped)
    kept = capped[rows, columns] < limit
    return (rows, columns) if kept.all() else (rows[kept], columns[kept])


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


def _solve(cost: npt.NDArray[np.floating[Any]]) -> tuple[Ints, Ints]:
    """The least sum without a limit: min(n, m) pairs, by row."""
    small, large = _solvers()
    if large is None or min(cost.shape) < _LAP_PAYS:
        rows, columns = small(cost)
        return rows, columns
    column_of_row, _ = large(cost, extend_cost=True, return_cost=False)
    if cost.shape[0] <= cost.shape[1]:
        return np.arange(cost.shape[0]), column_of_row
    rows = np.flatnonzero(column_of_row >= 0)
    return rows, column_of_row[rows]


@functools.cache
def _solvers() -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """SciPy's solver, which costs least per call, and ``lap``'s, which is faster on large problems (optional)."""
    from scipy.optimize import linear_sum_assignment

    try:
        from lap import lapjv
    except ImportError:
        lapjv = None
    return linear_sum_assignment, lapjv
