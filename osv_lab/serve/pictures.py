"""Answers for people: the image with what was found drawn onto it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osv_lab.serve.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Found
    from osv_lab.serve.message import NothingAsked
    from osv_lab.serve.schemas import OneImageOptions

_ENCODINGS = {"image/jpeg": ".jpg", "image/png": ".png"}
_LONGEST_SIDE = 65_500  # of a JPEG


def picture_kind(options: OneImageOptions | NothingAsked, accept: str) -> str | None:
    """``image/jpeg`` or ``image/png`` where a picture is wanted, ``None`` for JSON.

    A browser's ``Accept``, which names all sorts of images last, wants JSON: only what comes first counts.

    Example:
        >>> from osv_lab.serve.schemas import OneImageOptions
        >>> picture_kind(OneImageOptions(), "image/jpeg"), picture_kind(OneImageOptions(), "*/*")
        ('image/jpeg', None)
        >>> picture_kind(OneImageOptions(format="image"), "application/json, image/png;q=0.5")
        'image/png'
    """
    wanted = [one.partition(";")[0].strip().lower() for one in accept[:1000].split(",")]
    if "format" in options.model_fields_set:
        if options.format == "json":
            return None
        return next((kind for kind in wanted if kind in _ENCODINGS), "image/jpeg")
    if wanted[0] == "image/*":
        return "image/jpeg"
    return wanted[0] if wanted[0] in _ENCODINGS else None


def draw(image: np.ndarray, detections: sv.Detections | Found, kind: str = "image/jpeg") -> bytes:
    """An encoded picture of what was found.

    Raises:
        RequestError: 422, the image is too long for the format.
    """
    import cv2

    from osv_lab.detect.detector import Found
    from osv_lab.detect.draw import draw_detections

    if isinstance(detections, Found):
        detections = detections.to_detections()
    if max(image.shape[:2]) > _LONGEST_SIDE and kind == "image/jpeg":
        raise RequestError(
            422, "the image is too long for a JPEG", f"{image.shape[1]} x {image.shape[0]}", "Accept: image/png"
        )
    done, data = cv2.imencode(_ENCODINGS[kind], draw_detections(image, detections))
    if not done:
        raise RequestError(422, "the picture cannot be encoded", f"{image.shape[1]} x {image.shape[0]}")
    return bytes(data.tobytes())
