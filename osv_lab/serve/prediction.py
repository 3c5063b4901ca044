"""What a server found in an image, as its clients get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.report import Report

if TYPE_CHECKING:
    import supervision as sv


@dataclass(frozen=True)
class Prediction(Report):
    """What the server found in one image.

    Attributes:
        predictions: One mapping per object: ``class``, ``class_id``, ``confidence``, ``box`` (``x1 y1 x2 y2`` in
            pixels), and ``points``, ``keypoints`` or ``corners`` where the model gives them.
        width: Of the upright image, in pixels; 0 where there is an error.
        height: Likewise.
        model: ``ref``, ``task`` and ``digest`` of the model that answered.
        timing_ms: What the server spent its time on.
        error: Why this image of a batch, or frame of a stream, has no predictions (``what``, ``found``, ``fix``), else
            ``None``.
        frame: Number of a stream's frame, from 1; 0 of a single image.
        dropped: Numbers of the frames before it that came too fast to be looked at.
        timestamp_s: When the frame was, in seconds since the stream began.
    """

    predictions: tuple[Mapping[str, Any], ...]
    width: int
    height: int
    model: Mapping[str, Any] = field(default_factory=dict)
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    frame: int = 0
    dropped: tuple[int, ...] = ()
    timestamp_s: float = 0.0

    @classmethod
    def of(cls, result: Mapping[str, Any], answer: Mapping[str, Any]) -> Prediction:
        """One result of an answer of ``POST /predict`` (which is its own) or ``/predict/batch``."""
        if error := result.get("error"):
            return cls.failed(error["what"], error["found"], error["fix"])
        size = result["image"]
        return cls(
            tuple(result["predictions"]), size["width"], size["height"], answer["model"], answer["timing_ms"]
        )

    @classmethod
    def of_frame(cls, answer: Mapping[str, Any]) -> Prediction:
        """One answer of a stream or source; its predictions have a ``track_id`` where they are tracked."""
        found = cls.of(answer, answer)
        return replace(
            found,
            frame=answer["frame"],
            dropped=tuple(answer.get("dropped", ())),
            timestamp_s=answer.get("timestamp_s", 0.0),
        )

    @classmethod
    def failed(cls, what: str, found: str, fix: str) -> Prediction:
        """An image that has no predictions, and why."""
        return cls((), 0, 0, error={"what": what, "found": found, "fix": fix})

    def __len__(self) -> int:
        return len(self.predictions)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per object."""
        return [
            {
                **({"track_id": one["track_id"]} if "track_id" in one else {}),
                "class": one["class"],
                "confidence": one["confidence"],
                **one["box"],
            }
            for one in self.predictions
        ]

    def summary(self) -> str:
        """How many objects, or what went wrong."""
        if self.error is not None:
            return f"no predictions: {self.error['what']}: {self.error['found']}"
        return f"{len(self)} objects in an image of {self.width} x {self.height}"

    def to_supervision(self) -> sv.Detections:
        """The boxes as ``supervision.Detections``, with ``data["class_name"]``, ``tracker_id``, keypoints and corners.

        Raises:
            InvalidDataError: the image had an error instead of predictions.
        """
        import supervision as sv

        if self.error is not None:
            raise InvalidDataError(self.error["what"], self.error["found"], self.error["fix"])
        boxes = [[one["box"][name] for name in ("x1", "y1", "x2", "y2")] for one in self.predictions]
        data: dict[str, Any] = {"class_name": np.array([one["class"] for one in self.predictions], dtype=str)}
        for name, key, axes in (
            ("keypoints", "keypoints", ("x", "y", "confidence")),
            ("corners", "xyxyxyxy", ("x", "y")),
        ):
            if self.predictions and all(one.get(name) for one in self.predictions):
                points = [[[point[axis] for axis in axes] for point in one[name]] for one in self.predictions]
                data[key] = np.array(points, np.float32)
        tracked = bool(self.predictions) and all("track_id" in one for one in self.predictions)
        return sv.Detections(
            xyxy=np.array(boxes, np.float32).reshape(-1, 4),
            confidence=np.array([one["confidence"] for one in self.predictions], np.float32),
            class_id=np.array([one["class_id"] for one in self.predictions], int),
            tracker_id=np.array([one["track_id"] for one in self.predictions], int) if tracked else None,
            data=data,
        )
