"""Camera motion between two frames: as given, or from the boxes themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError
from osv_lab.track.tracks import Floats


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
    determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
    if not 1e-3 < determinant < 1e3 or not np.isfinite(matrix).all():
        raise InvalidDataError(
            "a warp that is no camera motion", matrix.round(4).tolist(), "check how it was found"
        )
    return matrix
