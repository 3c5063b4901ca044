"""From a batch's raw outputs to what was found, in the pixels of each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.detect.detector import Found, make_found
from osv_lab.detect.nms import class_nms, rotated_nms

if TYPE_CHECKING:
    from osv_lab.detect.families import Family
    from osv_lab.detect.heads import Candidates
    from osv_lab.detect.preprocess import Placement


def found_of(
    outputs: Sequence[np.ndarray],
    index: int,
    placement: Placement,
    family: Family,
    *,
    confidence: float | np.ndarray,
    iou: float,
    max_detections: int,
    classes: np.ndarray | None,
    keypoint_shape: tuple[int, int] | None = None,
) -> Found:
    """What the network found in image ``index`` of a batch.

    Args:
        outputs: The network's outputs, batch first.
        index: Which image of the batch.
        placement: Where the image lay in the input.
        family: The model's family.
        confidence: See :meth:`osv_lab.detect.detector.Detector.predict`, as for the next three; of several one per
            class id.
        iou: Overlap of duplicates.
        max_detections: The most to keep.
        classes: Class ids to keep, or ``None``.
        keypoint_shape: Keypoints and numbers per keypoint of a pose model.
    """
    found = family.head.decode(outputs, index, float(np.min(confidence)), placement.input_size)
    if isinstance(confidence, np.ndarray):
        found = found.take(found.scores > confidence[found.class_id])
    if classes is not None:
        found = found.take(np.isin(found.class_id, classes))
    found = found.take(_keep(found, family, iou, max_detections))

    if family.task == "obb":
        oriented = placement.oriented_to_image(found.boxes)
        corners = oriented_corners(oriented)
        xyxy = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return make_found(xyxy, found.scores, found.class_id, family.class_names, corners=corners)

    if family.spec.fit == "crop":
        xyxy = np.repeat(np.array([[0, 0, *placement.image_size]], np.float32), len(found.scores), axis=0)
    else:
        xyxy = placement.boxes_to_image(found.boxes)
    masks = keypoints = None
    if family.task == "segment":
        masks = instance_masks(_float(outputs[1][index]), found.extra, xyxy, placement)
        if len(masks):
            visible = np.asarray(masks.reshape(len(masks), -1).any(axis=1))
            if not visible.all():
                masks, xyxy, found = masks[visible], xyxy[visible], found.take(visible)
    if family.task == "pose":
        keypoints = _keypoints(found, placement, keypoint_shape or (found.extra.shape[1] // 3, 3))
    return make_found(xyxy, found.scores, found.class_id, family.class_names, masks=masks, keypoints=keypoints)


def _keep(found: Candidates, family: Family, iou: float, max_detections: int) -> np.ndarray:
    if family.head.final:
        return np.argsort(-found.scores, kind="stable")[:max_detections]
    suppress = rotated_nms if family.task == "obb" else class_nms
    return suppress(found.boxes, found.scores, found.class_id, iou, max_detections)


def _float(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32, copy=False)


def _keypoints(found: Candidates, placement: Placement, shape: tuple[int, int]) -> np.ndarray:
    """``(n, k, 3)`` x, y in image pixels and confidence, which is 1 for a model that gives none."""
    points = placement.points_to_image(found.extra.reshape(-1, *shape))
    if shape[1] == 2:
        points = np.concatenate([points, np.ones((*points.shape[:2], 1), np.float32)], axis=2)
    return points


def oriented_corners(xywhr: np.ndarray) -> np.ndarray:
    """Corners ``(n, 4, 2)`` of oriented boxes ``(n, 5)``, in order round the box, in Ultralytics' order.

    Example:
        >>> oriented_corners(np.array([[5.0, 5.0, 4.0, 2.0, 0.0]], np.float32))[0].tolist()
        [[7.0, 6.0], [7.0, 4.0], [3.0, 4.0], [3.0, 6.0]]
    """
    center = xywhr[:, :2]
    cos, sin = np.cos(xywhr[:, 4:5]), np.sin(xywhr[:, 4:5])
    along = np.concatenate([cos, sin], axis=1) * xywhr[:, 2:3] / 2
    across = np.concatenate([-sin, cos], axis=1) * xywhr[:, 3:4] / 2
    corners = [center + along + across, center + along - across, center - along - across, center - along + across]
    return np.stack(corners, axis=1)


def instance_masks(
    prototypes: np.ndarray, coefficients: np.ndarray, xyxy: np.ndarray, placement: Placement
) -> np.ndarray:
    """Instance masks of a YOLACT-style head (Bolya et al. 2019, https://arxiv.org/abs/1904.02689).

    The prototypes' linear combination is brought to the image's own resolution before it is cut at zero, and each mask
    is cut at its box, as Ultralytics' ``retina_masks`` does.

    Args:
        prototypes: ``(k, h, w) float32``.
        coefficients: ``(n, k) float32``.
        xyxy: ``(n, 4)`` boxes in image pixels.
        placement: Where the image lay in the input.

    Returns:
        ``(n, image height, image width) bool``.
    """
    import cv2

    width, height = placement.image_size
    masks = np.zeros((len(coefficients), height, width), dtype=bool)
    channels, rows, columns = prototypes.shape
    logits = (coefficients @ prototypes.reshape(channels, -1)).reshape(-1, rows, columns)
    # Prototypes are a fraction of the input's size: they are enlarged until the border is whole pixels.
    ratio = max(placement.input_size[1] // rows, 1)
    border = (ratio * columns - placement.inner_size[0]) | (ratio * rows - placement.inner_size[1])
    enlarged = ratio // math.gcd(ratio, border | border // 2)
    rows, columns = rows * enlarged, columns * enlarged
    gain = min(rows / height, columns / width)
    inner_height, inner_width = max(round(height * gain), 1), max(round(width * gain), 1)
    top, left = round((rows - inner_height) / 2 - 0.1), round((columns - inner_width) / 2 - 0.1)
    for mask, logit, (x1, y1, x2, y2) in zip(masks, logits, xyxy, strict=True):
        if enlarged > 1:
            logit = cv2.resize(logit, (columns, rows), interpolation=cv2.INTER_LINEAR)
        inner = logit[top : top + inner_height, left : left + inner_width]
        full = cv2.resize(inner, (width, height), interpolation=cv2.INTER_LINEAR)
        box = np.s_[math.ceil(y1) : math.ceil(y2), math.ceil(x1) : math.ceil(x2)]
        mask[box] = full[box] > 0
    return masks
