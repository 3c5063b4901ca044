"""Labels as the documents FiftyOne keeps in MongoDB, and back, without building FiftyOne objects.

``tests/unit/store/test_bulk.py`` holds these documents equal to the ones FiftyOne's SDK writes.

How kinds are told apart where FiftyOne has one class for two of them: a polygon is a closed, filled ``Polyline`` or an
open one; an oriented box is a closed, unfilled one of a single ring of four points. FiftyOne's keypoint objects have a
confidence per point and none of their own: where only the object's is known it is repeated, where both are known
it is the attribute ``detection_confidence``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any, TypeAlias

from osv_lab.store.records import Box, ImageClass, Keypoints, Kind, Label, OrientedBox, Polygon

Document: TypeAlias = dict[str, Any]

CONTAINERS: Mapping[str, str] = {
    "Detections": "detections",
    "Polylines": "polylines",
    "Keypoints": "keypoints",
    "Classifications": "classifications",
}
"""Which key a container document keeps its list under; ``Classification`` is a container of itself."""

CONTAINER_OF_KIND: Mapping[Kind, str] = {
    "box": "Detections",
    "mask": "Detections",
    "polygon": "Polylines",
    "oriented_box": "Polylines",
    "keypoints": "Keypoints",
    "class": "Classification",
}

DETECTION_CONFIDENCE = "detection_confidence"
"""The attribute of a keypoint object for its own confidence, beside those of its points."""

MADE_BY = "made_by"
"""Where a label field names what made its labels, so that a detector's work can be recognised and continued."""

AUTOLABELLED = "autolabelled_by"
"""Where a label field names what proposed labels for a sample, so that an interrupted job can go on."""

SOURCE, MODEL = "osv_source", "osv_model"
"""Attributes of a label: who made it, in CVAT's words, and the model that did."""

# What a label document holds besides its attributes.
OWN_KEYS = frozenset(
    {"_id", "_cls", "id", "tags", "label", "confidence", "index", "instance", "attributes", "logits", "support"}
    | {"bounding_box", "mask", "mask_path", "points", "closed", "filled", "visible"}
    | {MADE_BY, AUTOLABELLED, DETECTION_CONFIDENCE}
)


def label_document(
    label: Label,
    label_id: Any = None,
    attributes: Mapping[str, Any] | None = None,
    instance: Any = None,
) -> Document:
    """The document of one label.

    Args:
        label: The label.
        label_id: Its ``ObjectId``; a new one by default. See :func:`new_ids`.
        attributes: Its attributes as the data set's schema wants them; by default the label's own.
        instance: The ``ObjectId`` that links the labels of one track, or ``None``.
    """
    document: Document = {"_id": label_id or next(new_ids(1)), "tags": [], "label": label.label}
    if not isinstance(label, ImageClass):
        document["attributes"] = {}
        if label.index is not None:
            document["index"] = int(label.index)
        if instance is not None:
            document["instance"] = {"_cls": "Instance", "_id": instance}
    confidence = label.confidence
    if isinstance(label, Box):
        x, y, w, h = label.xywh
        document["_cls"] = "Detection"
        document["bounding_box"] = [float(x), float(y), float(w), float(h)]
        if label.mask is not None:
            document["mask"] = _mask_bytes(label.mask)
    elif isinstance(label, ImageClass):
        document["_cls"] = "Classification"
    elif isinstance(label, Keypoints):
        document["_cls"] = "Keypoint"
        _set_keypoints(document, label)
        confidence = None
    else:
        polygon = isinstance(label, Polygon)
        rings = label.rings if isinstance(label, Polygon) else (label.corners,)
        document["_cls"] = "Polyline"
        document["points"] = [_points(ring) for ring in rings]
        document["closed"] = not isinstance(label, Polygon) or label.closed
        document["filled"] = polygon and document["closed"]
    if confidence is not None:
        document["confidence"] = float(confidence)
    document.update(label.attributes if attributes is None else attributes)
    return document


def _set_keypoints(document: Document, label: Keypoints) -> None:
    document["points"] = _points(label.points)
    if label.visible:
        document["visible"] = [int(flag) for flag in label.visible]
    if label.xywh is not None:
        document["bounding_box"] = [float(value) for value in label.xywh]
    if label.scores:
        document["confidence"] = [float(score) for score in label.scores]
        if label.confidence is not None:
            document[DETECTION_CONFIDENCE] = float(label.confidence)
    elif label.confidence is not None:
        document["confidence"] = [float(label.confidence)] * len(label.points)


def new_ids(count: int) -> Iterator[Any]:
    """New ``ObjectId`` values: seconds, 5 random bytes, a counter, as MongoDB specifies them.

    The driver makes them one by one under a lock, which costs more than the rest of a box's document.
    """
    from bson import ObjectId

    for start in range(0, count, _COUNTED):
        prefix = int(time.time()).to_bytes(4, "big") + os.urandom(5)
        for number in range(min(_COUNTED, count - start)):
            yield ObjectId(prefix + number.to_bytes(3, "big"))


_COUNTED = 1 << 24


def container_document(container: str, documents: list[Document]) -> Document | None:
    """What a label field holds; ``None`` for an empty ``Classification`` field."""
    if container == "Classification":
        return documents[0] if documents else None
    return {"_cls": container, CONTAINERS[container]: documents}


def label_documents(container: Mapping[str, Any] | None) -> Sequence[Document]:
    """The label documents of a label field."""
    if not container:
        return ()
    key = CONTAINERS.get(container.get("_cls", ""))
    return container.get(key) or () if key else (dict(container),)


def labels_of_container(container: Mapping[str, Any] | None, ignored: Set[str] = frozenset()) -> list[Label]:
    """The labels of a label field, without the attributes to be ``ignored``.

    Kinds that a record cannot hold (``Heatmap``, ...) are left out.
    """
    labels = []
    for document in label_documents(container):
        reader = _READERS.get(document.get("_cls", ""))
        if reader is not None:
            if ignored:
                document = {key: value for key, value in document.items() if key not in ignored}
            labels.append(reader(document))
    return labels


def track_instances(frames: Iterable[Iterable[Label]]) -> dict[tuple[str, int | None], Any]:
    """One new ``ObjectId`` per track (class name and index) of a video."""

    tracks = {
        (label.label, index) for labels in frames for label in labels if (index := track_index(label)) is not None
    }
    return dict(zip(sorted(tracks), new_ids(len(tracks)), strict=True))


def track_index(label: Label) -> int | None:
    """The label's track identity, or ``None``."""
    return None if isinstance(label, ImageClass) else label.index


def same_labels(ours: Iterable[Label], theirs: Iterable[Label]) -> bool:
    """Whether two label lists say the same, in any order, to five decimals."""
    return sorted(map(_essence, ours)) == sorted(map(_essence, theirs))


def _essence(label: Label) -> tuple[str, str, str]:
    if isinstance(label, Box):
        place: Iterable[float] = label.xywh
    elif isinstance(label, Polygon):
        place = [value for ring in label.rings for point in ring for value in point]
    elif isinstance(label, OrientedBox):
        place = [value for point in label.corners for value in point]
    elif isinstance(label, Keypoints):
        place = [value for point in label.points for value in point]
    else:
        place = ()
    # Adding zero turns -0.0 into 0.0.
    return label.kind, label.label, " ".join(f"{round(value, 5) + 0.0:.5f}" for value in place)


def plain_capture(document: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a server said of a sample as JSON can say it: its time as ISO 8601 in UTC; empty where it said nothing."""
    plain = {}
    for name, value in (document or {}).items():
        if isinstance(value, datetime):
            value = value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC).isoformat()
        usable = (
            value is None
            or isinstance(value, (str, bool, int))
            or (isinstance(value, float) and math.isfinite(value))
        )
        if usable and not name.startswith("_"):
            plain[name] = value
        elif isinstance(value, list):
            plain[name] = [str(one) for one in value]
    return plain


def capture_document(plain: Mapping[str, Any]) -> Document:
    """The inverse of :func:`plain_capture`, as the store has it."""
    found = {"_cls": "DynamicEmbeddedDocument", **plain}
    if found.get("at") is not None:
        found["at"] = datetime.fromisoformat(found["at"])
    return found


def _points(points: Iterable[Sequence[float]]) -> list[list[float]]:
    return [[float(x), float(y)] for x, y in points]


def _mask_bytes(mask: Any) -> bytes:
    import numpy as np
    from fiftyone.core.utils import serialize_numpy_array

    return bytes(serialize_numpy_array(np.asarray(mask, dtype=bool)))


def _mask_array(document: Mapping[str, Any]) -> Any:
    import numpy as np
    from fiftyone.core.utils import deserialize_numpy_array

    mask = document.get("mask")
    if mask is not None:
        return np.asarray(deserialize_numpy_array(mask)).astype(bool)
    if document.get("mask_path"):
        from fiftyone.core.labels import _read_mask

        return np.asarray(_read_mask(document["mask_path"])).astype(bool)
    return None


def _attributes(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in document.items()
        if key not in OWN_KEYS and isinstance(value, (bool, int, float, str))
    }


def _box(document: Mapping[str, Any]) -> Label:
    x, y, w, h = document["bounding_box"]
    mask = _mask_array(document) if "mask" in document or "mask_path" in document else None
    common = _common(document)
    return Box(document.get("label") or "", (x, y, w, h), mask, **common)


def _polyline(document: Mapping[str, Any]) -> Label:
    rings = tuple(tuple((x, y) for x, y in ring) for ring in document.get("points") or ())
    label = document.get("label") or ""
    if document.get("closed") and not document.get("filled") and len(rings) == 1 and len(rings[0]) == 4:
        a, b, c, d = rings[0]
        return OrientedBox(label, (a, b, c, d), **_common(document))
    return Polygon(label, rings, closed=bool(document.get("closed")), **_common(document))


def _keypoint(document: Mapping[str, Any]) -> Label:
    common = _common(document)
    scores = document.get("confidence")
    if isinstance(scores, list):
        points = tuple(math.nan if score is None else score for score in scores)
        known = [score for score in points if not math.isnan(score)]
        common["scores"] = points if len(set(known)) > 1 or DETECTION_CONFIDENCE in document else ()
        mean = sum(known) / len(known) if known else None
        common["confidence"] = document.get(DETECTION_CONFIDENCE, mean)
    box = document.get("bounding_box")
    return Keypoints(
        document.get("label") or "",
        tuple((x, y) for x, y in document.get("points") or ()),
        visible=tuple(document.get("visible") or ()),
        xywh=tuple(box) if box else None,
        **common,
    )


def _classification(document: Mapping[str, Any]) -> Label:
    return ImageClass(document.get("label") or "", document.get("confidence"), _attributes(document))


def _common(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "confidence": document.get("confidence"),
        "index": document.get("index"),
        "attributes": _attributes(document),
    }


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Label]] = {
    "Detection": _box,
    "Polyline": _polyline,
    "Keypoint": _keypoint,
    "Classification": _classification,
}
