"""What all engines share: images in, batches of equal size through a network, detections out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.detect import detector as contract
from osv_lab.detect.families import Family, Metadata
from osv_lab.detect.postprocess import detections_of
from osv_lab.detect.preprocess import InputSpec, Placement, pack

if TYPE_CHECKING:
    import supervision as sv

MAX_BATCH = 32
"""Images per run of a network that takes any batch size; longer batches are cut, which bounds the memory."""


class Engine(ABC):
    """A network that runs somewhere; a subclass says where an image goes in its input, and runs batches.

    Images of one input size are run together: what is found in an image never depends on its batch.
    """

    family: Family
    class_names: tuple[str, ...]
    _metadata: Metadata
    _spec: InputSpec

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        confidence: float = contract.CONFIDENCE,
        iou: float = contract.IOU,
        max_detections: int = contract.MAX_DETECTIONS,
        classes: Sequence[str | int] | None = None,
    ) -> list[sv.Detections]:
        """See :meth:`osv_lab.detect.detector.Detector.predict`."""
        contract.check_images(images)
        contract.check_thresholds(confidence, iou, max_detections)
        wanted = contract.class_ids(classes, self.class_names)
        placements = [self._place((image.shape[1], image.shape[0])) for image in images]
        results: list[sv.Detections | None] = [None] * len(images)
        for chunk in batches(placements, self._batch_limit()):
            outputs = self._run(pack([images[i] for i in chunk], [placements[i] for i in chunk], self._spec))
            for row, index in enumerate(chunk):
                results[index] = detections_of(
                    outputs,
                    row,
                    placements[index],
                    self.family,
                    confidence=confidence,
                    iou=iou,
                    max_detections=max_detections,
                    classes=wanted,
                    keypoint_shape=self._metadata.kpt_shape,
                )
        return [result for result in results if result is not None]

    @abstractmethod
    def _place(self, size: tuple[int, int]) -> Placement:
        """Where an image of ``(width, height)`` goes in the network's input."""

    @abstractmethod
    def _run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The network's outputs for a batch; their first axis is the image."""

    def _batch_limit(self) -> int:
        return MAX_BATCH


def batches(placements: Sequence[Placement], limit: int) -> Iterator[list[int]]:
    """Indices of images that can be run together: one input size, at most ``limit`` of them."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, placement in enumerate(placements):
        groups.setdefault(placement.input_size, []).append(index)
    for group in groups.values():
        for start in range(0, len(group), limit):
            yield group[start : start + limit]
