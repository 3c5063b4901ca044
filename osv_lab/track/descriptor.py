"""What a box looks like, without any network: colours and edges of its parts as one vector.

A box is cut into horizontal stripes, as people and vehicles differ from top to bottom more than from side to side.
Each stripe gives histograms of colour, brightness and edge directions, every pixel shared softly among neighbouring
stripes and bins, those at the sides counting less, for they are mostly background. Histograms are compared as Hellinger
does (roots, whose product is the Bhattacharyya coefficient), less what an even histogram has in common with all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track.tracks import Floats

Image = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


def crop_boxes(frame: Image, xyxy: Floats, size: tuple[int, int]) -> tuple[Image, npt.NDArray[np.bool_]]:
    """The boxes of a frame, cut at its edges and resized.

    Args:
        frame: (h, w, 3) uint8.
        xyxy: (n, 4) corners, absolute pixels.
        size: Width and height of a crop.

    Returns:
        (n, height, width, 3) crops, black where nothing of a box is in the frame, and (n,) which have something.

    Raises:
        InvalidDataError: not an image, or not boxes.
    """
    import cv2

    image = np.asarray(frame)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InvalidDataError("not an image", f"{image.shape} {image.dtype}", "give (h, w, 3) uint8, BGR")
    boxes = np.asarray(xyxy, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InvalidDataError("not boxes", f"xyxy {boxes.shape}", "give (n, 4) corners in pixels")
    height, width = image.shape[:2]
    finite = np.asarray(np.isfinite(boxes).all(axis=1))
    edges = np.clip(np.where(finite[:, None], boxes, 0.0), 0, [width, height, width, height])
    edges = np.concatenate((np.floor(edges[:, :2]), np.ceil(edges[:, 2:])), axis=1).astype(np.int64)
    usable = np.asarray(finite & (edges[:, 2:] > edges[:, :2]).all(axis=1))
    crops = np.zeros((len(boxes), size[1], size[0], 3), np.uint8)
    for row in usable.nonzero()[0].tolist():
        x1, y1, x2, y2 = edges[row].tolist()
        shrinks = (x2 - x1) * (y2 - y1) > size[0] * size[1]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        cv2.resize(image[y1:y2, x1:x2], size, dst=crops[row], interpolation=way)
    return crops, usable


@dataclass(frozen=True)
class ClassicalEmbedder:
    """Part-wise colour and edge histograms of each box (:mod:`osv_lab.track.descriptor`).

    Good where objects differ in colour or pattern and the light stays; a trained network (:class:`OnnxEmbedder`) sees
    more. Two boxes of one object have a cosine of about 0.9, of different objects mostly below 0.5.

    Args:
        stripes: Parts from top to bottom.
        hues, saturations, values, directions: Bins of the histograms.
        size: Width and height to which boxes are resized.

    Example:
        >>> frame = np.zeros((60, 80, 3), np.uint8)
        >>> frame[10:50, 10:30], frame[10:50, 40:60] = (0, 0, 255), (255, 0, 0)
        >>> looks = ClassicalEmbedder().embed(frame, np.array([[10.0, 10, 30, 50], [40, 10, 60, 50], [12, 12, 30, 50]]))
        >>> bool(looks[0] @ looks[2] > 0.8 > 0.5 > looks[0] @ looks[1])
        True
    """

    stripes: int = 6
    hues: int = 12
    saturations: int = 3
    values: int = 8
    directions: int = 8
    size: tuple[int, int] = (24, 48)

    def __post_init__(self) -> None:
        counts = (self.stripes, self.hues, self.saturations, self.values, self.directions)
        if min(counts) < 2 or min(self.size) < 4:
            raise UsageError(
                "too few parts, bins or pixels", f"{counts}, size {self.size}", "at least 2, and 4 pixels"
            )

    def embed(self, frame: Image, xyxy: Floats) -> Vectors:
        """(n, d) unit vectors of the (n, 4) boxes in a BGR frame; zeros for a box outside of it."""
        import cv2

        crops, usable = crop_boxes(frame, xyxy, self.size)
        count, (width, height) = len(crops), self.size
        dimensions = self.stripes * (self.hues * self.saturations + self.values + self.directions)
        vectors = np.zeros((count, dimensions), np.float32)
        if not usable.any():
            return vectors
        crops = crops[usable]
        tall = crops.reshape(-1, width, 3)
        hsv = cv2.cvtColor(tall, cv2.COLOR_BGR2HSV_FULL).reshape(len(crops), -1, 3).astype(np.float32)
        hue, saturation, value = hsv[..., 0] / 256, hsv[..., 1] / 255, hsv[..., 2] / 255
        # A pixel in the middle counts fully, one at the side little.
        across = 1 - ((np.arange(width) + 0.5) / width * 2 - 1) ** 2
        weight = np.tile(across, height).astype(np.float32)
        # The hue of a grey pixel is noise: it counts as far as there is colour.
        colour = self._histogram(
            weight * np.sqrt(saturation * value), (_shares(hue, self.hues, ring=True), self.hues),
            (_shares(saturation, self.saturations), self.saturations),
        )  # fmt: skip
        light = self._histogram(np.broadcast_to(weight, value.shape), (_shares(value, self.values), self.values))
        grey = value.reshape(-1, height, width)
        down, right = np.gradient(grey, axis=(1, 2))
        strength = np.hypot(down, right).reshape(len(crops), -1)
        direction = (np.arctan2(down, right) / np.pi % 1.0).reshape(len(crops), -1)
        edges = self._histogram(
            weight * strength, (_shares(direction, self.directions, ring=True), self.directions)
        )
        vectors[usable] = _unit(np.concatenate([_compared(h) for h in (colour, light, edges)], axis=1))
        return vectors

    def _histogram(self, weight: Floats, *axes: tuple[Any, int]) -> Vectors:
        """(n, stripes, bins) soft histograms of (n, pixels) values."""
        count, pixels = weight.shape
        height, bins = self.size[1], int(np.prod([size for _, size in axes]))
        # Of every row of pixels first: fewer sums than of every stripe, and stripes can then overlap at no cost.
        row = np.arange(count)[:, None] * height + np.arange(pixels) // self.size[0]
        cells: list[tuple[Any, Any]] = [(row, weight)]
        for shares, size in axes:
            cells = [(cell * size + index, mass * share) for cell, mass in cells for index, share in shares]
        index, mass = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*cells, strict=True))
        rows = np.bincount(index, weights=mass, minlength=count * height * bins).reshape(count, height, bins)
        stripes = np.zeros((self.stripes, height))
        for stripe, share in _shares((np.arange(height) + 0.5) / height, self.stripes):
            stripes[stripe, np.arange(height)] += share
        return np.asarray(stripes @ rows, dtype=np.float32)


def _shares(value: Floats, bins: int, *, ring: bool = False) -> list[tuple[Any, Any]]:
    """The two bins that each value of 0 to 1 falls between, and its share of each; a ring has no ends."""
    place = value * bins - 0.5
    low = np.floor(place)
    upper = (place - low).astype(np.float32)
    low = low.astype(np.int64)
    if ring:
        return [(low % bins, 1 - upper), ((low + 1) % bins, upper)]
    return [(np.clip(low, 0, bins - 1), 1 - upper), (np.clip(low + 1, 0, bins - 1), upper)]


def _compared(histogram: Vectors) -> Vectors:
    """Hellinger vectors of (n, stripes, bins) histograms, without the part along an even histogram: (n, d)."""
    bins = histogram.shape[2]
    mass = histogram.sum(axis=2, keepdims=True)
    # Where there is nearly nothing, noise would decide: it counts as an even histogram.
    even = np.float32(0.02) * np.maximum(mass.mean(axis=1, keepdims=True), np.float32(1e-6))
    root = np.sqrt((histogram + even / bins) / (mass + even))
    root -= root.mean(axis=2, keepdims=True)
    return np.asarray(root.reshape(len(root), -1), dtype=np.float32)


def _unit(vectors: Vectors) -> Vectors:
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return np.asarray(vectors / np.maximum(length, np.float32(1e-12)), dtype=np.float32)
