"""Plane geometry of labels: boxes, rings, rotated rectangles, masks and their run lengths. numpy, cv2 where needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

Point: TypeAlias = tuple[float, float]
Ring: TypeAlias = Sequence[Point]
XYWH: TypeAlias = tuple[float, float, float, float]
Corners: TypeAlias = tuple[Point, Point, Point, Point]

# A pixel edge that is a whole number but for rounding must not pull in another row or column of pixels.
_WHOLE = 1e-3


def bounds(points: Iterable[Point]) -> XYWH:
    """The axis-aligned box ``(x, y, w, h)`` around points; NaN points are left out.

    Raises:
        ValueError: there is no point.
    """
    known = [(x, y) for x, y in points if x == x and y == y]
    if not known:
        raise ValueError("no point to bound")
    xs = [x for x, _ in known]
    ys = [y for _, y in known]
    x, y = min(xs), min(ys)
    return x, y, max(xs) - x, max(ys) - y


def ring_area(ring: Ring) -> float:
    """The unsigned area inside a closed ring, by the shoelace formula.

    Example:
        >>> ring_area([(0, 0), (2, 0), (2, 1), (0, 1)])
        2.0
    """
    total = 0.0
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        total += x0 * y1 - x1 * y0
    return abs(total) / 2


def box_ring(xywh: XYWH) -> Corners:
    """A box as its corners: top-left, top-right, bottom-right, bottom-left."""
    x, y, w, h = xywh
    return (x, y), (x + w, y), (x + w, y + h), (x, y + h)


def rotated_corners(x0: float, y0: float, x1: float, y1: float, degrees: float, size: tuple[int, int]) -> Corners:
    """Relative corners of a pixel box turned about its centre.

    Args:
        x0, y0, x1, y1: The box before turning, pixels.
        degrees: Clockwise on the screen (y points down), as CVAT states it.
        size: Image ``(width, height)``, pixels.

    Returns:
        What were the top-left, top-right, bottom-right and bottom-left corners, relative.
    """
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    width, height = size

    def turned(x: float, y: float) -> Point:
        dx, dy = x - cx, y - cy
        return (cx + dx * cos - dy * sin) / width, (cy + dx * sin + dy * cos) / height

    return turned(x0, y0), turned(x1, y0), turned(x1, y1), turned(x0, y1)


def turned_box(corners: Corners, size: tuple[int, int]) -> tuple[float, float, float, float, float, float]:
    """The inverse of :func:`rotated_corners`.

    Returns:
        ``(x0, y0, x1, y1, degrees, misfit)``: the unturned pixel box, its clockwise turn in [0, 360), and how far,
        in pixels, the farthest given corner lies from the rectangle (0 for an exact one). A ring that runs
        counter-clockwise is read backwards, so the first corner stays the first.
    """
    width, height = size
    pixels = [(x * width, y * height) for x, y in corners]
    if _signed_area(pixels) < 0:
        pixels = [pixels[0], pixels[3], pixels[2], pixels[1]]
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = pixels
    # Opposite sides are averaged, so that a rectangle with rounded corners is met in the middle.
    ux, uy = (bx - ax + cx - dx) / 2, (by - ay + cy - dy) / 2
    vx, vy = (dx - ax + cx - bx) / 2, (dy - ay + cy - by) / 2
    w, h = math.hypot(ux, uy), math.hypot(vx, vy)
    angle = math.degrees(math.atan2(uy, ux)) % 360
    mx, my = (ax + bx + cx + dx) / 4, (ay + by + cy + dy) / 4
    box = mx - w / 2, my - h / 2, mx + w / 2, my + h / 2
    fitted = rotated_corners(*box, angle, size)
    misfit = max(
        math.hypot(fx * width - px, fy * height - py) for (fx, fy), (px, py) in zip(fitted, pixels, strict=True)
    )
    return (*box, angle, misfit)


def _signed_area(pixels: Sequence[Point]) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(pixels, [*pixels[1:], pixels[0]], strict=True))


def pixel_window(xywh: XYWH, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels a relative box touches: ``(x0, y0, x1, y1)``, ends exclusive, at least one pixel each way.

    Reading a mask crops it to this window and writing pastes it there, so a mask comes back bit by bit.
    """
    width, height = size
    x, y, w, h = xywh
    x0 = min(max(math.floor(x * width + _WHOLE), 0), width - 1)
    y0 = min(max(math.floor(y * height + _WHOLE), 0), height - 1)
    x1 = min(max(math.ceil((x + w) * width - _WHOLE), x0 + 1), width)
    y1 = min(max(math.ceil((y + h) * height - _WHOLE), y0 + 1), height)
    return x0, y0, x1, y1


def paste_mask(mask: np.ndarray, xywh: XYWH, size: tuple[int, int]) -> np.ndarray:
    """An instance mask in its box as a mask of the whole image, bool ``(height, width)``.

    A mask of another resolution than its window is resized by nearest neighbour.
    """
    x0, y0, x1, y1 = pixel_window(xywh, size)
    whole = np.zeros((size[1], size[0]), dtype=bool)
    whole[y0:y1, x0:x1] = fit_mask(mask, (x1 - x0, y1 - y0))
    return whole


def fit_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another ``(width, height)`` by nearest neighbour; the same array when it fits already."""
    width, height = size
    mask = np.asarray(mask).astype(bool, copy=False)
    if mask.shape == (height, width):
        return mask
    rows = (np.arange(height) * mask.shape[0]) // height
    columns = (np.arange(width) * mask.shape[1]) // width
    fitted: np.ndarray = mask[rows[:, None], columns[None, :]]
    return fitted


def mask_rings(mask: np.ndarray, xywh: XYWH) -> tuple[tuple[Point, ...], ...]:
    """Relative outlines of the parts of a mask that fills ``xywh``. Holes are not outlined.

    Each ring follows the outer edges of the border pixels, so that rasterising it gives the mask back but for
    single-pixel diagonals.
    """
    import cv2

    # Doubling and padding turns pixel centres, which findContours traces, into pixel edges.
    grid = np.kron(np.pad(np.asarray(mask, dtype=np.uint8), 1), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(grid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    height, width = np.asarray(mask).shape
    x, y, w, h = xywh
    rings = []
    for contour in contours:
        edges = np.floor((contour[:, 0, :] + 1) / 2) - 1
        ring = tuple((x + float(u) / width * w, y + float(v) / height * h) for u, v in edges)
        ring = tuple(point for k, point in enumerate(ring) if point != ring[k - 1])
        if len(ring) >= 3:
            rings.append(ring)
    return tuple(rings)


def rings_mask(rings: Iterable[Ring], xywh: XYWH, size: tuple[int, int]) -> np.ndarray:
    """Relative rings as a mask of the box's pixel window, bool ``(h, w)``. A pixel counts when its centre is inside."""
    import cv2

    x0, y0, x1, y1 = pixel_window(xywh, size)
    mask = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    shift = 8
    for ring in rings:
        points = np.array([(x * size[0] - x0 - 0.5, y * size[1] - y0 - 0.5) for x, y in ring])
        cv2.fillPoly(mask, [np.round(points * (1 << shift)).astype(np.int32)], 1, cv2.LINE_8, shift)
    return mask.astype(bool)


def joined_ring(rings: Sequence[Ring]) -> tuple[Point, ...]:
    """Several rings as one, joined by lines there and back between their nearest points.

    YOLO rows hold one ring per object. (The same idea as Ultralytics' ``merge_multi_segment``.)
    """
    joined = list(rings[0])
    for ring in rings[1:]:
        ours, theirs = np.asarray(joined), np.asarray(ring)
        distances = ((ours[:, None, :] - theirs[None, :, :]) ** 2).sum(axis=2)
        i, j = divmod(int(distances.argmin()), len(ring))
        turn = [*ring[j:], *ring[: j + 1]]
        joined = [*joined[: i + 1], *turn, *joined[i:]]
    return tuple(joined)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Run lengths of a flat bool array, starting with the number of leading zeros.

    COCO flattens column by column (``mask.ravel(order="F")``), CVAT row by row.

    Example:
        >>> run_lengths(np.array([True, True, False, True]))
        [0, 2, 1, 1]
    """
    flat = np.asarray(mask).astype(bool, copy=False).ravel()
    if flat.size == 0:
        return []
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return [0, *lengths] if flat[0] else lengths


def from_run_lengths(counts: Sequence[int], length: int) -> np.ndarray:
    """The inverse of :func:`run_lengths`: bool ``(length,)``.

    Raises:
        ValueError: a count is negative or the counts do not add up to ``length``.
    """
    if any(count < 0 for count in counts) or sum(counts) != length:
        raise ValueError(f"run lengths add up to {sum(counts)}, the mask has {length} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, np.asarray(counts, dtype=np.int64))


def compress_counts(counts: Sequence[int]) -> str:
    """COCO's compressed run lengths: differences to the run before last, in base 32 with a sign bit.

    Source: ``rleToString`` of pycocotools' maskApi.c.
    """
    out = bytearray()
    for k, count in enumerate(counts):
        value = count - counts[k - 2] if k > 2 else count
        more = True
        while more:
            char = value & 0x1F
            value >>= 5
            more = value != -1 if char & 0x10 else value != 0
            out.append((char | 0x20 if more else char) + 48)
    return out.decode("ascii")


def decompress_counts(text: str | bytes) -> list[int]:
    """The inverse of :func:`compress_counts`.

    Raises:
        ValueError: the text ends inside a number or holds a character outside the alphabet.
    """
    data = text.encode("ascii") if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for char in data:
        digit = char - 48
        if not 0 <= digit < 64 or shift > 60:
            raise ValueError("not a compressed run length")
        value |= (digit & 0x1F) << shift
        shift += 5
        if digit & 0x20:
            continue
        if digit & 0x10:
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        counts.append(value)
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths end inside a number")
    return counts
