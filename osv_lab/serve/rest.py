"""What FastAPI answers, and what it says of what is answered at the door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from osv_lab.core.errors import OsvError
from osv_lab.serve.documents import BatchAnswer, DriftAnswer, PredictAnswer
from osv_lab.serve.door import answer_of, failed
from osv_lab.serve.errors import RequestError
from osv_lab.serve.keys import key_dependency
from osv_lab.serve.limits import Limits
from osv_lab.serve.manage import add_management
from osv_lab.serve.message import Answer, error_answer
from osv_lab.serve.metrics import CONTENT_TYPE, Metered
from osv_lab.serve.openapi import ERRORS, PICTURES, many_images_body, one_image_body, option_parameters
from osv_lab.serve.pages import add_pages
from osv_lab.serve.patience import prepare_sockets
from osv_lab.serve.schemas import OneImageOptions, Options
from osv_lab.serve.watching import add_sources

if TYPE_CHECKING:
    from osv_lab.serve.app import Served

_log = logging.getLogger("osv_lab.serve")


def make_rest(served: Served) -> FastAPI:
    """The FastAPI application of a server."""
    import osv_lab

    prepare_sockets()
    app = FastAPI(
        title="OpenSupervision Lab",
        description="Object detection over HTTP. Boxes are in pixels of the upright image (EXIF applied).",
        version=osv_lab.__version__,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Metered, metrics=served.metrics, routes=app.routes)
    _add_error_answers(app)
    keyed = key_dependency(served.keys)
    add_pages(app, served.slot, needs_key=served.keys is not None)
    _describe_the_door(app, keyed)
    _add_state(app, served, keyed)
    app.router.add_websocket_route("/stream", served.streams.__call__)
    add_sources(app, served.sources, served.house, keyed, served.limits, served.keys is not None)
    if served.manage:
        add_management(app, served.models, served.house, keyed, served.fit)
    return app


def response_of(answer: Answer) -> Response:
    """An answer as the framework takes it."""
    response = Response(answer.body, answer.status)
    for name, value in answer.headers:
        response.headers[name] = value
    return response


def _describe_the_door(app: FastAPI, keyed: list[Any]) -> None:
    """What :meth:`osv_lab.serve.app.Served.routes` answers, for the OpenAPI document."""

    def describe(method: Callable[..., Any], path: str, name: str, **about: Any) -> None:
        async def at_the_door() -> None:
            raise RequestError(404, "this is answered at the door", path)

        at_the_door.__name__ = name
        method(path, **about)(at_the_door)

    state = {"tags": ["state"], "response_model": dict[str, str]}
    describe(app.get, "/health", "health", summary="Is the process alive?", **state)
    describe(
        app.get, "/ready", "ready", summary="Can it answer predictions?", responses={503: ERRORS[503]}, **state
    )
    describe(
        app.post,
        "/predict",
        "predict",
        tags=["predict"],
        dependencies=keyed,
        summary="Find objects in one image",
        response_model=PredictAnswer,
        responses={200: {"content": PICTURES}, **ERRORS},
        openapi_extra={"requestBody": one_image_body(), "parameters": option_parameters(OneImageOptions)},
    )
    describe(
        app.post,
        "/predict/batch",
        "predict_batch",
        tags=["predict"],
        dependencies=keyed,
        summary="Find objects in several images; a bad one is reported alone",
        response_model=BatchAnswer,
        responses=ERRORS,
        openapi_extra={"requestBody": many_images_body(), "parameters": option_parameters(Options)},
    )


def _add_state(app: FastAPI, served: Served, keyed: list[Any]) -> None:
    """The routes that tell how the server is."""

    @app.get(
        "/metrics",
        dependencies=keyed,
        tags=["state"],
        summary="Counts in Prometheus' text format",
        response_class=PlainTextResponse,
        responses={401: ERRORS[401]},
    )
    async def metrics_text() -> Response:
        text = served.metrics.text(_gauges(served), _model_labels(served))
        text += await asyncio.to_thread(served.observers.text)
        return Response(text, 200, {"Content-Type": CONTENT_TYPE})

    @app.get(
        "/drift",
        dependencies=keyed,
        tags=["state"],
        summary="How far what the models see has moved from what they were trained for",
        response_model=DriftAnswer,
        responses={401: ERRORS[401], 403: ERRORS[403]},
    )
    async def drift_states() -> dict[str, Any]:
        drifting = served.drifting
        return {"models": await asyncio.to_thread(drifting.states) if drifting else []}

    @app.get(
        "/models",
        dependencies=keyed,
        tags=["models"],
        summary="What is served, and how",
        responses={401: ERRORS[401], 403: ERRORS[403]},
    )
    async def models() -> dict[str, Any]:
        house, crew, capture = served.house, served.crew, served.capture
        return {
            "models": served.models.describe(),
            "available": await asyncio.to_thread(served.models.available) if served.manage else [],
            "limits": limits_json(served.limits),
            "workers": house.lanes,
            "processes": None if crew is None else crew.describe(),
            "max_waiting": house.places,
            "deadline_s": house.deadline_s,
            "capture": [rule.name for rule in capture.rules] if capture else [],
        }


def _gauges(served: Served) -> dict[str, float]:
    house, crew = served.house, served.crew
    gauges = {
        "queue_depth": house.queue_depth,
        "in_flight": house.inside,
        "ready": float(served.models.ready and house.open and (crew is None or crew.alive > 0)),
        "lanes": house.lanes,
        "streams": served.streams.open,
    }
    return gauges if crew is None else {**gauges, "worker_processes": crew.alive}


def _model_labels(served: Served) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "ref": model.described["ref"],
            "digest": model.described.get("digest") or "",
            "dataset_version": model.dataset_version or "",
            "mode": model.plan.mode,
        }
        for name, model in served.models.loaded()
    ]


def limits_json(limits: Limits) -> dict[str, Any]:
    """The limits a client may want to know."""
    allow = limits.fetch.allow
    return {
        "max_image_bytes": limits.max_image_bytes,
        "max_pixels": limits.max_pixels,
        "max_batch": limits.max_batch,
        "urls": ("public addresses" if allow else "none") if isinstance(allow, bool) else sorted(allow),
    }


def _add_error_answers(app: FastAPI) -> None:
    @app.exception_handler(OsvError)
    async def on_osv_error(_: Request, error: OsvError) -> Response:
        return response_of(answer_of(error))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        path = f"{request.method} {request.url.path}"
        answer = RequestError(error.status_code, str(error.detail).lower(), path, "see /docs")
        response = response_of(error_answer(answer))
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            # The framework names the methods of the first route of this path alone.
            response.headers["Allow"] = ", ".join(sorted(_methods_at(app, request)))
        return response

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        answer = RequestError(422, "the request cannot be used", str(error.errors()[:1]))
        return response_of(error_answer(answer))

    @app.exception_handler(Exception)
    async def on_other(_: Request, error: Exception) -> Response:
        return response_of(failed(error))


def _methods_at(app: FastAPI, request: Request) -> set[str]:
    """The methods of all routes that a request's path leads to."""
    found = (route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in found for method in getattr(route, "methods", None) or ()}
