"""Where frames come from: one protocol for video files, image folders, cameras and network streams."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UsageError
from osv_lab.detect.files import IMAGE_SUFFIXES
from osv_lab.detect.images import MAX_PIXELS, read_image
from osv_lab.track.mot import read_info

Image = npt.NDArray[np.uint8]

FRAME_RATE = 30.0
"""Frames per second of what does not say its own: image folders and some streams."""

STALL_S = 30.0
"""How many seconds without a frame end a stream."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        number: From 1, in the source's own count: what could not be decoded leaves a hole.
        timestamp_s: Seconds since the first frame, always growing.
        image: (h, w, 3) BGR uint8, upright, all of one size.
    """

    number: int
    timestamp_s: float
    image: Image


@dataclass(frozen=True)
class VideoEvent:
    """Something a reader of the result should know about the source.

    Attributes:
        kind: ``truncated``, ``damaged``, ``unreadable``, ``resized``, ``stalled``, ``resumed``, ``dropped``, ``ended``,
            ``interrupted``, ``recovered``.
        frame: The frame it concerns, or the last one before it.
        timestamp_s: When, in seconds since the first frame.
        detail: What happened, in words.
    """

    kind: str
    frame: int
    timestamp_s: float
    detail: str


class Source(Protocol):
    """Frames in order, and what is known of them before the first.

    Attributes:
        name: What to call it: a file's or folder's path, an address without its password, ``camera 0``.
        frame_rate: Frames per second (nominal, where they come irregularly).
        size: (width, height) in pixels of all frames.
        length: How many frames there are, as the source says; ``None`` where it does not.
        live: It does not wait: frames that are not taken in time are lost, and it cannot be read again.
        events: What happened so far, for the reader to take (``popleft``).
    """

    name: str
    frame_rate: float
    size: tuple[int, int]
    length: int | None
    live: bool
    events: deque[VideoEvent]

    def frames(self, start: int = 1) -> Iterator[Frame]:
        """The frames from number ``start`` on, once."""

    def fingerprint(self) -> dict[str, object]:
        """JSON-able values that tell whether this is the same source as in an earlier run."""

    def close(self) -> None:
        """Stop reading, from whichever thread."""


def open_source(
    source: str | int | Path | Source,
    *,
    frame_rate: float | None = None,
    stall_s: float = STALL_S,
    max_pixels: int = MAX_PIXELS,
) -> Source:
    """Open a source of frames.

    Args:
        source: A video file; a folder of images, in natural order (``2.jpg`` before ``10.jpg``), or a MOTChallenge
            sequence (``img1/``, ``seqinfo.ini``); a camera's index; an address (``rtsp``, ``rtmp``, ``http``,
            ``udp``, ``rtp``, ``srt``, and those with TLS). Addresses of the local network are as good as any: a camera
            is usually there, and it is the user of this process who names it.
        frame_rate: Frames per second, where the source says none or says it wrongly.
        stall_s: How many seconds without a frame end a stream or camera. Until then it is opened again and again.
        max_pixels: The most pixels (width times height) of a frame.

    Raises:
        NotFoundError: no such file, folder or camera.
        InvalidDataError: not a video, too large, or nothing in it.
        UnavailableError: a stream that cannot be opened.
        UsageError: an address of another kind.
    """
    if frame_rate is not None and not 0 < frame_rate < 100_000:
        raise UsageError("the frame rate must be positive", frame_rate, "give frames per second")
    if not 0 < stall_s < float("inf"):
        raise UsageError("stall_s must be a positive time", stall_s, "give seconds")
    if not isinstance(source, str | int | Path):
        return source
    text = str(source)
    if isinstance(source, int) or re.fullmatch(r"\d{1,3}", text):
        from osv_lab.track.live import CameraSource

        return CameraSource(int(text), frame_rate=frame_rate, stall_s=stall_s, max_pixels=max_pixels)
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        from osv_lab.track.live import open_stream

        return open_stream(text, frame_rate=frame_rate, stall_s=stall_s, max_pixels=max_pixels)
    path = Path(text).expanduser()
    if path.is_dir():
        return FolderSource(path, frame_rate=frame_rate, max_pixels=max_pixels)
    if not path.is_file():
        raise NotFoundError(
            "no such video or folder", repr(text), "give a file, a folder, a camera's index or an address"
        )
    from osv_lab.track.decode import VideoSource

    return VideoSource(path, frame_rate=frame_rate, max_pixels=max_pixels)


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key by which ``2.jpg`` comes before ``10.jpg``.

    Example:
        >>> sorted(["10.jpg", "2.jpg", "a1.jpg"], key=natural)
        ['2.jpg', '10.jpg', 'a1.jpg']
    """
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part]


class FolderSource:
    """The images of a folder as frames. One that cannot be read is reported and leaves a hole in the count."""

    live = False

    def __init__(self, folder: Path, *, frame_rate: float | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.events: deque[VideoEvent] = deque()
        self.name = str(folder)
        said = read_info(folder).frame_rate if (folder / "seqinfo.ini").is_file() else FRAME_RATE
        self.frame_rate = frame_rate or said
        images = folder / "img1" if (folder / "img1").is_dir() else folder
        files = (file for file in images.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        self._files = sorted(files, key=lambda file: natural(file.name))
        self._max_pixels = max_pixels
        self._closed = False
        if not self._files:
            raise InvalidDataError(
                "no images in the folder", str(folder), "give a folder of .jpg, .png, ... files"
            )
        self.length: int | None = len(self._files)
        self.size = self._first_size()

    def _first_size(self) -> tuple[int, int]:
        problem = ""
        for file in self._files:
            try:
                image = read_image(file, max_pixels=self._max_pixels)
            except OsvError as error:
                problem = problem or str(error)
                continue
            return image.shape[1], image.shape[0]
        raise InvalidDataError("no image of the folder can be read", f"{len(self._files)} files; {problem}")

    def fingerprint(self) -> dict[str, object]:
        return {
            "folder": str(Path(self.name).resolve()),
            "files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in self._files],
        }

    def frames(self, start: int = 1) -> Iterator[Frame]:
        for number, file in enumerate(self._files, start=1):
            if self._closed:
                return
            if number < start:
                continue
            timestamp = (number - 1) / self.frame_rate
            try:
                image = read_image(file, max_pixels=self._max_pixels)
            except OsvError as error:
                self.events.append(VideoEvent("unreadable", number, timestamp, str(error)))
                continue
            if (image.shape[1], image.shape[0]) != self.size:
                import cv2

                detail = f"{file.name} is {image.shape[1]}x{image.shape[0]}, not {self.size[0]}x{self.size[1]}"
                self.events.append(VideoEvent("resized", number, timestamp, detail))
                image = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
            yield Frame(number, timestamp, image)

    def close(self) -> None:
        self._closed = True
