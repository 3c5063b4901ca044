"""The bootstrap's inner loop compiled, where Numba is installed (``pip install osv-lab[fast]``)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def weighted_precision(
    image: np.ndarray,
    true: np.ndarray,
    ignored: np.ndarray,
    weights: np.ndarray,
    targets: np.ndarray,
    recalls: np.ndarray,
) -> np.ndarray:
    """:func:`osv_lab.evaluate.bootstrap.weighted_precision`, of ``(b,)`` numbers of targets."""
    thresholds, count = true.shape
    found = np.full((len(weights), thresholds), np.nan)
    hits = np.empty(count + 1)
    precision = np.empty(count)
    for b in range(len(weights)):
        if targets[b] == 0:
            continue
        for t in range(thresholds):
            reached, hit, total = 0, 0, 0
            for k in range(count):
                weight = weights[b, image[k]]
                if weight == 0 or ignored[t, k]:
                    continue
                total += weight
                if true[t, k]:
                    hit += weight
                    hits[reached] = hit / targets[b]
                    precision[reached] = hit / total
                    reached += 1
            best, area, level = 0.0, 0.0, len(recalls) - 1
            for k in range(reached - 1, -1, -1):
                best = max(best, precision[k])
                before = hits[k - 1] if k else -1.0
                while level >= 0 and recalls[level] > before:
                    if recalls[level] <= hits[k]:
                        area += best
                    level -= 1
            found[b, t] = area / len(recalls)
    return found
