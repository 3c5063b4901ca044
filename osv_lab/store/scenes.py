"""Drawing machine parts on a bench: procedural scenes whose every pixel has a known owner.

A scene is a textured background, parts laid on it in order (a later part covers an earlier one), one light, a
little defocus and sensor noise. Shape tells the classes apart. Colour only hints: most parts wear the finish that
is usual for their kind (steel, brass, zinc, ...), the others any colour. Everything random comes from the generator
passed in, so a scene is the same in every process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

CLASSES = ("washer", "gear", "bolt", "bracket", "knob")
"""The parts, by class id."""

KEYPOINTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"bolt": ("head", "neck", "tip"), "bracket": ("long end", "corner", "short end")}
)
"""Keypoint names of the parts that have a front and a back."""

_FINISHES = {
    "washer": (200.0, 200.0, 205.0),
    "gear": (70.0, 170.0, 215.0),
    "bolt": (205.0, 150.0, 95.0),
    "bracket": (70.0, 80.0, 210.0),
    "knob": (95.0, 175.0, 85.0),
}
_FINISHED = 0.65

_KEYPOINTS_AT = {
    "bolt": ((-0.9, 0.0), (-0.42, 0.0), (1.0, 0.0)),
    "bracket": ((-0.41, -0.75), (-0.41, 0.41), (0.64, 0.41)),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One part as it lies on the bench.

    Attributes:
        label: One of :data:`CLASSES`.
        centre: ``(x, y)`` in pixels.
        radius: Distance from the centre to the farthest point, in pixels.
        angle: Rotation in radians, clockwise in the image.
        colour: BGR, 0 to 255.
    """

    label: str
    centre: tuple[float, float]
    radius: float
    angle: float
    colour: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Instance:
    """What is known about one part of a drawn scene; coordinates in pixels.

    Attributes:
        part: The part.
        mask: Its visible pixels, bool ``(h, w)`` of the whole image.
        visibility: Visible pixels over the pixels it would have with nothing on top and no image border, 0 to 1.
        full_box: ``(x1, y1, x2, y2)`` of the whole part, which may reach beyond the image.
    """

    part: Part
    mask: np.ndarray
    visibility: float
    full_box: tuple[float, float, float, float]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """``(x1, y1, x2, y2)`` of the visible pixels; all zeros when none is."""
        columns = np.flatnonzero(self.mask.any(axis=0))
        rows = np.flatnonzero(self.mask.any(axis=1))
        if not len(columns):
            return (0.0, 0.0, 0.0, 0.0)
        return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))

    @property
    def polygon(self) -> np.ndarray:
        """The outline of the largest visible piece, float64 ``(n, 2)``; holes are not part of an outline."""
        import cv2

        outlines, _ = cv2.findContours(self.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
        outline: np.ndarray = max(outlines, key=cv2.contourArea)[:, 0].astype(float)
        return outline

    @property
    def oriented_box(self) -> np.ndarray:
        """The smallest rotated rectangle around the whole part, float64 ``(4, 2)``, corners in order."""
        import cv2

        corners: np.ndarray = cv2.boxPoints(cv2.minAreaRect(outline_of(self.part)[0].astype(np.float32)))
        return corners.astype(float)

    @property
    def keypoints(self) -> tuple[tuple[float, float, int], ...]:
        """``(x, y, flag)`` per name in :data:`KEYPOINTS`: 2 visible, 1 hidden, 0 outside the image."""
        height, width = self.mask.shape
        points = []
        for x, y in _placed(np.array(_KEYPOINTS_AT[self.part.label]), self.part):
            column, row = math.floor(x), math.floor(y)
            if not (0 <= column < width and 0 <= row < height):
                points.append((0.0, 0.0, 0))
                continue
            # A keypoint may lie on the very edge of its part: look one pixel around it.
            near = self.mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            points.append((float(x), float(y), 2 if near.any() else 1))
        return tuple(points)


def outline_of(part: Part) -> list[np.ndarray]:
    """The part's rings in image pixels, float64 ``(n, 2)`` each: the outline first, then its holes."""
    return [_placed(ring, part) for ring in _RINGS[part.label]]


def random_part(rng: np.random.Generator, label: str, centre: tuple[float, float], radius: float) -> Part:
    """A part at any angle, in its kind's usual finish more often than not."""
    angle = float(rng.uniform(0, 2 * math.pi))
    colour = _random_colour(rng)
    if rng.random() < _FINISHED:
        shades = np.array(_FINISHES[label]) * rng.uniform(0.65, 1.15) + rng.normal(0, 10, 3)
        blue, green, red = np.clip(shades, 20, 245).tolist()
        colour = (blue, green, red)
    return Part(label, centre, radius, angle, colour)


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A textured bench, float32 BGR ``(height, width, 3)`` in 0 to 255: brushed, striped, stone or cloth."""
    base = np.array(_random_colour(rng), np.float32) * rng.uniform(0.35, 0.8)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    texture = _TEXTURES[int(rng.integers(len(_TEXTURES)))](rng, x, y)
    angle = rng.uniform(0, 2 * math.pi)
    slope = (x * math.cos(angle) / width + y * math.sin(angle) / height) * rng.uniform(-70, 70)
    clouds = _clouds(rng, width, height, 2) * rng.uniform(5, 35)
    bench: np.ndarray = base + (texture * rng.uniform(10, 38) + slope + clouds)[..., None] + 20
    return bench


def draw(
    bench: np.ndarray, parts: Sequence[Part], *, light: float = -2.2, cover: np.ndarray | None = None
) -> tuple[np.ndarray, list[Instance]]:
    """Lay parts on a bench, each on top of those before it.

    Args:
        bench: Float32 BGR ``(h, w, 3)``; not changed.
        parts: The parts, lowest first.
        light: Direction the light comes from, in radians, clockwise in the image from the x axis.
        cover: Bool ``(h, w)``: pixels that something above the bench hides (a beam); they are owned by no part.

    Returns:
        The image (float32) and one :class:`Instance` per part, in the order given.
    """
    image = bench.copy()
    height, width = image.shape[:2]
    owner = np.full((height, width), -1, np.int16)
    whole = []
    for number, part in enumerate(parts):
        whole.append(_lay(image, owner, number, part, light))
    if cover is not None:
        owner[cover] = -1
    instances = []
    for number, (part, pixels) in enumerate(zip(parts, whole, strict=True)):
        mask = owner == number
        outline = outline_of(part)[0]
        (x1, y1), (x2, y2) = outline.min(axis=0), outline.max(axis=0)
        seen = float(mask.sum()) / max(pixels, 1)
        instances.append(Instance(part, mask, min(seen, 1.0), (float(x1), float(y1), float(x2), float(y2))))
    return image, instances


def develop(rng: np.random.Generator, image: np.ndarray, *, blur: float, noise: float) -> np.ndarray:
    """The photo of a scene: defocus of ``blur`` pixels, sensor noise of ``noise`` grey levels, uint8."""
    import cv2

    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    grain = rng.standard_normal(image.shape, dtype=np.float32) * noise
    photo: np.ndarray = np.clip(image + grain, 0, 255).astype(np.uint8)
    return photo


def _lay(image: np.ndarray, owner: np.ndarray, number: int, part: Part, light: float) -> int:
    """Draw one part with its shadow in place; returns how many pixels the whole part has."""
    import cv2

    height, width = owner.shape
    reach = math.ceil(part.radius * 1.35) + 6
    left, top = math.floor(part.centre[0]) - reach, math.floor(part.centre[1]) - reach
    side = 2 * reach + 1
    alpha = np.zeros((side, side), np.uint8)
    rings = [np.round((ring - (left, top)) * 16).astype(np.int32) for ring in outline_of(part)]
    cv2.fillPoly(alpha, rings, 255, cv2.LINE_AA, 4)
    solid = alpha > 127
    pixels = int(solid.sum())

    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x1 >= x2 or y1 >= y2:
        return pixels
    there = (slice(y1, y2), slice(x1, x2))
    here = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))

    towards = np.array([math.cos(light), math.sin(light)])
    drop = -towards * part.radius * 0.12
    moved = np.array([[1, 0, drop[0]], [0, 1, drop[1]]])
    shadow = cv2.GaussianBlur(cv2.warpAffine(alpha, moved, (side, side)), (0, 0), max(1.0, part.radius * 0.09))
    image[there] *= 1 - 0.5 * (shadow[here] / np.float32(255))[..., None]

    # A bevelled edge: the height rises with the distance from the outline, and slopes facing the light shine.
    bevel = max(1.5, part.radius * 0.13)
    relief = np.minimum(cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 3) / bevel, 1)
    relief = cv2.GaussianBlur(relief, (0, 0), max(0.8, bevel * 0.45))
    slope_x, slope_y = cv2.Sobel(relief, cv2.CV_32F, 1, 0), cv2.Sobel(relief, cv2.CV_32F, 0, 1)
    shine = -(slope_x * towards[0] + slope_y * towards[1]) * bevel * 0.16
    surface = np.array(part.colour, np.float32) * (0.85 + 0.55 * shine)[..., None]
    surface += (45 * np.clip(shine, 0, 1) ** 2)[..., None]
    opacity = (alpha[here] / np.float32(255))[..., None]
    image[there] = image[there] * (1 - opacity) + surface[here] * opacity
    owner[there][solid[here]] = number
    return pixels


def _placed(points: np.ndarray, part: Part) -> np.ndarray:
    """Points of the unit part, turned, scaled and moved to where the part lies."""
    cosine, sine = math.cos(part.angle), math.sin(part.angle)
    turned = points @ np.array([[cosine, sine], [-sine, cosine]])
    placed: np.ndarray = turned * part.radius + part.centre
    return placed


def _random_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Any hue; half of the draws are nearly grey, as metal is."""
    hue = rng.uniform(0, 2 * math.pi)
    saturation = rng.uniform(0.0, 0.15) if rng.random() < 0.5 else rng.uniform(0.25, 0.75)
    value = rng.uniform(90, 235)
    channels = [value * (1 - saturation * (0.5 - 0.5 * math.cos(hue + k * 2 * math.pi / 3))) for k in range(3)]
    return (channels[0], channels[1], channels[2])


def _clouds(rng: np.random.Generator, width: int, height: int, coarsest: int = 3) -> np.ndarray:
    """Smooth noise of four octaves, float32 ``(height, width)`` of about unit size."""
    import cv2

    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        cells = coarsest * 2**octave
        grid = rng.standard_normal((cells + 1, cells + 1), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return total * np.float32(0.7)


def _brushed(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    import cv2

    height, width = x.shape
    grain = rng.standard_normal((height, width), dtype=np.float32)
    kernel = (31, 1) if rng.random() < 0.5 else (1, 31)
    brushed: np.ndarray = cv2.blur(grain, kernel) * np.float32(4)
    return brushed


def _striped(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle = rng.uniform(0, math.pi)
    wave = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / rng.uniform(8, 40))
    striped: np.ndarray = np.tanh(np.sin(wave) * rng.uniform(1, 4)).astype(np.float32)
    return striped


def _stone(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width = x.shape
    return _clouds(rng, width, height, int(rng.integers(4, 10)))


def _cloth(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    step = 2 * math.pi / rng.uniform(5, 14)
    woven: np.ndarray = (np.sin(x * step) * np.sin(y * step)).astype(np.float32)
    return woven + _stone(rng, x, y) * np.float32(0.4)


_TEXTURES: tuple[Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray], ...] = (
    _brushed,
    _striped,
    _stone,
    _cloth,
)


def _circle(radius: float, points: int = 48) -> np.ndarray:
    return _polar(np.arange(points) * (2 * math.pi / points), np.full(points, radius))


def _toothed(teeth: int, inner: float) -> np.ndarray:
    """A gear's outline: trapezoid teeth between radius ``inner`` and 1."""
    steps = np.arange(teeth)[:, None] + np.array([-0.30, -0.17, 0.17, 0.30])
    return _polar(steps.ravel() * (2 * math.pi / teeth), np.tile([inner, 1.0, 1.0, inner], teeth))


def _star(points: int, inner: float) -> np.ndarray:
    return _polar(np.arange(2 * points) * (math.pi / points), np.tile([1.0, inner], points))


def _polar(turn: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(turn) * radius, np.sin(turn) * radius], axis=1)


# Unit outlines: the farthest point of each is at distance 1 from its centre, up to a few hundredths.
_BOLT = np.array([(-0.9, -0.4), (-0.82, -0.48), (-0.42, -0.48), (-0.42, -0.22), (0.84, -0.22), (1.0, -0.1)])
_BRACKET = np.array(
    [(-0.66, -0.75), (-0.16, -0.75), (-0.16, 0.16), (0.64, 0.16), (0.64, 0.66), (-0.66, 0.66)], dtype=float
)
_RINGS: dict[str, list[np.ndarray]] = {
    "washer": [_circle(1.0), _circle(0.56)],
    "gear": [_toothed(9, 0.74), _circle(0.24, 24)],
    "bolt": [np.concatenate([_BOLT, (_BOLT * (1, -1))[::-1]])],
    "bracket": [_BRACKET],
    "knob": [_star(5, 0.46)],
}
