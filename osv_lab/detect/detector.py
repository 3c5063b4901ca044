"""What a detector is: a batch of images in, one ``supervision.Detections`` per image out.

Example:
    >>> from osv_lab.detect import load_detector
    >>> detector = load_detector("best.onnx")
    >>> [detections] = detector.predict([image], confidence=0.5)
    >>> detections.data["class_name"]
    array(['RBC', 'WBC'], dtype='<U3')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from osv_lab.core.errors import UsageError, nearest
from osv_lab.detect.confidence import CONFIDENCE as CONFIDENCE
from osv_lab.detect.confidence import AnyConfidence, Confidence, check_confidence

if TYPE_CHECKING:
    import supervision as sv

TASKS = ("detect", "segment", "pose", "obb", "classify")
"""What a detector can find: boxes, boxes with masks, boxes with keypoints, oriented boxes, classes of images."""

IOU = 0.7
"""Of two boxes of one class that overlap by more than this, the less confident is dropped."""

BORDER = 0.5
"""Grey around an image on an Ultralytics network that takes any size, in strides: as much as Ultralytics' validator
leaves, so that what is predicted here scores what training reported. Its predictor leaves none."""

MAX_DETECTIONS = 300
"""How many detections of one image are kept at most, the most confident first."""


@runtime_checkable
class Detector(Protocol):
    """Anything that finds objects in images.

    Attributes:
        ref: What it was loaded from, as the user gave it.
        task: One of :data:`TASKS`.
        class_names: Class names by class id.
        provider: What really runs it: ``"CPUExecutionProvider"``, ``"torch:cpu"``, ...
        input_size: ``(width, height)`` in pixels that the network sees, ``None`` when it takes any size.
    """

    @property
    def ref(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def provider(self) -> str: ...
    @property
    def input_size(self) -> tuple[int, int] | None: ...

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        confidence: AnyConfidence = CONFIDENCE,
        iou: float = IOU,
        max_detections: int = MAX_DETECTIONS,
        classes: Sequence[str | int] | None = None,
    ) -> list[sv.Detections]:
        """Find objects in a batch of images.

        Args:
            images: BGR uint8 arrays ``(h, w, 3)``, of any and differing sizes. No images give an empty list.
            confidence: Detections with a score above it are kept, 0 to 1; one for all classes, one per class name
                (``{"cat": 0.4, "*": 0.3}``), or ``"model"`` for the model's own
                (:mod:`osv_lab.detect.confidence`).
            iou: Overlap above which the less confident of two boxes of one class is dropped, 0 to 1. Heads that
                suppress duplicates themselves ignore it.
            max_detections: The most detections per image.
            classes: Names or ids of the classes to keep; all when ``None``.

        Returns:
            One set of detections per image, most confident first: ``xyxy (n, 4) float32`` in pixels of the image,
            ``confidence (n,) float32``, ``class_id (n,) int``, ``data["class_name"] (n,) str``. Segmentation adds
            ``mask (n, h, w) bool``, pose ``data["keypoints"] (n, k, 3) float32`` (x, y, confidence), oriented
            boxes ``data["xyxyxyxy"] (n, 4, 2) float32``. Of a classifier, every class above ``confidence`` is one
            detection whose box is the whole image.

        Raises:
            UsageError: an image, threshold or class name that cannot be used.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON-able values: family, provider, input size, classes, digest of the file."""
        ...


def check_images(images: Sequence[np.ndarray]) -> None:
    """Refuse anything that is not a sequence of BGR uint8 images.

    Raises:
        UsageError: naming the image and what was found.
    """
    shape = getattr(images, "shape", ())
    if len(shape) == 3:
        raise UsageError("predict takes a batch of images", f"one array of shape {shape}", "pass a list: [image]")
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray):
            raise UsageError(
                f"image {index} is not an array",
                type(image).__name__,
                "read it with osv_lab.detect.images.read_image",
            )
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise UsageError(
                f"image {index} is not a BGR uint8 image of shape (h, w, 3)",
                f"{image.dtype} {image.shape}",
                "convert it first; read_image and decode_image give the right kind",
            )


def check_thresholds(confidence: Confidence, iou: float, max_detections: int) -> None:
    """Refuse thresholds outside 0 to 1 and a negative count.

    Raises:
        UsageError: naming the argument and its value.
    """
    check_confidence(confidence)
    if not 0 <= iou <= 1:
        raise UsageError("iou must lie between 0 and 1", repr(iou))
    if max_detections < 0:
        raise UsageError("max_detections must not be negative", repr(max_detections))


def class_ids(classes: Sequence[str | int] | None, class_names: Sequence[str]) -> np.ndarray | None:
    """Class names and ids as an array of ids, ``None`` (every class) staying ``None``.

    Raises:
        UsageError: a name or id the detector does not have, with the nearest one it has.

    Example:
        >>> class_ids(["dog", 0], ("cat", "dog")).tolist()
        [1, 0]
    """
    if classes is None:
        return None
    if isinstance(classes, str):
        classes = [classes]
    ids: list[int] = []
    for item in classes:
        if isinstance(item, str):
            if item not in class_names:
                raise UsageError("the detector has no such class", f"'{item}'", nearest(item, class_names))
            ids.extend(index for index, name in enumerate(class_names) if name == item)
        else:
            if not 0 <= int(item) < len(class_names):
                raise UsageError("the detector has no such class id", item, f"use 0 to {len(class_names) - 1}")
            ids.append(int(item))
    return np.array(ids, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One image's results under the names ``supervision.Detections`` has for them, without that package's import.

    Attributes:
        xyxy: ``(n, 4) float32`` pixels of the image.
        confidence: ``(n,) float32``.
        class_id: ``(n,) int``.
        mask: ``(n, height, width) bool`` of a segmentation model.
        data: ``class_name``, and ``keypoints`` or ``xyxyxyxy`` where the model has them; see
            :meth:`Detector.predict`.
    """

    xyxy: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray
    mask: np.ndarray | None
    data: dict[str, Any]

    def __len__(self) -> int:
        return len(self.xyxy)

    def to_detections(self) -> sv.Detections:
        """The same as ``supervision.Detections``."""
        import supervision as sv

        return sv.Detections(
            xyxy=self.xyxy,
            mask=self.mask,
            confidence=self.confidence,
            class_id=self.class_id,
            data=self.data,
        )


def make_found(
    xyxy: np.ndarray,
    confidence: np.ndarray,
    class_id: np.ndarray,
    class_names: Sequence[str],
    *,
    masks: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    corners: np.ndarray | None = None,
) -> Found:
    """One image's results in the types every engine returns (see :meth:`Detector.predict`)."""
    ids = class_id.astype(int, copy=False)
    data: dict[str, Any] = {"class_name": np.array([class_names[index] for index in ids], dtype=str)}
    if keypoints is not None:
        data["keypoints"] = keypoints.astype(np.float32, copy=False)
    if corners is not None:
        data["xyxyxyxy"] = corners.astype(np.float32, copy=False)
    boxes = xyxy.astype(np.float32, copy=False).reshape(-1, 4)
    return Found(boxes, confidence.astype(np.float32, copy=False), ids, masks, data)


def make_detections(
    xyxy: np.ndarray,
    confidence: np.ndarray,
    class_id: np.ndarray,
    class_names: Sequence[str],
    *,
    masks: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    corners: np.ndarray | None = None,
) -> sv.Detections:
    """As :func:`make_found`, as ``supervision.Detections``."""
    found = make_found(xyxy, confidence, class_id, class_names, masks=masks, keypoints=keypoints, corners=corners)
    return found.to_detections()
