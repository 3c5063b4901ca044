"""From which score a detection counts: one threshold for all classes, one for each, or the model's own.

Thresholds that :func:`osv_lab.evaluate.thresholds.choose_thresholds` found stand in the model's sidecar, and whatever
runs the model reads them there by this module: so the same boxes pass everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from osv_lab.core.errors import InvalidDataError, UsageError, nearest
from osv_lab.core.sidecars import read_sidecar

if TYPE_CHECKING:
    import numpy as np

Confidence = float | Mapping[str, float]
"""A threshold, 0 to 1, or one per class name; :data:`OTHERS` stands for the classes that are not named."""

AnyConfidence = Confidence | Literal["model"]
"""The same, or the model's own thresholds."""

OTHERS = "*"

CONFIDENCE = 0.25
"""Detections at or below this score are dropped unless the caller, or the model's sidecar, says otherwise."""


def check_confidence(confidence: Confidence) -> None:
    """Refuse thresholds outside 0 to 1.

    Raises:
        UsageError: naming the class and its value.
    """
    each: Mapping[str, Any] = confidence if isinstance(confidence, Mapping) else {"": confidence}
    for name, value in each.items():
        of = f" of '{name}'" if name else ""
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
            raise UsageError(f"confidence{of} must lie between 0 and 1", repr(value))


def limit_of(confidence: Confidence, name: str) -> float:
    """A class's threshold.

    Example:
        >>> limit_of({"cat": 0.4, "*": 0.3}, "cat"), limit_of({"cat": 0.4, "*": 0.3}, "dog"), limit_of(0.5, "dog")
        (0.4, 0.3, 0.5)
    """
    if not isinstance(confidence, Mapping):
        return float(confidence)
    return float(confidence.get(name, confidence.get(OTHERS, CONFIDENCE)))


def limits_of(confidence: Confidence, class_names: Sequence[str]) -> float | np.ndarray:
    """Thresholds by class id ``(classes,)``, or one for all.

    Raises:
        UsageError: outside 0 to 1, or of a class that is not among ``class_names``.
    """
    check_confidence(confidence)
    if not isinstance(confidence, Mapping):
        return float(confidence)
    if unknown := [name for name in confidence if name != OTHERS and name not in class_names]:
        raise UsageError(
            "the detector has no class to threshold", f"'{unknown[0]}'", nearest(unknown[0], class_names)
        )
    import numpy as np  # a server's front process has no other use for it

    return np.array([limit_of(confidence, name) for name in class_names])


def least(confidence: Confidence) -> float:
    """The lowest threshold of any class."""
    return float(min(confidence.values(), default=CONFIDENCE) if isinstance(confidence, Mapping) else confidence)


def plain_confidence(confidence: Confidence) -> float | list[list[str | float]]:
    """Thresholds as a database takes them, which has no keys with dots: of several a sorted list of pairs."""
    if not isinstance(confidence, Mapping):
        return float(confidence)
    return [[name, float(confidence[name])] for name in sorted(confidence)]


def own_confidence(detector: Any) -> Confidence | None:
    """The thresholds in the model's sidecar; ``None`` where it has none.

    Raises:
        InvalidDataError: what stands there cannot be used.
    """
    path = getattr(detector, "path", None)
    stored = None if path is None else read_sidecar(path).get("thresholds")
    return None if not stored else confidence_in(stored, detector.ref)


def confidence_in(stored: Any, ref: str) -> Confidence | None:
    """The ``confidence`` of a sidecar's ``thresholds``.

    Args:
        stored: ``{"confidence": 0.4}`` or ``{"confidence": {"cat": 0.4, "*": 0.3}}``; further keys are left alone.
        ref: The model, for the error.

    Raises:
        InvalidDataError: it cannot be used.
    """
    found: Any = stored.get("confidence") if isinstance(stored, Mapping) else stored
    if found is None:
        return None
    try:
        check_confidence(found)
    except UsageError as error:
        raise InvalidDataError(
            "the thresholds in the model's sidecar cannot be used",
            f"{ref}.osv.json: {error}",
            'write {"thresholds": {"confidence": 0.4, "iou": 0.7}}',
        ) from None
    return (
        {str(name): float(value) for name, value in found.items()} if isinstance(found, Mapping) else float(found)
    )


def resolved(confidence: AnyConfidence | None, detector: Any, default: float = CONFIDENCE) -> Confidence:
    """What a caller asked for, as numbers.

    Args:
        confidence: ``"model"`` for the model's own thresholds; ``None`` for these where it has some, else ``default``.
        detector: The model.
        default: Where nobody says anything.

    Raises:
        UsageError: ``"model"`` of a model without thresholds.
    """
    if confidence is None or isinstance(confidence, str):
        if confidence not in (None, "model"):
            raise UsageError("confidence is a number, one per class, or 'model'", repr(confidence))
        own = own_confidence(detector)
        if own is None and confidence == "model":
            raise UsageError(
                "the model has no thresholds of its own",
                detector.ref,
                "choose some: choose_thresholds(...).save(model), or osv thresholds --save",
            )
        return default if own is None else own
    check_confidence(confidence)
    return confidence
