"""Steps that move pixels, and labels with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from osv_lab.store.transforms.item import Context, Item, cropped, mapped, padded, resized, warped
from osv_lab.store.transforms.shapes import Matrix, about, matrix, warp

Params = Mapping[str, Any]


def resize(item: Item, context: Context, params: Params) -> Item:
    """To ``width`` x ``height`` pixels in one of Roboflow's six ways."""
    size = int(params["width"]), int(params["height"])
    kind = params["format"]
    if kind == "Stretch to":
        return resized(item, size, context)
    scales = size[0] / item.size[0], size[1] / item.size[1]
    scale = max(scales) if kind.startswith("Fill") else min(scales)
    scaled = resized(item, (_px(item.size[0] * scale), _px(item.size[1] * scale)), context)
    if kind == "Fit within":
        return scaled
    if kind.startswith("Fill"):
        x, y = (scaled.size[0] - size[0]) // 2, (scaled.size[1] - size[1]) // 2
        return cropped(scaled, (max(x, 0), max(y, 0), max(x, 0) + size[0], max(y, 0) + size[1]), context)
    border = {"Fit (reflect edges) in": "reflect", "Fit (white edges) in": "white"}.get(kind, "black")
    return padded(scaled, size, context, border)


def _px(length: float) -> int:
    return max(round(length), 1)


def static_crop(item: Item, context: Context, params: Params) -> Item:
    """The part between ``x_min`` and ``x_max``, ``y_min`` and ``y_max``, percent of the image."""
    width, height = item.size
    x0, x1 = (round(width * params[name] / 100) for name in ("x_min", "x_max"))
    y0, y1 = (round(height * params[name] / 100) for name in ("y_min", "y_max"))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    return cropped(item, (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)), context)


def tile(item: Item, context: Context, params: Params) -> list[Item]:
    """The image as ``rows`` x ``columns`` images."""
    rows, columns = int(params["rows"]), int(params["columns"])
    xs = [round(item.size[0] * k / columns) for k in range(columns + 1)]
    ys = [round(item.size[1] * k / rows) for k in range(rows + 1)]
    return [
        replace(cropped(item, (xs[c], ys[r], xs[c + 1], ys[r + 1]), context), part=f"{item.part}tile-{r}-{c}")
        for r in range(rows)
        for c in range(columns)
        if xs[c + 1] > xs[c] and ys[r + 1] > ys[r]
    ]


def flip(item: Item, context: Context, params: Params) -> Item:
    """Left and right, or top and bottom, change places: each that is allowed for every other image."""
    width, height = item.size
    if params["horizontal"] and context.rng.random() < 0.5:
        item = mapped(item, item.image[:, ::-1], matrix(a=-1, tx=width), context)
    if params["vertical"] and context.rng.random() < 0.5:
        item = mapped(item, item.image[::-1], matrix(d=-1, ty=height), context)
    return item


def ninety(item: Item, context: Context, params: Params) -> Item:
    """A quarter or half turn: none or one of those allowed, each as likely."""
    turns = [0, *(turn for name, turn in _TURNS.items() if params[name])]
    turn = turns[int(context.rng.integers(len(turns)))]
    return mapped(item, np.rot90(item.image, turn), _turned(turn, item.size), context) if turn else item


_TURNS = {"clockwise": 3, "counter-clockwise": 1, "upside-down": 2}
"""Quarter turns counter-clockwise, as numpy counts them."""


def _turned(turn: int, size: tuple[int, int]) -> Matrix:
    width, height = size
    if turn == 1:
        return matrix(a=0, b=1, c=-1, d=0, ty=width)
    if turn == 2:
        return matrix(a=-1, tx=width, d=-1, ty=height)
    return matrix(a=0, b=-1, tx=height, c=1, d=0)


def crop(item: Item, context: Context, params: Params) -> Item:
    """Zoom into a random part by ``min`` to ``max`` percent of the sides; the size stays."""
    width, height = item.size
    keep = 1 - context.rng.uniform(params["min"], params["max"]) / 100
    w, h = min(_px(width * keep), width), min(_px(height * keep), height)
    x, y = int(context.rng.integers(width - w + 1)), int(context.rng.integers(height - h + 1))
    return resized(cropped(item, (x, y, x + w, y + h), context), (width, height), context)


def rotate(item: Item, context: Context, params: Params) -> Item:
    """About the centre, by up to ``degrees`` either way; black corners."""
    angle = math.radians(context.rng.uniform(-params["degrees"], params["degrees"]))
    cos, sin = math.cos(angle), math.sin(angle)
    return warped(item, about(_centre(item), matrix(a=cos, b=-sin, c=sin, d=cos)), item.size, context)


def shear(item: Item, context: Context, params: Params) -> Item:
    """About the centre, by up to ``horizontal`` and ``vertical`` degrees either way."""
    x, y = (math.tan(math.radians(context.rng.uniform(-params[n], params[n]))) for n in ("horizontal", "vertical"))
    return warped(item, about(_centre(item), matrix(b=x, c=y)), item.size, context)


def _centre(item: Item) -> tuple[float, float]:
    return item.size[0] / 2, item.size[1] / 2


def mosaic(item: Item, context: Context, params: Params) -> Item:
    """Four training images around a random point, each filling its quarter; the size stays.

    After Bochkovskiy, Wang, Liao, "YOLOv4", 2020.
    """
    width, height = item.size
    cx = round(width * context.rng.uniform(0.3, 0.7))
    cy = round(height * context.rng.uniform(0.3, 0.7))
    canvas = np.zeros_like(item.image)
    shapes = []
    for k, (x0, y0, x1, y1) in enumerate(
        ((0, 0, cx, cy), (cx, 0, width, cy), (0, cy, cx, height), (cx, cy, width, height))
    ):
        w, h = x1 - x0, y1 - y0
        if w < 1 or h < 1:
            continue
        part = item if k == 0 else context.others()
        filled = resize(part, context, {"width": w, "height": h, "format": "Fill (with center crop) in"})
        canvas[y0:y1, x0:x1] = filled.image
        shapes += warp(filled.shapes, matrix(tx=x0, ty=y0), (x0, y0, x1, y1))
    return replace(item, image=canvas, shapes=shapes)
