"""Connections that take too long to say what they want, or do not speak HTTP: ended with a reason.

Uvicorn waits for ever for the end of a request's head and answers what is no HTTP in plain text. The protocol made
here limits the wait (a "slowloris" holds a connection for a byte a minute) and answers as the rest of the server does.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
from collections.abc import Callable
from typing import Any, cast

from osv_lab.serve.errors import RequestError, error_body

_LAST_WORDS_S = 15.0


def patient_protocol(head_timeout_s: float) -> type[asyncio.Protocol]:
    """Uvicorn's HTTP protocol, with a limit on the time until a request's head is complete.

    The time runs from the start of a connection, and again from the first byte of each further request. The body has
    a limit of its own, :attr:`osv_lab.serve.limits.Limits.body_timeout_s`.

    Example:
        >>> import uvicorn
        >>> config = uvicorn.Config("module:app", http=patient_protocol(10.0))
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    return type("PatientProtocol", (_Patient, AutoHTTPProtocol), {"head_timeout_s": head_timeout_s})


def patient_sockets() -> Callable[..., asyncio.Protocol] | None:
    """Uvicorn's WebSocket protocol, that lets go of a client which does not take what it was sent.

    Returns:
        What makes one; ``None`` where the ``websockets`` package is not installed. It takes as long to import as a
        model to load, so that this is done when :func:`prepare_sockets` says so, or for the first connection.
    """
    if importlib.util.find_spec("websockets") is None:
        return None
    return lambda *arguments, **named: _patient_sockets()(*arguments, **named)


def prepare_sockets() -> None:
    """Import what WebSockets need, where it is installed."""
    if importlib.util.find_spec("websockets") is not None:
        _patient_sockets()


@functools.cache
def _patient_sockets() -> type[asyncio.Protocol]:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    class PatientSockets(WebSocketsSansIOProtocol):
        async def send(self, message: Any) -> None:
            await super().send(message)
            # Uvicorn takes a handshake that was refused for one that was forgotten, and logs an error for each.
            if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
                self.handshake_complete = True

        def on_task_complete(self, task: asyncio.Task[None]) -> None:
            super().on_task_complete(task)
            # A transport that is closed waits for ever for the other side to read.
            self.loop.call_later(_LAST_WORDS_S, self.transport.abort)

    return PatientSockets


class _Together:
    """A transport that sends the head of an answer with what follows at once: each piece wakes the client."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            asyncio.get_running_loop().call_soon(self._send_head)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class _Patient(asyncio.Protocol):
    """Goes before uvicorn's protocol in the order of inheritance; ``cycle`` is the request it works on."""

    head_timeout_s: float
    cycle: Any
    transport: asyncio.Transport
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", _Together(cast("asyncio.Transport", transport))))
        self._wait_for_a_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Replaces uvicorn's answer to what is no HTTP."""
        self._stop_waiting()
        if self.cycle is None or not self.cycle.response_started:
            self._say(RequestError(400, "this is no HTTP request", msg, "send HTTP/1.1"), "Bad Request")
        self.transport.close()

    def _wait_for_a_head(self) -> None:
        has_become_a_socket = self.transport.get_protocol() is not self
        answering = not (self.cycle is None or self.cycle.response_complete)
        if has_become_a_socket or answering or self.transport.is_closing():
            self._stop_waiting()
        elif self._waiting is None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(self.head_timeout_s, self._too_late)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._waiting = None
        if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            return
        # After an earlier answer these may be the bytes of a body nobody reads: an answer would have no question.
        if self.cycle is None:
            error = RequestError(
                408, "the request did not arrive in time", f"no complete head in {self.head_timeout_s:g} s"
            )
            self._say(error, "Request Timeout")
        self.transport.close()

    def _say(self, error: RequestError, reason: str) -> None:
        body = json.dumps(error_body(error)).encode()
        head = f"HTTP/1.1 {error.status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.transport.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)
