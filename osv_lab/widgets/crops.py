"""Pictures of single objects, cut out of their images with some room around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.core.errors import OsvError
from osv_lab.store.bulk_documents import boxes_in, read_documents

SIDE = 112
MARGIN = 0.35
OBJECT, PREDICTION = (80, 152, 26), (39, 48, 215)
"""Colours of the true box and of the predicted one, BGR."""


@dataclass(frozen=True)
class Crop:
    """One object.

    Attributes:
        jpeg: The picture, ``b""`` where the image cannot be read.
        sample: The sample's id.
        label: The stored prediction, or the object where there is no prediction.
    """

    jpeg: bytes
    sample: str
    label: Mapping[str, Any]


def crops(
    view: Any, gt_field: str, pred_field: str, pairs: Iterable[tuple[str, str]], most: int = 12
) -> list[Crop]:
    """Cut out objects and their predictions, both boxes drawn.

    Args:
        view: The samples that hold them, no more than needed.
        gt_field: Where objects are.
        pred_field: Where predictions are.
        pairs: Ids of an object and of a prediction, ``""`` for none.
        most: How many are cut out.
    """
    places: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for stored in read_documents(view, [gt_field, pred_field]):
        for field in (gt_field, pred_field):
            places |= {str(box["_id"]): (stored, box) for box in boxes_in(stored, field)}
    images: dict[str, np.ndarray | None] = {}
    found: list[Crop] = []
    for truth, prediction in pairs:
        own = [
            (places[one], colour) for one, colour in ((truth, OBJECT), (prediction, PREDICTION)) if one in places
        ]
        if not own:
            continue
        document = own[0][0][0]
        path = str(document["filepath"])
        if path not in images:
            images = {path: _read(path)}
        boxes = [(box["bounding_box"], colour) for (_, box), colour in own]
        found.append(Crop(_cut(images[path], boxes), str(document["_id"]), own[-1][0][1]))
        if len(found) == most:
            break
    return found


def _read(path: str) -> np.ndarray | None:
    from osv_lab.detect.images import read_image

    try:
        return read_image(Path(path))
    except (OsvError, OSError):
        return None


def _cut(image: np.ndarray | None, boxes: Sequence[tuple[Sequence[float], tuple[int, int, int]]]) -> bytes:
    import cv2

    if image is None:
        return b""
    height, width = image.shape[:2]
    scale = np.array([width, height, width, height])
    corners = np.array([[x, y, x + w, y + h] for (x, y, w, h), _ in boxes]) * scale
    left, top = corners[:, :2].min(axis=0)
    right, bottom = corners[:, 2:].max(axis=0)
    half = max(right - left, bottom - top, 8) * (0.5 + MARGIN)
    across, down = (left + right) / 2, (top + bottom) / 2
    x1, y1 = (max(0, int(value - half)) for value in (across, down))
    x2, y2 = (min(limit, int(value + half) + 1) for value, limit in ((across, width), (down, height)))
    part = image[y1:y2, x1:x2]
    if not part.size:
        return b""
    zoom = 2 * SIDE / max(part.shape[:2])
    size = max(1, round(part.shape[1] * zoom)), max(1, round(part.shape[0] * zoom))
    picture = cv2.resize(part, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    for (a, b, c, d), (_, colour) in zip(corners, boxes, strict=True):
        start = round((a - x1) * zoom), round((b - y1) * zoom)
        end = round((c - x1) * zoom), round((d - y1) * zoom)
        cv2.rectangle(picture, start, end, colour, 2, cv2.LINE_AA)
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])[1])
