"""``supervision.Detections`` and ``KeyPoints`` to and from plain labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.store.geometry import bounds, paste_mask, pixel_window, rings_mask
from osv_lab.store.records import Box, ImageClass, Keypoints, Kind, Label, OrientedBox, Polygon

if TYPE_CHECKING:
    import fiftyone as fo
    import supervision as sv

CLASS_NAME = "class_name"
CORNERS = "xyxyxyxy"
KEYPOINTS = "keypoints"
XYXY = "xyxy"
_OWN = frozenset({CLASS_NAME, CORNERS, KEYPOINTS, XYXY, "coco_raw_segmentation", "area"})


def to_detections(
    label: fo.Label, size: tuple[int, int], class_names: Sequence[str] | None = None
) -> sv.Detections:
    """A FiftyOne label as detections.

    Args:
        label: ``Detections``, ``Polylines``, ``Keypoints``, or one of their members; ``None`` gives no detections.
        size: Image ``(width, height)``, pixels.
        class_names: Names by class id. By default the names that occur, sorted.

    Returns:
        ``xyxy (n, 4) float32`` pixels, ``class_id``, ``data["class_name"]``; ``confidence`` and ``tracker_id`` where
        the labels have them (1 and -1 for those that do not); ``mask (n, height, width)`` for instance masks and
        outlines, ``data["xyxyxyxy"] (n, 4, 2)`` for oriented boxes, ``data["keypoints"] (n, K, 3)`` for keypoints.

    Raises:
        InvalidDataError: a class is not one of ``class_names``.
        UsageError: the label has no place in the image (a classification).
    """
    from osv_lab.store.convert.fiftyone import labels_of

    return detections_of(labels_of(label), size, class_names)


def to_key_points(
    label: fo.Label, size: tuple[int, int], class_names: Sequence[str] | None = None
) -> sv.KeyPoints:
    """FiftyOne ``Keypoints`` as ``supervision.KeyPoints``; see :func:`key_points_of`."""
    from osv_lab.store.convert.fiftyone import labels_of

    return key_points_of(labels_of(label), size, class_names)


def detections_of(
    labels: Iterable[Label], size: tuple[int, int], class_names: Sequence[str] | None = None
) -> sv.Detections:
    """Plain labels as detections; see :func:`to_detections`."""
    import supervision as sv

    labels = list(labels)
    if any(isinstance(label, ImageClass) for label in labels):
        raise UsageError("a class of the whole image is no detection", labels[0].label, "give boxes or shapes")
    data: dict[str, Any] = {CLASS_NAME: np.array([label.label for label in labels], dtype=str)}
    if not labels:
        empty = sv.Detections.empty()
        empty.data = data
        return empty
    scale = np.array([size[0], size[1], size[0], size[1]], dtype=np.float64)
    boxes = np.array([_relative_xyxy(label) for label in labels], dtype=np.float64) * scale
    if any(isinstance(label, OrientedBox) for label in labels):
        data[CORNERS] = np.array(
            [_corners(label, box, size) for label, box in zip(labels, boxes, strict=True)], np.float32
        )
    if any(isinstance(label, Keypoints) for label in labels):
        data[KEYPOINTS] = _keypoint_array(labels, size)
    data |= _attribute_arrays(labels)
    return sv.Detections(
        xyxy=boxes.astype(np.float32),
        mask=_mask_array(labels, size),
        confidence=_confidences(labels),
        class_id=_class_ids(labels, class_names),
        tracker_id=_tracks(labels),
        data=data,
    )


def key_points_of(
    labels: Iterable[Label], size: tuple[int, int], class_names: Sequence[str] | None = None
) -> sv.KeyPoints:
    """Keypoints as ``supervision.KeyPoints``.

    Returns:
        ``xy (n, K, 2) float32`` pixels (0 for points that are not labelled, which ``visible`` marks), per-point and
        per-object confidence, ``class_id``, ``data["class_name"]``, and ``data["xyxy"]`` where every object has a box.
    """
    import supervision as sv

    found = [label for label in labels if isinstance(label, Keypoints)]
    if not found:
        return sv.KeyPoints.empty()
    array = _keypoint_array(found, size)
    count = array.shape[1]
    visible = ~np.array([[k >= len(f.points) or math.isnan(f.points[k][0]) for k in range(count)] for f in found])
    data: dict[str, Any] = {CLASS_NAME: np.array([label.label for label in found], dtype=str)}
    boxes = [label.xywh for label in found if label.xywh is not None]
    if len(boxes) == len(found):
        scale = np.array([size[0], size[1], size[0], size[1]])
        data[XYXY] = (np.array([_ends(box) for box in boxes]) * scale).astype(np.float32)
    return sv.KeyPoints(
        xy=np.ascontiguousarray(array[:, :, :2]),
        keypoint_confidence=np.ascontiguousarray(array[:, :, 2]),
        detection_confidence=_confidences(found),
        class_id=_class_ids(found, class_names),
        visible=visible,
        data=data,
    )


def labels_from(
    detections: sv.Detections | sv.KeyPoints,
    size: tuple[int, int],
    class_names: Sequence[str] | None = None,
    kind: Kind | None = None,
) -> list[Label]:
    """Detections as plain labels.

    Args:
        detections: Of one image, pixels.
        size: Image ``(width, height)``, pixels.
        class_names: Names by class id, for detections without ``data["class_name"]``.
        kind: What to make of each. By default what the detections have: oriented boxes, keypoints, masks, else boxes.

    Raises:
        UsageError: they do not have what ``kind`` asks for.
    """
    import supervision as sv

    if isinstance(detections, sv.KeyPoints):
        return _labels_of_key_points(detections, size, class_names)
    if len(detections) == 0:
        return []
    data = detections.data
    kind = kind or _kind_of(detections)
    names = _names(detections.class_id, data.get(CLASS_NAME), class_names, len(detections))
    width, height = size
    xyxy = np.asarray(detections.xyxy, dtype=np.float64) / np.array(
        [width, height, width, height], dtype=np.float64
    )
    boxes = np.column_stack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]]).tolist()
    scores = _plain(detections.confidence, len(boxes))
    tracks = _plain(detections.tracker_id, len(boxes))
    attributes = _attributes_of(data, len(boxes))
    labels: list[Label] = []
    for k, (name, box) in enumerate(zip(names, boxes, strict=True)):
        x, y, w, h = box
        index = tracks[k] if tracks[k] is not None and tracks[k] >= 0 else None
        rest: dict[str, Any] = {"confidence": scores[k], "index": index, "attributes": attributes[k]}
        if kind == "box":
            labels.append(Box(name, (x, y, w, h), **rest))
        elif kind in ("mask", "polygon"):
            labels.append(_masked(name, (x, y, w, h), _need(detections.mask, "mask")[k], size, kind, rest))
        elif kind == "oriented_box":
            corners = np.asarray(_need(data.get(CORNERS), f"data[{CORNERS!r}]")[k], dtype=np.float64) / [
                width,
                height,
            ]
            a, b, c, d = ((float(px), float(py)) for px, py in corners)
            labels.append(OrientedBox(name, (a, b, c, d), **rest))
        elif kind == "keypoints":
            points = np.asarray(_need(data.get(KEYPOINTS), f"data[{KEYPOINTS!r}]")[k], dtype=np.float64)
            labels.append(_keypoints(name, points, None, (x, y, w, h), size, rest))
        else:
            raise UsageError("detections cannot become this kind of label", repr(kind), "use box, mask, polygon, "
                             "oriented_box or keypoints")  # fmt: skip
    return labels


def _kind_of(detections: sv.Detections) -> Kind:
    if CORNERS in detections.data:
        return "oriented_box"
    if KEYPOINTS in detections.data:
        return "keypoints"
    return "box" if detections.mask is None else "mask"


def _need(value: Any, what: str) -> Any:
    if value is None:
        raise UsageError(
            "the detections do not have what the kind of label needs", f"no {what}", "choose another kind"
        )
    return value


def _labels_of_key_points(
    found: sv.KeyPoints, size: tuple[int, int], class_names: Sequence[str] | None
) -> list[Label]:
    count = len(found)
    names = _names(found.class_id, found.data.get(CLASS_NAME), class_names, count)
    scores = _plain(found.detection_confidence, count)
    scale = np.array([size[0], size[1], size[0], size[1]], dtype=np.float64)
    boxes = found.data.get(XYXY)
    labels: list[Label] = []
    for k in range(count):
        xy = np.asarray(found.xy[k], dtype=np.float64)
        confidence = found.keypoint_confidence[k] if found.keypoint_confidence is not None else np.ones(len(xy))
        points = np.column_stack([xy, np.asarray(confidence, dtype=np.float64)])
        visible = None if found.visible is None else np.asarray(found.visible[k])
        box = None
        if boxes is not None:
            x0, y0, x1, y1 = (np.asarray(boxes[k], dtype=np.float64) / scale).tolist()
            box = (x0, y0, x1 - x0, y1 - y0)
        rest: dict[str, Any] = {"confidence": scores[k]}
        labels.append(_keypoints(names[k], points, visible, box, size, rest))
    return labels


def _keypoints(
    name: str, points: np.ndarray, visible: np.ndarray | None, box: tuple[float, float, float, float] | None,
    size: tuple[int, int], rest: Mapping[str, Any],
) -> Keypoints:  # fmt: skip
    """Keypoints of ``(K, 2 or 3)`` pixels. Without flags, a point at the origin with confidence 0 is not labelled, as
    is one that is not finite."""
    scores = points[:, 2] if points.shape[1] > 2 else np.ones(len(points))
    if visible is None:
        visible = ~((points[:, 0] == 0) & (points[:, 1] == 0) & (scores == 0))
    visible = visible & np.isfinite(points[:, :2]).all(axis=1)
    placed = tuple(
        (float(x) / size[0], float(y) / size[1]) if seen else (math.nan, math.nan)
        for (x, y), seen in zip(points[:, :2], visible, strict=True)
    )
    flags = tuple(2 if seen else 0 for seen in visible)
    return Keypoints(name, placed, flags, box, scores=tuple(map(float, scores)), **rest)


def _masked(
    name: str, box: tuple[float, float, float, float], mask: np.ndarray, size: tuple[int, int], kind: Kind,
    rest: Mapping[str, Any],
) -> Label:  # fmt: skip
    x0, y0, x1, y1 = pixel_window(box, size)
    inside = np.ascontiguousarray(np.asarray(mask, dtype=bool)[y0:y1, x0:x1])
    if kind == "polygon":
        from osv_lab.store.geometry import mask_rings

        window = x0 / size[0], y0 / size[1], (x1 - x0) / size[0], (y1 - y0) / size[1]
        rings = mask_rings(inside, window)
        if rings:
            return Polygon(name, rings, **rest)
    return Box(name, box, mask=inside, **rest)


def _names(class_ids: np.ndarray | None, stated: Any, class_names: Sequence[str] | None, count: int) -> list[str]:
    if stated is not None and len(stated) == count:
        return [str(name) for name in stated]
    if class_ids is None:
        return ["object"] * count
    known = class_names or ()
    return [str(known[i]) if 0 <= i < len(known) else f"class_{i}" for i in np.asarray(class_ids).tolist()]


def _plain(values: np.ndarray | None, count: int) -> list[Any]:
    return [None] * count if values is None else np.asarray(values).tolist()


def _attributes_of(data: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Scalars per detection in ``data`` are attributes; ``None`` marks where there is none."""
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, values in data.items():
        if key in _OWN or not isinstance(key, str) or len(values) != count or np.ndim(values) != 1:
            continue
        for attributes, value in zip(found, np.asarray(values).tolist(), strict=True):
            if isinstance(value, (bool, int, float, str)):
                attributes[key] = value
    return found


def _attribute_arrays(labels: Sequence[Label]) -> dict[str, np.ndarray]:
    keys = dict.fromkeys(key for label in labels for key in label.attributes if key not in _OWN)
    arrays = {}
    for key in keys:
        values = [label.attributes.get(key) for label in labels]
        same = len({type(value) for value in values}) == 1
        arrays[key] = np.array(values) if same else np.array(values, dtype=object)
    return arrays


def _relative_xyxy(label: Label) -> tuple[float, float, float, float]:
    if isinstance(label, Box):
        return _ends(label.xywh)
    if isinstance(label, OrientedBox):
        return _ends(bounds(label.corners))
    if isinstance(label, Polygon):
        return _ends(bounds(point for ring in label.rings for point in ring))
    assert isinstance(label, Keypoints)
    if label.xywh is not None:
        return _ends(label.xywh)
    try:
        return _ends(bounds(label.points))
    except ValueError:
        return 0.0, 0.0, 0.0, 0.0


def _ends(xywh: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, w, h = xywh
    return x, y, x + w, y + h


def _corners(label: Label, box: np.ndarray, size: tuple[int, int]) -> list[tuple[float, float]]:
    if isinstance(label, OrientedBox):
        return [(x * size[0], y * size[1]) for x, y in label.corners]
    x0, y0, x1, y1 = box.tolist()
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _keypoint_array(labels: Sequence[Label], size: tuple[int, int]) -> np.ndarray:
    count = max(len(label.points) for label in labels if isinstance(label, Keypoints))
    array = np.zeros((len(labels), count, 3), dtype=np.float32)
    for row, label in enumerate(labels):
        if not isinstance(label, Keypoints):
            continue
        for k, (x, y) in enumerate(label.points):
            if x == x and y == y:
                score = label.scores[k] if k < len(label.scores) else 1.0
                array[row, k] = x * size[0], y * size[1], score
    return array


def _mask_array(labels: Sequence[Label], size: tuple[int, int]) -> np.ndarray | None:
    """Masks of the whole image, where any label has a shape; a plain box among them is filled."""
    shaped = [
        isinstance(label, Polygon) or (isinstance(label, Box) and label.mask is not None) for label in labels
    ]
    if not any(shaped):
        return None
    masks = np.zeros((len(labels), size[1], size[0]), dtype=bool)
    for row, label in enumerate(labels):
        if isinstance(label, Box) and label.mask is not None:
            masks[row] = paste_mask(label.mask, label.xywh, size)
            continue
        x0, y0, x1, y1 = _relative_xyxy(label)
        box = x0, y0, x1 - x0, y1 - y0
        left, top, right, bottom = pixel_window(box, size)
        masks[row, top:bottom, left:right] = (
            rings_mask(label.rings, box, size) if isinstance(label, Polygon) else True
        )
    return masks


def _confidences(labels: Sequence[Label]) -> np.ndarray | None:
    if all(label.confidence is None for label in labels):
        return None
    return np.array([1.0 if label.confidence is None else label.confidence for label in labels], dtype=np.float32)


def _tracks(labels: Sequence[Label]) -> np.ndarray | None:
    indices = [None if isinstance(label, ImageClass) else label.index for label in labels]
    if all(index is None for index in indices):
        return None
    return np.array([-1 if index is None else index for index in indices], dtype=int)


def _class_ids(labels: Sequence[Label], class_names: Sequence[str] | None) -> np.ndarray:
    names = class_names if class_names is not None else sorted({label.label for label in labels})
    by_name = {name: k for k, name in enumerate(names)}
    unknown = sorted({label.label for label in labels} - set(by_name))
    if unknown:
        found = ", ".join(unknown[:5])
        raise InvalidDataError("labels of unknown classes", found, f"known are {', '.join(list(by_name)[:10])}")
    return np.array([by_name[label.label] for label in labels], dtype=int)
