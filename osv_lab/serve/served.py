"""A loaded model, and what its sidecar says of it: its thresholds, its data, what its answers usually look like."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.core.sidecars import read_sidecar
from osv_lab.detect.confidence import Confidence, confidence_in, limits_of
from osv_lab.serve.lone import Lone
from osv_lab.serve.scheduler import Plan, Scheduling, grey_image, is_exported, load_planned

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Detector, Found
    from osv_lab.serve.drift import Reference

_log = logging.getLogger("osv_lab.serve")

SIDECAR_KEY = "drift_reference"
"""Where a model's sidecar holds its :class:`~osv_lab.serve.drift.Reference`."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a request may choose about its predictions; see :meth:`osv_lab.detect.detector.Detector.predict`."""

    confidence: Confidence = 0.25
    iou: float = 0.7
    max_detections: int = 300
    classes: tuple[str | int, ...] | None = None


def thresholds_of(values: Mapping[str, Any]) -> Thresholds:
    """Thresholds of JSON values, where tuples are lists."""
    classes = values["classes"]
    return Thresholds(**{**values, "classes": None if classes is None else tuple(classes)})


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ServedModel:
    """A loaded model and all that is said about it; never changed, so that one answer comes from one model.

    Attributes:
        detector: What finds objects.
        plan: How it is run.
        described: What it is, as JSON-able values.
        defaults: What holds where a request says nothing: the model's own thresholds, from its sidecar.
        dataset_version: What it was trained on, where its sidecar says so.
        reference: What its answers usually look like, where its sidecar says so.
        lone: The same model on more cores, where the plan wants one for images that are alone.
        headers: Which model answered, as response headers: ``X-Model``, ``X-Model-Digest``, ``X-Dataset-Version``.
    """

    detector: Detector
    plan: Plan
    described: Mapping[str, Any]
    defaults: Thresholds
    dataset_version: str | None = None
    reference: Reference | None = None
    lone: Lone | None = None
    headers: Sequence[tuple[str, str]] = field(init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        said = {
            "X-Model": self.described["ref"],
            "X-Model-Digest": self.described.get("digest"),
            "X-Dataset-Version": self.dataset_version,
        }
        headers = [(name, quote(str(value), safe=" :/@._-+,()")) for name, value in said.items() if value]
        object.__setattr__(self, "headers", tuple(headers))

    @property
    def name(self) -> dict[str, Any]:
        """Reference, task and digest, as every answer carries them."""
        return {key: self.described.get(key) for key in ("ref", "task", "digest")}

    def check(self, thresholds: Thresholds) -> None:
        """Refuse thresholds and classes that the model cannot take, before any image is decoded for them.

        Raises:
            UsageError: naming the value, and the nearest class there is.
        """
        from osv_lab.detect.detector import check_thresholds, class_ids

        check_thresholds(thresholds.confidence, thresholds.iou, thresholds.max_detections)
        class_ids(thresholds.classes, self.detector.class_names)

    def predict(self, images: Sequence[np.ndarray], thresholds: Thresholds) -> list[sv.Detections]:
        """Detections of BGR uint8 images; side by side from several threads where the plan says so.

        Raises:
            UsageError: a threshold, class name or image that cannot be used.
        """
        from osv_lab.detect.detector import Found

        found = self.find(images, thresholds)
        return [one.to_detections() if isinstance(one, Found) else one for one in found]

    def find(
        self, images: Sequence[np.ndarray], thresholds: Thresholds, by: Detector | None = None
    ) -> list[sv.Detections | Found]:
        """As :meth:`predict`; :class:`osv_lab.detect.detector.Found` from detectors that can do without supervision.

        Args:
            by: What :attr:`lone` has, to be used instead of :attr:`detector`.
        """
        detector = by or self.detector
        find = getattr(detector, "find", detector.predict)
        with contextlib.nullcontext() if self.plan.mode == "parallel" else self._lock:
            found: list[sv.Detections | Found] = find(
                images,
                confidence=thresholds.confidence,
                iou=thresholds.iou,
                max_detections=thresholds.max_detections,
                classes=thresholds.classes,
            )
        return found


def load_model(
    ref: str | Path | Detector,
    options: Mapping[str, Any] | None = None,
    scheduling: Scheduling = "auto",
    max_batch: int | None = None,
    lone_threads: int | None = None,
) -> ServedModel:
    """Load, measure and warm up a model.

    Raises:
        OsvError: the model, or its sidecar, cannot be found, read or run.
    """
    options = options or {}
    detector, plan = load_planned(ref, options, scheduling, max_batch, lone_threads)
    # The first run of a session allocates its memory; no request should wait for that. An exported detector has run
    # already, to see what its network gives.
    if not is_exported(detector):
        detector.predict([grey_image(detector)])
    sidecar = sidecar_of(detector)
    described = _describe(detector)
    defaults = stored_thresholds(sidecar, described["ref"])
    version = dataset_version_of(sidecar)
    if isinstance(defaults.confidence, Mapping):
        _known_classes(defaults.confidence, detector)
    described |= {
        "has_thresholds": bool(sidecar.get("thresholds")),
        "defaults": _shown(defaults),
        "dataset_version": version,
        "scheduling": plan.to_dict(),
    }
    lone = None
    if plan.lone_threads > 1 and isinstance(ref, (str, Path)):
        lone = Lone(lambda: _load_again(detector, {**options, "threads": plan.lone_threads}))
    return ServedModel(detector, plan, described, defaults, version, _reference(sidecar, described), lone)


def _load_again(detector: Detector, options: Mapping[str, Any]) -> Detector:
    """The same model from the same file.

    Raises:
        InvalidDataError: the file is another one now.
    """
    from osv_lab.detect import load_detector

    again = load_detector(str(getattr(detector, "path", detector.ref)), **options)
    if again.describe().get("digest") != detector.describe().get("digest"):
        raise InvalidDataError("the model's file has changed since it was loaded", shown_ref(detector.ref))
    return again


def _describe(detector: Detector) -> dict[str, Any]:
    size = detector.input_size
    return {
        "ref": shown_ref(detector.ref),
        "ready": True,
        "task": detector.task,
        "class_names": list(detector.class_names),
        "provider": detector.provider,
        "input_size": list(size) if size else None,
        "digest": None,
        **{key: value for key, value in detector.describe().items() if key not in ("ref", "task", "path")},
    }


def sidecar_of(detector: Detector) -> dict[str, Any]:
    """What stands beside the model's file, in ``<file>.osv.json``; empty where nothing does."""
    path = getattr(detector, "path", None)
    return {} if path is None else read_sidecar(path)


def stored_thresholds(sidecar: Mapping[str, Any], ref: str) -> Thresholds:
    """The sidecar's ``thresholds``: ``confidence`` (of all classes, or of each), ``iou`` and ``max_detections``, each
    where it is given."""
    from osv_lab.detect.detector import check_thresholds

    stored = sidecar.get("thresholds") or {}
    confidence = confidence_in(stored, ref)
    try:
        known = {"iou": float, "max_detections": int}
        given = {name: kind(stored[name]) for name, kind in known.items() if stored.get(name) is not None}
        thresholds = Thresholds(**given) if confidence is None else Thresholds(confidence, **given)
        check_thresholds(thresholds.confidence, thresholds.iou, thresholds.max_detections)
    except (AttributeError, TypeError, ValueError, UsageError) as error:
        raise InvalidDataError(
            "the thresholds in the model's sidecar cannot be used",
            f"{ref}.osv.json: {error}",
            'write {"thresholds": {"confidence": 0.4, "iou": 0.7}}',
        ) from None
    return thresholds


def _known_classes(confidence: Confidence, detector: Detector) -> None:
    """Refuse a sidecar that thresholds classes which the model does not have."""
    try:
        limits_of(confidence, detector.class_names)
    except UsageError as error:
        raise InvalidDataError(
            "the thresholds in the model's sidecar cannot be used", error.found, error.fix
        ) from None


def _reference(sidecar: Mapping[str, Any], described: Mapping[str, Any]) -> Reference | None:
    """The sidecar's drift reference. One that cannot be used costs the drift, never the model."""
    stored = sidecar.get(SIDECAR_KEY)
    if stored is None:
        return None
    from osv_lab.serve.drift import Reference

    try:
        reference = Reference.from_json(stored)
    except InvalidDataError as error:
        _log.warning("no drift for %s: %s", described["ref"], error)
        return None
    if reference.digest != described.get("digest"):
        _log.warning("no drift for %s: its reference was made with another file", described["ref"])
        return None
    return reference


def dataset_version_of(sidecar: Mapping[str, Any]) -> str | None:
    """The data the model was trained on, as ``name@version``, or as ``name@`` and the start of the content's digest."""
    name, version = sidecar.get("dataset"), sidecar.get("dataset_version")
    version = version or str(sidecar.get("dataset_digest") or "")[:12]
    if not version:
        return None
    return f"{name}@{version}" if isinstance(name, str) and "@" not in str(version) else str(version)


def _shown(thresholds: Thresholds) -> dict[str, Any]:
    return {
        "confidence_threshold": thresholds.confidence,
        "iou_threshold": thresholds.iou,
        "max_detections": thresholds.max_detections,
    }


def shown_ref(ref: object) -> str:
    """A reference as clients may see it: of a path only the name, since folders are nobody else's business."""
    text = str(ref)
    return text if ":/" in text else Path(text).name
