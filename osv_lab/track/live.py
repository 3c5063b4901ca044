"""Cameras and network streams: opened again when they stall, ended when they stay silent."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError
from osv_lab.detect.images import MAX_PIXELS
from osv_lab.track.decode import (
    Clock,
    Upright,
    VideoSource,
    check_pixels,
    first_decoded,
    stated_rate,
    video_stream,
)
from osv_lab.track.source import FRAME_RATE, STALL_S, Frame, Image, Source, VideoEvent

if TYPE_CHECKING:
    from av.container import InputContainer

_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "srt")
# A stream may lead to further addresses (a playlist to its parts), never to files.
_PROTOCOLS = "http,https,httpproxy,tcp,tls,rtsp,rtsps,rtp,srtp,udp,rtmp,rtmps,srt,crypto"
# No data for this long counts as a stall; at most a third of stall_s, so that there is time to try again.
_SILENCE_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 8.0
# Streams without times of their own, for which ffmpeg assumes 25 frames per second.
_UNTIMED = ("mpjpeg", "mjpeg", "image2")


def without_password(address: str) -> str:
    """The address with nothing in it that must not be shown.

    Example:
        >>> without_password("rtsp://admin:secret@10.0.0.7/live")
        'rtsp://***@10.0.0.7/live'
    """
    return re.sub(r"//[^/@]*@", "//***@", address)


def open_stream(
    address: str, *, frame_rate: float | None = None, stall_s: float = STALL_S, max_pixels: int = MAX_PIXELS
) -> Source:
    """A network stream, or a video file behind an address (which has an end, and is read to it).

    Raises:
        UsageError: a scheme that is no stream's.
        UnavailableError: it does not answer, or not with a video.
    """
    scheme = address.split("://", 1)[0].lower()
    if scheme not in _SCHEMES:
        fix = "for a file give its path" if scheme == "file" else "use one of: " + ", ".join(_SCHEMES)
        raise UsageError("not an address of a stream", repr(without_password(address)), fix)
    container = _open(address, _silence(stall_s))
    if container.duration:
        return VideoSource(
            address,
            frame_rate=frame_rate,
            max_pixels=max_pixels,
            container=container,
            name=without_password(address),
        )
    return StreamSource(address, container, frame_rate=frame_rate, stall_s=stall_s, max_pixels=max_pixels)


def _silence(stall_s: float) -> float:
    return min(_SILENCE_S, stall_s / 3)


def _open(address: str, silence_s: float) -> InputContainer:
    import av

    options = {"protocol_whitelist": _PROTOCOLS, "rtsp_transport": "tcp"}
    try:
        return av.open(address, options=options, timeout=(silence_s, silence_s), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, av.error.ExitError):
            why = f"no answer in {silence_s:.2g} s"
        raise UnavailableError(
            "the stream cannot be opened",
            f"{without_password(address)} ({why})",
            "check the address with a video player",
        ) from None


class StreamSource:
    """A network stream without an end. After a stall it is connected to again, later and later, for ``stall_s``."""

    live = True
    length: int | None = None

    def __init__(
        self,
        address: str,
        container: InputContainer,
        *,
        frame_rate: float | None = None,
        stall_s: float = STALL_S,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.events: deque[VideoEvent] = deque()
        self.name = without_password(address)
        self._address = address
        self._stall_s = stall_s
        self._max_pixels = max_pixels
        self._stop = threading.Event()
        self._number, self._time = 0, -1.0
        self._connect(container)
        self.size = self._found
        self.frame_rate = frame_rate or stated_rate(self._stream) or FRAME_RATE

    def fingerprint(self) -> dict[str, object]:
        return {"stream": self.name}

    def close(self) -> None:
        self._stop.set()

    def _connect(self, container: InputContainer | None = None) -> None:
        import av

        container = container or _open(self._address, _silence(self._stall_s))
        try:
            self._stream = video_stream(container, self.name)
            self._frames, self._found = first_decoded(container, self._stream, self.name, self._max_pixels)
        except (InvalidDataError, av.error.FFmpegError) as error:
            container.close()
            raise UnavailableError("the stream gives no frames", f"{self.name} ({error})") from None
        self._container = container

    def frames(self, start: int = 1) -> Iterator[Frame]:
        import av

        began = last = time.monotonic()
        connected, wait, why = True, _FIRST_WAIT_S, ""
        while not self._stop.is_set():
            if connected:
                try:
                    for frame in self._read(began, time.monotonic() - began):
                        if wait > _FIRST_WAIT_S:
                            detail = f"back after {time.monotonic() - last:.1f} s"
                            self.events.append(VideoEvent("resumed", frame.number, frame.timestamp_s, detail))
                        yield frame
                        last, wait = time.monotonic(), _FIRST_WAIT_S
                        if self._stop.is_set():
                            return
                    why = "the connection ended"
                except av.error.ExitError:
                    why = f"no data for {_silence(self._stall_s):.2g} s"
                except (av.error.FFmpegError, OSError) as error:
                    why = str(getattr(error, "strerror", None) or error)
                finally:
                    self._container.close()
                if wait == _FIRST_WAIT_S:
                    self.events.append(VideoEvent("stalled", self._number, max(self._time, 0), why))
            left = self._stall_s - (time.monotonic() - last)
            if left <= 0:
                detail = f"no frame for {time.monotonic() - last:.1f} s; {why}"
                self.events.append(VideoEvent("ended", self._number, max(self._time, 0), detail))
                return
            self._stop.wait(min(wait, left))
            wait = min(2 * wait, _LONGEST_WAIT_S)
            try:
                self._connect()
                connected = True
            except UnavailableError as error:
                connected, why = False, error.found

    def _read(self, began: float, since: float) -> Iterator[Frame]:
        """The frames of one connection, which began ``since`` seconds after the first one did."""
        clock = Clock(self.frame_rate, self._stream.time_base)
        untimed = any(kind in self._container.format.name.split(",") for kind in _UNTIMED)
        upright = Upright(self.size, self._max_pixels, self.events)
        for count, found in enumerate(self._frames, start=1):
            self._number += 1
            if found is None:
                continue
            seconds = time.monotonic() - began if untimed else since + clock.read(found, count)
            self._time = max(seconds, self._time + 1e-3)
            yield Frame(self._number, self._time, upright.image(found, self._number, self._time))


class CameraSource:
    """A camera of this machine, by its index. Frames are timed as they come."""

    live = True
    length: int | None = None

    def __init__(
        self,
        index: int,
        *,
        frame_rate: float | None = None,
        stall_s: float = STALL_S,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        import cv2

        self.events: deque[VideoEvent] = deque()
        self.name = f"camera {index}"
        self._index = index
        self._stall_s = stall_s
        self._stop = threading.Event()
        self._capture = _open_camera(index)
        if not self._capture.isOpened():
            raise NotFoundError("no such camera", self.name, "cameras count from 0; is it plugged in and allowed?")
        width, height = (
            int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        check_pixels((width, height), max_pixels, self.name)
        self.size = width, height
        said = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.frame_rate = frame_rate or (said if 0 < said <= 1000 else FRAME_RATE)

    def fingerprint(self) -> dict[str, object]:
        return {"camera": self._index}

    def close(self) -> None:
        self._stop.set()

    def frames(self, start: int = 1) -> Iterator[Frame]:
        number, timestamp, wait = 0, -1.0, _FIRST_WAIT_S
        began = last = time.monotonic()
        try:
            while not self._stop.is_set():
                found, pixels = self._capture.read()
                now = time.monotonic()
                if found:
                    if wait > _FIRST_WAIT_S:
                        detail = f"back after {now - last:.1f} s"
                        self.events.append(VideoEvent("resumed", number + 1, now - began, detail))
                    last, wait, number = now, _FIRST_WAIT_S, number + 1
                    timestamp = max(now - began, timestamp + 1e-3)
                    yield Frame(number, timestamp, self._sized(pixels))
                    continue
                if wait == _FIRST_WAIT_S:
                    self.events.append(
                        VideoEvent("stalled", number, max(timestamp, 0), "the camera gives nothing")
                    )
                if now - last > self._stall_s:
                    detail = f"no frame for {now - last:.1f} s"
                    self.events.append(VideoEvent("ended", number, max(timestamp, 0), detail))
                    return
                self._stop.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT_S)
                self._capture.release()
                self._capture = _open_camera(self._index)
        finally:
            self._capture.release()

    def _sized(self, pixels: Image) -> Image:
        import cv2

        if (pixels.shape[1], pixels.shape[0]) == self.size:
            return pixels
        return cv2.resize(pixels, self.size)  # type: ignore[no-any-return]


def _open_camera(index: int) -> Any:
    """OpenCV's capture; what it has to say about a camera that is not there is said by us."""
    import cv2

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(index)
    finally:
        cv2.utils.logging.setLogLevel(level)
