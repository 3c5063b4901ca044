"""A detector's output as plain labels, ready to be written in bulk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox

if TYPE_CHECKING:
    import supervision as sv

CONTAINERS: Mapping[str, str] = {
    "detect": "Detections",
    "segment": "Detections",
    "pose": "Keypoints",
    "obb": "Polylines",
    "classify": "Classification",
}
"""The FiftyOne class of a predictions field, by the detector's task."""


def labels_of(detections: sv.Detections, width: int, height: int, task: str = "detect") -> list[Label]:
    """Labels of one image.

    Args:
        detections: Absolute pixels, with ``data["class_name"]``; see :class:`osv_lab.detect.detector.Detector`.
        width: The image's width in pixels.
        height: Its height.
        task: The detector's task. Of a classifier only the most confident class is taken.
    """
    count = len(detections)
    if not count:
        return []
    names = [str(name) for name in detections.data["class_name"]]
    scores = [1.0] * count if detections.confidence is None else detections.confidence.tolist()
    indices = [None] * count if detections.tracker_id is None else detections.tracker_id.tolist()
    if task == "classify":
        best = int(np.argmax(scores))
        return [ImageClass(names[best], scores[best])]
    xyxy = detections.xyxy.astype(np.float64) / (width, height, width, height)
    boxes = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1).tolist()
    if task == "obb":
        corners = (np.asarray(detections.data["xyxyxyxy"], np.float64) / (width, height)).tolist()
        return [
            OrientedBox(name, tuple(map(tuple, four)), score, index)  # type: ignore[arg-type]
            for name, four, score, index in zip(names, corners, scores, indices, strict=True)
        ]
    if task == "pose":
        points = np.asarray(detections.data["keypoints"], np.float64)[:, :, :2] / (width, height)
        return [
            Keypoints(name, tuple(map(tuple, some)), xywh=tuple(box), confidence=score, index=index)
            for name, some, box, score, index in zip(names, points.tolist(), boxes, scores, indices, strict=True)
        ]
    masks = (
        [None] * count
        if detections.mask is None
        else [_inside(mask, box) for mask, box in zip(detections.mask, detections.xyxy.tolist(), strict=True)]
    )
    return [
        Box(name, tuple(box), mask, score, index)
        for name, box, mask, score, index in zip(names, boxes, masks, scores, indices, strict=True)
    ]


def _inside(mask: np.ndarray, xyxy: list[float]) -> np.ndarray:
    """The part of an image's mask that lies in a box: FiftyOne stretches it over the box."""
    height, width = mask.shape
    x0, y0 = max(math.floor(xyxy[0]), 0), max(math.floor(xyxy[1]), 0)
    x1, y1 = min(math.ceil(xyxy[2]), width), min(math.ceil(xyxy[3]), height)
    return np.ascontiguousarray(mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], dtype=bool)
