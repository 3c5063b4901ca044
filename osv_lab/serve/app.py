"""The HTTP face of a model slot.

Reading the body is all the event loop does; parsing, decoding and inference of a request run in one worker thread in
one piece. What does not fit is refused at once, with a reason, before it costs memory.

Example:
    >>> app = create_app(ModelSlot("best.onnx"))                      # doctest: +SKIP
    >>> uvicorn.run(app)                                              # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from osv_lab.core.errors import OsvError
from osv_lab.serve import answers
from osv_lab.serve.errors import RequestError, as_request_error, error_body
from osv_lab.serve.house import House, Ticket
from osv_lab.serve.inputs import Limits
from osv_lab.serve.keys import Keys, key_dependency
from osv_lab.serve.metrics import CONTENT_TYPE, Metrics
from osv_lab.serve.models import DEFAULT, Models
from osv_lab.serve.pages import add_pages
from osv_lab.serve.schemas import (
    BatchAnswer,
    BatchRequest,
    ChangeAnswer,
    ErrorAnswer,
    LoadRequest,
    Options,
    PredictAnswer,
    PredictRequest,
    SwapRequest,
    UnloadRequest,
    parse_json,
)
from osv_lab.serve.slot import ModelSlot

_log = logging.getLogger("osv_lab.serve")

_ERRORS: dict[int | str, dict[str, Any]] = {
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
_REFUSED = {
    403: "The server was not started to serve this.",
    404: "No such model.",
    409: "The models are in a state in which this cannot be done.",
}
_FILE = {"type": "string", "format": "binary"}


def create_app(
    slot: ModelSlot,
    *,
    key: str | Keys | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    max_waiting: int = 16,
    deadline_s: float = 10.0,
    also: Sequence[str | Path] = (),
    manage: bool | None = None,
) -> FastAPI:
    """The ASGI application that serves models.

    Args:
        slot: The model that answers where a request names none; loaded at start-up when it is not yet.
        key: When given, everything but ``/health``, ``/ready`` and the pages wants ``Authorization: Bearer <key>``,
            a key that is for it where it is :class:`~osv_lab.serve.keys.Keys`.
        limits: Sizes, and which URLs are fetched.
        workers: Threads that decode and compute; by default what the model's scheduling asks.
        max_waiting: Requests in the house at once, those computed included; at least ``workers``. Further ones get
            503 with ``Retry-After``.
        deadline_s: A request that has waited longer than this for a thread gets 503 and is not computed.
        also: What else ``/models/load`` and ``/models/swap`` may load; see :class:`osv_lab.serve.models.Models`.
        manage: Whether models can be loaded, swapped and unloaded over HTTP; by default where there is a key.
    """
    limits = limits or Limits()
    metrics = Metrics()
    models_ = Models(slot, also)
    house = House(workers or 1, max_waiting, deadline_s, metrics)
    answer = answers.Answers(models_, limits, house.batcher, metrics)

    def fit() -> None:
        """As many threads, and places for them, as the models ask."""
        lanes = workers or max(model.plan.lanes for _, model in models_.loaded())
        house.resize(lanes)
        house.places = max(max_waiting, lanes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(slot.load)
        house.start()
        fit()
        try:
            yield
        finally:
            house.closing = True
            await asyncio.to_thread(house.stop)

    app = FastAPI(
        title="OpenSupervision Lab",
        description="Object detection over HTTP. Boxes are in pixels of the upright image (EXIF applied).",
        version=_version(),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.slot = slot
    app.state.house = house
    app.add_middleware(_Metered, metrics=metrics, routes=app.routes)
    _add_error_answers(app)
    keyed = key_dependency(key)
    add_pages(app, slot, needs_key=key is not None)

    @app.get("/health", tags=["state"], summary="Is the process alive?")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", tags=["state"], summary="Can it answer predictions?", responses={503: _ERRORS[503]})
    async def ready() -> dict[str, str]:
        if house.closing:
            raise RequestError(503, "the server is stopping", "", "ask another one", retry_after_s=1)
        if not models_.ready or not house.open:
            raise RequestError(503, "the model is not ready", "", "try again in a moment", retry_after_s=1)
        return {"status": "ready"}

    @app.get(
        "/metrics",
        dependencies=keyed,
        tags=["state"],
        summary="Counts in Prometheus' text format",
        response_class=PlainTextResponse,
        responses={401: _ERRORS[401]},
    )
    async def metrics_text() -> Response:
        gauges = {
            "queue_depth": house.queue_depth,
            "in_flight": house.inside,
            "ready": float(models_.ready and house.open),
            "lanes": house.lanes,
        }
        labels = [
            {
                "name": name,
                "ref": model.described["ref"],
                "digest": model.described.get("digest") or "",
                "dataset_version": model.dataset_version or "",
                "mode": model.plan.mode,
            }
            for name, model in models_.loaded()
        ]
        return Response(metrics.text(gauges, labels), 200, {"Content-Type": CONTENT_TYPE})

    @app.get(
        "/models",
        dependencies=keyed,
        tags=["models"],
        summary="What is served, and how",
        responses={401: _ERRORS[401], 403: _ERRORS[403]},
    )
    async def models() -> dict[str, Any]:
        return {
            "models": models_.describe(),
            "available": await asyncio.to_thread(models_.available) if managed else [],
            "limits": answers.limits_json(limits),
            "workers": house.lanes,
            "max_waiting": house.places,
            "deadline_s": deadline_s,
        }

    managed = key is not None if manage is None else manage
    if managed:
        _add_management(app, models_, house, keyed, fit)

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
        with house:
            sent = _sent(request, await _read(request, limits.max_body_bytes, limits.body_timeout_s))
            ticket = house.ticket(started, _gone(request))
            try:
                found = await house.run(ticket, answer.predict, sent, ticket)
                if isinstance(found, answers.Fetch):
                    fetched = await house.fetch(answer.fetch, found.url)
                    ticket.deadline = time.perf_counter() + deadline_s
                    found = await house.run(ticket, answer.predict, sent, ticket, fetched)
                assert isinstance(found, Response)
                return found
            finally:
                ticket.close()

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
        with house:
            sent = _sent(request, await _read(request, limits.max_batch_bytes, limits.body_timeout_s))
            ticket = house.ticket(started, _gone(request))
            try:
                batch = await house.run(ticket, answer.read_batch, sent)
                results = await _each(house, answer, batch, ticket)
                return await house.run(ticket, answer.finish_batch, batch, results, started)
            finally:
                ticket.close()

    return app


async def _each(
    house: House, answer: answers.Answers, batch: answers.Batch, ticket: Ticket
) -> list[dict[str, Any]]:
    """The results of a batch's images, in order. No more of them are under way than there are threads, which bounds
    the memory and lets other requests in between."""
    room = asyncio.Semaphore(min(batch.batch_size, house.lanes))

    async def one(index: int, image: str | bytes) -> dict[str, Any]:
        source: str | bytes | OsvError = image
        async with room:
            if isinstance(image, str) and answers.is_url(image):
                try:
                    source = await house.fetch(answer.fetch, image)
                except RequestError as error:
                    source = error
            # Waiting for its own batch is not waiting for the server.
            ticket.deadline = time.perf_counter() + house.deadline_s
            return await house.run(ticket, answer.one_of_batch, batch, index, source, ticket)

    tasks = [asyncio.ensure_future(one(index, image)) for index, image in enumerate(batch.images)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _add_management(app: FastAPI, models: Models, house: House, keyed: list[Any], fit: Callable[[], None]) -> None:
    """The routes that change which models answer."""
    errors: dict[int | str, dict[str, Any]] = {
        status: _ERRORS[status] for status in (400, 401, 413, 415, 422, 503)
    }
    errors |= {status: {"model": ErrorAnswer, "description": text} for status, text in _REFUSED.items()}

    def add(path: str, summary: str, kind: type[BaseModel], change: Callable[[Any], dict[str, Any]]) -> None:
        body = {"required": True, "content": {"application/json": {"schema": kind.model_json_schema()}}}

        async def route(request: Request) -> Response:
            # A page of another site can send a form to loopback, but not JSON, unless this server allowed it.
            if answers.Sent(request.headers.get("content-type", ""), {}, b"").kind != "application/json":
                raise RequestError(415, "changes come as JSON", "", "send Content-Type: application/json")
            asked = parse_json(kind, await _read(request, 2**16, 10.0))
            done = await asyncio.to_thread(change, asked)
            fit()
            house.metrics.count("swaps", int(path == "/models/swap"))
            return JSONResponse(done)

        app.add_api_route(
            path,
            route,
            methods=["POST"],
            summary=summary,
            tags=["models"],
            dependencies=keyed,
            response_model=ChangeAnswer,
            responses=errors,
            openapi_extra={"requestBody": body},
        )

    def load(asked: LoadRequest) -> dict[str, Any]:
        return {"name": asked.name, "model": models.load(asked.ref, asked.name).name}

    def swap(asked: SwapRequest) -> dict[str, Any]:
        return {"name": asked.name or DEFAULT, "model": models.swap(asked.ref, asked.name).name}

    def unload(asked: UnloadRequest) -> dict[str, Any]:
        models.unload(asked.name)
        return {"name": DEFAULT, "model": models.current().name}

    add("/models/load", "Load a model beside the others", LoadRequest, load)
    add("/models/swap", "Put another model in the place of one; no request fails", SwapRequest, swap)
    add("/models/unload", "Forget a model", UnloadRequest, unload)


class _Metered:
    """ASGI middleware that counts and times what is answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._paths: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            if not self._paths:
                self._paths = {path for one in self._routes if (path := getattr(one, "path", ""))}
            # What clients make up must not become labels without end.
            route = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(route, status, time.perf_counter() - started)


def _gone(request: Request) -> Callable[[], Awaitable[None]]:
    """Waits until the client of a request, whose body was read, has gone."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return gone


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
