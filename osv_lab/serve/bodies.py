"""Reading what a client sends, noticing when it has gone, and saying what was wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from osv_lab.serve.answers import Sent
from osv_lab.serve.errors import RequestError, error_body


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The body, as long as it stays below the limit and arrives in time.

    Raises:
        RequestError: 413 too large, 408 too slow, 400 broken off.
    """
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


def sent_of(request: Request, body: bytes) -> Sent:
    """A request whose body was read, as the answers take it."""
    query: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        query.setdefault(name, []).append(value)
    return Sent(request.headers.get("content-type", ""), query, body, request.headers.get("accept", ""))


def gone_from(request: Request) -> Callable[[], Awaitable[None]]:
    """Waits until the client of a request, whose body was read, has gone."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return gone


def error_answer(error: RequestError) -> Response:
    """The answer that says what was wrong."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), error.status, headers)
