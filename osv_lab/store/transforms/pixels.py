"""Steps that change pixels where they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from osv_lab.store.records import Keypoints
from osv_lab.store.transforms.item import Context, Item, with_pixels
from osv_lab.store.transforms.shapes import MIN_VISIBLE, Shape

Params = Mapping[str, Any]


def grayscale(item: Item, context: Context, params: Params) -> Item:
    """One channel, three times."""
    import cv2

    return with_pixels(item, cv2.cvtColor(cv2.cvtColor(item.image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))


def random_grayscale(item: Item, context: Context, params: Params) -> Item:
    """Gray for ``percent`` of the images."""
    return grayscale(item, context, params) if context.rng.random() * 100 < params["percent"] else item


def contrast(item: Item, context: Context, params: Params) -> Item:
    """Stretched between the 2nd and 98th percentile, or equalised, on the lightness channel (CIELAB)."""
    import cv2

    lab = cv2.cvtColor(item.image, cv2.COLOR_BGR2LAB)
    light = lab[:, :, 0]
    if params["type"] == "Contrast Stretching":
        low, high = np.percentile(light, (2, 98))
        scale = 255 / max(high - low, 1e-6)
        light = np.clip((light.astype(np.float32) - low) * scale, 0, 255).round().astype(np.uint8)
    elif params["type"] == "Histogram Equalization":
        light = cv2.equalizeHist(light)
    else:
        light = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(light)
    return with_pixels(item, cv2.cvtColor(np.dstack([light, lab[:, :, 1], lab[:, :, 2]]), cv2.COLOR_LAB2BGR))


def hue(item: Item, context: Context, params: Params) -> Item:
    """Turned by up to ``degrees`` either way on the colour circle."""
    turn = context.rng.uniform(-params["degrees"], params["degrees"])
    hsv = _to_hsv(item.image)
    hsv[:, :, 0] = (hsv[:, :, 0] + turn) % 360
    return with_pixels(item, _from_hsv(hsv))


def saturation(item: Item, context: Context, params: Params) -> Item:
    """Up to ``percent`` more or less colour."""
    factor = 1 + context.rng.uniform(-params["percent"], params["percent"]) / 100
    hsv = _to_hsv(item.image)
    hsv[:, :, 1] = np.clip(hsv[:, :, 1] * factor, 0, 1)
    return with_pixels(item, _from_hsv(hsv))


def _to_hsv(image: np.ndarray) -> np.ndarray:
    """Degrees, 0 to 1, 0 to 1: eight bits would keep half of the hues."""
    import cv2

    hsv: np.ndarray = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2HSV)
    return hsv


def _from_hsv(hsv: np.ndarray) -> np.ndarray:
    import cv2

    bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    return np.asarray(np.clip(np.rint(bgr * 255), 0, 255).astype(np.uint8))


def brightness(item: Item, context: Context, params: Params) -> Item:
    """Up to ``percent`` of the full range added (``brighten``) or taken away (``darken``)."""
    low = -params["percent"] if params["darken"] else 0
    high = params["percent"] if params["brighten"] else 0
    return with_pixels(item, _through(item.image, _LEVELS + context.rng.uniform(low, high) / 100 * 255))


def exposure(item: Item, context: Context, params: Params) -> Item:
    """Light multiplied by up to ``percent`` more or less, in linear light (gamma 2.2)."""
    factor = 1 + context.rng.uniform(-params["percent"], params["percent"]) / 100
    linear = (_LEVELS / 255) ** 2.2 * max(factor, 0)
    return with_pixels(item, _through(item.image, 255 * linear ** (1 / 2.2)))


_LEVELS = np.arange(256, dtype=np.float64)


def _through(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.LUT(image, np.clip(np.rint(levels), 0, 255).astype(np.uint8)))


def blur(item: Item, context: Context, params: Params) -> Item:
    """Gaussian, its standard deviation up to ``pixels``."""
    import cv2

    sigma = context.rng.uniform(0, params["pixels"])
    return with_pixels(item, cv2.GaussianBlur(item.image, (0, 0), sigma)) if sigma > 0.05 else item


def noise(item: Item, context: Context, params: Params) -> Item:
    """Up to ``percent`` of the pixels black or white."""
    share = context.rng.uniform(0, params["percent"]) / 100
    drawn = context.rng.random(item.image.shape[:2])
    image = item.image.copy()
    image[drawn < share / 2] = 0
    image[drawn > 1 - share / 2] = 255
    return with_pixels(item, image)


def cutout(item: Item, context: Context, params: Params) -> Item:
    """``count`` black rectangles with sides of ``percent`` of the image's.

    Objects that they hide but for a tenth are left out; keypoints under them are marked as hidden.
    (DeVries and Taylor, "Improved Regularization of CNNs with Cutout", 2017.)
    """
    width, height = item.size
    w, h = max(round(width * params["percent"] / 100), 1), max(round(height * params["percent"] / 100), 1)
    hidden = np.zeros((height, width), dtype=bool)
    for _ in range(int(params["count"])):
        # Centres anywhere in the image, so that its border is hidden as often as its middle.
        x = int(context.rng.integers(width)) - w // 2
        y = int(context.rng.integers(height)) - h // 2
        hidden[max(y, 0) : y + h, max(x, 0) : x + w] = True
    image = item.image.copy()
    image[hidden] = 0
    shapes = [covered for shape in item.shapes if (covered := _covered(shape, hidden)) is not None]
    return dataclasses.replace(item, image=image, shapes=shapes)


def _covered(shape: Shape, hidden: np.ndarray) -> Shape | None:
    import cv2

    bounds = shape.bounds
    if bounds is None:
        return shape
    label = shape.label
    if isinstance(label, Keypoints) and shape.points is not None and label.visible:
        visible = list(label.visible)
        for k, (x, y) in enumerate(shape.points):
            if visible[k] == 2 and hidden[min(int(y), hidden.shape[0] - 1), min(int(x), hidden.shape[1] - 1)]:
                visible[k] = 1
        shape = dataclasses.replace(shape, label=dataclasses.replace(label, visible=tuple(visible)))
    x0, y0, x1, y1 = int(bounds[0]), int(bounds[1]), int(np.ceil(bounds[2])), int(np.ceil(bounds[3]))
    under = hidden[max(y0, 0) : max(y1, y0 + 1), max(x0, 0) : max(x1, x0 + 1)]
    part = np.ones_like(under)
    if shape.mask is not None and shape.mask.shape == under.shape:
        part = shape.mask
    elif shape.outline and under.size:
        drawn = np.zeros(under.shape, dtype=np.uint8)
        corner = max(x0, 0), max(y0, 0)
        cv2.fillPoly(drawn, [np.rint(ring - corner - 0.5).astype(np.int32) for ring in shape.outline], 1)
        part = drawn.astype(bool)
    if not part.any():
        return shape
    return shape if (part & ~under).sum() >= MIN_VISIBLE * part.sum() else None
