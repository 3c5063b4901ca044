"""The HTTP face of a server's models.

Reading the body is all the event loop does; parsing, decoding and inference of a request run in one worker thread in
one piece. What does not fit is refused at once, with a reason, before it costs memory.

Example:
    >>> app = create_app(ModelSlot("best.onnx"))                      # doctest: +SKIP
    >>> uvicorn.run(app)                                              # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from osv_lab.core.errors import OsvError
from osv_lab.serve import answers
from osv_lab.serve.answers import Answer, Sent
from osv_lab.serve.bodies import error_answer, gone_from, read_body, sent_of
from osv_lab.serve.capture import Capture
from osv_lab.serve.crew import Crew
from osv_lab.serve.drift import Drift, Reference
from osv_lab.serve.errors import RequestError, as_request_error
from osv_lab.serve.house import House, Ticket
from osv_lab.serve.identities import Track
from osv_lab.serve.inputs import Limits
from osv_lab.serve.keys import KeySource, key_dependency
from osv_lab.serve.manage import add_management
from osv_lab.serve.metrics import CONTENT_TYPE, Metered, Metrics
from osv_lab.serve.models import Models
from osv_lab.serve.observe import Observation, Observers
from osv_lab.serve.openapi import ERRORS, PICTURES, many_images_body, one_image_body, option_parameters
from osv_lab.serve.pages import add_pages
from osv_lab.serve.places import Places
from osv_lab.serve.schemas import BatchAnswer, DriftAnswer, OneImageOptions, Options, PredictAnswer
from osv_lab.serve.slot import ModelSlot
from osv_lab.serve.sources import Sources
from osv_lab.serve.stream import Streams
from osv_lab.serve.watching import add_sources

_log = logging.getLogger("osv_lab.serve")


def create_app(
    slot: ModelSlot,
    *,
    key: KeySource | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    max_waiting: int = 16,
    deadline_s: float = 10.0,
    also: Sequence[str | Path] = (),
    manage: bool | None = None,
    sources: Mapping[str, str | int | Path] | None = None,
    track: Track = True,
    crew: Crew | None = None,
    capture: Capture | None = None,
    drift: bool | Reference = True,
) -> FastAPI:
    """The ASGI application that serves models.

    Args:
        slot: The model that answers where a request names none; loaded at start-up when it is not yet.
        key: When given, everything but ``/health``, ``/ready`` and the pages wants ``Authorization: Bearer <key>``,
            a key that is for it where it is a :class:`~osv_lab.serve.keys.KeyFile`.
        limits: Sizes, and which URLs are fetched.
        workers: Threads that decode and compute; by default what the model's scheduling asks.
        max_waiting: Requests in the house at once, those computed included; at least ``workers``. Further ones get
            503 with ``Retry-After``.
        deadline_s: A request that has waited longer than this for a thread gets 503 and is not computed.
        also: What else ``/models/load`` and ``/models/swap`` may load; see :class:`osv_lab.serve.models.Models`.
        manage: Whether models can be loaded, swapped and unloaded over HTTP; by default where there is a key.
        sources: What the server may watch, by name; see :class:`osv_lab.serve.places.Places`. Cameras and streams are
            watched from the start.
        track: Which tracker streams and sources have where nothing else is asked; ``False`` for none.
        crew: Worker processes that compute, instead of threads of this one; ``slot`` must load into it.
        capture: Keeps answers worth a second look; nothing is kept without one.
        drift: Whether answers are compared with the reference in a model's sidecar, where it has one; or a reference
            for the model that it was made with.
    """
    limits = limits or Limits()
    metrics = Metrics()
    models_ = Models(slot, also)
    house = House(workers or 1, max_waiting, deadline_s, metrics, crew)
    places = Places(sources)
    drifting = Drift(functools.partial(_reference_of, models_, drift)) if drift else None
    observers = Observers([one for one in (capture, drifting) if one is not None])

    def observing() -> bool:
        """Whether an observation would be looked at: drift needs a reference, which few models have."""
        referenced = isinstance(drift, Reference) or any(model.reference for _, model in models_.loaded())
        return capture is not None or (drifting is not None and referenced)

    answer = answers.Answers(models_, limits, house.batcher, metrics, observing=observing)

    def fit() -> None:
        """As many threads, and places for them, as the models ask."""
        lanes = workers or max(model.plan.lanes for _, model in models_.loaded())
        if crew is not None:
            lanes = crew.lanes
        house.resize(lanes)
        house.places = max(max_waiting, lanes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(slot.load)
        house.start()
        fit()
        if crew is not None:
            await crew.start()
        watched.start_live()
        try:
            yield
        finally:
            house.closing = True
            await watched.close()
            if crew is not None:
                crew.stop()
            await asyncio.to_thread(house.stop)
            await asyncio.to_thread(observers.close)

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
    app.state.observers = observers
    app.add_middleware(Metered, metrics=metrics, routes=app.routes)
    _add_error_answers(app)
    keyed = key_dependency(key)
    add_pages(app, slot, needs_key=key is not None)

    @app.get("/health", tags=["state"], summary="Is the process alive?")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", tags=["state"], summary="Can it answer predictions?", responses={503: ERRORS[503]})
    async def ready() -> dict[str, str]:
        if house.closing:
            raise RequestError(503, "the server is stopping", "", "ask another one", retry_after_s=1)
        if not models_.ready or not house.open:
            raise RequestError(503, "the model is not ready", "", "try again in a moment", retry_after_s=1)
        if crew is not None and not crew.alive:
            raise RequestError(503, "no worker process is up", "", "try again in a moment", retry_after_s=1)
        return {"status": "ready"}

    @app.get(
        "/metrics",
        dependencies=keyed,
        tags=["state"],
        summary="Counts in Prometheus' text format",
        response_class=PlainTextResponse,
        responses={401: ERRORS[401]},
    )
    async def metrics_text() -> Response:
        gauges = {
            "queue_depth": house.queue_depth,
            "in_flight": house.inside,
            "ready": float(models_.ready and house.open and (crew is None or crew.alive > 0)),
            "lanes": house.lanes,
            "streams": streams.open,
        }
        if crew is not None:
            gauges["worker_processes"] = crew.alive
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
        text = metrics.text(gauges, labels) + await asyncio.to_thread(observers.text)
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
        return {"models": await asyncio.to_thread(drifting.states) if drifting else []}

    @app.get(
        "/models",
        dependencies=keyed,
        tags=["models"],
        summary="What is served, and how",
        responses={401: ERRORS[401], 403: ERRORS[403]},
    )
    async def models() -> dict[str, Any]:
        return {
            "models": models_.describe(),
            "available": await asyncio.to_thread(models_.available) if managed else [],
            "limits": answers.limits_json(limits),
            "workers": house.lanes,
            "processes": None if crew is None else crew.describe(),
            "max_waiting": house.places,
            "deadline_s": deadline_s,
            "capture": [rule.name for rule in capture.rules] if capture else [],
        }

    async def looked_at(sent: Sent, started: float, gone: Callable[[], Awaitable[None]]) -> tuple[Answer, _Seen]:
        """What is found in one image; a place in the house is taken already."""
        ticket = house.ticket(started, gone)
        try:
            found, fetched = await house.run(ticket, answer.predict, sent, ticket), None
            if isinstance(found, answers.Fetch):
                fetched = await house.fetch(answer.fetch, found.url)
                ticket.deadline = time.perf_counter() + deadline_s
                found = await house.run(ticket, answer.predict, sent, ticket, fetched)
            assert isinstance(found, Answer)
            image = (
                functools.partial(answer.image_of, sent) if fetched is None else functools.partial(bytes, fetched)
            )
            return found, _Seen(found.observation, image, len(fetched or sent.body))
        finally:
            ticket.close()

    async def answered(sent: Sent, gone: Callable[[], Awaitable[None]]) -> Answer:
        """The same for a frame of a stream or source, which takes a place for itself and shows its frames itself."""
        with house:
            return (await looked_at(sent, time.perf_counter(), gone))[0]

    streams = Streams(answered, house, key, limits, track, observers)
    app.router.add_websocket_route("/stream", streams.__call__)
    watched = Sources(places, answered, house, track, observers=observers)
    add_sources(app, watched, house, keyed, limits, key is not None)

    managed = key is not None if manage is None else manage
    if managed:
        add_management(app, models_, house, keyed, fit)

    @app.post(
        "/predict",
        tags=["predict"],
        dependencies=keyed,
        summary="Find objects in one image",
        response_model=PredictAnswer,
        responses={200: {"content": PICTURES}, **ERRORS},
        openapi_extra={"requestBody": one_image_body(), "parameters": option_parameters(OneImageOptions)},
    )
    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        with house:
            sent = sent_of(request, await read_body(request, limits.max_body_bytes, limits.body_timeout_s))
            found, seen = await looked_at(sent, started, gone_from(request))
            found.background = _shown(observers, [seen])
            return found

    @app.post(
        "/predict/batch",
        tags=["predict"],
        dependencies=keyed,
        summary="Find objects in several images; a bad one is reported alone",
        response_model=BatchAnswer,
        responses=ERRORS,
        openapi_extra={"requestBody": many_images_body(), "parameters": option_parameters(Options)},
    )
    async def predict_batch(request: Request) -> Response:
        started = time.perf_counter()
        with house:
            sent = sent_of(request, await read_body(request, limits.max_batch_bytes, limits.body_timeout_s))
            ticket = house.ticket(started, gone_from(request))
            try:
                batch = await house.run(ticket, answer.read_batch, sent)
                each = await _each(house, answer, batch, ticket)
                results = [result for result, _ in each]
                whole = await house.run(ticket, answer.finish_batch, batch, results, started)
                whole.background = _shown(observers, [seen for _, seen in each])
                return whole
            finally:
                ticket.close()

    return app


class _Seen(NamedTuple):
    """One image that was answered: what was found, how to get it, and what keeping it costs."""

    observation: Observation | None
    image: Callable[[], bytes]
    size_bytes: int


def _shown(observers: Observers, seen: Sequence[_Seen]) -> BackgroundTask | None:
    """Shows answers to the observers once they were sent."""
    if not observers.watching:
        return None

    async def show() -> None:
        for one in seen:
            observers.offer(*one)

    return BackgroundTask(show)


def _reference_of(models: Models, drift: bool | Reference, digest: str) -> Reference | None:
    """The drift reference of a loaded model, by the digest of its file."""
    if isinstance(drift, Reference) and drift.digest == digest:
        return drift
    loaded = (model for _, model in models.loaded() if model.described.get("digest") == digest)
    return next((model.reference for model in loaded), None)


async def _each(
    house: House, answer: answers.Answers, batch: answers.Batch, ticket: Ticket
) -> list[tuple[dict[str, Any], _Seen]]:
    """The results of a batch's images, in order. No more of them are under way than there are threads, which bounds
    the memory and lets other requests in between."""
    room = asyncio.Semaphore(min(batch.batch_size, house.lanes))

    async def one(index: int, image: str | bytes) -> tuple[dict[str, Any], _Seen]:
        source: str | bytes | OsvError = image
        async with room:
            if isinstance(image, str) and answers.is_url(image):
                try:
                    source = await house.fetch(answer.fetch, image)
                except RequestError as error:
                    source = error
            # Waiting for its own batch is not waiting for the server.
            ticket.deadline = time.perf_counter() + house.deadline_s
            result, observation = await house.run(ticket, answer.one_of_batch, batch, index, source, ticket)
            kept = image if isinstance(source, OsvError) else source
            return result, _Seen(observation, functools.partial(answer.image_of_item, kept), len(kept))

    tasks = [asyncio.ensure_future(one(index, image)) for index, image in enumerate(batch.images)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _add_error_answers(app: FastAPI) -> None:
    @app.exception_handler(OsvError)
    async def on_osv_error(_: Request, error: OsvError) -> Response:
        answer = as_request_error(error)
        if answer.status == 500:
            _log.error("%s", error)
        return error_answer(answer)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        path = f"{request.method} {request.url.path}"
        answer = error_answer(RequestError(error.status_code, str(error.detail).lower(), path, "see /docs"))
        answer.headers.update(error.headers or {})  # Allow, of a 405
        return answer

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        return error_answer(RequestError(422, "the request cannot be used", str(error.errors()[:1])))

    @app.exception_handler(Exception)
    async def on_other(_: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        return error_answer(RequestError(500, "the server failed", type(error).__name__, "see the server's log"))


def _version() -> str:
    import osv_lab

    return osv_lab.__version__
