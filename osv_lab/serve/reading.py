"""What a client asks: the encoded image, or the images, and the options, of each way to send them."""

from __future__ import annotations

from collections.abc import Sequence

from osv_lab.serve.errors import RequestError
from osv_lab.serve.inputs import form_parts, image_bytes
from osv_lab.serve.limits import Limits
from osv_lab.serve.message import Fetch, Sent, is_url
from osv_lab.serve.schemas import (
    BatchRequest,
    OneImageOptions,
    Options,
    PredictRequest,
    parse_fields,
    parse_json,
    with_query,
)

_KINDS = "send application/json with image_url, multipart/form-data with file, or the image itself as image/*"


def read_one(sent: Sent, limits: Limits) -> tuple[bytes | Fetch, OneImageOptions]:
    """The image of ``POST /predict``, or where it must be fetched, and its options.

    Raises:
        RequestError: the request cannot be used.
    """
    if sent.options is not None:
        return sent.body, OneImageOptions.model_validate(sent.options)
    if sent.kind == "application/json":
        request = with_query(parse_json(PredictRequest, sent.body), sent.query, OneImageOptions)
        if is_url(request.image_url):
            return Fetch(request.image_url), request
        return image_bytes(request.image_url, limits), request
    if sent.kind == "multipart/form-data":
        files, fields = form_parts(sent.body, sent.content_type, limits)
        options = parse_fields({**sent.query, **fields}, OneImageOptions)
        if len(files) != 1:
            raise RequestError(
                422, "the form must have one file", f"{len(files)} files", "name it 'file', or use /predict/batch"
            )
        return files[0], options
    if sent.is_image:
        return sent.body, parse_fields(sent.query, OneImageOptions)
    raise RequestError(415, "the content type is not one of those read", sent.content_type or "none", _KINDS)


def read_batch(sent: Sent, limits: Limits) -> tuple[Options, int, Sequence[str | bytes]]:
    """The options, batch size and images of ``POST /predict/batch``.

    Raises:
        RequestError: the request as a whole cannot be used.
    """
    if sent.kind == "multipart/form-data":
        files, fields = form_parts(sent.body, sent.content_type, limits)
        options = parse_fields({**sent.query, **fields}, Options)
        if not files:
            raise RequestError(422, "the form has no file", ", ".join(fields), "name the parts 'file'")
        return options, 8, files
    if sent.kind == "application/json":
        request = with_query(parse_json(BatchRequest, sent.body), sent.query, Options)
        return request, request.batch_size, request.images
    raise RequestError(415, "batches come as JSON or as a form", sent.content_type or "no content type", _KINDS)
