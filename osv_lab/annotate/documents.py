"""Labels as the dataset keeps them, and as the loop's shapes: pixels for relative coordinates, and back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from osv_lab.annotate.objects import Shape, Value
from osv_lab.core.digests import value_digest
from osv_lab.store.annotation_store import Labelled
from osv_lab.store.documents import DETECTION_CONFIDENCE, MADE_BY, MODEL, OWN_KEYS, SOURCE, Document

Size = tuple[int, int]
"""Width and height in pixels."""

HOLDS: Mapping[str, tuple[str, ...]] = {
    "Detections": ("box", "mask"),
    "Polylines": ("polygon", "polyline", "oriented"),
    "Keypoints": ("keypoints",),
    "Classifications": ("tag",),
    "Classification": ("tag",),
}
"""The kinds that each FiftyOne class can hold."""
TRACKABLE = ("box", "oriented", "polygon", "polyline", "keypoints")
"""The kinds of which CVAT has tracks; masks and tags go frame by frame."""

TRUSTED, WHY = "osv_trusted", "osv_why"
"""Attributes of a label that a detector proposed: whether it may do without a person, and why one should look."""

_FIELDS = ("occluded", "z_order", "group", SOURCE, MODEL)


class UnsendableError(ValueError):
    """A label that CVAT cannot hold; the message says why."""


def shape_of(
    document: Mapping[str, Any],
    sample: str,
    size: Size,
    made_by: str | None = None,
    frame: int = 0,
    owner: str | None = None,
) -> Shape:
    """The shape of a label, clipped to the image.

    Args:
        document: The label as the database has it.
        sample: The id of its sample.
        size: The image's width and height in pixels.
        made_by: The model that made the labels of the field, for those with a confidence that name none.
        frame: The number of the frame of a video, from 1.
        owner: What its track belongs to, see :func:`shapes_of`.

    Raises:
        UnsendableError: no area within the image, coordinates that are no numbers, or several rings.
    """
    kind, points, rotation = _GEOMETRY[document["_cls"]](document, size)
    if not all(map(math.isfinite, points)):
        raise UnsendableError("a coordinate is no number")
    confidence = _confidence(document)
    model = document.get(MODEL) or (made_by if confidence is not None else None)
    return Shape(
        uid=str(document["_id"]),
        sample=sample,
        kind=kind,
        label=document.get("label") or "",
        points=points,
        rotation=rotation,
        attributes=_attributes(document),
        occluded=document.get("occluded") is True,
        z_order=_integer(document.get("z_order")),
        group=_integer(document.get("group")),
        source=document.get(SOURCE) or ("manual" if confidence is None else "auto"),
        confidence=confidence,
        model=model,
        frame=frame,
        track=track_of(document, owner) if owner is not None and kind in TRACKABLE else None,
    )


def shapes_of(sample: Labelled, size: Size, owner: str | None = None) -> list[Shape]:
    """The shapes of a sample's or a frame's labels, without those that CVAT cannot hold.

    Args:
        sample: The sample or frame, as it was read.
        size: The image's width and height in pixels.
        owner: What its tracks belong to: the id of the video or the name of the sequence; ``None`` without tracks.
    """
    found = []
    made_by = (sample.container or {}).get(MADE_BY)
    for document in sample.labels:
        with contextlib.suppress(UnsendableError):
            found.append(shape_of(document, sample.id, size, made_by, sample.frame, owner))
    return found


def track_of(document: Mapping[str, Any], sample: str) -> str | None:
    """The identity of the track that a label is one frame of: of its instance, or else of its class and number.

    Args:
        document: The label as the database has it.
        sample: The id of the video, or the name of the sequence.
    """
    if document.get("instance"):
        return str(document["instance"]["_id"])
    index = document.get("index")
    if type(index) is not int:
        return None
    return value_digest([sample, document.get("label"), index])[:24]


def new_document(shape: Shape, size: Size) -> Document:
    """The document of an object that the dataset does not have, without its attributes; its id is the uid."""
    from bson import ObjectId

    of = (
        "Polyline"
        if shape.kind in HOLDS["Polylines"]
        else "Keypoint"
        if shape.kind == "keypoints"
        else "Detection"
    )
    document: Document = {"_id": ObjectId(shape.uid), "_cls": "Classification" if shape.kind == "tag" else of}
    document["tags"] = []
    if shape.kind != "tag":
        document["attributes"] = {}
    _set_geometry(document, shape, size)
    return _set_rest(document, shape)


def changed_document(document: Mapping[str, Any], shape: Shape, properties: Sequence[str], size: Size) -> Document:
    """A label with those properties of a shape that changed; all others stay as they are, to the last bit.

    Attributes that changed are taken off: :func:`attributes_set` gives them, for the dataset's schema to fit.
    """
    after = dict(document)
    if "geometry" in properties:
        _set_geometry(after, shape, size)
    for name in properties:
        if name.startswith("attributes."):
            after.pop(name.removeprefix("attributes."), None)
    return _set_rest(after, shape)


def attributes_set(shape: Shape, properties: Sequence[str] | None = None) -> dict[str, Value]:
    """What a shape's document says besides its class and place, all of it or the properties that changed."""
    found = {
        name: value
        for name, value in shape.attributes.items()
        if properties is None or f"attributes.{name}" in properties
    }
    for name in ("occluded", "z_order", "group"):
        value = getattr(shape, name)
        if (properties is None and value) or (properties is not None and name in properties):
            found[name] = value
    found[SOURCE] = shape.source
    if shape.model is not None:
        found[MODEL] = shape.model
    return found


def _set_rest(document: Document, shape: Shape) -> Document:
    document["label"] = shape.label
    if shape.confidence is None:
        for name in ("confidence", DETECTION_CONFIDENCE, MODEL):
            document.pop(name, None)
    elif document["_cls"] == "Keypoint":
        document.setdefault("confidence", [shape.confidence] * len(document["points"]))
    else:
        document["confidence"] = shape.confidence
    return document


def _set_geometry(document: Document, shape: Shape, size: Size) -> None:
    w, h = size
    points = shape.points
    if shape.kind == "box":
        x1, y1, x2, y2 = points
        document["bounding_box"] = [x1 / w, y1 / h, (x2 - x1) / w, (y2 - y1) / h]
        document.pop("mask", None)
        document.pop("mask_path", None)
    elif shape.kind == "mask":
        from fiftyone.core.utils import serialize_numpy_array

        mask, (left, top, right, bottom) = mask_of(points)
        document["bounding_box"] = [left / w, top / h, (right - left) / w, (bottom - top) / h]
        document["mask"] = bytes(serialize_numpy_array(mask))
        document.pop("mask_path", None)
    elif shape.kind == "keypoints":
        pairs = _relative(points, size)
        if len(pairs) != len(document.get("points") or ()):
            document.pop("visible", None)
        document["points"] = pairs
    elif shape.kind != "tag":
        if shape.kind == "oriented":
            points = _corners(points, shape.rotation)
        document["points"] = [_relative(points, size)]
        document["closed"] = shape.kind != "polyline"
        document["filled"] = shape.kind == "polygon"


def mask_of(points: Sequence[float]) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A mask from CVAT's run lengths: bool ``(h, w)``, and left, top, right, bottom (exclusive) of it in pixels."""
    *runs, left, top, right, bottom = (int(value) for value in points)
    width, height = right - left + 1, bottom - top + 1
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(height, width), (left, top, right + 1, bottom + 1)


def runs_of(mask: np.ndarray, left: int, top: int) -> tuple[float, ...]:
    """CVAT's run lengths, background first, of a bool mask ``(h, w)`` whose corner is at ``left, top``."""
    flat = np.concatenate(([False], mask.ravel()))
    edges = np.flatnonzero(np.diff(flat)) + 0
    runs = np.diff(np.concatenate(([0], edges, [mask.size])))
    return (*map(float, runs), float(left), float(top), left + mask.shape[1] - 1.0, top + mask.shape[0] - 1.0)


def _detection(document: Mapping[str, Any], size: Size) -> tuple[str, tuple[float, ...], float]:
    w, h = size
    x, y, width, height = document["bounding_box"]
    x1, y1, x2, y2 = _clip(x * w, w), _clip(y * h, h), _clip((x + width) * w, w), _clip((y + height) * h, h)
    if not (x2 > x1 and y2 > y1):
        raise UnsendableError("no area within the image")
    if document.get("mask") is None and not document.get("mask_path"):
        return "box", (x1, y1, x2, y2), 0.0
    mask = _mask_array(document)
    left, top = math.floor(x1 + 1e-9), math.floor(y1 + 1e-9)
    right, bottom = min(max(left + 1, math.ceil(x2 - 1e-9)), w), min(max(top + 1, math.ceil(y2 - 1e-9)), h)
    # Each pixel's centre, in the mask's own grid, which spans the whole box.
    columns = (np.arange(left, right) + 0.5 - x * w) / (width * w) * mask.shape[1]
    lines = (np.arange(top, bottom) + 0.5 - y * h) / (height * h) * mask.shape[0]
    grid = mask[np.ix_(_index(lines, mask.shape[0]), _index(columns, mask.shape[1]))]
    if not grid.any():
        raise UnsendableError("an empty mask")
    # CVAT keeps the tight box of a mask.
    filled = np.argwhere(grid)
    y0, x0 = filled.min(axis=0).tolist()
    y3, x3 = (filled.max(axis=0) + 1).tolist()
    return "mask", runs_of(grid[y0:y3, x0:x3], left + x0, top + y0), 0.0


def _polyline(document: Mapping[str, Any], size: Size) -> tuple[str, tuple[float, ...], float]:
    rings: Sequence[Any] = document.get("points") or ()
    if len(rings) != 1:
        # Where it is of several, CVAT could hold each only as an object of its own.
        raise UnsendableError(
            f"an outline of {len(rings)} rings, which CVAT does not have; it stays here as it is"
        )
    points = _absolute(rings[0], size)
    closed, filled = bool(document.get("closed")), bool(document.get("filled"))
    if closed and not filled and len(rings[0]) == 4:
        box, rotation = _oriented(points)
        return "oriented", box, rotation
    points = _clipped(points, size)
    if len(rings[0]) < (3 if closed else 2):
        raise UnsendableError("too few points")
    return "polygon" if closed else "polyline", points, 0.0


def _keypoint(document: Mapping[str, Any], size: Size) -> tuple[str, tuple[float, ...], float]:
    points: Sequence[Any] = document.get("points") or ()
    if not points:
        raise UnsendableError("no points")
    return "keypoints", _clipped(_absolute(points, size), size), 0.0


def _classification(document: Mapping[str, Any], size: Size) -> tuple[str, tuple[float, ...], float]:
    return "tag", (), 0.0


_GEOMETRY = {
    "Detection": _detection,
    "Polyline": _polyline,
    "Keypoint": _keypoint,
    "Classification": _classification,
}


def _oriented(points: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Four corners as the box before its rotation, and the rotation in degrees clockwise."""
    corners = np.asarray(points).reshape(4, 2)
    cx, cy = corners.mean(axis=0)
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    width, height = math.hypot(*across), math.hypot(*down)
    if not (width > 0 and height > 0):
        raise UnsendableError("no area")
    # Down the image is clockwise.
    if across[0] * down[1] - across[1] * down[0] < 0:
        across, width, height = down, height, width
    angle = math.degrees(math.atan2(across[1], across[0])) % 360
    return (
        float(cx - width / 2),
        float(cy - height / 2),
        float(cx + width / 2),
        float(cy + height / 2),
    ), angle


def _corners(points: Sequence[float], rotation: float) -> tuple[float, ...]:
    x1, y1, x2, y2 = points
    cx, cy, c, s = (x1 + x2) / 2, (y1 + y2) / 2, math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    found: list[float] = []
    for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        found += [cx + (x - cx) * c - (y - cy) * s, cy + (x - cx) * s + (y - cy) * c]
    return tuple(found)


def _absolute(points: Sequence[Sequence[float]], size: Size) -> tuple[float, ...]:
    return tuple(value for x, y in points for value in (x * size[0], y * size[1]))


def _clipped(points: Sequence[float], size: Size) -> tuple[float, ...]:
    ends = (*size,) * (len(points) // 2)
    return tuple(_clip(value, end) for value, end in zip(points, ends, strict=True))


def _relative(points: Sequence[float], size: Size) -> list[list[float]]:
    return [[x / size[0], y / size[1]] for x, y in zip(points[::2], points[1::2], strict=True)]


def _clip(value: float, end: int) -> float:
    return min(max(float(value), 0.0), float(end)) if math.isfinite(value) else math.nan


def _index(places: np.ndarray, count: int) -> np.ndarray:
    found: np.ndarray = np.clip(np.floor(places), 0, count - 1).astype(int)
    return found


def _mask_array(document: Mapping[str, Any]) -> np.ndarray:
    if document.get("mask") is not None:
        from fiftyone.core.utils import deserialize_numpy_array

        mask = deserialize_numpy_array(document["mask"])
    else:
        import fiftyone as fo

        mask = fo.Detection(mask_path=document["mask_path"]).get_mask()
    found: np.ndarray = np.asarray(mask).astype(bool)
    return found


def _confidence(document: Mapping[str, Any]) -> float | None:
    found = document.get(DETECTION_CONFIDENCE, document.get("confidence"))
    if isinstance(found, list):
        known = [value for value in found if value is not None and math.isfinite(value)]
        found = sum(known) / len(known) if known else None
    return None if found is None else float(found)


def _attributes(document: Mapping[str, Any]) -> dict[str, Value]:
    return {
        name: value
        for name, value in document.items()
        if name not in OWN_KEYS
        and not name.startswith("_")
        and isinstance(value, (bool, int, float, str))
        and not (name in (SOURCE, MODEL) or (name == "occluded" and isinstance(value, bool)))
        and not (name in ("z_order", "group") and type(value) is int)
        and not (isinstance(value, float) and not math.isfinite(value))
        and name != MADE_BY
    }


def _integer(value: Any) -> int:
    return value if type(value) is int else 0
