"""One image with its labels, on its way through the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from osv_lab.store.records import Label
from osv_lab.store.transforms.clip import Frame
from osv_lab.store.transforms.shapes import Matrix, Shape, for_opencv, matrix, to_label, to_shape, warp


@dataclass
class Item:
    """An image and its labels.

    Attributes:
        image: BGR uint8 ``(h, w, 3)``. Steps make a new array, they never write into this one.
        shapes: The labels, in pixels.
        part: Which part of the image this is (``tile-0-1``), or ``""``.
    """

    image: np.ndarray
    shapes: list[Shape] = field(default_factory=list)
    part: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)``."""
        return int(self.image.shape[1]), int(self.image.shape[0])

    @property
    def frame(self) -> Frame:
        """The whole image."""
        return 0.0, 0.0, float(self.image.shape[1]), float(self.image.shape[0])

    @property
    def labels(self) -> dict[str, list[Label]]:
        """Labels, relative, by field."""
        found: dict[str, list[Label]] = {}
        for shape in self.shapes:
            found.setdefault(shape.field, []).append(to_label(shape, self.size))
        return found


@dataclass
class Context:
    """What a step may use beside its parameters.

    Attributes:
        rng: The only source of chance.
        others: Another image of the training split, chosen by ``rng``; for mosaics.
        skeletons: Keypoint names per field.
    """

    rng: np.random.Generator
    others: Callable[[], Item]
    skeletons: Mapping[str, Sequence[str]] = field(default_factory=dict)


Step = Callable[[Item, Context, Mapping[str, Any]], Item]


def make_item(image: np.ndarray, labels: Mapping[str, Iterable[Label]]) -> Item:
    """An item of an image and its relative labels by field."""
    size = int(image.shape[1]), int(image.shape[0])
    return Item(image, [to_shape(label, size, name) for name, some in labels.items() for label in some])


def with_pixels(item: Item, image: np.ndarray) -> Item:
    """The same labels on other pixels of the same size."""
    return replace(item, image=np.ascontiguousarray(image))


def mapped(item: Item, image: np.ndarray, m: Matrix, context: Context) -> Item:
    """Other pixels, and the labels under the map that made them."""
    height, width = image.shape[:2]
    frame = 0.0, 0.0, float(width), float(height)
    return replace(item, image=np.ascontiguousarray(image), shapes=warp(item.shapes, m, frame, context.skeletons))


def warped(item: Item, m: Matrix, size: tuple[int, int], context: Context, border: str = "black") -> Item:
    """Pixels and labels under a map, bilinear.

    Args:
        item: The image.
        m: The map.
        size: ``(width, height)`` of the result.
        context: For the names of keypoints.
        border: What lies outside the image: ``black``, ``white`` or ``reflect``.
    """
    import cv2

    mode = cv2.BORDER_REFLECT_101 if border == "reflect" else cv2.BORDER_CONSTANT
    value = (255, 255, 255) if border == "white" else (0, 0, 0)
    image = cv2.warpAffine(
        item.image, for_opencv(m), size, flags=cv2.INTER_LINEAR, borderMode=mode, borderValue=value
    )
    return mapped(item, image, m, context)


def resized(item: Item, size: tuple[int, int], context: Context) -> Item:
    """Another size, sides scaled each by its own: area averages when it gets smaller, bilinear else."""
    import cv2

    if size == item.size:
        return item
    sx, sy = size[0] / item.size[0], size[1] / item.size[1]
    how = cv2.INTER_AREA if min(sx, sy) < 1 else cv2.INTER_LINEAR
    return mapped(item, cv2.resize(item.image, size, interpolation=how), matrix(a=sx, d=sy), context)


def cropped(item: Item, window: tuple[int, int, int, int], context: Context) -> Item:
    """The pixels ``left, top, right, bottom`` (ends exclusive)."""
    x0, y0, x1, y1 = window
    return mapped(item, item.image[y0:y1, x0:x1], matrix(tx=-x0, ty=-y0), context)


def padded(item: Item, size: tuple[int, int], context: Context, border: str) -> Item:
    """The image in the middle of a larger one."""
    import cv2

    (width, height), (w, h) = size, item.size
    left, top = (width - w) // 2, (height - h) // 2
    around = top, height - h - top, left, width - w - left
    if border == "reflect":
        image = cv2.copyMakeBorder(item.image, *around, cv2.BORDER_REFLECT)
    else:
        value = (255, 255, 255) if border == "white" else (0, 0, 0)
        image = cv2.copyMakeBorder(item.image, *around, cv2.BORDER_CONSTANT, value=value)
    return mapped(item, image, matrix(tx=left, ty=top), context)
