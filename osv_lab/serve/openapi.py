"""What the OpenAPI document says of bodies that the routes read themselves, and of errors."""

from __future__ import annotations

from typing import Any

from osv_lab.serve.documents import ErrorAnswer
from osv_lab.serve.inputs import MAX_REPEATED
from osv_lab.serve.limits import Limits
from osv_lab.serve.schemas import BatchRequest, OneImageOptions, Options, PredictRequest

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The request is malformed."},
    401: {"model": ErrorAnswer, "description": "The key is missing or wrong."},
    403: {"model": ErrorAnswer, "description": "The key is meant for something else."},
    408: {"model": ErrorAnswer, "description": "The body did not arrive in time."},
    413: {"model": ErrorAnswer, "description": "The body or the image is too large."},
    415: {"model": ErrorAnswer, "description": "The content type, or what a URL leads to, is no image."},
    404: {"model": ErrorAnswer, "description": "No model of this name is loaded."},
    422: {"model": ErrorAnswer, "description": "A value, or the image, cannot be used."},
    503: {"model": ErrorAnswer, "description": "Too many requests at once, or the model is not ready."},
}
"""What can go wrong with a request, by status."""

PICTURES: dict[str, Any] = {
    kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/jpeg", "image/png")
}
"""An answer that is a picture."""

_FILE = {"type": "string", "format": "binary"}
_NAMES = {"type": "array", "items": {"type": "string"}}


def one_image_body() -> dict[str, Any]:
    """The body of ``POST /predict``."""
    form = _form(_FILE, OneImageOptions)
    return {
        "required": True,
        "content": {
            "application/json": {"schema": PredictRequest.model_json_schema()},
            "multipart/form-data": {"schema": form},
            "image/*": {"schema": _FILE},
        },
    }


def many_images_body() -> dict[str, Any]:
    """The body of ``POST /predict/batch``."""
    form = _form({"type": "array", "items": _FILE, "minItems": 1, "maxItems": Limits().max_batch}, Options)
    return {
        "required": True,
        "content": {
            "application/json": {"schema": BatchRequest.model_json_schema()},
            "multipart/form-data": {"schema": form},
        },
    }


def _form(file: dict[str, Any], kind: type[Options]) -> dict[str, Any]:
    """A form of files and options; what it holds is text, so that a class's id is, too. Classes come as several fields,
    or as one with commas."""
    classes = {"anyOf": [{**_NAMES, "maxItems": MAX_REPEATED}, {"type": "string"}]}
    options = {**_option_schemas(kind), "classes": classes}
    return {"type": "object", "properties": {"file": file, **options}, "required": ["file"]}


def _option_schemas(kind: type[Options]) -> dict[str, Any]:
    properties: dict[str, Any] = kind.model_json_schema()["properties"]
    return properties


def option_parameters(kind: type[Options]) -> list[dict[str, Any]]:
    """The options as query parameters, for bodies that have no room for them."""
    described = []
    for name, schema in _option_schemas(kind).items():
        schema = dict(schema)
        text = schema.pop("description", "")
        if name == "classes":
            schema = _NAMES
        described.append({"name": name, "in": "query", "required": False, "description": text, "schema": schema})
    return described
