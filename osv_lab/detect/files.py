"""Detections of image files, without a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, OsvError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.detect.confidence import AnyConfidence, resolved
from osv_lab.detect.detector import IOU, MAX_DETECTIONS, Detector
from osv_lab.detect.images import read_image

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".ppm", ".pgm")
)
"""What counts as an image in a folder."""


@dataclass(frozen=True)
class FilePrediction:
    """What was found in one file.

    Attributes:
        path: The file.
        detections: One plain mapping per object: ``class_name``, ``class_id``, ``confidence``, ``xyxy`` in pixels.
        error: Why the file could not be read, or ``""``.
    """

    path: Path
    detections: tuple[Mapping[str, Any], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class FilesReport(Report):
    """What was found in each of some files.

    Attributes:
        model: The detector's reference.
        provider: What ran it.
        files: One entry per file, in order.
    """

    model: str
    provider: str
    files: tuple[FilePrediction, ...] = field(default=())

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per detection, and one per file without any."""
        rows: list[Mapping[str, Any]] = []
        for file in self.files:
            if file.error or not file.detections:
                problem = {"problem": file.error} if file.error else {"class": "(nothing found)"}
                rows.append({"file": str(file.path), **problem})
            for found in file.detections:
                x1, y1, x2, y2 = found["xyxy"]
                rows.append(
                    {
                        "file": str(file.path),
                        "class": found["class_name"],
                        "confidence": found["confidence"],
                        "x1": round(x1),
                        "y1": round(y1),
                        "x2": round(x2),
                        "y2": round(y2),
                    }
                )
        return rows

    @property
    def exit_code(self) -> int:
        """Invalid data where no file could be read, else 0."""
        return InvalidDataError.exit_code if self.files and all(file.error for file in self.files) else 0

    def summary(self) -> str:
        """Counts of detections, files and unreadable files."""
        broken = sum(bool(file.error) for file in self.files)
        found = sum(len(file.detections) for file in self.files)
        text = f"{found} detections in {len(self.files) - broken} images by {self.model} on {self.provider}"
        return f"{text}; {broken} files could not be read" if broken else text


def predict_files(
    detector: Detector,
    paths: Iterable[str | Path],
    *,
    confidence: AnyConfidence | None = None,
    iou: float = IOU,
    max_detections: int = MAX_DETECTIONS,
    batch_size: int = 8,
    progress: Progress = silent,
) -> FilesReport:
    """Run a detector on image files. A file that cannot be read is a line of the report.

    Args:
        detector: From :func:`osv_lab.detect.load_detector`.
        paths: Image files, and folders whose images are taken, those of folders inside them included.
        confidence: As in :meth:`~osv_lab.detect.detector.Detector.predict`, as for the next two. By default the
            model's own thresholds where it has some, else 0.25.
        iou: Overlap of duplicates.
        max_detections: The most detections per image.
        batch_size: Images per run of the network.
        progress: Told of every image.
    """
    if batch_size < 1:
        raise UsageError("batch_size must be at least 1", batch_size)
    confidence = resolved(confidence, detector)
    files = list(_expand(paths))
    found: list[FilePrediction] = []
    progress("predict", 0, len(files))
    for start in range(0, len(files), batch_size):
        read: list[tuple[Path, np.ndarray | str]] = []
        for path in files[start : start + batch_size]:
            try:
                read.append((path, read_image(path)))
            except OsvError as error:
                read.append((path, str(error)))
        images = [image for _, image in read if not isinstance(image, str)]
        results = iter(detector.predict(images, confidence=confidence, iou=iou, max_detections=max_detections))
        for path, image in read:
            if isinstance(image, str):
                found.append(FilePrediction(path, error=image))
            else:
                found.append(FilePrediction(path, plain_detections(next(results))))
        progress("predict", len(found), len(files))
    return FilesReport(detector.ref, detector.provider, tuple(found))


def plain_detections(detections: sv.Detections) -> tuple[Mapping[str, Any], ...]:
    """Detections as JSON-able mappings: class name and id, confidence, box, and keypoints or corners where present."""
    plain = []
    for index in range(len(detections)):
        item: dict[str, Any] = {
            "class_name": str(detections.data["class_name"][index]),
            "class_id": int(detections.class_id[index]),
            "confidence": float(detections.confidence[index]),
            "xyxy": [float(value) for value in detections.xyxy[index]],
        }
        for key in ("keypoints", "xyxyxyxy"):
            if key in detections.data:
                item[key] = detections.data[key][index].tolist()
        plain.append(item)
    return tuple(plain)


def _expand(paths: Iterable[str | Path]) -> Iterable[Path]:
    for given in paths:
        path = Path(given)
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        else:
            yield path
