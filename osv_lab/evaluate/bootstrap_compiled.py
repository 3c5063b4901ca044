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
    needed: np.ndarray,
) -> np.ndarray:
    """:func:`osv_lab.evaluate.bootstrap.weighted_precision`.

    ``targets`` is ``(b,)``; ``needed`` is ``(b, 101)``, how many hits reach each recall.
    """
    thresholds, count = true.shape
    levels = needed.shape[1]
    found = np.full((len(weights), thresholds), np.nan)
    own = np.empty(count, np.int32)
    hits = np.empty(count, np.int32)
    total = np.empty(count, np.int32)
    for b in range(len(weights)):
        if targets[b] == 0:
            continue
        for k in range(count):
            own[k] = weights[b, image[k]]
        for t in range(thresholds):
            reached, hit, all_ = 0, 0, 0
            for k in range(count):
                weight = 0 if ignored[t, k] else own[k]
                all_ += weight
                hit += weight if true[t, k] else 0
                # Written always and kept only where it is a hit: a branch would cost more than the write.
                hits[reached] = hit
                total[reached] = all_
                reached += 1 if true[t, k] and weight else 0
            best, area, level = 0.0, 0.0, levels - 1
            for k in range(reached - 1, -1, -1):
                best = max(best, hits[k] / total[k])
                before = hits[k - 1] if k else -1
                while level >= 0 and needed[b, level] > before:
                    if needed[b, level] <= hits[k]:
                        area += best
                    level -= 1
            found[b, t] = area / levels
    return found
