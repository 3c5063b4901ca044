"""Between what detectors say (``supervision``, pixels) and what the store holds (FiftyOne labels, relative).

    detections = to_detections(sample["ground_truth"], (640, 480), class_names)
    sample["predictions"] = to_fiftyone(detections, (640, 480), class_names)

Both go through the plain labels of :mod:`osv_lab.store.records`. Sizes are ``(width, height)`` in pixels. What is exact
is only limited by supervision's ``float32`` pixels: a few parts in ten million of the image's size.
"""

from osv_lab.store.convert.fiftyone import fiftyone_label, labels_of, to_fiftyone
from osv_lab.store.convert.models import from_mediapipe, from_torchvision
from osv_lab.store.convert.supervision import (
    detections_of,
    key_points_of,
    labels_from,
    to_detections,
    to_key_points,
)

__all__ = [
    "detections_of",
    "fiftyone_label",
    "from_mediapipe",
    "from_torchvision",
    "key_points_of",
    "labels_from",
    "labels_of",
    "to_detections",
    "to_fiftyone",
    "to_key_points",
]
