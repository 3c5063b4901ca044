"""Detections of image files, without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.detect.images import read_image

if TYPE_CHECKING:
    from osv_lab.detect.detector import Detector


@dataclass(frozen=True)
class FilePredictions(Report):
    """What a detector found in image files.

    Attributes:
        predictions: One mapping per object: ``file``, ``class``, ``confidence`` and the box in pixels (``x1``, ``y1``,
            ``x2``, ``y2``).
        files: How many files were read.
        broken: Files that could not be read, with the reason.
        provider: What ran the model.
    """

    predictions: tuple[Mapping[str, Any], ...]
    files: int
    broken: Mapping[str, str]
    provider: str

    def rows(self) -> list[Mapping[str, Any]]:
        unread = [{"file": file, "class": f"not read: {why}"} for file, why in self.broken.items()]
        return [*self.predictions, *unread]

    def summary(self) -> str:
        text = f"{len(self.predictions)} objects in {self.files} files ({self.provider})"
        return f"{text}, {len(self.broken)} files not read" if self.broken else text

    @property
    def exit_code(self) -> int:
        """1 when a file could not be read."""
        return 1 if self.broken else 0


def predict_files(
    detector: Detector,
    files: Sequence[str | Path],
    *,
    confidence: float = 0.25,
    iou: float = 0.7,
    batch_size: int = 8,
    progress: Progress = silent,
) -> FilePredictions:
    """Run a detector on image files; a file that cannot be read is named and the rest go on.

    Args:
        detector: Any :class:`~osv_lab.detect.detector.Detector`.
        files: Image files.
        confidence: Lowest score kept, 0 to 1.
        iou: Overlap above which the weaker of two boxes of a class is dropped, 0 to 1.
        batch_size: Images per run of the network.
    """
    found: list[Mapping[str, Any]] = []
    broken: dict[str, str] = {}
    progress("predict", 0, len(files))
    for start in range(0, len(files), batch_size):
        images = {}
        for file in files[start : start + batch_size]:
            try:
                images[str(file)] = read_image(file)
            except (OsvError, OSError) as error:
                broken[str(file)] = str(error)
        for file, detections in zip(
            images, detector.predict(list(images.values()), confidence=confidence, iou=iou), strict=True
        ):
            for box, score, name in zip(
                detections.xyxy.round(1).tolist(),
                detections.confidence,
                detections.data["class_name"],
                strict=True,
            ):
                row = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
                found.append({"file": file, "class": str(name), "confidence": round(float(score), 4), **row})
        progress("predict", min(start + batch_size, len(files)), len(files))
    return FilePredictions(tuple(found), len(files) - len(broken), broken, detector.provider)
