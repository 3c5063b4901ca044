"""Whether a model answers on the user's own images: as well as it should, and as its original does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.settings import SEED
from osv_lab.core.sidecars import read_sidecar, update_sidecar
from osv_lab.detect.metrics import PrecisionReport, average_precision
from osv_lab.detect.parity import INT8, ParityReport, Tolerance, compare_outputs
from osv_lab.evaluate.arrays import boxes_of

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Detector
    from osv_lab.detect.export import Artifact

BATCH = 8


def verify(
    artifact: str | Path | Artifact,
    view: Any,
    original: str | Path | None = None,
    gt_field: str = "ground_truth",
    *,
    tolerance: Tolerance | None = None,
    max_images: int | None = 500,
    progress: Progress = silent,
) -> ParityReport:
    """Compare an exported model with its original on a view, box by box and in mean average precision.

    The report is kept in the artifact's sidecar; an artifact that failed is refused by
    :func:`osv_lab.train.registry.register`.

    Args:
        artifact: The exported file, or what :func:`osv_lab.detect.export.export_model` returned.
        view: A ``fiftyone.Dataset`` or view of images, best the validation split.
        original: What it was exported from; by default what its sidecar says.
        gt_field: The truth; where no sample is labelled in it, only boxes are compared.
        tolerance: What is allowed; by default :data:`~osv_lab.detect.parity.INT8` for a quantised file, else
            :class:`~osv_lab.detect.parity.Tolerance`'s defaults.
        max_images: At most so many images, drawn with the lab's seed; ``None`` takes all.
        progress: Told of every batch.

    Raises:
        NotFoundError: the artifact or its original does not exist.
        InvalidDataError: no image of the view can be read.
        UsageError: the sidecar does not say what the original is, or the artifact is its own original.

    Example:
        >>> report = verify("candidate.onnx", dataset.match_tags("val"), original="best.onnx")
        >>> report.passed, report.reasons[0]
        (False, '66.67% of boxes matched, 99.00% needed: 4 missing and 0 extra of 8')
    """
    from osv_lab.detect import load_detector

    path = Path(str(getattr(artifact, "path", artifact)))
    if not path.is_file():
        raise NotFoundError("no such model file", path)
    if tolerance is None and read_sidecar(path).get("precision") == "int8":
        tolerance = INT8
    reference = _original(path, original)
    candidate = load_detector(path)
    known = load_detector(reference, imgsz=candidate.input_size)
    chosen, images, targets = images_and_truth(view, gt_field, known.class_names, max_images)
    seen: list[int] = []
    truth = (targets[row] for row in seen) if targets is not None else None
    total = len(images)
    report = compare_outputs(
        known,
        candidate,
        readable(images, seen),
        truth,
        tolerance=tolerance,
        batch_size=BATCH,
        progress=lambda label, done, _: progress(label, done, total),
    )
    update_sidecar(
        path, {"parity": {**report.to_dict(), "passed": report.passed, "dataset": str(chosen._dataset.name)}}
    )
    return report


def score(
    view: Any,
    detector: Detector,
    gt_field: str = "ground_truth",
    *,
    confidence: float = 0.001,
    iou: float = 0.7,
    progress: Progress = silent,
) -> PrecisionReport:
    """Mean average precision of a detector on a view, with nothing written to the dataset.

    Args:
        view: A ``fiftyone.Dataset`` or view of images; unlabelled samples are left out.
        detector: Any detector of boxes.
        gt_field: The truth.
        confidence: Lowest score kept; average precision needs the unsure predictions too.
        iou: Overlap of duplicates.
        progress: Told of every batch.

    Raises:
        InvalidDataError: no sample is labelled, or none can be read.

    Example:
        >>> score(dataset.match_tags("val"), detector).map50_95
        0.75
    """
    names = known_classes(view, gt_field, detector.class_names)
    _, images, targets = images_and_truth(view, gt_field, names, None)
    if targets is None:
        raise InvalidDataError("there is no ground truth to score against", f"nothing is labelled in '{gt_field}'")
    seen: list[int] = []
    found: list[sv.Detections] = []
    batch: list[np.ndarray] = []
    for image in readable(images, seen):
        batch.append(image)
        if len(batch) == BATCH:
            found += detector.predict(batch, confidence=confidence, iou=iou)
            batch = []
            progress("score", len(found), len(images))
    if batch:
        found += detector.predict(batch, confidence=confidence, iou=iou)
    progress("score", len(images), len(images))
    return average_precision(found, [targets[row] for row in seen], class_names=names)


def _original(artifact: Path, original: str | Path | None) -> str:
    if original is None:
        original = read_sidecar(artifact).get("source")
        if not original:
            raise UsageError(
                "it is not known what the artifact was exported from",
                f"{artifact.name} has no sidecar that says so",
                "name it: original='best.pt'",
            )
    if Path(original).expanduser().resolve() == artifact.resolve():
        raise UsageError("an artifact cannot be compared with itself", artifact, "name what it was exported from")
    return str(original)


def known_classes(view: Any, gt_field: str, class_names: Sequence[str]) -> tuple[str, ...]:
    """The detector's classes, then those that only the truth has: their objects count as missed."""
    labelled = view.distinct(f"{gt_field}.detections.label") if view.has_field(gt_field) else []
    return (*class_names, *sorted(set(labelled) - set(class_names)))


def images_and_truth(
    view: Any, gt_field: str, class_names: Sequence[str], max_images: int | None
) -> tuple[Any, list[str], list[sv.Detections] | None]:
    """The samples to look at (labelled ones where there are any), their files and their truth."""
    from osv_lab.train.data import labelled

    chosen, targets = view, None
    if view.has_field(gt_field) and len(with_truth := labelled(view, gt_field)):
        chosen = with_truth
    if not len(chosen):
        raise InvalidDataError("there are no images to look at", "the view is empty")
    if max_images is not None and len(chosen) > max_images:
        chosen = chosen.take(max_images, seed=SEED)
    if chosen is not view or max_images is not None:
        # The same samples in the same order for every question that follows.
        chosen = chosen._dataset.select(chosen.values("id"), ordered=True)
    if view.has_field(gt_field) and any(chosen.values(f"{gt_field}._cls")):
        targets = boxes_of(chosen, gt_field, class_names)
    return chosen, chosen.values("filepath"), targets


def readable(files: Sequence[str], seen: list[int]) -> Iterator[np.ndarray]:
    """Images that can be read, noting which; one broken file does not stop the others."""
    from osv_lab.detect.images import read_image

    reason: OsvError | OSError | None = None
    for row, file in enumerate(files):
        try:
            image = read_image(file)
        except (OsvError, OSError) as error:
            reason = error
            continue
        seen.append(row)
        yield image
    if not seen:
        raise InvalidDataError("no image can be read", f"{len(files)} files, the last: {reason}")
