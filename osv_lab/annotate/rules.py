"""How a detector's detections become proposals of labels: which class is which label, which confidence is enough."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.annotate.ontology import Ontology, labels_of_classes
from osv_lab.annotate.proposals import THRESHOLD, TRUST, Judged, Levels, check_levels, judge
from osv_lab.core.digests import value_digest
from osv_lab.core.report import plain
from osv_lab.store.convert.supervision import labels_from
from osv_lab.store.predict import MAX_DETECTIONS
from osv_lab.store.records import ImageClass, Label

if TYPE_CHECKING:
    import supervision as sv

    from osv_lab.detect.detector import Detector

IOU = 0.7


def loaded(detector: Detector | str) -> Detector:
    """A detector, loaded where it is a reference."""
    if isinstance(detector, str):
        from osv_lab.detect import load_detector

        return load_detector(detector)
    return detector


@dataclass(frozen=True, slots=True)
class Rules:
    """How detections become proposals.

    Attributes:
        names: The label of each class of the detector; ``None`` drops it.
        thresholds: Detections with a lower confidence are not proposed.
        trust: Proposals with a lower confidence are for people.
        iou: Of two detections of one label that overlap by more, the less confident is dropped.
        task: The detector's.
    """

    names: Mapping[str, str | None]
    thresholds: Levels
    trust: Levels
    iou: float
    task: str

    @classmethod
    def of(
        cls,
        detector: Detector,
        ontology: Ontology | None = None,
        thresholds: Levels = THRESHOLD,
        trust: Levels = TRUST,
        iou: float = IOU,
    ) -> Rules:
        """Rules for a detector, checked.

        Raises:
            UsageError: a class that it does not have, or a value outside 0 to 1.
        """
        check_levels("thresholds", thresholds)
        check_levels("trust", trust)
        check_levels("iou", iou)
        return cls(labels_of_classes(detector.class_names, ontology), thresholds, trust, iou, detector.task)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that proposals can have."""
        return tuple(dict.fromkeys(name for name in self.names.values() if name is not None))

    @property
    def options(self) -> dict[str, Any]:
        """What the detector is asked for: detections down to half of the lowest threshold, which may be rivals."""
        levels = self.thresholds
        least = min([THRESHOLD, *levels.values()]) if isinstance(levels, Mapping) else levels
        return {"confidence": least / 2, "iou": self.iou, "max_detections": MAX_DETECTIONS}

    def identity(self, detector: Detector, tracker: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """A key that is the same for the same detector, rules and tracker, and what it stands for."""
        about = plain(detector.describe())
        # Without a digest two detectors cannot be told apart, and what one did must not pass for the other's.
        unique = "" if about.get("digest") else uuid.uuid4().hex
        said = {"detector": about, **plain(self)}
        if tracker is not None:
            said["tracker"] = plain(tracker)
        return value_digest([said, unique])[:16], said

    def judged(
        self,
        found: sv.Detections,
        size: tuple[int, int],
        labelled: np.ndarray | None = None,
        labels: Sequence[str] = (),
        *,
        looked_at: bool = False,
    ) -> tuple[list[Label], Judged]:
        """One image's detections as labels, without dropped classes, and which of them to propose.

        Args:
            found: The detections, pixels.
            size: The image's ``(width, height)`` in pixels.
            labelled: Boxes of labels that are there and stay, ``(m, 4)`` ``x1, y1, x2, y2`` pixels.
            labels: Their names.
            looked_at: Whether people have labelled the image.
        """
        classes = [str(name) for name in found.data.get("class_name", ())]
        kept = np.array([self.names.get(name, name) is not None for name in classes], bool)
        some: Any = found[kept] if len(classes) else found
        names = [str(self.names.get(name, name)) for name, keep in zip(classes, kept, strict=True) if keep]
        scores = np.asarray(some.confidence if some.confidence is not None else np.ones(len(names)), np.float64)
        judged = judge(
            np.asarray(some.xyxy, np.float64).reshape(-1, 4),
            names,
            scores,
            np.zeros((0, 4)) if labelled is None else labelled,
            labels,
            thresholds=self.thresholds,
            trust=self.trust,
            iou=self.iou,
            looked_at=looked_at,
        )
        if self.task == "classify":
            return [ImageClass(name, float(score)) for name, score in zip(names, scores, strict=True)], judged
        plain_labels = labels_from(some, size) if names else []
        return [replace(one, label=name) for one, name in zip(plain_labels, names, strict=True)], judged
