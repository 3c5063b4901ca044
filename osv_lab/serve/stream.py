"""``WS /stream``: frames in, detections and track ids out.

Each binary message is an encoded image; frames are numbered from 1 as they come. A first text message may hold the
options, :class:`~osv_lab.serve.frames.StreamOptions`. Each answer is one JSON text message:

    {"frame": 7, "dropped": [5, 6], "timestamp_s": 0.24, "model": {...}, "image": {...}, "predictions": [...],
     "timing_ms": {...}}
    {"frame": 8, "dropped": [], "error": {"what": ..., "found": ..., "fix": ...}}

Of the frames that came while one was looked at only the newest is answered; ``dropped`` names the others, so that every
frame is accounted for. With ``every_frame`` the stream is read no faster than it is answered instead. A frame that
cannot be used has an ``error``, and the stream goes on.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from osv_lab.core.errors import OsvError
from osv_lab.serve.errors import RequestError, as_request_error, error_body
from osv_lab.serve.flicker import Onlooker
from osv_lab.serve.frames import StreamOptions
from osv_lab.serve.house import House
from osv_lab.serve.identities import Identities, Track, checked_options, prepare
from osv_lab.serve.keys import KeyFile, Keys
from osv_lab.serve.limits import Limits
from osv_lab.serve.message import Answer, Sent, error_answer
from osv_lab.serve.observe import Observers
from osv_lab.serve.schemas import parse_json
from osv_lab.serve.sites import check_site

_log = logging.getLogger("osv_lab.serve")

PROTOCOL = "osv.stream"
"""The subprotocol. A browser, which cannot set headers, offers it together with ``osv.key.<key in base64url>``."""

KEY_PROTOCOL = "osv.key."

GOING_AWAY, POLICY, TOO_BIG, DONE = 1001, 1008, 1009, 1000
"""Close codes of https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1"""

_MAX_TEXT = 64 * 1024
_SEND_S = 20.0
_BUSY_S = 0.02
_BETWEEN_S = 0.001

Ask = Callable[[Sent, Callable[[], Awaitable[None]]], Awaitable[Answer]]
"""Answers what was sent, as ``POST /predict`` would; the second argument waits until nobody wants it any more."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame as it came: its number from 1, when (``time.monotonic()``), and the encoded image."""

    number: int
    at: float
    data: bytes


class Newest:
    """Room for one frame: a newer one takes the place of one that nobody took yet, which is dropped.

    Example:
        >>> frames = Newest()
        >>> for data in (b"a", b"b"):
        ...     frames.put(data)
        >>> frame, dropped = frames.take()
        >>> frame.number, dropped
        (2, [1])
    """

    def __init__(self) -> None:
        self.count = 0
        self.changed, self.room = asyncio.Event(), asyncio.Event()
        self.room.set()
        self._frame: Arrived | None = None
        self._dropped: list[int] = []

    def put(self, data: bytes) -> None:
        """A frame has come."""
        if self._frame is not None:
            self._dropped.append(self._frame.number)
        self.count += 1
        self._frame = Arrived(self.count, time.monotonic(), data)
        self.changed.set()
        self.room.clear()

    def take(self) -> tuple[Arrived, list[int]] | None:
        """The newest frame, and the numbers dropped since the last one was taken."""
        frame, dropped = self._frame, self._dropped
        if frame is None:
            return None
        self._frame, self._dropped = None, []
        self.changed.clear()
        self.room.set()
        return frame, dropped


class Streams:
    """The endpoint.

    Args:
        ask: How a frame is answered.
        house: Who is let in; told of what was done.
        keys: What opens the way, if anything is asked for.
        limits: Sizes of frames, how many streams, how long they may idle.
        track: Which tracker where nothing else is asked.
        observers: Shown every frame that is answered.
    """

    def __init__(
        self,
        ask: Ask,
        house: House,
        keys: Keys | KeyFile | None,
        limits: Limits,
        track: Track = True,
        observers: Observers | None = None,
    ) -> None:
        self._ask = ask
        self._observers = observers or Observers([])
        self._track = track
        self._house = house
        self._keys = keys
        self._limits = limits
        self.open = 0

    async def __call__(self, socket: WebSocket) -> None:
        """Serve one connection."""
        try:
            self._admit(socket)
        except RequestError as error:
            await _deny(socket, error_answer(error))
            return
        self.open += 1
        self._house.guests += 1
        try:
            await asyncio.to_thread(prepare)
            await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
            code, reason = await self._stream(socket).run()
            async with asyncio.timeout(_SEND_S):
                await socket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            # It has gone: while it was spoken to, or without taking what was said.
            pass
        finally:
            self.open -= 1
            self._house.guests -= 1

    def _stream(self, socket: WebSocket) -> _Stream:
        onlooker = Onlooker(self._observers)
        return _Stream(socket, self._ask, self._house, self._limits, self._track, onlooker)

    def _admit(self, socket: WebSocket) -> None:
        check_site(socket, keyed=self._keys is not None)
        if self._keys is not None:
            self._keys.check(_key_of(socket), "predict")
        if socket.url.query:
            raise RequestError(422, "a stream has no query", "", "send the options as the first message, as JSON")
        if not self._house.open:
            raise RequestError(503, "the server is starting or stopping", "", "try again", retry_after_s=1)
        if self.open >= self._limits.max_streams:
            raise RequestError(503, "too many streams are open", self.open, "close one first", retry_after_s=5)


class _Stream:
    """One connection that was let in."""

    def __init__(
        self, socket: WebSocket, ask: Ask, house: House, limits: Limits, track: Track, onlooker: Onlooker
    ) -> None:
        self._socket, self._ask, self._house, self._limits, self._track = socket, ask, house, limits, track
        self._onlooker = onlooker
        self._frames = Newest()
        self._use(StreamOptions())
        self._began = time.monotonic()
        self._gone = asyncio.Event()
        self._looking = False

    async def run(self) -> tuple[int, str]:
        """Until it ends; gives the close code and why."""
        receiving = asyncio.ensure_future(self._receive())
        receiving.add_done_callback(lambda _: self._gone.set())
        answering = asyncio.ensure_future(self._answer())
        leaving = asyncio.ensure_future(self._house.leaving.wait())
        tasks = {receiving, answering, leaving}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not receiving.done():
                if self._looking:
                    await asyncio.wait({answering}, timeout=self._house.deadline_s)
                return GOING_AWAY, "the server is stopping"
            return await (receiving if receiving.done() else answering)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> tuple[int, str]:
        """Take what comes, for as long as something does."""
        while True:
            try:
                async with asyncio.timeout(self._limits.stream_idle_s):
                    message = await self._socket.receive()
            except TimeoutError:
                return DONE, f"no frame for {self._limits.stream_idle_s:g} s"
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", DONE))
            if (data := message.get("bytes")) is not None:
                if len(data) > self._limits.max_image_bytes:
                    return TOO_BIG, f"a frame has at most {self._limits.max_image_bytes:,} bytes"
                if self._options.every_frame:
                    await self._frames.room.wait()
                self._frames.put(data)
                # A flood is slowed down where it comes from, and leaves the others some of the processor.
                await asyncio.sleep(_BETWEEN_S)
            elif (refusal := await self._take_options(message["text"])) is not None:
                return refusal

    async def _take_options(self, text: str) -> tuple[int, str] | None:
        try:
            if self._frames.count:
                raise RequestError(422, "options come before the first frame", "", "open another stream")
            if len(text) > _MAX_TEXT:
                raise RequestError(413, "the options are too long", f"{len(text):,} characters")
            self._use(parse_json(StreamOptions, text.encode("utf-8", "surrogatepass")))
        except RequestError as error:
            await self._send(error_body(error))
            return POLICY, error.what[:100]
        return None

    def _use(self, options: StreamOptions) -> None:
        track = self._track if options.track is None else options.track
        given = options.model_dump(exclude_unset=True, exclude={"track", "frame_rate", "every_frame"})
        self._asked = checked_options(given, track)
        self._identities = Identities(track, options.frame_rate or 30.0)
        self._options = options

    async def _answer(self) -> tuple[int, str]:
        """Look at the newest frame, again and again."""
        while not self._house.closing:
            await self._frames.changed.wait()
            # A full house is waited for, and frames go by meanwhile.
            while not self._house.has_room and not self._house.closing:
                await asyncio.sleep(_BUSY_S)
            if (taken := self._frames.take()) is None:
                continue
            self._looking, (frame, dropped) = True, taken
            self._house.metrics.count("stream_frames")
            self._house.metrics.count("stream_dropped", len(dropped))
            await self._send({"frame": frame.number, "dropped": dropped, **await self._look(frame)})
            self._looking = False
        return GOING_AWAY, "the server is stopping"

    async def _look(self, frame: Arrived) -> dict[str, Any]:
        rate = self._options.frame_rate
        seconds = (frame.number - 1) / rate if rate else frame.at - self._began
        sent = Sent("application/octet-stream", {}, frame.data, options=self._asked)
        try:
            answer = await self._ask(sent, self._has_gone)
            content: dict[str, Any] = json.loads(bytes(answer.body))
            tracked = await asyncio.to_thread(self._identities.update, content["predictions"], seconds)
            self._onlooker.see(answer.observation, self._identities.ids, frame.data)
            return {"timestamp_s": round(seconds, 3), **content, "predictions": tracked}
        except OsvError as error:
            return error_body(as_request_error(error))
        except Exception as error:  # noqa: BLE001 - said, and the stream goes on
            _log.exception("a frame of a stream failed")
            return error_body(OsvError("the server failed", type(error).__name__, "see the server's log"))

    async def _has_gone(self) -> None:
        await self._gone.wait()

    async def _send(self, content: dict[str, Any]) -> None:
        """Raises :class:`TimeoutError` where the client does not take what it asked for."""
        async with asyncio.timeout(_SEND_S):
            await self._socket.send_text(to_json(content).decode())


async def _deny(socket: WebSocket, answer: Answer) -> None:
    """Answer a handshake as a request."""
    await socket.send_denial_response(Response(answer.body, answer.status, dict(answer.headers)))


def _key_of(socket: WebSocket) -> str | None:
    """The ``Authorization`` of a connection: the header, or what a browser says in its place."""
    for name in socket.scope["subprotocols"]:
        if name.startswith(KEY_PROTOCOL):
            text = name.removeprefix(KEY_PROTOCOL)
            try:
                key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8")
            except (binascii.Error, UnicodeDecodeError):
                return None
            return f"Bearer {key}"
    return socket.headers.get("authorization")
