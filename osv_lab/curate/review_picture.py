"""The part of an image that a suggestion is about, drawn: the label as it is, and as it is suggested."""

from __future__ import annotations

import numpy as np

from osv_lab.curate.review import ReviewItem
from osv_lab.detect.images import read_image

AS_IS, SUGGESTED = (60, 60, 235), (80, 220, 60)
"""Of the label and of the suggestion, BGR."""


def picture(item: ReviewItem, size: int = 420) -> np.ndarray:
    """The surroundings of a suggestion, with the label in red and the suggestion in green.

    Args:
        item: The suggestion.
        size: Of the longer side, in pixels.

    Returns:
        BGR uint8 ``(h, w, 3)``.

    Raises:
        InvalidDataError: the image cannot be read.
    """
    import cv2

    image = read_image(item.filepath)
    height, width = image.shape[:2]
    scale = np.array([width, height, width, height], float)
    boxes = np.array([box for box in (item.box, item.label_box) if box is not None]) * scale
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    half = max(float((high - low).max()), 64.0)
    centre = (low + high) / 2
    left, top = np.maximum(np.floor(centre - half), 0).astype(int)
    right, bottom = np.minimum(np.ceil(centre + half), [width, height]).astype(int)
    crop = image[top:bottom, left:right]
    zoom = size / max(crop.shape[:2])
    shown = cv2.resize(crop, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    for box, colour in ((item.label_box, AS_IS), (None if item.kind == "spurious" else item.box, SUGGESTED)):
        if box is not None:
            x, y, w, h = np.array(box) * scale
            begin = (round((x - left) * zoom), round((y - top) * zoom))
            end = (round((x + w - left) * zoom), round((y + h - top) * zoom))
            cv2.rectangle(shown, begin, end, colour, 2, cv2.LINE_AA)
    return np.asarray(shown)
