"""Several detectors that answer as one, described by a small YAML or JSON file.

    models:
      - best.onnx                             # a reference as everywhere; paths are relative to this file
      - {model: large.onnx, weight: 2, rename: {pedestrian: person}}
      - {model: best.onnx, flip: true}        # the same on the mirrored image
    fuse: wbf                                 # or nms
    iou: 0.6                                  # overlap of what is one object; as asked for (0.7) when absent

Example:
    >>> from osv_lab.detect import load_detector
    >>> _ = Path("ensemble.yaml").write_text("models: [best.onnx, {model: best.onnx, flip: true}]")
    >>> detector = load_detector("ensemble.yaml")
    >>> [detections] = detector.predict([image])
    >>> detections.data["class_name"].tolist()           # the mirrored one saw a WBC elsewhere
    ['RBC', 'WBC', 'WBC']
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import InvalidDataError, OsvError, UsageError, nearest
from osv_lab.detect import detector as contract
from osv_lab.detect.confidence import AnyConfidence, limits_of, resolved
from osv_lab.detect.ensemblefile import EnsembleSpec, is_ensemble
from osv_lab.detect.fusion import fuse

if TYPE_CHECKING:
    import supervision as sv

    from osv_lab.detect.detector import Detector


_Found = tuple[np.ndarray, np.ndarray, np.ndarray]


class EnsembleDetector:
    """Detectors that answer as one; see :class:`osv_lab.detect.detector.Detector`.

    Classes are the members' by name, in the order of the members. Each member suppresses its own duplicates at the
    ``iou`` that is asked for; across members boxes are fused at the ensemble's own, or at that one.

    Args:
        spec: What to fuse, and how.
        members: The loaded detectors, in the order of ``spec.members``.
        ref: What it was asked for as.
        path: Its file, if it has one.

    Raises:
        UsageError: a member finds something other than boxes, or a class to be renamed is not one of its classes.
    """

    def __init__(
        self, spec: EnsembleSpec, members: Sequence[Detector], ref: str = "ensemble", path: Path | None = None
    ) -> None:
        self.spec, self.members, self.ref, self.path = spec, tuple(members), ref, path
        self.task = "detect"
        for said, member in zip(spec.members, self.members, strict=True):
            if member.task != "detect":
                raise UsageError("only boxes can be fused", f"{member.ref} is for {member.task}", "leave it out")
            if unknown := [name for name in said.rename if name not in member.class_names]:
                raise UsageError(
                    f"{member.ref} has no class to rename", unknown[0], nearest(unknown[0], member.class_names)
                )
        renamed = [
            [said.rename.get(name, name) for name in member.class_names]
            for said, member in zip(spec.members, self.members, strict=True)
        ]
        self.class_names: tuple[str, ...] = tuple(dict.fromkeys(name for names in renamed for name in names))
        place = {name: index for index, name in enumerate(self.class_names)}
        self._ids = [np.array([place[name] for name in names], np.int64) for names in renamed]

    @property
    def provider(self) -> str:
        """What runs its members; each once."""
        return ", ".join(dict.fromkeys(member.provider for member in self.members))

    @property
    def input_size(self) -> tuple[int, int] | None:
        """``(width, height)`` that all networks see, ``None`` where they differ."""
        sizes = {member.input_size for member in self.members}
        return sizes.pop() if len(sizes) == 1 else None

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
        contract.check_images(images)
        asked = resolved(confidence, self)
        contract.check_thresholds(asked, iou, max_detections)
        limits = limits_of(asked, self.class_names)
        wanted = contract.class_ids(classes, self.class_names)
        least = min(float(np.min(limits)), self.spec.least_score)
        mirrored = [
            np.ascontiguousarray(image[:, ::-1]) for image in images if any(m.flip for m in self.spec.members)
        ]
        found: list[list[_Found]] = []
        for said, member, ids in zip(self.spec.members, self.members, self._ids, strict=True):
            own = None if wanted is None else [k for k, mapped in enumerate(ids.tolist()) if mapped in wanted]
            if own == []:
                found.append([_nothing()] * len(images))
                continue
            seen = member.predict(mirrored if said.flip else images, confidence=least, iou=iou, classes=own)
            widths = [image.shape[1] if said.flip else None for image in images]
            found.append([_arrays(one, ids, width) for one, width in zip(seen, widths, strict=True)])
        return [self._fused([one[k] for one in found], limits, iou, max_detections) for k in range(len(images))]

    def _fused(
        self, found: Sequence[_Found], limits: float | np.ndarray, iou: float, max_detections: int
    ) -> sv.Detections:
        boxes, scores, class_id = fuse(
            [one[0] for one in found],
            [one[1] for one in found],
            [one[2] for one in found],
            how=self.spec.fuse,
            iou=iou if self.spec.iou is None else self.spec.iou,
            weights=[member.weight for member in self.spec.members],
            known=[ids.tolist() for ids in self._ids],
        )
        keep = np.flatnonzero(scores > (limits[class_id] if isinstance(limits, np.ndarray) else limits))
        keep = keep[:max_detections]
        return contract.make_detections(boxes[keep], scores[keep], class_id[keep], self.class_names)

    def describe(self) -> dict[str, Any]:
        """See :meth:`osv_lab.detect.detector.Detector.describe`; the digest is of all of it."""
        described = [member.describe() for member in self.members]
        digests = [each.get("digest") for each in described]
        members = [
            {**asdict(one), "model": digest} for one, digest in zip(self.spec.members, digests, strict=True)
        ]
        meaning = {**asdict(self.spec), "members": members}
        return {
            "ref": self.ref,
            "engine": "ensemble",
            "task": self.task,
            "provider": self.provider,
            "class_names": list(self.class_names),
            "fuse": self.spec.fuse,
            "iou": self.spec.iou,
            "members": [
                {**one, "model": Path(member.ref).name, "digest": one["model"]}
                for one, member in zip(members, self.members, strict=True)
            ],
            "digest": bytes_digest(json.dumps(meaning, sort_keys=True).encode()),
        }


def load_ensemble(
    path: str | Path, load: Callable[..., Detector], *, ref: str | None = None, **options: Any
) -> EnsembleDetector:
    """The detector of an ensemble's file.

    Args:
        load: Loads a member: :func:`osv_lab.detect.load_detector`.
        ref: What it was asked for as; the path by default.
        options: For all members; their own ``imgsz`` goes before.

    Raises:
        OsvError: the file, or a member, cannot be used.
    """
    spec = EnsembleSpec.from_file(path)
    for name in ("class_names", "family"):
        if options.get(name) is not None:
            raise UsageError(f"an ensemble takes no {name}", str(path), "rename classes in its file")
    members = []
    for said in spec.members:
        if is_ensemble(Path(said.model)):
            raise InvalidDataError("an ensemble holds no ensembles", said.model, "name its models instead")
        own = {**options, **({} if said.imgsz is None else {"imgsz": said.imgsz})}
        try:
            members.append(load(said.model, **own))
        except OsvError as error:
            what = f"a model of the ensemble cannot be loaded: {error.what}"
            raise type(error)(what, error.found, error.fix) from None
    return EnsembleDetector(spec, members, ref or str(path), Path(path).resolve())


def _arrays(found: sv.Detections, ids: np.ndarray, width: int | None) -> _Found:
    """Boxes, scores and the ensemble's classes; ``width`` where the image was mirrored."""
    boxes = found.xyxy
    if width is not None:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    return boxes, found.confidence, ids[found.class_id]


def _nothing() -> _Found:
    return np.empty((0, 4)), np.empty(0), np.empty(0, np.int64)
