"""The routes that change which models answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from osv_lab.serve.asked import Asked
from osv_lab.serve.documents import ChangeAnswer, ErrorAnswer, LoadRequest, SwapRequest, UnloadRequest
from osv_lab.serve.errors import RequestError
from osv_lab.serve.house import House
from osv_lab.serve.message import media_type
from osv_lab.serve.models import DEFAULT, Models
from osv_lab.serve.openapi import ERRORS
from osv_lab.serve.schemas import parse_json

_REFUSED = {
    403: "The server was not started to serve this.",
    404: "No such model.",
    409: "The models are in a state in which this cannot be done.",
}


def add_management(app: FastAPI, models: Models, house: House, keyed: list[Any], fit: Callable[[], None]) -> None:
    """Add them.

    Args:
        models: What they change.
        house: Where it is counted.
        keyed: The dependencies that ask for a key.
        fit: Called after each change.
    """
    errors: dict[int | str, dict[str, Any]] = {status: ERRORS[status] for status in (400, 401, 413, 415, 422, 503)}
    errors |= {status: {"model": ErrorAnswer, "description": text} for status, text in _REFUSED.items()}

    def add(path: str, summary: str, kind: type[BaseModel], change: Callable[[Any], dict[str, Any]]) -> None:
        body = {"required": True, "content": {"application/json": {"schema": kind.model_json_schema()}}}

        async def route(request: Request) -> Response:
            # A page of another site can send a form to loopback, but not JSON, unless this server allowed it.
            if media_type(request.headers.get("content-type", "")) != "application/json":
                raise RequestError(415, "changes come as JSON", "", "send Content-Type: application/json")
            asked = parse_json(kind, await Asked(request.scope, request.receive).body(2**16, 10.0))
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
