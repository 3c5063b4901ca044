"""Detections from the outputs of TorchVision and MediaPipe models. Neither library is imported: results are read by
their documented attributes, so recorded or hand-made ones work too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.store.convert.supervision import CLASS_NAME, KEYPOINTS

if TYPE_CHECKING:
    import supervision as sv


def from_torchvision(
    output: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
    *,
    confidence: float = 0.0,
    mask_threshold: float = 0.5,
) -> sv.Detections:
    """Detections of one image from a TorchVision detection model.

    Args:
        output: One of the dictionaries the model returns, tensors (any device) or arrays: ``boxes (n, 4)`` pixel
            xyxy, ``labels (n,)``, ``scores (n,)``; ``masks (n, 1, h, w)`` probabilities (Mask R-CNN);
            ``keypoints (n, K, 3)`` with ``keypoints_scores (n, K)`` (Keypoint R-CNN).
        class_names: Names by label: ``weights.meta["categories"]``, whose first is the background.
        confidence: Detections below it are left out.
        mask_threshold: Mask probability from which a pixel belongs to the object.

    Returns:
        ``keypoints`` in ``data`` have TorchVision's visibility as third value; its heat-map scores, which are not
        probabilities, are in ``data["keypoint_scores"]``.

    Raises:
        UsageError: no ``boxes``, or lengths that differ.
    """
    import supervision as sv

    if "boxes" not in output:
        raise UsageError("no TorchVision detections", f"keys {sorted(output)}", 'give one dictionary with "boxes"')
    boxes = _array(output["boxes"]).reshape(-1, 4).astype(np.float32)
    count = len(boxes)
    scores = _of_length(output, "scores", count)
    labels = _of_length(output, "labels", count)
    keep = np.ones(count, dtype=bool) if scores is None else scores >= confidence
    ids = (np.zeros(count) if labels is None else labels).astype(int)[keep]
    data: dict[str, Any] = {CLASS_NAME: _class_names(ids, class_names)}
    masks = _of_length(output, "masks", count)
    keypoints = _of_length(output, "keypoints", count)
    if keypoints is not None:
        data[KEYPOINTS] = keypoints[keep].astype(np.float32)
    points_scores = _of_length(output, "keypoints_scores", count)
    if points_scores is not None:
        data["keypoint_scores"] = points_scores[keep].astype(np.float32)
    return sv.Detections(
        xyxy=boxes[keep],
        mask=None if masks is None else (masks.reshape(count, *masks.shape[-2:])[keep] >= mask_threshold),
        confidence=None if scores is None else scores[keep].astype(np.float32),
        class_id=ids,
        data=data,
    )


def _array(value: Any) -> np.ndarray:
    """An array of a tensor (any device, with or without gradient) or of anything array-like."""
    for step in ("detach", "cpu", "numpy"):
        if hasattr(value, step):
            value = getattr(value, step)()
    return np.asarray(value)


def _of_length(output: Mapping[str, Any], key: str, count: int) -> np.ndarray | None:
    if output.get(key) is None:
        return None
    array = _array(output[key])
    if len(array) != count:
        raise UsageError(
            "TorchVision output of different lengths", f"{count} boxes, {len(array)} {key}", "give one image's"
        )
    return array


def _class_names(ids: np.ndarray, class_names: Sequence[str] | None) -> np.ndarray:
    known = class_names or ()
    return np.array([str(known[i]) if 0 <= i < len(known) else f"class_{i}" for i in ids.tolist()], dtype=str)


_LANDMARKS = {
    "pose_landmarks": "person",
    "hand_landmarks": "hand",
    "multi_hand_landmarks": "hand",
    "face_landmarks": "face",
    "multi_face_landmarks": "face",
}


def from_mediapipe(result: Any, size: tuple[int, int], class_names: Sequence[str] | None = None) -> sv.Detections:
    """Detections of one image from a MediaPipe result.

    Args:
        result: Of ``ObjectDetector`` or ``FaceDetector`` (``detections`` with ``bounding_box.origin_x, origin_y,
            width, height`` in pixels, ``categories``, relative ``keypoints``), of the older solutions
            (``location_data.relative_bounding_box``), or of a pose, hand or face landmarker (relative landmarks; the
            box is the one around them).
        size: Image ``(width, height)``, pixels.
        class_names: Names by class id. Without, the result's own names are numbered as they appear.

    Raises:
        UsageError: the object has neither detections nor landmarks.
    """
    if hasattr(result, "detections"):
        return _from_mediapipe_detections(list(result.detections or ()), size, class_names)
    for field, name in _LANDMARKS.items():
        if getattr(result, field, None) is not None:
            return _from_landmarks(getattr(result, field), name, size)
    if any(hasattr(result, field) for field in _LANDMARKS):
        return _from_landmarks([], "", size)
    found = (
        ", ".join(name for name in vars(result) if not name.startswith("_")) if hasattr(result, "__dict__") else ""
    )
    fix = f"it needs one of: detections, {', '.join(_LANDMARKS)}"
    raise UsageError("not a MediaPipe result", f"{type(result).__name__} with {found or 'no fields'}", fix)


def _from_mediapipe_detections(
    found: Sequence[Any], size: tuple[int, int], class_names: Sequence[str] | None
) -> sv.Detections:
    import supervision as sv

    width, height = size
    boxes, scores, ids, names, points = [], [], [], [], []
    numbered = {name: k for k, name in enumerate(class_names or ())}
    for detection in found:
        location = getattr(detection, "location_data", None)
        if getattr(detection, "bounding_box", None) is not None:
            box = detection.bounding_box
            x, y, w, h = box.origin_x, box.origin_y, box.width, box.height
            landmarks = getattr(detection, "keypoints", None) or ()
        elif location is not None:
            box = location.relative_bounding_box
            x, y, w, h = box.xmin * width, box.ymin * height, box.width * width, box.height * height
            landmarks = getattr(location, "relative_keypoints", None) or ()
        else:
            raise UsageError("a MediaPipe detection without a box", type(detection).__name__)
        boxes.append((x, y, x + w, y + h))
        score, name = _category(detection)
        scores.append(score)
        names.append(name)
        ids.append(numbered.setdefault(name, len(numbered)))
        points.append([(p.x * width, p.y * height, _known(getattr(p, "score", None))) for p in landmarks])
    if not boxes:
        return _none()
    data: dict[str, Any] = {CLASS_NAME: np.array(names, dtype=str)}
    most = max(map(len, points))
    if most:
        filled = [[*row, *[(0.0, 0.0, 0.0)] * (most - len(row))] for row in points]
        data[KEYPOINTS] = np.array(filled, dtype=np.float32)
    return sv.Detections(
        xyxy=np.array(boxes, dtype=np.float32),
        confidence=np.array(scores, dtype=np.float32),
        class_id=np.array(ids, dtype=int),
        data=data,
    )


def _known(score: float | None) -> float:
    # MediaPipe leaves scores that a model does not give unset (None, or 0 in the older solutions).
    return float(score) if score else 1.0


def _category(detection: Any) -> tuple[float, str]:
    """Score and name of the best category."""
    categories = getattr(detection, "categories", None)
    if categories:
        best = max(categories, key=lambda category: category.score or 0.0)
        name = best.category_name or getattr(best, "display_name", None)
        return float(best.score or 0.0), str(name or f"class_{best.index if best.index is not None else 0}")
    scores = list(getattr(detection, "score", None) or [1.0])
    labels = list(getattr(detection, "label", None) or []) or [
        f"class_{i}" for i in getattr(detection, "label_id", None) or [0]
    ]
    return float(scores[0]), str(labels[0])


def _from_landmarks(stated: Any, name: str, size: tuple[int, int]) -> sv.Detections:
    import supervision as sv

    objects = (
        [stated.landmark] if hasattr(stated, "landmark") else [getattr(one, "landmark", one) for one in stated]
    )
    if not objects:
        return _none()
    width, height = size
    points = np.array(
        [[(p.x * width, p.y * height, _known(getattr(p, "visibility", None))) for p in one] for one in objects],
        dtype=np.float32,
    )
    xyxy = np.concatenate([points[:, :, :2].min(axis=1), points[:, :, :2].max(axis=1)], axis=1)
    return sv.Detections(
        xyxy=xyxy,
        confidence=points[:, :, 2].mean(axis=1),
        class_id=np.zeros(len(objects), dtype=int),
        data={CLASS_NAME: np.array([name] * len(objects), dtype=str), KEYPOINTS: points},
    )


def _none() -> sv.Detections:
    import supervision as sv

    empty = sv.Detections.empty()
    empty.data = {CLASS_NAME: np.array([], dtype=str)}
    return empty
