"""A request as it comes in, read by the ASGI protocol alone: what is asked a hundred times a second needs no framework.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from osv_lab.serve.errors import RequestError
from osv_lab.serve.message import Sent

if TYPE_CHECKING:
    from starlette.types import Receive, Scope


class Asked:
    """A request over HTTP whose body may be still to come.

    Args:
        scope: What ASGI says of it.
        receive: Gives the body in pieces, and then that the client has gone.
    """

    __slots__ = ("_receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive

    def header(self, name: bytes) -> str:
        """A header by its name in lower case; empty where it was not sent, the first where it was sent twice."""
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), "")

    async def body(self, max_bytes: int, timeout_s: float) -> bytes:
        """The body, as long as it stays below the limit and arrives in time.

        Raises:
            RequestError: 413 too large, 408 too slow, 400 broken off.
        """
        declared = self.header(b"content-length")
        if declared.isdecimal() and int(declared) > max_bytes:
            raise _too_large(f"{declared} bytes", max_bytes)
        body = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError(
                            400, "the connection ended in the middle of the body", f"{len(body):,} bytes"
                        )
                    body += message.get("body", b"")
                    if len(body) > max_bytes:
                        raise _too_large("", max_bytes)
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise RequestError(
                408, "the body did not arrive in time", f"{len(body):,} bytes in {timeout_s:g} s", "send it faster"
            ) from None

    async def sent(self, max_bytes: int, timeout_s: float) -> Sent:
        """All of it; see :meth:`body`."""
        body = await self.body(max_bytes, timeout_s)
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True):
            query.setdefault(name, []).append(value)
        return Sent(self.header(b"content-type"), query, body, self.header(b"accept"))

    async def gone(self) -> None:
        """Waits until the client has gone; to be called when the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _too_large(found: str, max_bytes: int) -> RequestError:
    return RequestError(413, "the body is too large", found, f"send at most {max_bytes:,} bytes")
