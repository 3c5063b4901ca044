"""Rings and lines cut off at a frame."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np

Frame: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom, pixels."""


def cut_ring(ring: np.ndarray, frame: Frame) -> np.ndarray:
    """A ring inside a frame (Sutherland and Hodgman, "Reentrant Polygon Clipping", CACM 1974)."""
    for axis, bound, sign in ((0, frame[0], 1), (0, frame[2], -1), (1, frame[1], 1), (1, frame[3], -1)):
        if not len(ring):
            return ring
        depth = (ring[:, axis] - bound) * sign
        if (depth >= 0).all():
            continue
        kept: list[np.ndarray] = []
        for k in range(len(ring)):
            before, here = depth[k - 1], depth[k]
            if (before >= 0) != (here >= 0):
                share = before / (before - here)
                crossing = ring[k - 1] + share * (ring[k] - ring[k - 1])
                crossing[axis] = bound
                kept.append(crossing)
            if here >= 0:
                kept.append(ring[k])
        ring = np.array(kept).reshape(-1, 2)
    return ring


def cut_line(line: np.ndarray, frame: Frame) -> list[np.ndarray]:
    """The parts of an open line inside a frame (Liang and Barsky, ACM TOG 1984, per segment)."""
    parts: list[list[np.ndarray]] = []
    for a, b in itertools.pairwise(line):
        t0, t1, d = 0.0, 1.0, b - a
        for p, q in (
            (-d[0], a[0] - frame[0]),
            (d[0], frame[2] - a[0]),
            (-d[1], a[1] - frame[1]),
            (d[1], frame[3] - a[1]),
        ):
            if p == 0:
                t0 = 2.0 if q < 0 else t0
            elif p < 0:
                t0 = max(t0, q / p)
            else:
                t1 = min(t1, q / p)
        if t0 >= t1:
            continue
        start, end = a + t0 * d, a + t1 * d
        if parts and t0 == 0.0 and np.array_equal(parts[-1][-1], a):
            parts[-1].append(end)
        else:
            parts.append([start, end])
    return [np.array(part) for part in parts]
