"""What the modules of the compiled update share: the decorator, and where in ``options`` a value is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.track.tracks import Floats, Ints

try:
    from numba import njit

    COMPILES = True
except ImportError:
    COMPILES = False

Mask = npt.NDArray[np.bool_]
Pairs = tuple[Ints, Ints, Floats]


def compiled(function: Callable[..., Any], *, cache: bool = False) -> Callable[..., Any]:
    """The function compiled where Numba is installed, else as it is.

    Args:
        cache: Keep what was compiled. Only for the outermost function, into which all others are compiled: Numba
            notices a change of the file that a function is in, and not of those it calls.
    """
    if not COMPILES:
        return function
    made: Callable[..., Any] = njit(cache=cache, nogil=True, error_model="numpy")(function)
    return made


# Where in ``options`` a setting or a constant is.
(
    HIGH, NEW, LOW, MATCH, MATCH_LOW, MATCH_TENTATIVE, FUSE, DUPLICATE_IOU, NEW_IOU, LOST_DISCOUNT, FOLLOW, PER_CLASS,
    BUFFER, ASPECT, SHAKEN, LEAST_PAIRS, SIGNIFICANT, ERROR_PER_MAD, FARTHEST, SPARSE_PAYS, NOISE_P, NOISE_V, START_P,
    START_V, HIGH_AT_ONE, HIGH_LEAST, HIGH_MOST, NEW_AT_ONE, NEW_LEAST, NEW_MOST, USUAL_SPAN, FORGET, HEIGHT_POWER,
    WEAK_NOISE, LOW_LEAST, LOW_MOST, OPTIONS,
) = range(37)  # fmt: skip

# What ``step`` returns as the number of tracks when it did nothing.
BAD_INPUT, MORE_CLASSES = -1, -2
