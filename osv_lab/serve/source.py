"""One source that the server reads by itself: opened, followed, opened again after a stall, stopped within a second.

Frames are decoded in one thread and sent round by another, as JPEG, to what answers ``POST /predict``. Of a live source
the newest frame is looked at; of a file every frame.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, OsvError
from osv_lab.serve.errors import RequestError, as_request_error, error_body
from osv_lab.serve.flicker import Onlooker
from osv_lab.serve.house import House
from osv_lab.serve.identities import Identities, Track
from osv_lab.serve.message import Answer, Sent
from osv_lab.serve.observe import Observers

if TYPE_CHECKING:
    import numpy as np

    from osv_lab.track.ahead import Ahead
    from osv_lab.track.source import Frame, Source

Ask = Callable[[Sent, Callable[[], Awaitable[None]]], Awaitable[Answer]]

_log = logging.getLogger("osv_lab.serve")

STALL_S = 10.0
"""How long a live source may give nothing until it is given up and opened anew."""

_TICK_S = 0.2
_STOP_S = 0.8
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 15.0
_RATE_OVER = 30  # frames
_JPEG_QUALITY = 95
_UNSETTLED = 10_000


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest answer of a source.

    Attributes:
        content: As a stream's answer, with the source's name.
        image: The frame, as JPEG.
    """

    content: Mapping[str, Any]
    image: bytes


class WatchedSource:
    """A source by name. Its methods are called on the event loop.

    Args:
        name: What requests call it.
        ref: What it is, of what the server was started with.
        place: Where that is; never shown.
        live: Whether it does not wait.
        asked: Options of ``POST /predict`` for each frame.
        track: Which tracker.
        ask: Answers a frame.
        house: Who lets frames in.
        observers: Shown every frame that is answered.
    """

    def __init__(
        self,
        name: str,
        ref: str,
        place: str | Path,
        live: bool,
        asked: Mapping[str, Any],
        track: Track,
        ask: Ask,
        house: House,
        observers: Observers,
    ) -> None:
        self._observers = observers
        self.name, self.ref, self.live = name, ref, live
        self._place, self._asked, self._track = place, dict(asked), track
        self._ask, self._house = ask, house
        self.news = asyncio.Event()
        self.latest: Latest | None = None
        self._state = "stopped"
        self._stop, self._stopped = threading.Event(), asyncio.Event()
        self._thread: threading.Thread | None = None
        self._ahead: Ahead[Frame] | None = None
        self._reset()

    def _reset(self) -> None:
        self._identities = Identities(self._track)
        self._onlooker = Onlooker(self._observers)
        self._number = self._dropped = self._failed = self._looked = self._reconnects = 0
        self._last_error: dict[str, Any] | None = None
        self._frame_rate, self._size = 0.0, (0, 0)
        self._counts: Counter[str] = Counter()
        self._classes: dict[int, str] = {}
        self._times: deque[float] = deque(maxlen=_RATE_OVER)
        self.latest = None

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor came to its end."""
        return self._state not in ("stopped", "ended", "failed")

    def status(self) -> dict[str, Any]:
        """What it does, as JSON-able values."""
        times, now = list(self._times), time.monotonic()
        fresh = len(times) > 1 and now - times[-1] < 5
        return {
            "name": self.name,
            "source": self.ref,
            "state": self._state,
            "live": self.live,
            "fps": round((len(times) - 1) / max(times[-1] - times[0], 1e-6), 2) if fresh and self.running else 0.0,
            "source_fps": round(self._frame_rate, 3),
            "width": self._size[0],
            "height": self._size[1],
            "frames": self._looked,
            "frames_dropped": self._dropped,
            "frames_failed": self._failed,
            "reconnects": self._reconnects,
            "counts": dict(self._counts + Counter(list(self._classes.values()))),
            "last_error": self._last_error,
        }

    def start(self) -> None:
        """Begin, from the first frame; what it found before is forgotten. A source that runs goes on.

        Raises:
            RequestError: 503 while an earlier run still lets go of the source.
        """
        if self.running:
            return
        if self.lingering:
            raise RequestError(503, "the source is still being let go of", self.name, "try again", retry_after_s=2)
        self._reset()
        self._stop, self._stopped = threading.Event(), asyncio.Event()
        self._state = "opening"
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop, loop), name=f"osv-source-{self.name}", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """End, within a second. What hangs in a device or a network is left behind, and ends when that answers."""
        if not self.running:
            return
        self._stop.set()
        self._stopped.set()
        self._state = "stopped"
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_S)
        self._tell()

    @property
    def lingering(self) -> bool:
        """Whether a thread of a run that was stopped has not ended yet."""
        ahead = self._ahead is not None and self._ahead.running
        return not self.running and (ahead or (self._thread is not None and self._thread.is_alive()))

    def _run(self, stop: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        """The thread: open, follow, and of what is live, again and again."""
        from osv_lab.track.source import open_source

        wait, began = _FIRST_WAIT_S, time.monotonic()
        while not stop.is_set():
            before = self._looked
            try:
                source = open_source(self._place, stall_s=STALL_S)
                try:
                    if not stop.is_set():
                        self._follow(source, stop, loop, began)
                finally:
                    source.close()
                if not self.live:
                    self._become("ended", stop)
                    break
            except Exception as error:  # noqa: BLE001 - a thread that dies in silence would look like a quiet camera
                self._trouble(error)
                if not self.live:
                    self._become("failed", stop)
                    break
            if self._looked > before:
                wait = _FIRST_WAIT_S
            self._become("reconnecting", stop)
            stop.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._tell)

    def _follow(
        self, source: Source, stop: threading.Event, loop: asyncio.AbstractEventLoop, began: float
    ) -> None:
        """One connection, or a file from end to end."""
        from osv_lab.track.ahead import Ahead, Silent

        if self._number:
            self._reconnects += 1
        self._frame_rate, self._size = source.frame_rate, source.size
        offset, last = self._number, time.monotonic()
        ahead = self._ahead = Ahead(
            source.frames(), depth=1 if self.live else 2, drop=self.live, patience_s=_TICK_S
        )
        self._become("running", stop)
        try:
            while not stop.is_set():
                try:
                    for frame in ahead:
                        if stop.is_set():
                            return
                        last = time.monotonic()
                        seconds = last - began if self.live else frame.timestamp_s
                        image = _jpeg(frame.image)
                        look = self._look(offset + frame.number, seconds, image, stop)
                        asyncio.run_coroutine_threadsafe(look, loop).result()
                        self._hear(source, stop)
                    break
                except Silent:
                    self._hear(source, stop)
                    if self.live and time.monotonic() - last > 2 * STALL_S:
                        raise InvalidDataError("the source hangs", f"nothing for {2 * STALL_S:g} s") from None
            self._hear(source, stop)
        finally:
            source.close()
            ahead.close(wait_s=_TICK_S)

    def _hear(self, source: Source, stop: threading.Event) -> None:
        """What the source says of itself."""
        while source.events:
            event = source.events.popleft()
            if event.kind == "resumed":
                self._reconnects += 1
                self._become("running", stop)
                continue
            self._last_error = _noted(f"{event.kind}: {self._shown(event.detail)}")
            if event.kind == "stalled":
                self._become("reconnecting", stop)

    async def _look(self, number: int, seconds: float, image: bytes, stop: threading.Event) -> None:
        """Have one frame answered; on the event loop."""
        while not self._house.has_room:
            if stop.is_set() or self._house.closing:
                return
            await asyncio.sleep(0.02)
        sent = Sent("application/octet-stream", {}, image, options=self._asked)
        dropped = list(range(self._number + 1, number)) if self.live else []
        content: dict[str, Any]
        try:
            answer = await self._ask(sent, self._has_gone)
            content = json.loads(answer.body)
            found = await asyncio.to_thread(self._identities.update, content["predictions"], seconds)
            self._onlooker.see(answer.observation, self._identities.ids, image)
            content["predictions"] = found
            self._count(found)
        except OsvError as error:
            if stop.is_set():
                return
            self._failed += 1
            self._last_error = _noted(str(error))
            content = error_body(as_request_error(error))
        if stop.is_set():
            return
        self._number = number
        self._looked += 1
        self._dropped += len(dropped)
        self._times.append(time.monotonic())
        self._house.metrics.count("stream_frames")
        self._house.metrics.count("stream_dropped", len(dropped))
        head = {"source": self.name, "frame": number, "dropped": dropped, "timestamp_s": round(seconds, 3)}
        self.latest = Latest({**head, **content}, image)
        self._tell()

    async def _has_gone(self) -> None:
        await self._stopped.wait()

    def _count(self, found: list[dict[str, Any]]) -> None:
        """Tracks by class, as it is voted so far; what was seen long ago is settled."""
        self._classes.update((one["track_id"], one["class"]) for one in found if "track_id" in one)
        while len(self._classes) > _UNSETTLED:
            self._counts[self._classes.pop(next(iter(self._classes)))] += 1

    def _tell(self) -> None:
        """Wake those who follow."""
        told, self.news = self.news, asyncio.Event()
        told.set()

    def _become(self, state: str, stop: threading.Event) -> None:
        if not stop.is_set():
            self._state = state

    def _trouble(self, error: Exception) -> None:
        if not isinstance(error, OsvError):
            _log.error("source %s failed", self.name, exc_info=error)
        text = str(error) if isinstance(error, OsvError) else type(error).__name__
        self._last_error = _noted(self._shown(text))
        _log.warning("source %s: %s", self.name, text)

    def _shown(self, text: str) -> str:
        """Without the address or folder, which are nobody else's business."""
        from osv_lab.track.live import without_password

        for place in (str(self._place), without_password(str(self._place))):
            text = text.replace(place, self.ref)
        return text[:500]


def _jpeg(image: np.ndarray) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise InvalidDataError("the frame cannot be encoded", f"{image.shape}")
    return bytes(data.tobytes())


def _noted(text: str) -> dict[str, Any]:
    return {"at": round(time.time(), 3), "what": text}
