"""From a request's body to the JSON of its answer; runs in a worker thread, knows nothing of HTTP servers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from osv_lab.core.errors import OsvError
from osv_lab.serve.errors import RequestError
from osv_lab.serve.inputs import Limits, decode, form_parts, image_bytes
from osv_lab.serve.schemas import (
    BatchRequest,
    Options,
    PredictRequest,
    detections_json,
    item_json,
    parse_fields,
    parse_json,
    size_json,
)
from osv_lab.serve.slot import ModelSlot

if TYPE_CHECKING:
    import numpy as np

_KINDS = "send application/json with image_url, multipart/form-data with file, or the image itself as image/*"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client sent.

    Attributes:
        content_type: The header as it came.
        query: Query parameters, each with all its values.
        body: The whole body.
    """

    content_type: str
    query: Mapping[str, list[str]]
    body: bytes

    @property
    def kind(self) -> str:
        """The media type alone, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()


def predict(slot: ModelSlot, limits: Limits, sent: Sent, started: float) -> JSONResponse:
    """The answer to ``POST /predict``.

    Args:
        started: ``time.perf_counter()`` when the request arrived.

    Raises:
        RequestError: the request cannot be answered with predictions.
    """
    timing = _Timing(started)
    data, options = _one_image(sent, limits)
    timing.lap("read")
    slot.check(options.thresholds())
    image = decode(data, limits)
    timing.lap("decode")
    [detections] = slot.predict([image], options.thresholds())
    timing.lap("predict")
    return JSONResponse(
        {
            "model": _model_name(slot),
            "image": size_json(image),
            "predictions": detections_json(detections),
            "timing_ms": timing.total(),
        }
    )


def predict_batch(slot: ModelSlot, limits: Limits, sent: Sent, started: float) -> JSONResponse:
    """The answer to ``POST /predict/batch``: order kept, a bad image reported in its place.

    Raises:
        RequestError: the request as a whole cannot be used.
    """
    timing = _Timing(started)
    images: Sequence[str | bytes]
    if sent.kind == "multipart/form-data":
        files, fields = form_parts(sent.body, sent.content_type, limits)
        options, batch_size, images = parse_fields({**sent.query, **fields}), 8, files
        if not files:
            raise RequestError(422, "the form has no file", ", ".join(fields), "name the parts 'file'")
    elif sent.kind == "application/json":
        request: BatchRequest = parse_json(BatchRequest, sent.body)
        _no_query(sent)
        options, batch_size, images = request, request.batch_size, request.images
    else:
        raise RequestError(
            415, "batches come as JSON or as a form", sent.content_type or "no content type", _KINDS
        )
    if len(images) > limits.max_batch:
        raise RequestError(413, "too many images in one batch", len(images), f"send at most {limits.max_batch}")
    timing.lap("read")
    # A class the model lacks is wrong for all images, so it is said once.
    slot.check(options.thresholds())
    outcomes = slot.predict_batch(
        _decoded(images, limits), options.thresholds(), batch_size=batch_size, max_pixels=limits.max_pixels
    )
    results = [item_json(*outcome) for outcome in outcomes]
    timing.lap("predict")
    return JSONResponse({"model": _model_name(slot), "results": results, "timing_ms": timing.total()})


def limits_json(limits: Limits) -> dict[str, Any]:
    """The limits a client may want to know."""
    allow = limits.fetch.allow
    return {
        "max_image_bytes": limits.max_image_bytes,
        "max_pixels": limits.max_pixels,
        "max_batch": limits.max_batch,
        "urls": ("public addresses" if allow else "none") if isinstance(allow, bool) else sorted(allow),
    }


def _no_query(sent: Sent) -> None:
    if sent.query:
        raise RequestError(422, "options stand both in the body and in the query", "", "put them in the body")


def _one_image(sent: Sent, limits: Limits) -> tuple[bytes, Options]:
    if sent.kind == "application/json":
        request: PredictRequest = parse_json(PredictRequest, sent.body)
        _no_query(sent)
        return image_bytes(request.image_url, limits), request
    if sent.kind == "multipart/form-data":
        files, fields = form_parts(sent.body, sent.content_type, limits)
        options = parse_fields({**sent.query, **fields})
        if len(files) != 1:
            raise RequestError(
                422, "the form must have one file", f"{len(files)} files", "name it 'file', or use /predict/batch"
            )
        return files[0], options
    if sent.kind.startswith("image/") or sent.kind == "application/octet-stream":
        return sent.body, parse_fields(sent.query)
    raise RequestError(415, "the content type is not one of those read", sent.content_type or "none", _KINDS)


def _decoded(images: Iterable[str | bytes], limits: Limits) -> Iterator[np.ndarray | OsvError]:
    for image in images:
        try:
            yield decode(image if isinstance(image, bytes) else image_bytes(image, limits), limits)
        except RequestError as error:
            yield error


def _model_name(slot: ModelSlot) -> dict[str, Any]:
    described = slot.describe()
    return {"ref": described["ref"], "task": described["task"], "digest": described.get("digest")}


class _Timing:
    """Milliseconds per step, and of the whole."""

    def __init__(self, started: float) -> None:
        self._started = self._last = started
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name] = round((now - self._last) * 1000, 2)
        self._last = now

    def total(self) -> dict[str, float]:
        return {**self._laps, "total": round((time.perf_counter() - self._started) * 1000, 2)}
