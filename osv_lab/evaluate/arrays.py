"""A view's boxes as arrays: what metrics are computed on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import supervision as sv


def image_sizes(view: Any) -> np.ndarray:
    """``(n, 2)`` widths and heights in pixels, read from the files where the store does not know them."""
    sizes = view.values(["metadata.width", "metadata.height"])
    if any(size is None for size in (*sizes[0], *sizes[1])):
        # FiftyOne tells its log about it, which goes to standard output, where results may be going.
        logger = logging.getLogger("fiftyone.core.metadata")
        level = logger.level
        logger.setLevel(logging.WARNING)
        try:
            view.compute_metadata(progress=False)
        finally:
            logger.setLevel(level)
        sizes = view.values(["metadata.width", "metadata.height"])
    return np.array(sizes, dtype=float).T.reshape(-1, 2)


def boxes_of(view: Any, field: str, class_names: Sequence[str], iscrowd: str = "iscrowd") -> list[sv.Detections]:
    """The boxes of a field, one set per sample, in the view's order.

    Args:
        view: A view of images.
        field: A field of ``fiftyone.Detections``.
        class_names: Class names by class id; boxes of other classes are left out.
        iscrowd: The attribute that marks crowds.

    Returns:
        Sets with ``data["class_name"]``, ``data["id"]`` (the labels' ids) and ``data["iscrowd"]``; a confidence
        that is not there is 1.
    """
    import supervision as sv

    ids = {name: number for number, name in enumerate(class_names)}
    parts = ["label", "bounding_box", "id", "confidence", iscrowd]
    schema = view.get_field_schema(flat=True)
    optional = {part for part in parts[3:] if f"{field}.detections.{part}" not in schema}
    columns = {part: view.values(f"{field}.detections.{part}") for part in parts if part not in optional}
    found = []
    for row, (width, height) in enumerate(image_sizes(view)):
        own = {part: columns[part][row] or [] for part in columns}
        keep = [index for index, label in enumerate(own["label"]) if label in ids]
        xywh = np.array([own["bounding_box"][index] for index in keep], dtype=float).reshape(-1, 4)
        xywh *= (width, height, width, height)
        scores = [1.0 if (score := own[parts[3]][i]) is None else score for i in keep] if parts[3] in own else None
        found.append(
            sv.Detections(
                xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
                confidence=np.array(scores if scores is not None else np.ones(len(keep)), dtype=float),
                class_id=np.array([ids[own["label"][index]] for index in keep], dtype=int),
                data={
                    "class_name": np.array([own["label"][index] for index in keep], dtype=str),
                    "id": np.array([str(own["id"][index]) for index in keep], dtype=str),
                    "iscrowd": np.array(
                        [bool(own[iscrowd][i]) if iscrowd in own else False for i in keep], dtype=bool
                    ),
                },
            )
        )
    return found
