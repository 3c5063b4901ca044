"""Images made worse on purpose, in five steps each; the same input and seed give the same pixels.

Kinds and strengths follow ImageNet-C (Hendrycks and Dietterich, ICLR 2019, https://arxiv.org/abs/1903.12261) where it
has them. Nothing moves, so that boxes stay right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.settings import SEED


@dataclass(frozen=True)
class Corruption:
    """One way to make an image worse.

    Attributes:
        what: What the numbers are.
        strengths: One per severity, from 1.
        apply: Takes a BGR uint8 image, a strength and a random generator.
    """

    what: str
    strengths: tuple[float, ...]
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def corrupted(image: np.ndarray, kind: str, severity: int, *, number: int = 0, seed: int = SEED) -> np.ndarray:
    """A worse copy of an image.

    Args:
        image: BGR uint8 ``(h, w, 3)``.
        kind: One of :data:`CORRUPTIONS`.
        severity: 1 to 5; 0 is the image itself.
        number: Which image of several, so that each has noise of its own.
        seed: Of the noise.

    Raises:
        UsageError: no such kind or severity.

    Example:
        >>> grey = np.full((8, 8, 3), 100, np.uint8)
        >>> int(corrupted(grey, "darkness", 5).mean()), corrupted(grey, "blur", 0) is grey
        (30, True)
    """
    check_corruption(kind, severity)
    if severity == 0:
        return image
    chosen = CORRUPTIONS[kind]
    generator = np.random.default_rng([seed, list(CORRUPTIONS).index(kind), severity, number])
    return chosen.apply(image, chosen.strengths[severity - 1], generator)


def check_corruption(kind: str, severity: int) -> None:
    """Refuse what :func:`corrupted` does not know."""
    if kind not in CORRUPTIONS:
        raise UsageError("no such corruption", repr(kind), nearest(kind, CORRUPTIONS))
    if not 0 <= severity <= 5:
        raise UsageError("severity must be 0 to 5", severity)


def _blur(image: np.ndarray, sigma: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))


def _noise(image: np.ndarray, spread: float, generator: np.random.Generator) -> np.ndarray:
    added = generator.standard_normal(image.shape, dtype=np.float32) * (spread * 255)
    return np.asarray((image + added).round().clip(0, 255).astype(np.uint8))


def _brightness(image: np.ndarray, added: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 2] = (hsv[..., 2].astype(float) + added * 255).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))


def _darkness(image: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    return np.asarray((image * np.float32(factor)).round().astype(np.uint8))


def _jpeg(image: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    written = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR))


def _scale(image: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    height, width = image.shape[:2]
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    small: Any = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


CORRUPTIONS: Mapping[str, Corruption] = {
    "blur": Corruption("Gaussian blur, sigma in pixels", (1, 2, 3, 4, 6), _blur),
    "noise": Corruption("Gaussian noise, spread as a share of the range", (0.08, 0.12, 0.18, 0.26, 0.38), _noise),
    "brightness": Corruption("added to the HSV value", (0.1, 0.2, 0.3, 0.4, 0.5), _brightness),
    "darkness": Corruption("brightness left", (0.8, 0.65, 0.5, 0.4, 0.3), _darkness),
    "jpeg": Corruption("JPEG quality", (25, 18, 15, 10, 7), _jpeg),
    "scale": Corruption("resolution left, of each side", (0.6, 0.5, 0.4, 0.3, 0.25), _scale),
}
"""By name; severity 1 is the first strength."""
