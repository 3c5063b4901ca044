"""FiftyOne label objects to and from plain labels. (:mod:`osv_lab.store.documents` does the same for raw documents.)"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.store.records import Box, ImageClass, Keypoints, Kind, Label, OrientedBox, Polygon

if TYPE_CHECKING:
    import fiftyone as fo
    import supervision as sv

DETECTION_CONFIDENCE = "detection_confidence"
"""The attribute of a FiftyOne keypoint that holds the whole object's confidence; its own is per point."""

_OWN = frozenset(
    {"id", "tags", "label", "confidence", "index", "instance", "attributes", "bounding_box", "mask", "mask_path",
     "points", "closed", "filled", "logits", "visible", DETECTION_CONFIDENCE}
)  # fmt: skip


def to_fiftyone(
    detections: sv.Detections | sv.KeyPoints,
    size: tuple[int, int],
    class_names: Sequence[str] | None = None,
    kind: Kind | None = None,
) -> fo.Label:
    """Detections of one image as a FiftyOne label.

    Args:
        detections: Pixels; ``tracker_id`` becomes ``index``, scalars in ``data`` become attributes.
        size: Image ``(width, height)``, pixels.
        class_names: Names by class id, for detections without ``data["class_name"]``.
        kind: ``box``, ``mask``, ``polygon``, ``oriented_box`` or ``keypoints``; by default what the detections have.

    Returns:
        ``Detections`` for boxes and masks, ``Polylines`` for outlines and oriented boxes, ``Keypoints``.
    """
    import supervision

    from osv_lab.store.convert.supervision import _kind_of, labels_from

    if kind is None:
        kind = "keypoints" if isinstance(detections, supervision.KeyPoints) else _kind_of(detections)
    return fiftyone_label(labels_from(detections, size, class_names, kind), kind)


def fiftyone_label(labels: Iterable[Label], kind: Kind) -> fo.Label:
    """Plain labels of one kind as the FiftyOne label of a sample field; an empty one when there is none."""
    import fiftyone as fo

    members = [_member(label) for label in labels]
    if kind == "class":
        return members[0] if members else None
    if kind == "keypoints":
        return fo.Keypoints(keypoints=members)
    if kind in ("polygon", "oriented_box"):
        return fo.Polylines(polylines=members)
    return fo.Detections(detections=members)


def _member(label: Label) -> Any:
    import fiftyone as fo

    common: dict[str, Any] = {"label": label.label, **label.attributes}
    if not isinstance(label, ImageClass) and label.index is not None:
        common["index"] = int(label.index)
    if isinstance(label, Keypoints):
        points = [(float(x), float(y)) for x, y in label.points]
        scores = list(label.scores) or ([label.confidence] * len(points) if label.confidence is not None else None)
        if label.scores and label.confidence is not None:
            common[DETECTION_CONFIDENCE] = float(label.confidence)
        if label.visible:
            common["visible"] = list(label.visible)
        if label.xywh is not None:
            common["bounding_box"] = list(label.xywh)
        return fo.Keypoint(points=points, confidence=scores, **common)
    if label.confidence is not None:
        common["confidence"] = float(label.confidence)
    if isinstance(label, ImageClass):
        return fo.Classification(**common)
    if isinstance(label, Box):
        return fo.Detection(bounding_box=list(label.xywh), mask=label.mask, **common)
    if isinstance(label, OrientedBox):
        return fo.Polyline(points=[list(label.corners)], closed=True, filled=False, **common)
    return fo.Polyline(
        points=[list(ring) for ring in label.rings], closed=label.closed, filled=label.closed, **common
    )


def labels_of(label: fo.Label | None) -> list[Label]:
    """A FiftyOne label's members as plain labels.

    A closed, unfilled polyline of one ring with four points is an oriented box.

    Raises:
        UsageError: a kind that has no plain counterpart (``Heatmap``, ``Segmentation``, ...).
    """
    if label is None:
        return []
    name = type(label).__name__
    for container, members in (
        ("Detections", "detections"),
        ("Polylines", "polylines"),
        ("Keypoints", "keypoints"),
    ):
        if name == container:
            return [found for member in getattr(label, members) for found in labels_of(member)]
    readers = {"Detection": _box, "Polyline": _outline, "Keypoint": _keypoints, "Classification": _class}
    if name not in readers:
        raise UsageError(
            "a kind of label that has no boxes, outlines or points", name, f"use one of {', '.join(readers)}"
        )
    return [readers[name](label)]


def _common(label: Any) -> dict[str, Any]:
    attributes = {
        key: value
        for key, value in label.iter_fields()
        if key not in _OWN and isinstance(value, (bool, int, float, str))
    }
    return {"confidence": label.confidence, "index": label.index, "attributes": attributes}


def _box(label: Any) -> Label:
    x, y, w, h = label.bounding_box
    mask = label.get_mask() if label.has_mask else None
    return Box(
        label.label or "", (x, y, w, h), None if mask is None else np.asarray(mask).astype(bool), **_common(label)
    )


def _outline(label: Any) -> Label:
    rings = tuple(tuple((float(x), float(y)) for x, y in ring) for ring in label.points or ())
    if label.closed and not label.filled and len(rings) == 1 and len(rings[0]) == 4:
        a, b, c, d = rings[0]
        return OrientedBox(label.label or "", (a, b, c, d), **_common(label))
    return Polygon(label.label or "", rings, closed=bool(label.closed), **_common(label))


def _keypoints(label: Any) -> Label:
    common = _common(label)
    scores = tuple(math.nan if score is None else float(score) for score in common.pop("confidence") or ())
    known = [score for score in scores if score == score]
    whole = label[DETECTION_CONFIDENCE] if label.has_field(DETECTION_CONFIDENCE) else None
    if whole is None and known:
        whole = sum(known) / len(known)
    visible = label["visible"] if label.has_field("visible") else None
    box = label["bounding_box"] if label.has_field("bounding_box") else None
    return Keypoints(
        label.label or "",
        tuple((float(x), float(y)) for x, y in label.points or ()),
        tuple(visible or ()),
        tuple(box) if box else None,
        confidence=whole,
        scores=scores,
        **common,
    )


def _class(label: Any) -> Label:
    attributes = {
        key: value
        for key, value in label.iter_fields()
        if key not in _OWN and isinstance(value, (bool, int, float, str))
    }
    return ImageClass(label.label or "", label.confidence, attributes)
