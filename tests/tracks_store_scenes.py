"""Videos of sliding blocks, what finds them, and datasets of tracks whose media nobody opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import supervision as sv

from osv_lab.store.tracks import write_tracks
from osv_lab.track.tracks import Tracks

SIZE = (960, 540)


class Blocks:
    """A detector of bright rectangles on black: what is there, exactly."""

    ref, provider, class_names, input_size, task = "blocks", "numpy", ("block",), None, "detect"

    def __init__(self, digest: str = "d1") -> None:
        self.digest, self.images = digest, 0

    def describe(self) -> dict[str, Any]:
        return {"family": "blocks", "digest": self.digest}

    def predict(self, images: Sequence[np.ndarray], *, confidence: float = 0.25, **_: Any) -> list[sv.Detections]:
        self.images += len(images)
        return [self.one(image) for image in images]

    def one(self, image: np.ndarray) -> sv.Detections:
        found = cv2.connectedComponentsWithStats((image[:, :, 1] > 90).astype(np.uint8))[2][1:]
        found = found[found[:, cv2.CC_STAT_AREA] > 50]
        if not len(found):
            return sv.Detections.empty()
        boxes = np.hstack((found[:, :2], found[:, :2] + found[:, 2:4])).astype(np.float32)
        scores = np.full(len(boxes), 0.9, np.float32)
        return sv.Detections(xyxy=boxes, confidence=scores, class_id=np.zeros(len(boxes), int))


def film(path: Path, frames: int = 30, seed: int = 0) -> Path:
    """A video of three blocks that slide along lanes of their own, each seed's at another pace."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for number in range(frames):
        image = np.zeros((120, 160, 3), np.uint8)
        for lane in range(3):
            left = 5 + round(number * (1 + lane + seed) / 2)
            image[10 + 36 * lane : 34 + 36 * lane, left : left + 20] = 220
        writer.write(image)
    writer.release()
    return path


def blank_video(fo: Any, name: str, frames: int = 0, fields: dict[str, Tracks] | None = None) -> Any:
    """A video dataset whose media nobody opens: size and length are known."""
    dataset = fo.Dataset(name)
    metadata = fo.VideoMetadata(
        frame_width=SIZE[0], frame_height=SIZE[1], frame_rate=25.0, total_frame_count=frames or None
    )
    dataset.add_sample(fo.Sample(filepath="/nowhere/scene.mp4", metadata=metadata))
    for field, tracks in (fields or {}).items():
        write_tracks(dataset.first(), tracks, field)
    return dataset


def content(dataset: Any, field: str = "tracks") -> list[Any]:
    """Frame number, index, label and rounded box of every label, sample by sample."""
    # Straight from the database: documents of every label would take most of this module's time.
    label = f"frames.{field}.detections"
    paths = ["filepath", "frames.frame_number", f"{label}.index", f"{label}.label", f"{label}.bounding_box"]
    found = []
    for filepath, numbers, *columns in zip(*dataset.values(paths), strict=True):
        for number, *labels in zip(numbers, *columns, strict=True):
            rows = zip(*(column or [] for column in labels), strict=True)
            found += [(filepath, number, index, name, np.round(box, 6).tolist()) for index, name, box in rows]
    return sorted(found)


def clip_of(dataset: Any) -> Any:
    from osv_lab.store.clips import clips_of

    return clips_of(dataset)[0]
