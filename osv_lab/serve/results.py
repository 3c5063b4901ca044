"""What was found in an image, as the JSON of an answer.

Names follow what users of Roboflow and Ultralytics read every day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError
from osv_lab.serve.errors import error_body

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Found


def detections_json(detections: sv.Detections | Found) -> list[dict[str, Any]]:
    """Detections as the ``predictions`` of an answer: plain values, pixels to a hundredth, scores to four places."""
    names = detections.data.get("class_name")
    keypoints, corners = detections.data.get("keypoints"), detections.data.get("xyxyxyxy")
    found = []
    for index, (x1, y1, x2, y2) in enumerate(_plain(detections.xyxy, decimals=2)):
        class_id = int(detections.class_id[index]) if detections.class_id is not None else -1
        score = float(detections.confidence[index]) if detections.confidence is not None else 1.0
        one: dict[str, Any] = {
            "class": str(names[index]) if names is not None else str(class_id),
            "class_id": class_id,
            "confidence": round(score, 4),
            "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
        }
        if detections.mask is not None:
            one["points"] = _outline(detections.mask[index])
        if keypoints is not None:
            one["keypoints"] = [
                {"x": x, "y": y, "confidence": c} for x, y, c in _plain(keypoints[index], decimals=3)
            ]
        if corners is not None:
            one["corners"] = [{"x": x, "y": y} for x, y in _plain(corners[index], decimals=2)]
        found.append(one)
    return found


def item_json(index: int, image: np.ndarray | None, outcome: sv.Detections | Found | OsvError) -> dict[str, Any]:
    """One result of a batch."""
    if isinstance(outcome, OsvError):
        return {"index": index, **error_body(outcome)}
    assert image is not None
    return {"index": index, "image": size_json(image), "predictions": detections_json(outcome)}


def size_json(image: np.ndarray) -> dict[str, int]:
    """Width and height of an image ``(h, w, 3)``."""
    return {"width": int(image.shape[1]), "height": int(image.shape[0])}


def _plain(points: np.ndarray, decimals: int) -> list[list[float]]:
    import numpy as np

    rounded: list[list[float]] = np.nan_to_num(points.astype(float)).round(decimals).tolist()
    return rounded


def _outline(mask: np.ndarray) -> list[dict[str, float]]:
    """The outline of the largest piece of a mask."""
    import cv2
    import numpy as np

    pieces, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    if not pieces:
        return []
    return [{"x": float(x), "y": float(y)} for x, y in max(pieces, key=cv2.contourArea)[:, 0].tolist()]
