"""One loaded model and the way to it for many threads at once."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import OsvError, UnavailableError, UsageError

if TYPE_CHECKING:
    import supervision as sv

    from osv_lab.detect.detector import Detector


_ONE_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a request may choose about its predictions; see :meth:`osv_lab.detect.detector.Detector.predict`."""

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300
    classes: tuple[str | int, ...] | None = None


class ModelSlot:
    """A place for one model: loads it, warms it up, and lets one batch at a time through it.

    Args:
        ref: What to load: a path, ``models:/name@alias``, or a detector that is loaded already.
        options: As for :func:`osv_lab.detect.load_detector`.

    Example:
        >>> slot = ModelSlot("best.onnx")                                              # doctest: +SKIP
        >>> slot.load()                                                                # doctest: +SKIP
        >>> [detections] = slot.predict([image], Thresholds(confidence=0.5))           # doctest: +SKIP
    """

    def __init__(self, ref: str | Path | Detector, **options: Any) -> None:
        self._ref = ref
        self._options = options
        self._detector: Detector | None = None
        self._described: dict[str, Any] = {"ref": _shown_ref(ref), "ready": False}
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and has seen its first image."""
        return self._detector is not None

    @property
    def detector(self) -> Detector:
        """The loaded model.

        Raises:
            UnavailableError: it is not loaded yet.
        """
        if self._detector is None:
            raise UnavailableError("the model is not loaded yet", str(self._ref), "ask /ready and try again")
        return self._detector

    def load(self) -> None:
        """Load and warm up, once; a second call returns at once.

        Raises:
            OsvError: the model cannot be found, read or run.
        """
        with self._lock:
            if self._detector is not None:
                return
            from osv_lab.detect import load_detector
            from osv_lab.detect.images import decode_image

            if isinstance(self._ref, (str, Path)):
                detector = load_detector(str(self._ref), **self._options)
            else:
                detector = self._ref
            width, height = detector.input_size or (640, 640)
            # The first run of a session allocates its memory, and the first decoded image loads the decoders; no
            # request should wait for either.
            decode_image(_ONE_PIXEL)
            detector.predict([np.full((height, width, 3), 114, np.uint8)])
            self._described = _describe(detector)
            self._detector = detector

    def check(self, thresholds: Thresholds) -> None:
        """Refuse thresholds and classes that the model cannot take, before any image is decoded for them.

        Raises:
            UsageError: naming the value, and the nearest class there is.
        """
        from osv_lab.detect.detector import check_thresholds, class_ids

        check_thresholds(thresholds.confidence, thresholds.iou, thresholds.max_detections)
        class_ids(thresholds.classes, self.detector.class_names)

    def predict(self, images: Sequence[np.ndarray], thresholds: Thresholds) -> list[sv.Detections]:
        """Detections of a batch of BGR uint8 images.

        Raises:
            UsageError: a threshold, class name or image that cannot be used.
            UnavailableError: the model is not loaded yet.
        """
        detector = self.detector
        with self._lock:
            return detector.predict(
                images,
                confidence=thresholds.confidence,
                iou=thresholds.iou,
                max_detections=thresholds.max_detections,
                classes=thresholds.classes,
            )

    def predict_batch(
        self,
        images: Iterable[np.ndarray | OsvError],
        thresholds: Thresholds,
        *,
        batch_size: int = 8,
        max_pixels: int = 40_000_000,
    ) -> Iterator[tuple[int, np.ndarray | None, sv.Detections | OsvError]]:
        """Detections of many images, in their order; what cannot be used is handed back as its error, alone.

        Args:
            images: Images, or the error that took an image's place. Consumed as batches fill, so that a generator
                decodes no more than one batch ahead.
            thresholds: The same for all.
            batch_size: Most images in one batch.
            max_pixels: Most pixels in one batch of more than one image: large images go in smaller batches.

        Yields:
            ``(index, image, detections)`` or ``(index, None, error)``.

        Raises:
            UsageError: a batch size below one.
        """
        if batch_size < 1:
            raise UsageError("batch_size must be at least 1", batch_size)
        start, pixels = 0, 0
        pending: list[np.ndarray | OsvError] = []
        for image in images:
            area = 0 if isinstance(image, OsvError) else image.shape[0] * image.shape[1]
            if pending and (len(pending) == batch_size or pixels + area > max_pixels):
                yield from self._one_batch(pending, thresholds, start)
                start, pixels, pending = start + len(pending), 0, []
            pending.append(image)
            pixels += area
        yield from self._one_batch(pending, thresholds, start)

    def _one_batch(
        self, items: Sequence[np.ndarray | OsvError], thresholds: Thresholds, start: int
    ) -> Iterator[tuple[int, np.ndarray | None, sv.Detections | OsvError]]:
        outcomes = iter(
            self._together_or_alone([item for item in items if not isinstance(item, OsvError)], thresholds)
        )
        for index, item in enumerate(items, start):
            if isinstance(item, OsvError):
                yield index, None, item
                continue
            outcome = next(outcomes)
            yield index, None if isinstance(outcome, OsvError) else item, outcome

    def _together_or_alone(
        self, images: Sequence[np.ndarray], thresholds: Thresholds
    ) -> Sequence[sv.Detections | OsvError]:
        if not images:
            return []
        try:
            return self.predict(images, thresholds)
        except OsvError as error:
            if len(images) == 1:
                return [error]
        return [outcome for image in images for outcome in self._together_or_alone([image], thresholds)]

    def describe(self) -> dict[str, Any]:
        """What the model is, as JSON-able values; ``{"ref", "ready": False}`` before it is loaded."""
        return dict(self._described)


def _describe(detector: Detector) -> dict[str, Any]:
    size = detector.input_size
    return {
        "ref": _shown_ref(detector.ref),
        "ready": True,
        "task": detector.task,
        "class_names": list(detector.class_names),
        "provider": detector.provider,
        "input_size": list(size) if size else None,
        "digest": None,
        **{key: value for key, value in detector.describe().items() if key not in ("ref", "task", "path")},
    }


def _shown_ref(ref: object) -> str:
    """A reference as clients may see it: of a path only the name, since folders are nobody else's business."""
    text = str(ref)
    return text if ":/" in text else Path(text).name
