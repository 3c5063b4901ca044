"""Which object it is, how sure a model was of it and which model: one text that travels with every object.

It is one attribute and not three, since each attribute of each object is a row that the server checks and writes: three
take it twice as long as one. People see it too, so what they may care for comes first.
"""

from __future__ import annotations

import math

ORIGIN = "osv"
"""The attribute, of every label."""
_NONE = "-"
_MODEL_CHARACTERS = 4000
"""CVAT keeps 4,096 characters of a text."""


def origin_text(uid: str | None, confidence: float | None, model: str | None) -> str:
    """The text: ``confidence model uid``, without what is not known.

    Example:
        >>> origin_text("6b0c", 0.87, "best.onnx"), origin_text("6b0c", None, None)
        ('0.87 best.onnx 6b0c', '6b0c')
    """
    if confidence is None and not model:
        return uid or ""
    said = _NONE if confidence is None else repr(confidence)
    return " ".join((said, *([model[:_MODEL_CHARACTERS]] if model else []), uid or _NONE))


def origin_of(text: str) -> tuple[str | None, float | None, str | None]:
    """Uid, confidence and model, each ``None`` where it is not said.

    Example:
        >>> origin_of("0.87 best.onnx 6b0c")
        ('6b0c', 0.87, 'best.onnx')
    """
    first, *model, last = ["", *text.split(" ")] if " " not in text else text.split(" ")
    try:
        confidence = float(first)
    except ValueError:
        confidence = math.nan
    return (
        None if last in ("", _NONE) else last,
        confidence if math.isfinite(confidence) else None,
        " ".join(model) or None,
    )
