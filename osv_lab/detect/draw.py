"""Detections drawn onto an image: boxes, outlines, masks, keypoints, and labels that can be read.

Example:
    >>> picture = draw_detections(image, detections)
    >>> picture.shape == image.shape
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import supervision as sv

COLOURS = (
    "#29B6F6",
    "#FF7A3D",
    "#4CD964",
    "#FF5FA2",
    "#B39DFF",
    "#26D7C4",
    "#FF9E9E",
    "#9CCC3C",
    "#8FB8FF",
    "#E6A3FF",
)
"""Neighbours far apart in hue, all light enough for black letters."""

_MOST_LABELS = 150
_SURE = 0.3


def draw_detections(image: np.ndarray, detections: sv.Detections) -> np.ndarray:
    """A copy of an image with what was found in it.

    A colour stands for a class or, of detections with ``tracker_id``, for a track. Lines and letters grow with the
    image; labels are moved apart where they would cover each other. With more than 150 detections only the surest have
    labels.

    Args:
        image: BGR uint8 ``(h, w, 3)``.
        detections: As :meth:`osv_lab.detect.detector.Detector.predict` gives them, most confident first; with
            ``tracker_id`` where they are tracked.

    Returns:
        BGR uint8 ``(h, w, 3)``.
    """
    import supervision as sv

    size = image.shape[1], image.shape[0]
    scene = image.copy()
    if not len(detections):
        return scene
    tracked = detections.tracker_id is not None
    look = {
        "color": sv.ColorPalette.from_hex(list(COLOURS)),
        "color_lookup": sv.ColorLookup.TRACK if tracked else sv.ColorLookup.CLASS,
    }
    thickness = sv.calculate_optimal_line_thickness(size)
    if detections.mask is not None:
        scene = sv.MaskAnnotator(**look, opacity=0.35).annotate(scene, detections)
    if "xyxyxyxy" in detections.data:
        scene = sv.OrientedBoxAnnotator(**look, thickness=thickness).annotate(scene, detections)
    else:
        scene = sv.BoxAnnotator(**look, thickness=thickness).annotate(scene, detections)
    if "keypoints" in detections.data:
        _draw_keypoints(scene, detections.data["keypoints"], thickness)
    letters = max(9, round(14 * (np.hypot(*size) / 800) ** 0.75))
    shown = detections[:_MOST_LABELS]
    labels = sv.RichLabelAnnotator(
        **look,
        text_color=sv.Color.BLACK,
        font_size=letters,
        text_padding=max(2, round(letters / 4)),
        smart_position=True,
    )
    return np.asarray(labels.annotate(scene, shown, labels=[label_of(shown, row) for row in range(len(shown))]))


def label_of(detections: sv.Detections, row: int) -> str:
    """What stands at one detection: its identity, class and score, as far as they are known.

    Example:
        >>> import supervision as sv
        >>> found = sv.Detections(np.array([[0, 0, 9, 9]]), confidence=np.array([0.914]), class_id=np.array([0]),
        ...                       tracker_id=np.array([7]), data={"class_name": np.array(["cat"])})
        >>> label_of(found, 0)
        '#7 cat 0.91'
    """
    parts = []
    if detections.tracker_id is not None:
        parts.append(f"#{detections.tracker_id[row]}")
    names = detections.data.get("class_name")
    if names is not None:
        name = str(names[row])
        parts.append(name if len(name) <= 40 else f"{name[:39]}…")
    if detections.confidence is not None:
        parts.append(f"{detections.confidence[row]:.2f}")
    return " ".join(parts)


def _draw_keypoints(scene: np.ndarray, keypoints: np.ndarray, thickness: int) -> None:
    """Dots at the ``(n, k, 3)`` points that the model is sure of, onto the image itself."""
    import cv2

    radius = thickness + 1
    for x, y, confidence in np.nan_to_num(keypoints).reshape(-1, 3).tolist():
        if confidence > _SURE and -1e6 < x < 1e6 and -1e6 < y < 1e6:
            centre = round(x), round(y)
            cv2.circle(scene, centre, radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(scene, centre, radius, (255, 255, 255), -1, cv2.LINE_AA)
