"""The client's side of ``WS /stream``: what both clients send, when they stop sending, and what an ending means."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError, require_extra
from osv_lab.serve.asking import Asking, PredictOptions, chosen
from osv_lab.serve.prediction import Prediction

Frame = str | Path | bytes | np.ndarray

JPEG_QUALITY = 95
"""Of pixels that are sent as a frame; 100 would double what travels."""

_AHEAD = 2
"""Frames on their way: one that is looked at, one that waits."""

_MOST_BYTES = 64 * 2**20
_TICK_S = 0.1


class StreamOptions(PredictOptions, total=False):
    """What may be chosen about a stream.

    Attributes:
        track: ``True`` or ``"bytetrack"`` (the default), ``"botsort"``, a mapping of ``algorithm`` and its settings,
            or ``False`` for detections alone.
        frame_rate: Frames per second of what is sent; when left out, frames are timed as they arrive.
    """

    track: bool | str | Mapping[str, Any]
    frame_rate: float | None


def first_message(options: StreamOptions, live: bool) -> str:
    """The options as the first message.

    Raises:
        UsageError: there is no such option.
    """
    own: dict[str, Any] = {} if live else {"every_frame": True}
    rest: Any = dict(options)
    if "track" in rest:
        track = rest.pop("track")
        own["track"] = dict(track) if isinstance(track, Mapping) else track
    if (frame_rate := rest.pop("frame_rate", None)) is not None:
        own["frame_rate"] = frame_rate
    return json.dumps({**chosen(rest), **own})


def encoded(frame: Frame) -> bytes:
    """A frame as it is sent: a file's or encoded image's bytes as they are, pixels ``(h, w, 3)`` BGR uint8 as JPEG.

    Raises:
        NotFoundError: no such file.
        UsageError: it is nothing of these.
    """
    if isinstance(frame, (str, Path)):
        try:
            return Path(frame).read_bytes()
        except OSError as error:
            raise NotFoundError("the frame cannot be read", f"{frame} ({error.strerror or error})") from None
    if isinstance(frame, np.ndarray):
        import cv2

        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise UsageError(
                "a frame must be BGR uint8 (h, w, 3)", f"{frame.dtype} {frame.shape}", "convert it first"
            )
        done, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise InvalidDataError("the frame cannot be encoded", f"{frame.shape}")
        return data.tobytes()
    return bytes(frame)


@dataclass(slots=True)
class Progress:
    """How far a stream is: frames sent, the last one accounted for, and whether there are more."""

    sent: int = 0
    last: int = 0
    ended: bool = False
    problem: BaseException | None = None
    heard: float = field(default_factory=time.monotonic)

    @property
    def under_way(self) -> int:
        """Frames that the server has said nothing of yet."""
        return self.sent - self.last

    def taken(self, text: str | bytes) -> Prediction:
        """An answer of the server.

        Raises:
            InvalidDataError: it refuses the options.
        """
        answer = json.loads(text)
        if "frame" not in answer:
            error = answer["error"]
            raise InvalidDataError(error["what"], error["found"], error["fix"])
        self.last, self.heard = answer["frame"], time.monotonic()
        return Prediction.of_frame(answer)

    def over(self, url: str, timeout_s: float) -> bool:
        """Whether all that was sent is accounted for; asked while there is silence.

        Raises:
            UnavailableError: the server should have said something by now.
            Exception: what went wrong where the frames come from.
        """
        if self.problem is not None:
            raise self.problem
        if self.under_way and time.monotonic() - self.heard > timeout_s:
            raise UnavailableError("the server did not answer in time", url, "raise timeout_s")
        return self.ended and not self.under_way


def stream(
    asking: Asking, key: str | None, frames: Iterable[Frame], live: bool, timeout_s: float, options: StreamOptions
) -> Iterator[Prediction]:
    """See :meth:`osv_lab.serve.client.Client.stream`."""
    first = first_message(options, live)
    source, progress, stopped = iter(frames), Progress(), threading.Event()
    with explained(asking):
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        connection = connect(**_address(asking, key, timeout_s))

    def send_next() -> None:
        frame = next(source, None)
        if frame is None:
            progress.ended = True
            return
        data = encoded(frame)
        try:
            connection.send(data)
        except ConnectionClosed:
            progress.ended = True  # what was said before it closed is still to be read
            return
        if not progress.under_way:
            progress.heard = time.monotonic()
        progress.sent += 1

    def send_all() -> None:
        try:
            while not progress.ended and not stopped.is_set():
                send_next()
        except BaseException as error:  # noqa: BLE001 - raised where the answers are read
            progress.problem = error

    with connection:
        try:
            with explained(asking):
                connection.send(first)
            if live:
                threading.Thread(target=send_all, name="osv-stream", daemon=True).start()
            while True:
                with explained(asking):
                    while not live and not progress.ended and progress.under_way < _AHEAD:
                        send_next()
                    try:
                        answer = connection.recv(timeout=_TICK_S)
                    except TimeoutError:
                        if progress.over(asking.url, timeout_s):
                            return
                        continue
                yield progress.taken(answer)
                if progress.over(asking.url, timeout_s):
                    return
        finally:
            stopped.set()


async def astream(
    asking: Asking,
    key: str | None,
    frames: Iterable[Frame] | AsyncIterable[Frame],
    live: bool,
    timeout_s: float,
    options: StreamOptions,
) -> AsyncIterator[Prediction]:
    """See :meth:`osv_lab.serve.client.AsyncClient.stream`."""
    first = first_message(options, live)
    source, progress = _each(frames), Progress()
    with explained(asking):
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed

        connection = await connect(**_address(asking, key, timeout_s))

    async def send_next() -> None:
        frame = await anext(source, None)
        if frame is None:
            progress.ended = True
            return
        data = await asyncio.to_thread(encoded, frame)
        try:
            await connection.send(data)
        except ConnectionClosed:
            progress.ended = True
            return
        if not progress.under_way:
            progress.heard = time.monotonic()
        progress.sent += 1

    async def send_all() -> None:
        try:
            while not progress.ended:
                await send_next()
        except Exception as error:  # noqa: BLE001 - raised where the answers are read
            progress.problem = error

    async with connection:
        sending = None
        try:
            with explained(asking):
                await connection.send(first)
            if live:
                sending = asyncio.ensure_future(send_all())
            while True:
                with explained(asking):
                    while not live and not progress.ended and progress.under_way < _AHEAD:
                        await send_next()
                    try:
                        async with asyncio.timeout(_TICK_S):
                            answer = await connection.recv()
                    except TimeoutError:
                        if progress.over(asking.url, timeout_s):
                            return
                        continue
                yield progress.taken(answer)
                if progress.over(asking.url, timeout_s):
                    return
        finally:
            if sending is not None:
                sending.cancel()


async def _each(frames: Iterable[Frame] | AsyncIterable[Frame]) -> AsyncIterator[Frame]:
    """Frames of either kind; what may block does so in a thread."""
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
        return
    source = iter(frames)
    while (one := await asyncio.to_thread(next, source, None)) is not None:
        yield one


def _address(asking: Asking, key: str | None, timeout_s: float) -> dict[str, Any]:
    """What a connection is made with: no compression of what is compressed, and no proxy, as for all requests."""
    return {
        "uri": "ws" + asking.url.removeprefix("http") + "/stream",
        "additional_headers": {"Authorization": f"Bearer {key}"} if key else {},
        "compression": None,
        "proxy": None,
        "open_timeout": timeout_s,
        "max_size": _MOST_BYTES,
    }


@contextmanager
def explained(asking: Asking) -> Iterator[None]:
    """What goes wrong with a connection, as errors to act on."""
    try:
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
    except ModuleNotFoundError:
        raise require_extra("websockets", "server") from None
    try:
        yield
    except InvalidStatus as error:
        raise asking.refused(error.response.status_code, bytes(error.response.body or b"")) from None
    except InvalidHandshake as error:
        raise UnavailableError("the server has no streams", f"{asking.url} ({error})", "update it") from None
    except ConnectionClosed as error:
        said = error.rcvd
        why = f"{said.code} {said.reason}".strip() if said else "the connection broke"
        raise UnavailableError(
            "the server ended the stream", f"{asking.url} ({why})", "open another one"
        ) from None
    except TimeoutError:
        raise UnavailableError("the server did not answer in time", asking.url, "raise timeout_s") from None
    except OSError as error:
        raise UnavailableError(
            "no server answers", f"{asking.url} ({error})", "start one: osv serve <model>"
        ) from None
