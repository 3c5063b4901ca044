"""The HTTP face of a model slot.

Reading the body is all the event loop does; parsing, fetching, decoding and inference run in a few worker
threads. What does not fit is refused at once, with a reason, before it costs memory.

Example:
    >>> app = create_app(ModelSlot("best.onnx"))                      # doctest: +SKIP
    >>> uvicorn.run(app)                                              # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from osv_lab.core.errors import OsvError
from osv_lab.serve import answers
from osv_lab.serve.errors import RequestError, as_request_error, error_body
from osv_lab.serve.inputs import Limits
from osv_lab.serve.keys import Keys, key_dependency
from osv_lab.serve.pages import add_pages
from osv_lab.serve.schemas import BatchAnswer, BatchRequest, ErrorAnswer, Options, PredictAnswer, PredictRequest
from osv_lab.serve.slot import ModelSlot

Result = TypeVar("Result")

_log = logging.getLogger("osv_lab.serve")

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The request is malformed."},
    401: {"model": ErrorAnswer, "description": "The key is missing or wrong."},
    403: {"model": ErrorAnswer, "description": "The key is meant for something else."},
    408: {"model": ErrorAnswer, "description": "The body did not arrive in time."},
    413: {"model": ErrorAnswer, "description": "The body or the image is too large."},
    415: {"model": ErrorAnswer, "description": "The content type, or what a URL leads to, is no image."},
    422: {"model": ErrorAnswer, "description": "A value, or the image, cannot be used."},
    503: {"model": ErrorAnswer, "description": "Too many requests at once, or the model is not ready."},
}
_FILE = {"type": "string", "format": "binary"}


def create_app(
    slot: ModelSlot,
    *,
    key: str | Keys | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    max_waiting: int = 32,
) -> FastAPI:
    """The ASGI application that serves one model.

    Args:
        slot: The model; loaded at start-up when it is not yet.
        key: When given, ``/predict``, ``/predict/batch`` and ``/models`` want ``Authorization: Bearer <key>``,
            a key that is for them where it is :class:`~osv_lab.serve.keys.Keys`.
        limits: Sizes, and which URLs are fetched.
        workers: Threads for parsing, fetching, decoding and inference; by default two more than processors.
        max_waiting: Requests in the house at once; further ones get 503 with ``Retry-After``.
    """
    limits = limits or Limits()
    workers = workers or (os.cpu_count() or 1) + 2
    room = _Room(workers, max_waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ThreadPoolExecutor(workers, thread_name_prefix="serve") as pool:
            room.pool = pool
            await asyncio.get_running_loop().run_in_executor(pool, slot.load)
            yield
            room.pool = None

    app = FastAPI(
        title="OpenSupervision Lab",
        description="Object detection over HTTP. Boxes are in pixels of the upright image (EXIF applied).",
        version=_version(),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.slot = slot
    _add_error_answers(app)
    keyed = key_dependency(key)
    add_pages(app, slot, needs_key=key is not None)

    @app.get("/health", tags=["state"], summary="Is the process alive?")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", tags=["state"], summary="Can it answer predictions?", responses={503: _ERRORS[503]})
    async def ready() -> dict[str, str]:
        if not slot.ready or room.pool is None:
            raise RequestError(503, "the model is not ready", "", "try again in a moment", retry_after_s=1)
        return {"status": "ready"}

    @app.get(
        "/models",
        dependencies=keyed,
        tags=["state"],
        summary="What is served, and how",
        responses={401: _ERRORS[401], 403: _ERRORS[403]},
    )
    async def models() -> dict[str, Any]:
        return {"models": [slot.describe()], "limits": answers.limits_json(limits), "workers": workers}

    @app.post(
        "/predict",
        tags=["predict"],
        dependencies=keyed,
        summary="Find objects in one image",
        response_model=PredictAnswer,
        responses=_ERRORS,
        openapi_extra={"requestBody": _one_image_body(), "parameters": _option_parameters()},
    )
    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        async with room:
            body = await _read(request, limits.max_body_bytes, limits.body_timeout_s)
            return await room.run(answers.predict, slot, limits, _sent(request, body), started)

    @app.post(
        "/predict/batch",
        tags=["predict"],
        dependencies=keyed,
        summary="Find objects in several images; a bad one is reported alone",
        response_model=BatchAnswer,
        responses=_ERRORS,
        openapi_extra={"requestBody": _many_images_body(), "parameters": _option_parameters()},
    )
    async def predict_batch(request: Request) -> Response:
        started = time.perf_counter()
        async with room:
            body = await _read(request, limits.max_batch_bytes, limits.body_timeout_s)
            return await room.run(answers.predict_batch, slot, limits, _sent(request, body), started)

    return app


class _Room:
    """How many requests are in the house, and the threads that work on them."""

    def __init__(self, workers: int, max_waiting: int) -> None:
        self.pool: ThreadPoolExecutor | None = None
        self._free = max(max_waiting, workers)

    async def __aenter__(self) -> None:
        if self._free <= 0:
            raise RequestError(503, "the server is busy", "", "try again in a moment", retry_after_s=1)
        self._free -= 1

    async def __aexit__(self, *_: object) -> None:
        self._free += 1

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        if self.pool is None:
            raise RequestError(503, "the server is starting or stopping", "", "try again", retry_after_s=1)
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *arguments)


async def _read(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The body, as long as it stays below the limit and arrives in time."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise RequestError(413, "the body is too large", f"{declared} bytes", f"send at most {max_bytes:,} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise RequestError(413, "the body is too large", "", f"send at most {max_bytes:,} bytes")
    except TimeoutError:
        raise RequestError(
            408, "the body did not arrive in time", f"{len(body):,} bytes in {timeout_s:g} s", "send it faster"
        ) from None
    except ClientDisconnect:
        raise RequestError(400, "the connection ended in the middle of the body", f"{len(body):,} bytes") from None
    return bytes(body)


def _sent(request: Request, body: bytes) -> answers.Sent:
    query: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        query.setdefault(name, []).append(value)
    return answers.Sent(request.headers.get("content-type", ""), query, body)


def _add_error_answers(app: FastAPI) -> None:
    @app.exception_handler(OsvError)
    async def on_osv_error(_: Request, error: OsvError) -> Response:
        answer = as_request_error(error)
        if answer.status == 500:
            _log.error("%s", error)
        return _error_answer(answer)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        path = f"{request.method} {request.url.path}"
        answer = _error_answer(RequestError(error.status_code, str(error.detail).lower(), path, "see /docs"))
        answer.headers.update(error.headers or {})  # Allow, of a 405
        return answer

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        return _error_answer(RequestError(422, "the request cannot be used", str(error.errors()[:1])))

    @app.exception_handler(Exception)
    async def on_other(_: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        return _error_answer(RequestError(500, "the server failed", type(error).__name__, "see the server's log"))


def _error_answer(error: RequestError) -> Response:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), error.status, headers)


def _one_image_body() -> dict[str, Any]:
    form = {"type": "object", "properties": {"file": _FILE, **_option_schemas()}, "required": ["file"]}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": PredictRequest.model_json_schema()},
            "multipart/form-data": {"schema": form},
            "image/*": {"schema": _FILE},
        },
    }


def _many_images_body() -> dict[str, Any]:
    files = {"type": "array", "items": _FILE}
    form = {"type": "object", "properties": {"file": files, **_option_schemas()}, "required": ["file"]}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": BatchRequest.model_json_schema()},
            "multipart/form-data": {"schema": form},
        },
    }


def _option_schemas() -> dict[str, Any]:
    properties: dict[str, Any] = Options.model_json_schema()["properties"]
    return properties


def _option_parameters() -> list[dict[str, Any]]:
    """The options as query parameters, for bodies that have no room for them."""
    described = []
    for name, schema in _option_schemas().items():
        schema = dict(schema)
        text = schema.pop("description", "")
        if name == "classes":
            schema = {"type": "array", "items": {"type": "string"}}
        described.append({"name": name, "in": "query", "required": False, "description": text, "schema": schema})
    return described


def _version() -> str:
    import osv_lab

    return osv_lab.__version__
