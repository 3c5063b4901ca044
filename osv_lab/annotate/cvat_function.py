"""A detector as CVAT's auto-annotation function, for ``cvat_sdk.auto_annotation.annotate_task`` and ``cvat-cli``.

cvat-cli task auto-annotate 12 --function-module osv_lab.annotate.cvat_function -p model=str:best.onnx

Whoever calls it decides what becomes of labels that are there: CVAT's own driver doubles them when it is run twice, and
with ``clear_existing`` deletes what people drew. :meth:`osv_lab.annotate.AnnotationLoop.annotate_task` does neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.annotate.codec import TYPES as CVAT_TYPES
from osv_lab.annotate.documents import UnsendableError, shape_of
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.ontology import Ontology
from osv_lab.annotate.proposals import THRESHOLD, Levels
from osv_lab.annotate.rules import IOU, Rules, loaded
from osv_lab.core.errors import UsageError, require_extra
from osv_lab.store.documents import label_document
from osv_lab.store.geometry import mask_rings
from osv_lab.store.records import Box, Label, Polygon

if TYPE_CHECKING:
    import PIL.Image

    from osv_lab.detect.detector import Detector


class DetectorFunction:
    """The protocol of ``cvat_sdk.auto_annotation.DetectionFunction``: what it can label, and labels for an image.

    Args:
        detector: A detector, or what :func:`osv_lab.detect.load_detector` loads.
        ontology: Which label of the task each class becomes; see :mod:`osv_lab.annotate.ontology`.
        thresholds: Detections with a lower confidence are left out: one for all labels, or one each. A threshold that
            the caller gives can only raise it.
        iou: Of two detections of one label that overlap by more, the less confident is dropped.

    Example:
        >>> function = DetectorFunction("best.onnx", {"WBC": None})       # for cvat_sdk.auto_annotation.annotate_task
        >>> [label.name for label in function.spec.labels]
        ['RBC']
    """

    def __init__(
        self,
        detector: Detector | str,
        ontology: Ontology | None = None,
        thresholds: Levels = THRESHOLD,
        iou: float = IOU,
    ) -> None:
        self.detector = loaded(detector)
        self.rules = Rules.of(self.detector, ontology, thresholds, iou=iou)
        self._ids = {name: number for number, name in enumerate(self.rules.labels)}

    @property
    def spec(self) -> Any:
        """The labels, as ``cvat_sdk.auto_annotation.DetectionFunctionSpec``."""
        try:
            from cvat_sdk import auto_annotation as aa
        except ImportError as error:
            raise require_extra("cvat_sdk", "annotate") from error
        return aa.DetectionFunctionSpec(labels=[aa.label_spec(name, number) for name, number in self._ids.items()])

    def detect(self, context: Any, image: PIL.Image.Image) -> list[Any]:
        """The labels of one image, as CVAT's models.

        Args:
            context: With ``conf_threshold``, 0 to 1 or ``None``, and ``conv_mask_to_poly``.
            image: The image as it is displayed.
        """
        from cvat_sdk import models

        bgr = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        [found] = self.detector.predict([bgr], **self.rules.options)
        outlines = bool(getattr(context, "conv_mask_to_poly", False))
        least = getattr(context, "conf_threshold", None) or 0.0
        result = []
        for shape in proposed_shapes(self.rules, found, image.size, outlines=outlines):
            if (shape.confidence or 0.0) < least:
                continue
            common = {"frame": 0, "label_id": self._ids[shape.label]}
            if shape.kind == "tag":
                result.append(models.LabeledImageRequest(**common))
            else:
                kind = models.ShapeType(CVAT_TYPES[shape.kind])
                points = list(shape.points)
                result.append(
                    models.LabeledShapeRequest(**common, type=kind, points=points, rotation=shape.rotation)
                )
        return result


def create(model: str, confidence: float = THRESHOLD, ontology: str = "") -> DetectorFunction:
    """The function as ``cvat-cli --function-module`` makes it.

    Args:
        model: What :func:`osv_lab.detect.load_detector` loads.
        confidence: The threshold of all labels.
        ontology: ``"erythrocyte=RBC,dirt="``: classes and what they become; nothing drops one.
    """
    return DetectorFunction(model, ontology_of(ontology.split(",")) if ontology else None, confidence)


def ontology_of(rules: Sequence[str]) -> dict[str, str | None]:
    """Rules from words.

    Raises:
        UsageError: one without ``=``.

    Example:
        >>> ontology_of(["erythrocyte=RBC", "dirt="])
        {'erythrocyte': 'RBC', 'dirt': None}
    """
    found: dict[str, str | None] = {}
    for rule in rules:
        name, equals, label = rule.partition("=")
        if not equals:
            raise UsageError("a rule is CLASS=LABEL", repr(rule), "CLASS= drops a class")
        found[name.strip()] = label.strip() or None
    return found


def proposed_shapes(
    rules: Rules,
    found: Any,
    size: tuple[int, int],
    *,
    sample: str = "",
    model: str | None = None,
    outlines: bool = False,
) -> list[Shape]:
    """What is to be proposed for one image, as the loop's shapes without an identity.

    Args:
        rules: How detections become proposals.
        found: The detections, pixels.
        size: The image's ``(width, height)`` in pixels.
        sample: The sample's id.
        model: The reference of the detector.
        outlines: Whether masks become polygons.
    """
    labels, judged = rules.judged(found, size)
    places = judged.proposed.tolist()[: 1 if rules.task == "classify" else None]
    shapes = []
    for place in places:
        for label in _outlines(labels[place]) if outlines else [labels[place]]:
            try:
                shape = shape_of(label_document(label), sample, size, model)
            except UnsendableError:
                continue
            shapes.append(replace(shape, uid=None, source="auto", model=model, attributes={}))
    return shapes


def _outlines(label: Label) -> list[Label]:
    if not isinstance(label, Box) or label.mask is None:
        return [label]
    rings = mask_rings(label.mask, label.xywh)
    return [Polygon(label.label, (ring,), label.confidence) for ring in rings if len(ring) > 2]
