"""The routes that start, stop and follow sources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic_core import to_json

from osv_lab.serve.asked import Asked
from osv_lab.serve.documents import ErrorAnswer
from osv_lab.serve.errors import RequestError
from osv_lab.serve.events import EventStream
from osv_lab.serve.frames import FrameAnswer, SourceRequest, SourcesAnswer, SourceStatus
from osv_lab.serve.house import House
from osv_lab.serve.identities import prepare
from osv_lab.serve.limits import Limits
from osv_lab.serve.message import media_type
from osv_lab.serve.openapi import ERRORS, PICTURES
from osv_lab.serve.pictures import draw, picture_kind
from osv_lab.serve.schemas import OneImageOptions, parse_fields, parse_json
from osv_lab.serve.sites import check_site
from osv_lab.serve.source import Latest, WatchedSource
from osv_lab.serve.sources import Sources

_HEARTBEAT_S = 10.0

_REFUSED = {
    403: "The server was not started with this source, or a page of another site asks.",
    404: "No such source, or nothing was found in it yet.",
    409: "The name is in use.",
}


def add_sources(
    app: FastAPI, sources: Sources, house: House, keyed: list[Any], limits: Limits, has_key: bool
) -> None:
    """Add the routes.

    Args:
        keyed: The dependencies that ask for a key.
        has_key: Whether there is one.
    """

    def own_site(request: Request) -> None:
        check_site(request, keyed=has_key)

    errors: dict[int | str, dict[str, Any]] = {status: ERRORS[status] for status in (400, 401, 413, 415, 422, 503)}
    errors |= {status: {"model": ErrorAnswer, "description": text} for status, text in _REFUSED.items()}
    shared: dict[str, Any] = {"tags": ["sources"], "dependencies": [*keyed, Depends(own_site)]}
    followers = _Followers(house, limits.max_streams)

    @app.get(
        "/sources",
        summary="What the server watches, and what it may",
        response_model=SourcesAnswer,
        responses={status: errors[status] for status in (401, 403)},
        **shared,
    )
    async def listed() -> Response:
        available = await asyncio.to_thread(sources.available)
        answer = {"sources": sources.statuses(), "available": available, "max_running": sources.max_running}
        return JSONResponse(answer)

    body = {"required": True, "content": {"application/json": {"schema": SourceRequest.model_json_schema()}}}

    @app.post(
        "/sources",
        summary="Start watching a video or stream that the server was started with",
        response_model=SourceStatus,
        responses=errors,
        openapi_extra={"requestBody": body},
        **shared,
    )
    async def begin(request: Request) -> Response:
        if media_type(request.headers.get("content-type", "")) != "application/json":
            raise RequestError(415, "sources are started by JSON", "", "send Content-Type: application/json")
        asked = parse_json(SourceRequest, await Asked(request.scope, request.receive).body(2**16, 10.0))
        await asyncio.to_thread(prepare)
        return JSONResponse(sources.begin(asked).status())

    known: dict[int | str, dict[str, Any]] = {status: errors[status] for status in (401, 403, 404, 409, 422, 503)}

    @app.get(
        "/sources/{name}",
        summary="What one does",
        response_model=SourceStatus,
        responses=known,
        **shared,
    )
    async def status(name: str) -> Response:
        return JSONResponse(sources.get(name).status())

    @app.delete(
        "/sources/{name}",
        summary="Stop and forget one that a request began",
        status_code=204,
        responses=known,
        **shared,
    )
    async def forget(name: str) -> Response:
        await sources.forget(name)
        return Response(status_code=204)

    @app.post(
        "/sources/{name}/start",
        summary="Start one that stands still",
        response_model=SourceStatus,
        responses=known,
        **shared,
    )
    async def start(name: str) -> Response:
        return JSONResponse(sources.start(name).status())

    @app.post(
        "/sources/{name}/stop",
        summary="Stop one, within a second",
        response_model=SourceStatus,
        responses=known,
        **shared,
    )
    async def stop(name: str) -> Response:
        return JSONResponse((await sources.stop(name)).status())

    @app.get(
        "/sources/{name}/latest",
        summary="What was found in its newest frame; or that frame, with it drawn onto it",
        response_model=FrameAnswer,
        responses={200: {"content": PICTURES}, **known},
        **shared,
    )
    async def latest(name: str, request: Request) -> Response:
        options = parse_fields(_query(request, ("format",)), OneImageOptions)
        newest = sources.get(name).latest
        if newest is None:
            raise RequestError(404, "nothing was found yet", name, "GET /sources/{name} says what the source does")
        kind = picture_kind(options, request.headers.get("accept", ""))
        own = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}
        if kind is None:
            return Response(to_json(newest.content), 200, own, "application/json")
        picture = await asyncio.to_thread(_picture, newest, kind)
        return Response(picture, 200, own, kind)

    @app.get(
        "/sources/{name}/events",
        summary="Follow one: each newest answer as a server-sent event",
        status_code=200,
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **known},
        **shared,
    )
    async def events(name: str) -> Response:
        return followers.follow(sources.get(name))


def _query(request: Request, names: tuple[str, ...]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name not in names:
            raise RequestError(422, "the query has an unknown field", name, f"use one of: {', '.join(names)}")
        given.setdefault(name, []).append(value)
    return given


def _picture(newest: Latest, kind: str) -> bytes:
    from osv_lab.detect.images import decode_image
    from osv_lab.serve.prediction import Prediction

    answer = newest.content
    if "error" in answer:
        raise RequestError(404, "the newest frame could not be looked at", answer["error"]["what"])
    image: np.ndarray = decode_image(newest.image)
    return draw(image, Prediction.of_frame(answer).to_supervision(), kind)


class _Followers:
    """Those who follow sources: counted, told the newest, and sent home when the server stops."""

    def __init__(self, house: House, most: int) -> None:
        self._house = house
        self._most = most
        self._count = 0

    def follow(self, source: WatchedSource) -> EventStream:
        if self._count >= self._most:
            raise RequestError(503, "too many follow already", self._count, "close one first", retry_after_s=5)
        return EventStream(self._answers(source), self._came, self._went)

    def _came(self) -> None:
        self._count += 1
        self._house.guests += 1

    def _went(self) -> None:
        self._count -= 1
        self._house.guests -= 1

    async def _answers(self, source: WatchedSource) -> AsyncIterator[bytes]:
        """Events; a comment where there is none for a while, which finds out whether somebody listens."""
        sent: Latest | None = None
        leaving = asyncio.ensure_future(self._house.leaving.wait())
        try:
            yield b"retry: 2000\n\n"
            while not self._house.leaving.is_set():
                news = asyncio.ensure_future(source.news.wait())
                if source.latest is not None and source.latest is not sent:
                    sent = source.latest
                    yield b"data: " + to_json(sent.content) + b"\n\n"
                    news.cancel()
                    continue
                if not source.running:
                    news.cancel()
                    yield b"event: end\ndata: " + to_json(source.status()) + b"\n\n"
                    return
                done, _ = await asyncio.wait(
                    {news, leaving}, timeout=_HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
                )
                news.cancel()
                if not done:
                    yield b": still here\n\n"
        finally:
            leaving.cancel()
