"""Box-level steps: what a step does to an image, done to each object's box alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from osv_lab.store.transforms.item import Context, Item, Step, resized
from osv_lab.store.transforms.shapes import Shape, matrix, warp

_LEAST_PX = 4


def inside_boxes(step: Step) -> Step:
    """A step for the pixels inside each box. The box stays; masks, outlines and keypoints move with its pixels."""

    def run(item: Item, context: Context, params: Mapping[str, Any]) -> Item:
        image = item.image.copy()
        shapes = []
        for shape in item.shapes:
            window = _window(shape, item.size)
            if window is None:
                shapes.append(shape)
                continue
            x0, y0, x1, y1 = window
            local = warp([shape], matrix(tx=-x0, ty=-y0), (0, 0, x1 - x0, y1 - y0))
            done = step(Item(image[y0:y1, x0:x1].copy(), local), context, params)
            # A quarter turn of a wide box is a tall one: it is made to fill the box again.
            done = resized(done, (x1 - x0, y1 - y0), context)
            image[y0:y1, x0:x1] = done.image
            shapes.append(_placed(shape, done, (x0, y0), item.frame))
        return dataclasses.replace(item, image=image, shapes=shapes)

    run.__doc__ = step.__doc__
    return run


def _window(shape: Shape, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    bounds = shape.bounds
    if bounds is None:
        return None
    x0, y0 = max(round(bounds[0]), 0), max(round(bounds[1]), 0)
    x1, y1 = min(round(bounds[2]), size[0]), min(round(bounds[3]), size[1])
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= _LEAST_PX else None


def _placed(shape: Shape, done: Item, at: tuple[int, int], frame: tuple[float, float, float, float]) -> Shape:
    """The label after the step, back in the image; what the step turned out of the box stays as it was."""
    if not done.shapes:
        return shape
    placed = warp(done.shapes, matrix(tx=at[0], ty=at[1]), frame)
    if not placed:
        return shape
    moved = placed[0]
    if shape.mask is None and len(shape.outline) == 1 and type(shape.label).__name__ == "Box":
        return shape
    if shape.mask is not None:
        return dataclasses.replace(moved, outline=shape.outline)
    return moved
