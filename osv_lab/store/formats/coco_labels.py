"""Labels of COCO annotations: boxes, outlines, masks and keypoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from osv_lab.store.formats.checks import cut_box, cut_points, cut_ring, number, whole
from osv_lab.store.geometry import (
    XYWH,
    Point,
    bounds,
    decompress_counts,
    from_run_lengths,
    pixel_window,
)
from osv_lab.store.records import Box, Keypoints, Label, Polygon

_PLAIN = frozenset({"id", "image_id", "category_id", "bbox", "segmentation", "area", "keypoints", "num_keypoints"})
MAX_MASK_PIXELS = 2**28
"""Masks of larger images are dropped with a problem instead of filling the memory."""


def annotation_labels(
    annotation: dict[str, Any], categories: Mapping[Any, str], size: tuple[int, int]
) -> tuple[list[Label], str]:
    """The labels of one annotation and what was wrong with it.

    Args:
        annotation: As the file states it.
        categories: Names by category id.
        size: Image ``(width, height)``, pixels.
    """
    category = annotation.get("category_id")
    name = categories.get(category) if isinstance(category, (int, str)) else None
    if name is None:
        return [], f"category id {category!r} is not one of the {len(categories)} stated"
    whats: list[str] = []
    common = _common(annotation)
    box: XYWH | None = None
    if annotation.get("bbox") not in (None, []):
        box, what = _bbox(annotation["bbox"], size)
        if box is None:
            return [], what
        whats.append(what)
    segmentation = annotation.get("segmentation")
    labels: list[Label] = []
    if isinstance(segmentation, dict):
        mask_box, what = _mask_box(name, box, segmentation, size, common)
        whats.append(what)
        if mask_box:
            labels.append(mask_box)
    elif isinstance(segmentation, list) and segmentation:
        rings, what = _rings(segmentation, size)
        whats.append(what)
        if rings:
            labels.append(Polygon(name, rings, **common))
            box = box or bounds(point for ring in rings for point in ring)
    keypoints = annotation.get("keypoints")
    if isinstance(keypoints, list) and keypoints:
        label, what = _keypoints(name, keypoints, box, size, common)
        whats.append(what)
        if label:
            labels.insert(0, label)
    has_box = any(isinstance(label, (Box, Keypoints)) for label in labels)
    if box and not has_box:
        labels.insert(0, Box(name, box, **common))
    if len(labels) > 1 and isinstance(annotation.get("id"), int):
        linked = {**common["attributes"], "coco_id": annotation["id"]}
        labels = [_with_attributes(label, linked) for label in labels]
    if not labels and not any(whats):
        whats.append("annotation without bbox, segmentation or keypoints")
    return labels, "; ".join(what for what in whats if what)


def _with_attributes(label: Label, attributes: Mapping[str, Any]) -> Label:
    return dataclasses.replace(label, attributes=attributes)


def _common(annotation: dict[str, Any]) -> dict[str, Any]:
    """Confidence, track index and attributes, as keyword arguments of a label."""
    attributes: dict[str, Any] = {}
    nested = annotation.get("attributes")
    for stated in (annotation, nested if isinstance(nested, dict) else {}):
        for key, value in stated.items():
            if key not in _PLAIN and isinstance(value, (bool, int, float, str)):
                attributes[str(key)] = value
    if attributes.get("iscrowd") in (0, False):
        del attributes["iscrowd"]
    elif "iscrowd" in attributes:
        attributes["iscrowd"] = True
    confidence = attributes.pop("score", None)
    index = attributes.pop("track_id", None)
    usable = isinstance(confidence, (int, float)) and 0 <= confidence <= 1
    return {
        "confidence": float(confidence) if usable and confidence is not None else None,
        "index": index if isinstance(index, int) and not isinstance(index, bool) else None,
        "attributes": attributes,
    }


def _bbox(stated: Any, size: tuple[int, int]) -> tuple[XYWH | None, str]:
    width, height = size
    if type(stated) is list and len(stated) == 4 and all(type(value) in (float, int) for value in stated):
        # The plain case; whatever is not finite or leaves the image fails the comparison.
        x, y, w, h = stated
        if x >= 0 and y >= 0 and 0 < w <= width - x and 0 < h <= height - y:
            return (x / width, y / height, w / width, h / height), ""
    try:
        x, y, w, h = (number(value) for value in stated)
    except (ValueError, TypeError) as error:
        return None, f"bbox {str(stated)[:60]}: {error}"
    box, what = cut_box(x / width, y / height, (x + w) / width, (y + h) / height)
    return box, f"bbox ({x:g}, {y:g}, {w:g}, {h:g}): {what}" if what else ""


def _rings(stated: list[Any], size: tuple[int, int]) -> tuple[tuple[tuple[Point, ...], ...], str]:
    width, height = size
    rings = []
    whats = []
    for flat in stated:
        try:
            numbers = [number(value) for value in flat]
        except (ValueError, TypeError) as error:
            whats.append(f"outline: {error}")
            continue
        if len(numbers) % 2:
            whats.append(f"outline of {len(numbers)} numbers, expected pairs")
            continue
        ring, what = cut_ring([(x / width, y / height) for x, y in zip(numbers[::2], numbers[1::2], strict=True)])
        whats.append(what)
        if ring:
            rings.append(ring)
    return tuple(rings), "; ".join(dict.fromkeys(what for what in whats if what))


def _mask_box(
    name: str, box: XYWH | None, segmentation: dict[str, Any], size: tuple[int, int], common: dict[str, Any]
) -> tuple[Box | None, str]:
    """A run-length mask, cut to the pixels its box touches."""
    width, height = size
    try:
        mask_height, mask_width = (whole(side) for side in segmentation["size"])
        if mask_width < 1 or mask_height < 1 or mask_width * mask_height > MAX_MASK_PIXELS:
            return None, f"mask of {mask_width}x{mask_height} pixels"
        counts = segmentation["counts"]
        counts = decompress_counts(counts) if isinstance(counts, str) else [whole(count) for count in counts]
        flat = from_run_lengths(counts, mask_width * mask_height)
    except (ValueError, TypeError, KeyError) as error:
        return None, f"mask: {error}"
    mask = flat.reshape((mask_width, mask_height)).T
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None, "empty mask"
    if box is None:
        x0, x1 = columns[0] / mask_width, (columns[-1] + 1) / mask_width
        y0, y1 = rows[0] / mask_height, (rows[-1] + 1) / mask_height
        box = float(x0), float(y0), float(x1 - x0), float(y1 - y0)
    x0, y0, x1, y1 = pixel_window(box, (mask_width, mask_height))
    inside = mask[y0:y1, x0:x1]
    what = "" if (mask_width, mask_height) == (width, height) else f"mask of {mask_width}x{mask_height} pixels"
    lost = 1 - inside.sum() / mask.sum()
    if lost > 0.01:
        what = f"{lost:.0%} of the mask lay outside its box and was cut"
    return Box(name, box, mask=np.ascontiguousarray(inside), **common), what


def _keypoints(
    name: str, stated: list[Any], box: XYWH | None, size: tuple[int, int], common: dict[str, Any]
) -> tuple[Keypoints | None, str]:
    width, height = size
    try:
        numbers = [number(value) for value in stated]
    except ValueError as error:
        return None, f"keypoints: {error}"
    if len(numbers) % 3:
        return None, f"{len(numbers)} keypoint values, expected a multiple of 3"
    visible = tuple(min(max(int(flag), 0), 2) for flag in numbers[2::3])
    points = [
        (x / width, y / height) if flag else (math.nan, math.nan)
        for x, y, flag in zip(numbers[::3], numbers[1::3], visible, strict=True)
    ]
    moved, what = cut_points(points)
    return Keypoints(name, moved, visible, box, **common), what
