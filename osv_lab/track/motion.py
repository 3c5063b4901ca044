"""Camera motion between two frames: as given, or from the boxes themselves."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError
from osv_lab.track.tracks import Floats

# Fewer pairs say nothing about the camera.
LEAST_PAIRS = 4
# How many standard errors the median must be from zero; below, a still camera would be shaken by noise.
SIGNIFICANT = 2.0
# Standard error of the median of k normal values: 1.4826 MAD estimates their deviation, 1.2533 is sqrt(pi / 2).
_ERROR_PER_MAD = 1.4826 * 1.2533


def check_warp(warp: npt.ArrayLike) -> Floats:
    """A (2, 3) warp, finite and not degenerate.

    Raises:
        InvalidDataError: anything else.
    """
    matrix = np.asarray(warp, dtype=np.float64)
    if matrix.shape == (3, 3):
        matrix = matrix[:2]
    if matrix.shape != (2, 3):
        raise InvalidDataError("a warp of the wrong shape", matrix.shape, "give a (2, 3) affine matrix")
    (a, b, x), (c, d, y) = matrix.tolist()
    if not 1e-3 < a * d - b * c < 1e3 or not all(map(math.isfinite, (a, b, c, d, x, y))):
        raise InvalidDataError(
            "a warp that is no camera motion", matrix.round(4).tolist(), "check how it was found"
        )
    return matrix


def shift_from_boxes(predicted: Floats, seen: Floats) -> Floats | None:
    """The camera's unforeseen shift: what all objects have in common is not their own motion.

    Args:
        predicted: (2, k) centres where tracks were expected.
        seen: (2, k) centres of the detections that surely belong to them.

    Returns:
        (2, 1) the median residual, or ``None`` when there are too few pairs or it may be noise.

    Example:
        >>> at = np.arange(20.0).reshape(2, 10)
        >>> shift_from_boxes(at, at + [[5.0], [0.0]]).ravel().tolist()
        [5.0, 0.0]
        >>> shift_from_boxes(at, at) is None
        True
    """
    count = predicted.shape[1]
    if count < LEAST_PAIRS:
        return None
    residual = seen - predicted
    shift = _median(residual)
    error = _median(np.abs(residual - shift)) * (_ERROR_PER_MAD / count**0.5)
    return shift if (np.abs(shift) > SIGNIFICANT * error).any() else None


def _median(values: Floats) -> Floats:
    """(2, 1) median of (2, k); ``np.median`` takes ten times as long on a few values."""
    ordered = np.sort(values, axis=1)
    middle = values.shape[1] // 2
    if values.shape[1] % 2:
        return ordered[:, middle : middle + 1]
    return (ordered[:, middle - 1 : middle] + ordered[:, middle : middle + 1]) * 0.5
