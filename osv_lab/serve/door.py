"""The way into a server: what is asked often is answered at the door, everything else by FastAPI, which comes later.

Routing, dependencies and middlewares of the framework cost more per request than everything else in the front process,
and importing it takes longer than loading a model. The door is an ASGI application that knows a few routes by their
exact method and path; the framework describes them in the OpenAPI document and has all others, among them what is to
be said of a wrong method. It is imported in a thread when the server is up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError
from osv_lab.serve.asked import Asked
from osv_lab.serve.errors import RequestError, as_request_error
from osv_lab.serve.message import Answer, error_answer
from osv_lab.serve.metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_log = logging.getLogger("osv_lab.serve")

_A_MOMENT_S = 0.5

Handler = Callable[[Asked], Awaitable[Answer]]


class Door:
    """An ASGI application.

    Args:
        routes: What is answered here, by method and path.
        late_routes: What is answered here, but not before the rest is there.
        make_rest: Gives the application that answers everything else; called in a thread.
        living: What goes on around the serving: entered before the first request, left after the last one.
        metrics: Told of what is answered here.
        state: What belongs to the server, for those who run it.
    """

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Handler],
        late_routes: Mapping[tuple[str, str], Handler],
        make_rest: Callable[[], Any],
        living: Callable[[], AbstractAsyncContextManager[None]],
        metrics: Metrics,
        state: Any,
    ) -> None:
        self.state = state
        self._routes = {**routes, **late_routes}
        self._late = frozenset(late_routes)
        self._make_rest = make_rest
        self._living = living
        self._metrics = metrics
        self._rest: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live from start to stop."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        route = (scope["method"], scope["path"]) if scope["type"] == "http" else None
        handler = None if route is None else self._routes.get(route)
        if handler is not None:
            if route in self._late:
                await self._the_rest()
            await self._answer(handler, Asked(scope, receive), send)
            return
        await (await self._the_rest())(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of all routes."""
        described: dict[str, Any] = self._make_rest().openapi()
        return described

    async def _answer(self, handler: Handler, asked: Asked, send: Send) -> None:
        started = time.perf_counter()
        answer = await answered(handler(asked))
        try:
            await answer.send(send)
        finally:
            self._metrics.request(asked.scope["path"], answer.status, time.perf_counter() - started)

    async def _the_rest(self) -> ASGIApp:
        if self._rest is None:
            self._rest = asyncio.ensure_future(asyncio.to_thread(self._make_rest))
        # Whoever gives up waiting does not take it from the others.
        return await asyncio.shield(self._rest)

    async def _fetch_the_rest(self) -> None:
        # What waits for the server gets its first answers before.
        await asyncio.sleep(_A_MOMENT_S)
        await self._the_rest()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        living = self._living()
        try:
            await living.__aenter__()
        except BaseException:
            _log.exception("the server cannot start")
            await send({"type": "lifespan.startup.failed", "message": "see the log"})
            raise
        coming = asyncio.ensure_future(self._fetch_the_rest())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        coming.cancel()
        try:
            await living.__aexit__(None, None, None)
        except BaseException:
            _log.exception("the server did not stop as it should")
            await send({"type": "lifespan.shutdown.failed", "message": "see the log"})
            raise
        await send({"type": "lifespan.shutdown.complete"})


async def answered(work: Awaitable[Answer]) -> Answer:
    """An answer, errors being answers too."""
    try:
        return await work
    except OsvError as error:
        return answer_of(error)
    except Exception as error:  # noqa: BLE001 - logged, and said
        return failed(error)


def answer_of(error: OsvError) -> Answer:
    """The answer that an error of ours means."""
    answer = as_request_error(error)
    if answer.status == 500:
        _log.error("%s", error)
    return error_answer(answer)


def failed(error: Exception) -> Answer:
    """The answer to a request that something unforeseen happened to."""
    _log.error("a request failed", exc_info=error)
    return error_answer(RequestError(500, "the server failed", type(error).__name__, "see the server's log"))
