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
import numpy.typing as npt

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

    def half_size(self, position: Floats) -> Floats:
        """(2, n) half the width and half the height, a new array."""

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
        position = _centre_and_size(corners)
        aspect = position[2]
        np.divide(aspect, position[3], out=aspect)
        return position

    def half_size(self, position: Floats) -> Floats:
        half: Floats = position[2:] * _HALF
        width = half[0]
        width *= position[3]
        return half

    def variances(self, position: Floats) -> tuple[Floats, Floats]:
        noise_v = _squares(position, _HEIGHTS)
        noise_p = noise_v * _POSITION_NOISE
        np.multiply(noise_v, _VELOCITY_NOISE, out=noise_v)
        # The aspect ratio's noise does not depend on the height.
        noise_p[2], noise_v[2] = 1e-4, 1e-10
        return noise_p, noise_v

    def measurement_variance(self, position: Floats) -> Floats:
        variance = _squares(position, _HEIGHTS)
        np.multiply(variance, _POSITION_NOISE, out=variance)
        variance[2] = 1e-2
        return variance

    def start_variances(self, position: Floats) -> tuple[Floats, Floats]:
        square = _squares(position, _HEIGHTS)
        var_p, var_v = 4 * square * STD_POSITION**2, 100 * square * STD_VELOCITY**2
        var_p[2], var_v[2] = 1e-4, 1e-10
        return var_p, var_v


@dataclass(frozen=True)
class SizeModel:
    """Centre, width and height (BoT-SORT). Noise across grows with the width, along with the height."""

    sizes: tuple[int, ...] = (6, 7)

    def measure(self, corners: Floats) -> Floats:
        return _centre_and_size(corners)

    def half_size(self, position: Floats) -> Floats:
        return np.asarray(position[2:] * _HALF)

    def variances(self, position: Floats) -> tuple[Floats, Floats]:
        noise_v = _squares(position, _SIZES)
        noise_p = noise_v * _POSITION_NOISE
        np.multiply(noise_v, _VELOCITY_NOISE, out=noise_v)
        return noise_p, noise_v

    def measurement_variance(self, position: Floats) -> Floats:
        variance = _squares(position, _SIZES)
        np.multiply(variance, _POSITION_NOISE, out=variance)
        return variance

    def start_variances(self, position: Floats) -> tuple[Floats, Floats]:
        square = _squares(position, _SIZES)
        return square * (2 * STD_POSITION) ** 2, square * (10 * STD_VELOCITY) ** 2


# On a few tracks a step costs its calls, not its arithmetic: arrays of one shape and constants that are arrays
# (instead of Python numbers, or a broadcast) take half the time.
_HALF = np.array(0.5)
_POSITION_NOISE, _VELOCITY_NOISE = np.array(STD_POSITION**2), np.array(STD_VELOCITY**2)
# Rows with those of x and y exchanged.
_CROSSED = np.array([row + (1, -1, 0, 0)[row % 4] for row in range(ROWS)])
_HEIGHTS, _SIZES = np.array([3, 3, 3, 3]), np.array([2, 3, 2, 3])


def _squares(position: Floats, rows: npt.NDArray[np.intp]) -> Floats:
    """(4, n) for each filter the square of the side that its noise grows with."""
    side = position.take(rows, axis=0)
    return np.multiply(side, side, out=side)


def _centre_and_size(corners: Floats) -> Floats:
    position = np.empty_like(corners)
    first, second, centre = corners[:2], corners[2:], position[:2]
    np.subtract(second, first, out=position[2:])
    np.add(first, second, out=centre)
    np.multiply(centre, _HALF, out=centre)
    return position


def corners(model: BoxModel, position: Floats) -> Floats:
    """(4, n) positions to (4, n) corners x1, y1, x2, y2."""
    half, centre = model.half_size(position), position[:2]
    boxes = np.empty(position.shape)
    np.subtract(centre, half, out=boxes[:2])
    np.add(centre, half, out=boxes[2:])
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
    noise_p, noise_v = model.variances(position)
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
