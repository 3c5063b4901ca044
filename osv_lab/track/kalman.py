"""Constant-velocity Kalman filters for all boxes at once.

A box is four numbers (centre x, centre y, a size, height) that move independently of each other, so the 8-state filter
of SORT, ByteTrack and BoT-SORT is exactly four 2-state filters (position, velocity), and each covariance three numbers
instead of a 8x8 matrix. All filters of all tracks are rows of one array:

    rows 0-3  position, 4-7 velocity, 8-11 var(position), 12-15 cov(position, velocity), 16-19 var(velocity)

with one column per track. Wojke et al. 2017 (DeepSORT, https://arxiv.org/abs/1703.07402) for the noise model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from osv_lab.track.tracks import Floats

ROWS = 20
POSITION, VELOCITY = slice(0, 4), slice(4, 8)
VAR_P, COV_PV, VAR_V = slice(8, 12), slice(12, 16), slice(16, 20)

# Standard deviations relative to the box, per frame.
STD_POSITION = 1 / 20
STD_VELOCITY = 1 / 160


class BoxModel(Protocol):
    """How a box becomes four numbers, and how noisy each is."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Velocity rows of the sizes that a lost track keeps fixed."""

    def measure(self, corners: Floats) -> Floats:
        """(4, n) corners x1, y1, x2, y2 to (4, n) positions."""

    def size(self, position: Floats) -> Floats:
        """(2, n) width and height."""

    def variances(self, position: Floats) -> tuple[Floats, Floats]:
        """(4, n) variance per frame of the position and of the velocity, for boxes at ``position``."""

    def measurement_variance(self, position: Floats) -> Floats:
        """(4, n) variance of a measured position."""

    def start_variances(self, position: Floats) -> tuple[Floats, Floats]:
        """(4, n) variance of position and velocity of a new track."""


@dataclass(frozen=True)
class AspectModel:
    """Centre, aspect ratio and height (SORT, DeepSORT, ByteTrack). Noise grows with the height."""

    sizes: tuple[int, ...] = (7,)

    def measure(self, corners: Floats) -> Floats:
        position = np.empty_like(corners)
        np.subtract(corners[2:], corners[:2], out=position[2:])
        np.add(corners[:2], corners[2:], out=position[:2])
        position[:2] *= 0.5
        position[2] /= position[3]
        return position

    def size(self, position: Floats) -> Floats:
        size = position[2:].copy()
        size[0] *= size[1]
        return size

    def variances(self, position: Floats) -> tuple[Floats, Floats]:
        square = position[3] * position[3]
        return square * _ASPECT_P + _ASPECT_P0, square * _ASPECT_V + _ASPECT_V0

    def measurement_variance(self, position: Floats) -> Floats:
        return np.asarray(position[3] * position[3] * _ASPECT_P + _ASPECT_R0)

    def start_variances(self, position: Floats) -> tuple[Floats, Floats]:
        square = position[3] * position[3]
        return 4 * square * _ASPECT_P + _ASPECT_P0, 100 * square * _ASPECT_V + _ASPECT_V0


@dataclass(frozen=True)
class SizeModel:
    """Centre, width and height (BoT-SORT). Noise across grows with the width, along with the height."""

    sizes: tuple[int, ...] = (6, 7)

    def measure(self, corners: Floats) -> Floats:
        position = np.empty_like(corners)
        np.subtract(corners[2:], corners[:2], out=position[2:])
        np.add(corners[:2], corners[2:], out=position[:2])
        position[:2] *= 0.5
        return position

    def size(self, position: Floats) -> Floats:
        return position[2:]

    def variances(self, position: Floats) -> tuple[Floats, Floats]:
        square = _sizes_squared(position)
        return square * STD_POSITION**2, square * STD_VELOCITY**2

    def measurement_variance(self, position: Floats) -> Floats:
        return _sizes_squared(position) * STD_POSITION**2

    def start_variances(self, position: Floats) -> tuple[Floats, Floats]:
        square = _sizes_squared(position)
        return square * (2 * STD_POSITION) ** 2, square * (10 * STD_VELOCITY) ** 2


def _sizes_squared(position: Floats) -> Floats:
    square = position[2:] * position[2:]
    return np.concatenate((square, square))


def _column(*values: float) -> Floats:
    return np.array(values)[:, None]


# The aspect ratio's noise does not depend on the height.
_ASPECT_P, _ASPECT_P0 = _column(1, 1, 0, 1) * STD_POSITION**2, _column(0, 0, 1e-4, 0)
_ASPECT_V, _ASPECT_V0 = _column(1, 1, 0, 1) * STD_VELOCITY**2, _column(0, 0, 1e-10, 0)
_ASPECT_R0 = _column(0, 0, 1e-2, 0)


def corners(model: BoxModel, position: Floats) -> Floats:
    """(4, n) positions to (4, n) corners x1, y1, x2, y2."""
    half = model.size(position) * 0.5
    boxes = np.empty_like(position)
    np.subtract(position[:2], half, out=boxes[:2])
    np.add(position[:2], half, out=boxes[2:])
    return boxes


def start(model: BoxModel, measured: Floats) -> Floats:
    """New filters at rest.

    Args:
        measured: (4, n) positions.

    Returns:
        (20, n) filters.
    """
    state = np.zeros((ROWS, measured.shape[1]))
    state[POSITION] = measured
    state[VAR_P], state[VAR_V] = model.start_variances(measured)
    return state


def predict(model: BoxModel, state: Floats, elapsed: float = 1.0) -> None:
    """Move filters forward by ``elapsed`` frames, in place."""
    noise_p, noise_v = model.variances(state[POSITION])
    if elapsed == 1.0:
        state[POSITION] += state[VELOCITY]
        # F P F' + Q of a 2-state filter, written out: the old covariance enters twice, once before it is moved.
        noise_p += state[COV_PV]
        state[COV_PV] += state[VAR_V]
        noise_p += state[COV_PV]
        state[VAR_P] += noise_p
        state[VAR_V] += noise_v
        return
    state[POSITION] += elapsed * state[VELOCITY]
    state[VAR_P] += elapsed * (2 * state[COV_PV] + elapsed * state[VAR_V] + noise_p)
    state[COV_PV] += elapsed * state[VAR_V]
    state[VAR_V] += elapsed * noise_v


def correct(model: BoxModel, state: Floats, measured: Floats, noise: Floats | None = None) -> Floats:
    """Filters after a measurement each.

    Args:
        state: (20, n) predicted filters.
        measured: (4, n) positions.
        noise: (n,) how many times the usual variance each measurement has.

    Returns:
        (20, n) filters.
    """
    var_p, cov_pv = state[VAR_P], state[COV_PV]
    total = model.measurement_variance(state[POSITION])
    if noise is not None:
        total *= noise
    total += var_p
    # Position and velocity share the innovation and its variance: both gains at once, (2, 4, n).
    gain = state[8:16].reshape(2, 4, -1) / total
    change = np.empty((5, 4, state.shape[1]))
    np.multiply(gain, measured - state[POSITION], out=change[:2])
    np.multiply(gain, var_p, out=change[2:4])
    np.multiply(gain[1], cov_pv, out=change[4])
    np.negative(change[2:], out=change[2:])
    change += state.reshape(5, 4, -1)
    return change.reshape(ROWS, -1)


def innovation_variance(model: BoxModel, state: Floats) -> Floats:
    """(4, n) variance of what a measurement may differ from the prediction by."""
    return np.asarray(state[VAR_P] + model.measurement_variance(state[POSITION]))


def warp(model: BoxModel, state: Floats, matrix: Floats) -> None:
    """Move filters by a camera motion, in place.

    Args:
        matrix: (2, 3) affine motion from the frame before to this one.

    Centres and their velocities follow the whole matrix, sizes its scale. A rotation would couple the x and y filters;
    the coupling is dropped (it is of second order in the angle between two frames), so they stay independent.
    """
    linear, shift = matrix[:, :2], matrix[:, 2:]
    state[0:2] = linear @ state[0:2] + shift
    state[4:6] = linear @ state[4:6]
    squared = linear * linear
    for rows in (slice(8, 10), slice(12, 14), slice(16, 18)):
        state[rows] = squared @ state[rows]
    scale = float(np.sqrt(abs(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0])))
    first = model.sizes[0] - 4
    # Velocity row 4 + k belongs to position row k, and so on for the covariance; an aspect ratio does not scale.
    state[first:4] *= scale
    state[first + 4 : 8] *= scale
    for row in (8, 12, 16):
        state[row + first : row + 4] *= scale * scale
