"""Images into a network's input, and its coordinates back to the image.

A :class:`Placement` says where an image lies in the network's input; it is all that is needed to map results back.
Roundings are Ultralytics' (``LetterBox``, ``scale_boxes``), so that the same image gives the same input to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Fit = Literal["center", "top-left", "stretch", "crop"]
"""How an image is fitted: letterboxed in the middle (Ultralytics), letterboxed in the top-left corner (YOLOX),
stretched (DETR), or its middle cut out (classifiers)."""

PAD = 114
"""The grey of the border, 0 to 255."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a network wants to be fed.

    Attributes:
        fit: See :data:`Fit`.
        rgb: Channel order: RGB when true, BGR when false.
        scale: Pixel values are divided by this: 255 for 0 to 1, 1 for 0 to 255.
        mean: Subtracted after scaling, per channel.
        std: Divided by after subtracting, per channel.
        dtype: The input tensor's type.
        channels_last: ``(n, h, w, 3)`` when true, ``(n, 3, h, w)`` when false.
    """

    fit: Fit = "center"
    rgb: bool = True
    scale: float = 255.0
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    dtype: np.dtype = np.dtype(np.float32)  # noqa: RUF009 - a dtype is immutable
    channels_last: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies in the network's input.

    Attributes:
        image_size: ``(width, height)`` of the image.
        input_size: ``(width, height)`` of the network's input.
        inner_size: ``(width, height)`` the image is resized to.
        offset: ``(left, top)`` of the resized image inside the input.
    """

    image_size: tuple[int, int]
    input_size: tuple[int, int]
    inner_size: tuple[int, int]
    offset: tuple[int, int]

    @property
    def gain(self) -> tuple[float, float]:
        """Input pixels per image pixel, ``(x, y)``."""
        return self.inner_size[0] / self.image_size[0], self.inner_size[1] / self.image_size[1]

    def points_to_image(self, points: np.ndarray) -> np.ndarray:
        """Input pixels ``(..., 2+)`` to image pixels, inside the image; columns after x, y are kept."""
        mapped = points.astype(np.float32, copy=True)
        for axis in (0, 1):
            mapped[..., axis] = (mapped[..., axis] - self.offset[axis]) / self.gain[axis]
            mapped[..., axis] = mapped[..., axis].clip(0, self.image_size[axis])
        return mapped

    def boxes_to_image(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes ``(n, 4)`` from input pixels to image pixels, cut at the image's border."""
        return self.points_to_image(xyxy.reshape(-1, 2, 2)).reshape(-1, 4)

    def oriented_to_image(self, xywhr: np.ndarray) -> np.ndarray:
        """Oriented boxes ``(n, 5)`` (centre, width, height, radians) from input pixels to image pixels."""
        mapped = xywhr.astype(np.float32, copy=True)
        for axis in (0, 1):
            mapped[:, axis] = (mapped[:, axis] - self.offset[axis]) / self.gain[axis]
            mapped[:, axis + 2] /= self.gain[axis]
        return mapped


def place(
    image_size: tuple[int, int],
    input_size: tuple[int, int],
    fit: Fit,
    *,
    stride: int | None = None,
    border: float = 0.0,
) -> Placement:
    """Where an image goes in a network's input.

    Args:
        image_size: ``(width, height)``.
        input_size: ``(width, height)``; with ``stride``, the largest the input may be.
        fit: See :data:`Fit`; ``"crop"`` is placed by :func:`pack` itself.
        stride: Cut the input down to the least multiple of this that holds the image, as Ultralytics does for one
            image on a network that takes any size. The result depends on the image alone, never on its batch.
        border: With ``stride``: grey to leave around the image, in strides over both sides together. Ultralytics'
            validator leaves 0.5, its predictor 0; objects at the image's edge are found better with it.

    Example:
        >>> place((640, 480), (320, 320), "center").offset
        (0, 40)
        >>> place((640, 480), (320, 320), "center", stride=32).input_size
        (320, 256)
        >>> place((640, 480), (320, 320), "center", stride=32, border=0.5).input_size
        (352, 256)
    """
    if fit in ("stretch", "crop"):
        return Placement(image_size, input_size, input_size, (0, 0))
    gain = min(input_size[1] / image_size[1], input_size[0] / image_size[0])
    rounded = int if fit == "top-left" else round
    inner = (max(rounded(image_size[0] * gain), 1), max(rounded(image_size[1] * gain), 1))
    if stride is not None:
        # The validator measures before rounding to whole pixels, the predictor after it.
        held = (image_size[0] * gain, image_size[1] * gain) if border else inner
        input_size = (_strides(held[0], stride, border), _strides(held[1], stride, border))
    grey = (input_size[0] - inner[0], input_size[1] - inner[1])
    offset = (0, 0) if fit == "top-left" else (round(grey[0] / 2 - 0.1), round(grey[1] / 2 - 0.1))
    return Placement(image_size, input_size, inner, offset)


def _strides(length: float, stride: int, border: float) -> int:
    """The least multiple of ``stride`` that holds ``length`` and ``border`` strides."""
    return math.ceil(length / stride + border) * stride


def pack(images: Sequence[np.ndarray], placements: Sequence[Placement], spec: InputSpec) -> np.ndarray:
    """A batch of images as one input tensor.

    Args:
        images: BGR uint8 ``(h, w, 3)``.
        placements: One per image, all of one input size.
        spec: What the network wants.

    Returns:
        ``(n, 3, h, w)``, or ``(n, h, w, 3)`` for a channels-last network, of the network's type.
    """
    width, height = placements[0].input_size
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    if spec.dtype.kind == "u":
        tensor = np.empty((len(images), height, width, 3), dtype=np.uint8)
        for index, (image, placement) in enumerate(zip(images, placements, strict=True)):
            _draw(tensor[index], image, placement, spec.fit)
        tensor = tensor[..., ::-1] if spec.rgb else tensor
        return np.ascontiguousarray(tensor if spec.channels_last else tensor.transpose(0, 3, 1, 2))
    table = _value_table(spec)
    planes = np.empty((len(images), 3, height, width), dtype=np.float32)
    for index, (image, placement) in enumerate(zip(images, placements, strict=True)):
        _draw(canvas, image, placement, spec.fit)
        _look_up(canvas, table, spec.rgb, planes[index])
    if spec.channels_last:
        planes = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return planes.astype(spec.dtype, copy=False)


def _value_table(spec: InputSpec) -> np.ndarray:
    """The network's value for each of the 256 pixel values, per channel in the network's order: ``(3, 256)``."""
    values = np.arange(256, dtype=np.float32) / np.float32(spec.scale)
    table = np.repeat(values[None], 3, axis=0)
    if spec.mean is not None:
        table -= np.array(spec.mean, np.float32)[:, None]
    if spec.std is not None:
        table /= np.array(spec.std, np.float32)[:, None]
    return table


def _look_up(canvas: np.ndarray, table: np.ndarray, rgb: bool, planes: np.ndarray) -> None:
    import cv2

    for channel in range(3):
        plane = cv2.extractChannel(canvas, 2 - channel if rgb else channel)
        cv2.LUT(plane, table[channel], dst=planes[channel])


def _draw(canvas: np.ndarray, image: np.ndarray, placement: Placement, fit: Fit) -> None:
    import cv2

    if fit == "crop":
        canvas[:] = _center_crop(image, placement.input_size)
        return
    (left, top), (width, height) = placement.offset, placement.inner_size
    inner = canvas[top : top + height, left : left + width]
    if (height, width) == image.shape[:2]:
        inner[:] = image
    else:
        inner[:] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas[:top] = PAD
    canvas[top + height :] = PAD
    canvas[top : top + height, :left] = PAD
    canvas[top : top + height, left + width :] = PAD


def _center_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """torchvision's ``Resize`` (antialiased, by Pillow) and ``CenterCrop``, as Ultralytics classifiers want it."""
    from PIL import Image

    height, width = image.shape[:2]
    if size[0] != size[1]:
        resized = size
    elif width <= height:
        resized = (size[0], int(size[0] * height / width))
    else:
        resized = (int(size[1] * width / height), size[1])
    pixels = np.asarray(Image.fromarray(image).resize(resized, Image.Resampling.BILINEAR))
    left = round((resized[0] - size[0]) / 2.0)
    top = round((resized[1] - size[1]) / 2.0)
    return pixels[top : top + size[1], left : left + size[0]]
