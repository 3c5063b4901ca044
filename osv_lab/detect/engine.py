"""What all engines share: images in, batches of equal size through a network, detections out.

On a CPU a network is run side by side, one batch per core and one thread each. Within one operator the cores would wait
for each other hundreds of times per image, and for long where another program has one of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.cores import usable_cores as usable_cores
from osv_lab.detect import detector as contract
from osv_lab.detect.confidence import AnyConfidence, limits_of, resolved
from osv_lab.detect.families import Family, Metadata
from osv_lab.detect.heads import AnchorFree, Objectness, Said
from osv_lab.detect.postprocess import found_of
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
    _cores: int
    """Batches that run side by side; 1 on a GPU."""
    _beside: int
    """Images per batch then."""
    _pool: ThreadPoolExecutor | None = None

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        confidence: AnyConfidence = contract.CONFIDENCE,
        iou: float = contract.IOU,
        max_detections: int = contract.MAX_DETECTIONS,
        classes: Sequence[str | int] | None = None,
    ) -> list[sv.Detections]:
        """See :meth:`osv_lab.detect.detector.Detector.predict`."""
        found = self.find(images, confidence=confidence, iou=iou, max_detections=max_detections, classes=classes)
        return [one.to_detections() for one in found]

    def find(
        self,
        images: Sequence[np.ndarray],
        *,
        confidence: AnyConfidence = contract.CONFIDENCE,
        iou: float = contract.IOU,
        max_detections: int = contract.MAX_DETECTIONS,
        classes: Sequence[str | int] | None = None,
    ) -> list[contract.Found]:
        """As :meth:`predict`, without supervision, whose import takes longer than that of all else here."""
        contract.check_images(images)
        asked = resolved(confidence, self)
        contract.check_thresholds(asked, iou, max_detections)
        limits = limits_of(asked, self.class_names)
        wanted = contract.class_ids(classes, self.class_names)
        placements = [self._place((image.shape[1], image.shape[0])) for image in images]

        def look(chunk: list[int], network: Any) -> list[contract.Found]:
            tensor = pack([images[i] for i in chunk], [placements[i] for i in chunk], self._spec)
            outputs = self._run(tensor, network)
            return [
                found_of(
                    outputs,
                    row,
                    placements[index],
                    self.family,
                    confidence=limits,
                    iou=iou,
                    max_detections=max_detections,
                    classes=wanted,
                    keypoint_shape=self._metadata.kpt_shape,
                )
                for row, index in enumerate(chunk)
            ]

        chunks = list(batches(placements, self._limit(len(images))))
        if self._cores > 1 and len(chunks) > 1:
            self._pool = self._pool or ThreadPoolExecutor(self._cores, "osv-detect")
            found = list(self._pool.map(lambda chunk: look(chunk, self._network_beside()), chunks))
        else:
            found = [look(chunk, self._network()) for chunk in chunks]
        by_index = {
            i: one for chunk, some in zip(chunks, found, strict=True) for i, one in zip(chunk, some, strict=True)
        }
        return [by_index[i] for i in range(len(images))]

    def before_suppression(self, image: np.ndarray) -> Said | None:
        """All that the network says about one BGR image before anything is dropped, in pixels of its input; ``None``
        where the network suppresses duplicates itself."""
        head = self.family.head
        if not isinstance(head, (AnchorFree, Objectness)):
            return None
        placement = self._place((image.shape[1], image.shape[0]))
        outputs = self._run(pack([image], [placement], self._spec), self._network())
        found = head.decode(outputs, 0, -1.0, placement.input_size)
        prototypes = outputs[1][0] if self.family.task == "segment" else np.zeros((0, 0, 0), np.float32)
        return Said(found, head.class_scores(outputs, 0), prototypes, placement)

    @property
    def keypoint_shape(self) -> tuple[int, int]:
        """Keypoints of a pose model, and numbers per keypoint; ``(0, 3)`` of others."""
        return self._metadata.kpt_shape or (0, 3)

    @abstractmethod
    def _place(self, size: tuple[int, int]) -> Placement:
        """Where an image of ``(width, height)`` goes in the network's input."""

    @abstractmethod
    def _network(self) -> Any:
        """The network, with all cores for one batch."""

    @abstractmethod
    def _network_beside(self) -> Any:
        """The network for this thread, with one core, while other threads run it too."""

    @abstractmethod
    def _run(self, tensor: np.ndarray, network: Any) -> list[np.ndarray]:
        """The network's outputs for a batch; their first axis is the image."""

    def _most(self) -> int:
        """Images that the network takes at once."""
        return MAX_BATCH

    def _limit(self, count: int) -> int:
        beside = self._cores > 1 and count > 1
        return min(self._most(), max(1, min(self._beside, -(-count // self._cores)))) if beside else self._most()


def batches(placements: Sequence[Placement], limit: int) -> Iterator[list[int]]:
    """Indices of images that can be run together: one input size, at most ``limit`` of them."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, placement in enumerate(placements):
        groups.setdefault(placement.input_size, []).append(index)
    for group in groups.values():
        for start in range(0, len(group), limit):
            yield group[start : start + limit]
