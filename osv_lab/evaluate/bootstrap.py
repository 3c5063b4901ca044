"""What luck could do to a metric: the paired bootstrap over images, exact and without matching anything twice.

A resample draws as many images as there are, with replacement (Efron 1979, https://doi.org/10.1214/aos/1176344552). It
is kept as a weight per image, how often it was drawn. Matching happens within an image, so a resample's average
precision is that of the same matches with every prediction and target counted as often as its image. Two models see
the same resamples, which takes out of their difference what is only the images' difficulty.

Many differences at once are judged together by the largest studentised one (Westfall and Young 1993; Romano and Wolf
2005, https://doi.org/10.1198/016214504000000539): of all of them, luck makes even one exceed its band only with the
stated probability.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.detect.metrics import RECALLS, Matches

_CHUNK = 1 << 18  # Elements worked on at a time: what stays in a processor's cache.


def resample_weights(images: int, n_boot: int, seed: int) -> np.ndarray:
    """``(1 + n_boot, images) int32``: how often each image counts. The first row is the images as they are.

    Raises:
        UsageError: nothing to draw from, or fewer than 100 resamples.

    Example:
        >>> weights = resample_weights(5, 100, 51)
        >>> weights[0].tolist(), set(weights.sum(axis=1).tolist())
        ([1, 1, 1, 1, 1], {5})
    """
    if images < 1 or n_boot < 100:
        raise UsageError(
            "a bootstrap needs images and at least 100 resamples", f"{images} images, n_boot={n_boot}"
        )
    drawn = np.random.default_rng(seed).integers(0, images, size=(n_boot, images))
    drawn += np.arange(n_boot)[:, None] * images
    counts = np.bincount(drawn.ravel(), minlength=n_boot * images).reshape(n_boot, images)
    return np.concatenate([np.ones((1, images)), counts]).astype(np.int32)


def part_of(matches: Matches, images: np.ndarray) -> Matches:
    """The matches of some images, a ``(images,) bool`` mask, renumbered from 0."""
    kept = images[matches.image]
    number = np.cumsum(images) - 1
    return Matches(
        number[matches.image[kept]], matches.true[:, kept], matches.ignored[:, kept], matches.targets[images]
    )


def weighted_precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """Average precision of a class for each weighting of the images.

    Args:
        matches: Of ``n`` predictions at ``t`` IoU thresholds.
        weights: ``(b, images)`` whole numbers.

    Returns:
        ``(b, t)``, 0 to 1; NaN where no target has a weight. It equals :func:`osv_lab.detect.metrics.average_precision`
        of the images repeated as often as they count, but for predictions of one image with one confidence, whose
        repetitions stand together here.
    """
    targets = weights @ matches.targets
    if (compiled := _compiled()) is not None:
        counted = ~matches.ignored.all(axis=0)
        tables = (matches.image[counted], matches.true[:, counted], matches.ignored[:, counted])
        arrays = (*tables, weights, targets, _hits_needed(targets).astype(np.int32))
        return np.asarray(compiled(*map(np.ascontiguousarray, arrays)))
    found = np.full((len(weights), len(matches.true)), np.nan)
    rows = max(1, _CHUNK // max(len(matches.image), 1))
    for start in range(0, len(weights), rows):
        some = slice(start, start + rows)
        found[some] = _precision(matches, weights[some], targets[some])
    return found


@functools.cache
def _compiled() -> Any:
    """The compiled loop, some ten times as fast; ``None`` where Numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return None
    from osv_lab.evaluate import bootstrap_compiled

    return bootstrap_compiled.weighted_precision


def _precision(matches: Matches, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """:func:`weighted_precision` of a few weightings."""
    needed = _hits_needed(targets)
    weights = weights.astype(np.float64)  # Whole numbers still; of floats, sums and quotients are faster.
    every = np.zeros((0, 0))
    found = np.full((len(weights), len(matches.true)), np.nan)
    for column, (true, ignored) in enumerate(zip(matches.true, matches.ignored, strict=True)):
        hits_at = np.flatnonzero(true)
        if ignored.any():
            counted = np.flatnonzero(~ignored)
            total = np.cumsum(np.take(weights, matches.image[counted], axis=1), axis=1)
            total = np.take(total, np.searchsorted(counted, hits_at), axis=1)
        else:
            if not len(every):
                every = np.cumsum(np.take(weights, matches.image, axis=1), axis=1)
            total = np.take(every, hits_at, axis=1)
        hits = np.cumsum(np.take(weights, matches.image[hits_at], axis=1), axis=1)
        found[:, column] = _average(hits, total, needed)
    found[targets == 0] = np.nan
    return found


def _average(hits: np.ndarray, total: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Average precision of ``b`` curves given at their ``n`` true predictions.

    Args:
        hits: ``(b, n)`` true predictions up to each.
        total: ``(b, n)`` predictions up to each; overwritten.
        needed: ``(b, 101)`` how many hits reach each recall.
    """
    if not hits.shape[1]:
        return np.zeros(len(hits))
    precision = np.divide(hits, np.maximum(total, 1, out=total), out=total)
    last = hits[:, -1:].copy()
    # One ascending row for all curves, so that one search answers for all.
    base = np.arange(len(hits))[:, None] * (last.max() + 1)
    hits += base
    place = np.searchsorted(hits.ravel(), (np.minimum(needed, last) + base).ravel())
    # The best precision from one recall to the next, then monotone from the right. False predictions between two true
    # ones never are a maximum.
    best = np.maximum.reduceat(precision.ravel(), place).reshape(needed.shape)
    best = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.where(needed <= last, best, 0).sum(axis=1) / len(RECALLS))


def _hits_needed(targets: np.ndarray) -> np.ndarray:
    """``(b, 101)`` the fewest of each number of targets that reach each recall, by COCO's floating-point comparison."""
    whole = targets[:, None]
    needed = np.maximum(np.floor(RECALLS * whole) - 1, 0)
    for _ in range(3):
        needed += needed / np.maximum(whole, 1) < RECALLS
    return np.asarray(needed)


@dataclass(frozen=True)
class Estimates:
    """Differences with what luck could do to them; each array has one entry per difference.

    Attributes:
        value: The difference on the images as they are.
        low: Lower end of its interval, alone.
        high: Upper end.
        p: Probability of a difference at least so far from zero if there were none, either way, alone.
        p_adjusted: The same, judged together with all the others.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    p_adjusted: np.ndarray


def estimates(values: np.ndarray, level: float = 0.95, together: np.ndarray | None = None) -> Estimates:
    """Intervals and p-values of ``m`` quantities.

    Args:
        values: ``(1 + b, m)``: each quantity on the images as they are, then on the resamples. NaN where a resample has
            nothing to measure, which leaves it out for that quantity.
        level: Of the intervals (percentiles of the resamples).
        together: ``(m,) bool`` which are judged together; all by default. The others have no ``p_adjusted``.
    """
    value, drawn = values[0], values[1:]
    known = np.isfinite(drawn).sum(axis=0) >= len(drawn) // 2
    low, high, p = (np.full(len(value), np.nan) for _ in range(3))
    use = known & np.isfinite(value)
    if use.any():
        tail = (1 - level) / 2
        low[use], high[use] = np.nanquantile(drawn[:, use], [tail, 1 - tail], axis=0)
        # The resamples scatter about the difference as it would scatter about the truth.
        counted = np.isfinite(drawn[:, use]).sum(axis=0)
        below, above = (drawn[:, use] <= 0).sum(axis=0), (drawn[:, use] >= 0).sum(axis=0)
        p[use] = np.minimum(1, 2 * (np.minimum(below, above) + 1) / (counted + 1))
    return Estimates(value, low, high, p, _adjusted(values, use if together is None else use & together, np.abs))


def one_sided_adjusted(values: np.ndarray, margin: float = 0.0, together: np.ndarray | None = None) -> np.ndarray:
    """``(m,)`` probability that luck alone shows a fall as large as each, anywhere among all of them.

    Args:
        values: As for :func:`estimates`; a fall is a negative value.
        margin: Falls are counted from here: the difference that is still accepted, at least 0.
        together: As for :func:`estimates`.
    """
    shifted = values + margin
    use = np.isfinite(values[0]) & (np.isfinite(values[1:]).sum(axis=0) >= len(values[1:]) // 2)
    return _adjusted(shifted, use if together is None else use & together, np.negative)


def _adjusted(values: np.ndarray, use: np.ndarray, side: np.ufunc) -> np.ndarray:
    adjusted = np.full(values.shape[1], np.nan)
    if not use.any():
        return adjusted
    value, drawn = values[0, use], values[1:, use]
    error = np.nanstd(drawn, axis=0, ddof=1)
    # What no resample changes has no luck in it: only rounding separates it from its error of zero.
    error = np.where(error > 1e-12, error, np.where(np.abs(value) > 1e-12, 1e-12, np.inf))
    largest = np.nanmax(side((drawn - value) / error), axis=1)
    reached = side(value / error)
    adjusted[use] = ((largest[:, None] >= reached[None]).sum(axis=0) + 1) / (len(drawn) + 1)
    return adjusted


def mean_precision(by_class: Sequence[np.ndarray]) -> np.ndarray:
    """``(b, t)`` mean over classes of their average precisions, those without targets left out; NaN where none has."""
    if not by_class:
        raise UsageError("there is no class to average over")
    stacked = np.stack(by_class)
    known = np.isfinite(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
