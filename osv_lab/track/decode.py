"""Video files, decoded by PyAV: exact timestamps, upright frames, damage that is reported and not fatal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.core.errors import InvalidDataError
from osv_lab.detect.images import MAX_PIXELS
from osv_lab.track.ahead import Ahead
from osv_lab.track.source import FRAME_RATE, Frame, Image, VideoEvent

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Containers that hold frames. Playlists and lists of files, which could name any other file or address, are not here.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,mjpeg,h264,hevc,m4v,mxf,ivf,obu,"
    "av1,dv,rm,wtv,yuv4mpegpipe"
)
# Frames fewer than promised by no more than this are how headers round, not a truncation.
_ROUNDING = 2


class VideoSource:
    """The frames of a video file (or of a finite one behind an address, already opened)."""

    live = False

    def __init__(
        self,
        path: Path | str,
        *,
        frame_rate: float | None = None,
        max_pixels: int = MAX_PIXELS,
        container: InputContainer | None = None,
        name: str | None = None,
    ) -> None:
        self.events: deque[VideoEvent] = deque()
        self.name = name or str(path)
        self._path = path
        self._max_pixels = max_pixels
        self._closed = False
        container = container or open_container(path)
        self._container = container
        try:
            self._stream = video_stream(container, self.name)
            self._decoded, self.size = first_decoded(container, self._stream, self.name, max_pixels)
        except InvalidDataError:
            container.close()
            raise
        self.frame_rate = frame_rate or stated_rate(self._stream) or FRAME_RATE
        self.length = _stated_length(self._stream, container, self.frame_rate)
        self._exact = bool(self._stream.frames)

    def fingerprint(self) -> dict[str, object]:
        file = Path(self._path)
        said = file.stat() if file.is_file() else None
        changed = [said.st_size, said.st_mtime_ns] if said else []
        return {"video": str(file.resolve()) if said else self.name, "changed": changed}

    def close(self) -> None:
        self._closed = True

    def frames(self, start: int = 1) -> Iterator[Frame]:
        import av

        clock = Clock(self.frame_rate, self._stream.time_base)
        upright = Upright(self.size, self._max_pixels, self.events)
        number, undecodable, damaged, timestamp, broke = 0, 0, 0, 0.0, ""
        try:
            for found in self._decoded:
                if self._closed:
                    return
                number += 1
                if found is None:
                    undecodable += 1
                    continue
                damaged += bool(found.is_corrupt)
                timestamp = clock.read(found, number)
                if number >= start:
                    yield Frame(number, timestamp, upright.image(found, number, timestamp))
        except (av.error.FFmpegError, OSError) as error:
            broke = f" ({getattr(error, 'strerror', None) or error})"
        finally:
            self._container.close()
        if undecodable or damaged:
            detail = f"{undecodable} frames cannot be decoded, {damaged} are damaged"
            self.events.append(VideoEvent("damaged", number, timestamp, detail))
        promised = self.length or 0
        if broke or number + (0 if self._exact else _ROUNDING) < promised:
            detail = f"ended at frame {number}" + (
                f" of the {promised} that its header promises" if promised else ""
            )
            detail += broke
            self.events.append(VideoEvent("truncated", number, timestamp, detail))


def open_container(path: Path | str) -> InputContainer:
    """A video file, opened as one: never a playlist, nor anything behind an address.

    Raises:
        InvalidDataError: it cannot be read; says why.
    """
    import av

    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        return av.open(f"file:{Path(path).resolve()}", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise InvalidDataError("not a video that can be read", f"{path} ({_why(path, error)})") from None


def read_ahead(source: VideoSource, first: int = 1, depth: int = 4) -> Iterator[Frame]:
    """A video's frames from ``first`` on, decoded in a thread up to ``depth`` ahead of who takes them."""
    ahead = Ahead(source.frames(first), depth=depth)
    try:
        yield from ahead
    finally:
        source.close()
        ahead.close()


def decoded_frames(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame | None]:
    """Every frame in order; ``None`` stands for a packet that cannot be decoded."""
    import av

    stream.thread_type = "AUTO"
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.InvalidDataError:
            return  # the container breaks off here
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            yield None


class Clock:
    """Timestamps from a stream's own, made to begin at 0 and to grow."""

    def __init__(self, frame_rate: float, time_base: Fraction | None) -> None:
        self._rate = frame_rate
        # A timestamp is no more exact than the container's tick: in one of milliseconds, 30 fps wobbles.
        self._tick = float(time_base or 0) + 1e-9
        self._first: float | None = None
        self._last = -1.0

    def read(self, frame: av.VideoFrame, number: int) -> float:
        """Seconds since the first frame."""
        time = frame.time
        if time is not None and self._first is None:
            self._first = time - (number - 1) / self._rate
        seconds = self._last + 1 / self._rate if time is None or self._first is None else time - self._first
        if self._last < 0 and (time is None or seconds < 0):
            seconds = (number - 1) / self._rate
        steady = round(seconds * self._rate) / self._rate
        if abs(steady - seconds) <= self._tick:
            seconds = steady
        if seconds <= self._last:
            seconds = self._last + 1e-3 / self._rate
        self._last = seconds
        return seconds


class Upright:
    """Decoded frames as upright BGR images of one size."""

    def __init__(self, size: tuple[int, int], max_pixels: int, events: deque[VideoEvent]) -> None:
        self._size = size
        self._seen = size
        self._max_pixels = max_pixels
        self._events = events

    def image(self, frame: av.VideoFrame, number: int, timestamp: float) -> Image:
        """(h, w, 3) BGR uint8. A stream that changes its size is scaled to the first one."""
        turns = quarter_turns(frame.rotation)
        found = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
        if found != self._seen:
            check_pixels(found, self._max_pixels, f"frame {number}")
            detail = f"{found[0]}x{found[1]} from here on, scaled to {self._size[0]}x{self._size[1]}"
            self._events.append(VideoEvent("resized", number, timestamp, detail))
            self._seen = found
        width, height = self._size[::-1] if turns % 2 else self._size
        pixels = frame.to_ndarray(format="bgr24", width=width, height=height)
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else np.asarray(pixels, dtype=np.uint8)


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """The container's main video stream."""
    stream = container.streams.best("video")
    if stream is None or stream.type != "video":
        kinds = ", ".join(sorted({item.type for item in container.streams})) or "nothing"
        raise InvalidDataError("no pictures in the file", f"{name} holds {kinds}", "give a video")
    return stream  # type: ignore[return-value]


def first_decoded(
    container: InputContainer, stream: VideoStream, name: str, max_pixels: int
) -> tuple[Iterator[av.VideoFrame | None], tuple[int, int]]:
    """All frames (see :func:`decoded_frames`), and (width, height) as displayed: only a frame knows how it is turned.

    Raises:
        InvalidDataError: no frame at all, or too many pixels.
    """
    check_pixels((stream.codec_context.width, stream.codec_context.height), max_pixels, name)
    frames = decoded_frames(container, stream)
    before: list[av.VideoFrame | None] = []
    for frame in frames:
        before.append(frame)
        if frame is not None:
            size = frame.width, frame.height
            check_pixels(size, max_pixels, name)
            return chain(before, frames), size[::-1] if quarter_turns(frame.rotation) % 2 else size
    raise InvalidDataError("no frame of the video can be decoded", name)


def check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    """Refuse frames that are too large to be held several at a time."""
    if size[0] * size[1] > max_pixels:
        raise InvalidDataError(
            "frames are too large", f"{name} is {size[0]}x{size[1]}", f"at most {max_pixels} pixels are read"
        )


def stated_rate(stream: VideoStream) -> float | None:
    """The stream's average rate in frames per second, or what the container guesses."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < float(rate) <= 1000:
            return float(rate)
    return None


def _stated_length(stream: VideoStream, container: InputContainer, frame_rate: float) -> int | None:
    if stream.frames:
        return int(stream.frames)
    if stream.duration and stream.time_base:
        return round(float(stream.duration * stream.time_base) * frame_rate)
    if container.duration:
        return round(container.duration / 1e6 * frame_rate)
    return None


def quarter_turns(degrees: float) -> int:
    """How often a picture is turned by 90 degrees."""
    return round(degrees / 90) % 4


def _why(path: Path | str, error: Exception) -> str:
    """What is wrong with a file that cannot be opened."""
    try:
        if Path(path).stat().st_size == 0:
            return "it is empty"
        boxes = _boxes(Path(path))
    except OSError as problem:
        return problem.strerror or "it cannot be read"
    if boxes[:1] == [b"ftyp"] and b"moov" not in boxes:
        return "its index (moov) is missing: the recording or the copy was cut off before its end"
    return getattr(error, "strerror", None) or type(error).__name__


def _boxes(path: Path) -> list[bytes]:
    """The types of the first top-level boxes, if the file is an MP4 or its like."""
    types: list[bytes] = []
    with open(path, "rb") as file:
        while len(types) < 64 and len(head := file.read(16)) >= 8:
            size = int.from_bytes(head[:4], "big")
            types.append(head[4:8])
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size < 8:
                break
            file.seek(size - len(head), 1)
    return types
