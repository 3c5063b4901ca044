"""How long models take for an image, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from osv_lab.core.errors import InvalidDataError


@dataclass(frozen=True)
class Cost:
    """Two model files' time and size.

    Attributes:
        models: Their references.
        size_bytes: Of the files; of an ensemble those of its members.
        median_ms: Per image, from pixels to boxes, one image at a time.
        p95_ms: The 95th percentile.
        ratio: Median over pairs of the second's time divided by the first's.
        images: How many pairs were measured.
    """

    models: tuple[str, str]
    size_bytes: tuple[int, int]
    median_ms: tuple[float, float]
    p95_ms: tuple[float, float]
    ratio: float
    images: int


def measure(refs: tuple[str, str], files: Sequence[str], *, rounds: int = 30, warm_up: int = 3) -> Cost:
    """Run two exported models in turns on the same images; who goes first changes from image to image.

    Args:
        refs: What :func:`osv_lab.detect.load_detector` takes.
        files: Images.
        rounds: How many pairs.
        warm_up: Pairs before, which do not count.

    Raises:
        InvalidDataError: there is no image.
    """
    from osv_lab.detect import load_detector
    from osv_lab.detect.images import read_image

    if not files:
        raise InvalidDataError("there is no image to measure on", "0 files")
    pictures = [read_image(file) for file in files[:rounds]]
    detectors = [load_detector(ref) for ref in refs]
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(-warm_up, rounds):
        picture = pictures[number % len(pictures)]
        for side in (0, 1) if number % 2 else (1, 0):
            taken_s = _time(detectors[side], picture)
            if number >= 0:
                taken[side].append(taken_s)
    times = np.array(taken) * 1000
    medians, tails = np.median(times, axis=1), np.quantile(times, 0.95, axis=1)
    sizes = [_size(ref, detector) for ref, detector in zip(refs, detectors, strict=True)]
    return Cost(
        models=refs,
        size_bytes=(sizes[0], sizes[1]),
        median_ms=(float(medians[0]), float(medians[1])),
        p95_ms=(float(tails[0]), float(tails[1])),
        ratio=float(np.median(times[1] / times[0])),
        images=rounds,
    )


def _time(detector: Any, picture: np.ndarray) -> float:
    began = time.perf_counter()
    detector.predict([picture])
    return time.perf_counter() - began


def _size(ref: str, detector: Any) -> int:
    from osv_lab.detect.reference import resolve_model

    parts = {member.ref for member in getattr(detector, "members", ())} or {ref}
    return sum(resolve_model(part).stat().st_size for part in parts)
