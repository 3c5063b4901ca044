"""A detector that says what it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import supervision as sv

Said: TypeAlias = tuple[str, float, tuple[float, float, float, float]]
"""Class, confidence, and x1, y1, x2, y2 in pixels."""


class ScriptedDetector:
    """Finds the same objects in every image."""

    task, provider, input_size = "detect", "numpy", None

    def __init__(self, *says: Said, names: Sequence[str] = ("cat", "dog", "cow"), ref: str = "scripted@1") -> None:
        self.says, self.class_names, self.ref = says, tuple(names), ref
        self.images = 0

    def describe(self) -> dict[str, Any]:
        return {"family": "scripted", "digest": self.ref}

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        confidence: float = 0.25,
        iou: float = 0.7,
        max_detections: int = 300,
        classes: Sequence[str | int] | None = None,
    ) -> list[sv.Detections]:
        self.images += len(images)
        said = [one for one in self.says if one[1] > confidence][:max_detections]
        if not said:
            return [sv.Detections.empty() for _ in images]
        found = sv.Detections(
            xyxy=np.array([box for _, _, box in said], np.float32),
            confidence=np.array([score for _, score, _ in said], np.float32),
            class_id=np.array([self.class_names.index(name) for name, _, _ in said]),
            data={"class_name": np.array([name for name, _, _ in said])},
        )
        return [found for _ in images]
