"""Constant-velocity Kalman filters for all boxes at once.

A box is four numbers (centre x, centre y, a size, height) that move independently of each other, so the 8-state filter
of SORT, ByteTrack and BoT-SORT is exactly four 2-state filters (position, velocity), and each covariance three numbers
instead of a 8x8 matrix. All filters of all tracks are rows of one array:

    rows 0-3  position, 4-7 velocity, 8-11 var(position), 12-15 cov(position, velocity), 16-19 var(velocity)

with one column per track. Wojke et al. 2017 (DeepSORT, https://arxiv.org/abs/1703.07402) for the noise model.
"""

from __future__ import annotations

import math
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

    def centre_and_size(self, position: Floats) -> Floats:
        """(4, n) centre, width and height of boxes at ``position``."""

    def variances(self, position: Floats) -> Floats:
        """(8, n) variance per frame of the position and of the velocity, for boxes at ``position``."""

    def measurement_variance(self, position: Floats) -> Floats:
        """(4, n) variance of a measured position."""

    def start_variances(self, position: Floats) -> tuple[Floats, Floats]:
        """(4, n) variance of position and velocity of a new track."""


@dataclass(frozen=True)
class AspectModel:
    """Centre, aspect ratio and height (SORT, DeepSORT, ByteTrack). Noise grows with the height."""

    sizes: tuple[int, ...] = (7,)

    def measure(self, corners: Floats) -> Floats:
        position: Floats = _CENTRE_AND_SIZE.dot(corners)
        aspect = position[2]
        aspect /= position[3]
        return position

    def centre_and_size(self, position: Floats) -> Floats:
        box = position.copy()
        width = box[2]
        width *= position[3]
        return box

    def variances(self, position: Floats) -> Floats:
        return np.asarray(_ASPECT_NOISE.dot(self._scale(position)))

    def measurement_variance(self, position: Floats) -> Floats:
        return np.asarray(_ASPECT_MEASUREMENT.dot(self._scale(position)))

    def start_variances(self, position: Floats) -> tuple[Floats, Floats]:
        height = position[3]
        square = np.array((height * height,) * 4)
        var_p, var_v = 4 * square * STD_POSITION**2, 100 * square * STD_VELOCITY**2
        var_p[2], var_v[2] = 1e-4, 1e-10
        return var_p, var_v

    @staticmethod
    def _scale(position: Floats) -> Floats:
        """(2, n) what variances are made of: the height's square, and 1 for the aspect ratio, which has its own."""
        scale = np.empty((2, position.shape[1]))
        height = position[3]
        np.multiply(height, height, out=scale[0])
        scale[1] = 1.0
        return scale


@dataclass(frozen=True)
class SizeModel:
    """Centre, width and height (BoT-SORT). Noise across grows with the width, along with the height."""

    sizes: tuple[int, ...] = (6, 7)

    def measure(self, corners: Floats) -> Floats:
        return np.asarray(_CENTRE_AND_SIZE.dot(corners))

    def centre_and_size(self, position: Floats) -> Floats:
        return position

    def variances(self, position: Floats) -> Floats:
        size = position[2:]
        return np.asarray(_SIZE_NOISE.dot(size * size))

    def measurement_variance(self, position: Floats) -> Floats:
        size = position[2:]
        return np.asarray(_SIZE_MEASUREMENT.dot(size * size))

    def start_variances(self, position: Floats) -> tuple[Floats, Floats]:
        size = position[2:]
        square = np.concatenate((size, size)) ** 2
        return square * (2 * STD_POSITION) ** 2, square * (10 * STD_VELOCITY) ** 2


# On a few tracks a step costs its calls, not its arithmetic: arrays of one shape and constants that are arrays
# (instead of Python numbers, or a broadcast) take half the time.
# Linear maps of few rows are products of matrices: one call, and rounded as if written out on every processor, since no
# sum has more than one rounded step.
_PER_SIZE = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])
_SIZE_NOISE = np.concatenate((_PER_SIZE * STD_POSITION**2, _PER_SIZE * STD_VELOCITY**2))
_SIZE_MEASUREMENT = _PER_SIZE * STD_POSITION**2


def _per_height(variance: float, of_aspect: float) -> Floats:
    return np.array([[variance, 0], [variance, 0], [0, of_aspect], [variance, 0]])


_ASPECT_NOISE = np.concatenate((_per_height(STD_POSITION**2, 1e-4), _per_height(STD_VELOCITY**2, 1e-10)))
_ASPECT_MEASUREMENT = _per_height(STD_POSITION**2, 1e-2)
# Corners to centre and size, and back.
_CENTRE_AND_SIZE = np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [-1, 0, 1, 0], [0, -1, 0, 1]])
_CORNERS = np.array([[1, 0, -0.5, 0], [0, 1, 0, -0.5], [1, 0, 0.5, 0], [0, 1, 0, 0.5]])
# Rows with those of x and y exchanged.
_CROSSED = np.array([row + (1, -1, 0, 0)[row % 4] for row in range(ROWS)])


def corners(model: BoxModel, position: Floats) -> Floats:
    """(4, n) positions to (4, n) corners x1, y1, x2, y2."""
    boxes: Floats = _CORNERS.dot(model.centre_and_size(position))
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
    """Move filters forward by ``elapsed`` frames, in place.

    Args:
        state: (20 or more, n) filters; further rows stay as they are.
    """
    if not state.flags.c_contiguous:
        part = state[:ROWS].copy()
        predict(model, part, elapsed)
        state[:ROWS] = part
        return
    position, velocity = state[POSITION], state[VELOCITY]
    var_p, cov_pv, var_v = state[VAR_P], state[COV_PV], state[VAR_V]
    noise = model.variances(position)
    noise_p, noise_v = noise[:4], noise[4:]
    if elapsed == 1.0:
        position += velocity
        # F P F' + Q of a 2-state filter, written out: the old covariance enters twice, once before it is moved.
        noise_p += cov_pv
        cov_pv += var_v
        noise_p += cov_pv
        var_p += noise_p
        var_v += noise_v
        return
    position += elapsed * velocity
    var_p += elapsed * (2 * cov_pv + elapsed * var_v + noise_p)
    cov_pv += elapsed * var_v
    var_v += elapsed * noise_v


def correct(model: BoxModel, state: Floats, measured: Floats, noise: Floats | None = None) -> None:
    """Correct filters by a measurement each, in place.

    Args:
        state: (20, n) predicted filters.
        measured: (4, n) positions.
        noise: (n,) how many times the usual variance each measurement has.
    """
    position, velocity = state[POSITION], state[VELOCITY]
    var_p, cov_pv, var_v = state[VAR_P], state[COV_PV], state[VAR_V]
    variance = model.measurement_variance(position)
    if noise is not None:
        variance *= noise
    total = var_p + variance
    innovation = measured - position
    gain_p, gain_v = var_p / total, cov_pv / total
    position += gain_p * innovation
    velocity += gain_v * innovation
    # (I - K H) P of a 2-state filter, written out; 1 - gain_p is variance / total.
    var_v -= gain_v * cov_pv
    np.multiply(gain_v, variance, out=cov_pv)
    np.multiply(gain_p, variance, out=var_p)


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
    (a, b, x), (c, d, y) = matrix.tolist()
    scale = math.sqrt(abs(a * d - b * c))
    width = scale if 6 in model.sizes else 1.0  # an aspect ratio does not scale
    once, twice = (a, d, width, scale), (a * a, d * d, width * width, scale * scale)
    own = np.array((*once, *once, *twice, *twice, *twice))[:, None]
    once, twice = (b, c, 0.0, 0.0), (b * b, c * c, 0.0, 0.0)
    other = np.array((*once, *once, *twice, *twice, *twice))[:, None]
    # Written out instead of as a matrix product, which rounds differently from one processor to the next.
    crossed = state.take(_CROSSED, axis=0)
    crossed *= other
    filters = state[:ROWS]
    filters *= own
    filters += crossed
    filters[0] += x
    filters[1] += y
